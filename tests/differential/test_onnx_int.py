"""The exported integer ONNX in ONNX Runtime against the reference simulator: every output integer."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from bitwright.errors import ExportError
from bitwright.export.onnx_emit import StandardEmitter, weight_digits
from bitwright.export.onnx_graph import ExportGraph
from bitwright.export.onnx_int import export_onnx_int, onnx_int_model, read_onnx_int
from bitwright.export.onnx_integers import onnx_integers
from bitwright.export.onnx_rounding import quantized_bytes, quantized_floats, rounded
from bitwright.export.onnx_sum import exact_sum, unfused_sum
from bitwright.export.running import make_codes, random_samples
from bitwright.number.expr import Expr, divide, round_shift, saturate, scale_float32, var
from bitwright.number.format import Format, Rounding, round_real
from bitwright.number.render import numpy_value
from bitwright.number.requantize import Scaled
from bitwright.program.builder import Builder
from bitwright.program.forms import Axis, Contract, Epilogue, Reduce
from bitwright.program.program import Program
from bitwright.simulate import reference
from bitwright.simulate.graph import GraphWriter
from bitwright.simulate.probe import int8_convolution_is_exact
from bitwright.targets.target import list_targets
from exports import quantized
from small_programs import random_program
from zoo import ZOO

FAST = [False, True] if int8_convolution_is_exact() else [True]
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)


def session(model: bytes, *, optimize: bool = True) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("target", list_targets())
@pytest.mark.parametrize("name", ZOO)
def test_zoo(name: str, target: str, tmp_path: Path) -> None:
    """Raw and fast, then real and portable; each with optimizations on and off."""
    q = quantized(name, target)
    codes = make_codes(q, random_samples(q, 3), "random")
    for raw, portable in ((True, not int8_convolution_is_exact()), (False, True)):
        report = export_onnx_int(q, tmp_path / "net.onnx", raw=raw, portable=portable)
        model = onnx.load(report.files[0])
        assert {o.domain for o in model.opset_import} == {""}
        assert {node.domain for node in model.graph.node} == {""}
        found = read_onnx_int(q, report, codes)
        assert found.compared == 2 * sum(x.size for x in codes.expected)
        assert found.differing == 0, found.sentence


def check(program: Program, seed: int, *, samples: int = 3, inside: bool = False) -> set[str]:
    """Compare a program's outputs; returns the ways that its steps took."""
    rng = np.random.default_rng(seed)
    inputs = {}
    for name in program.inputs:
        b = program.buffers[name]
        low, high = (b.lo, b.hi) if inside else (b.format.lo, b.format.hi)
        inputs[name] = rng.integers(low, high + 1, (samples, *b.shape[1:])).astype(b.format.dtype)
    expected = reference.run(program, inputs)
    ways: set[str] = set()
    outputs = tuple(f"y{i}" for i in range(len(program.outputs)))
    for portable in FAST:
        model, taken = onnx_int_model(program, program.inputs, outputs, raw=True, int8=not portable)
        ways |= set(taken.values())
        for optimize in (True, False):
            got = session(model, optimize=optimize).run(list(outputs), inputs)
            for name, value in zip(program.outputs, got, strict=True):
                assert value.dtype == expected[name].dtype
                np.testing.assert_array_equal(value, expected[name])
    return ways


@pytest.mark.parametrize("seed", range(25))
def test_random_programs(seed: int) -> None:
    check(random_program(seed), seed)


# ---------------------------------------------------------------- forms that ONNX has no operator for


def wide(bits: int, zero: int = 0) -> Format:
    return Format(bits, True, np.asarray(1.0), np.asarray(zero))


def contraction(
    axes: tuple[Axis, ...],
    shape: tuple[int, ...],
    *,
    input_format: Format | None = None,
    weight_bits: int = 8,
    outputs: int = 4,
    shift: int = 9,
    seed: int = 0,
) -> Program:
    """One contraction of an input of ``shape`` (without batch), half-up."""
    rng = np.random.default_rng(seed)
    build = Builder("one", "test")
    build.enter("layer", "Conv", ("node",))
    x = build.buffer((1, *shape), input_format or wide(8, 3), stem="x")
    limit = 1 << (weight_bits - 1)
    weights = rng.integers(-limit, limit, (outputs, shape[0], *(a.taps for a in axes)))
    bias = rng.integers(-5000, 5000, outputs)
    reach = int(np.abs(weights).reshape(outputs, -1).sum(1).max()) * (x.format.hi - x.format.lo) + 5000
    expr = saturate(round_shift(var("acc", -reach, reach), shift, Rounding.HALF_UP), -128, 127)
    size = [a.outputs(n) for a, n in zip(axes, shape[1:], strict=True)]
    out = build.buffer((1, outputs, *size), wide(8))
    form = Contract(
        weight=build.learnable("Weights", "weight", weights, Format(weight_bits, True, np.asarray(1.0))),
        bias=build.learnable("Bias", "bias", bias, wide(32)),
        axes=axes,
        input_zero=int(x.format.zero_point),
        epilogue=build.epilogue(Scaled(expr, {})),
        acc_lo=-reach,
        acc_hi=reach,
    )
    build.step(form, [x], [out])
    return build.build(["x"], [out.name], batchable=True, input_rounding=Rounding.HALF_EVEN)


@pytest.mark.parametrize(
    "axes",
    [
        (Axis(taps=3, before=-1, after=-2), Axis(taps=2, before=1)),
        (Axis(taps=3, before=2, after=3, spread=2, stride=3), Axis()),
        (Axis(taps=2, before=4, after=5, spread=3), Axis(taps=3, dilation=2, before=-1, after=6, spread=2, stride=2)),
        (Axis(taps=2, before=9, after=9, spread=2), Axis(taps=1, spread=4, before=7, after=1)),
    ],
)
def test_windows_without_an_attribute(axes: tuple[Axis, ...]) -> None:
    check(contraction(axes, (3, 7, 6)), 1)


@pytest.mark.parametrize("weight_bits", [8, 13])
def test_wide_inputs_and_weights_go_by_digits(weight_bits: int) -> None:
    program = contraction(
        (Axis(taps=3), Axis()), (40, 5, 3), input_format=wide(16, -700), weight_bits=weight_bits, shift=20
    )
    assert check(program, 2) == {"onnx-float64"}


def test_a_dense_layer_goes_by_digits() -> None:
    assert check(contraction((), (300,), input_format=wide(16), shift=18), 3) == {"onnx-float64"}


def test_digits_of_weights_add_up() -> None:
    weights = np.arange(-(1 << 12), 1 << 12)
    for bits in (1, 3, 5):
        digits = weight_digits(weights, bits)
        assert all(np.abs(d).max() < 1 << bits for d in digits)
        np.testing.assert_array_equal(sum(d << (bits * i) for i, d in enumerate(digits)), weights)


def reduction(
    combine: str, axes: tuple[Axis, ...], shape: tuple[int, ...], *, count: bool = False, zero: int = 0
) -> Program:
    build = Builder("one", "test")
    build.enter("layer", "Pool", ("node",))
    x = build.buffer((1, *shape), wide(8, zero), stem="x")
    size = [a.outputs(n) for a, n in zip(axes, shape, strict=True)]
    taps = int(np.prod([a.taps for a in axes]))
    acc = var("acc", -256 * taps, 256 * taps) if combine == "sum" else var("acc", min(-128, 0), max(127, taps))
    expr: Expr = acc
    if count:
        expr = divide(acc, var("count", 1, taps), Rounding.HALF_AWAY)
    out = build.buffer((1, *size), wide(16))
    form = Reduce(
        combine=combine,  # type: ignore[arg-type]
        axes=axes,
        input_zero=zero if combine == "sum" else 0,
        epilogue=Epilogue(expr=saturate(expr, -32768, 32767)),
    )
    build.step(form, [x], [out])
    return build.build(["x"], [out.name], batchable=True, input_rounding=Rounding.HALF_EVEN)


@pytest.mark.parametrize("combine", ["sum", "max", "argmax"])
@pytest.mark.parametrize(
    "axes",
    [
        (Axis(taps=2), Axis(taps=3, stride=2, before=1, after=1), Axis(taps=2, dilation=2)),
        (Axis(), Axis(taps=3, before=-1, after=2), Axis(taps=2, stride=2)),
        (Axis(taps=4), Axis(taps=2), Axis()),
    ],
)
def test_reductions_tap_by_tap(combine: str, axes: tuple[Axis, ...]) -> None:
    if combine == "argmax":
        axes = (axes[0], Axis(), Axis())
        axes = (Axis(taps=2, stride=2), Axis(), Axis()) if axes[0].trivial else axes
    ways = check(reduction(combine, axes, (4, 6, 5), zero=-9), 4)
    assert ways & {"onnx-taps", "onnx-move"}


def test_means_over_windows_that_stick_out() -> None:
    axes = (Axis(taps=2, before=1), Axis(taps=3, before=1, after=2), Axis(taps=2, after=1))
    assert check(reduction("sum", axes, (4, 6, 5), count=True, zero=5), 5) == {"onnx-taps"}


def test_what_cannot_be_exact_is_refused() -> None:
    program = contraction((Axis(taps=3), Axis(taps=3)), (3, 5, 5), input_format=wide(45))
    graph = ExportGraph()
    emitter = StandardEmitter(program, graph, int8=False)
    emitter.set_real("x", "x", F64)
    with pytest.raises(ExportError, match="no exact form in ONNX operators"):
        emitter.step(program.steps[0])


# ---------------------------------------------------------------- expressions and roundings


def wide_expressions() -> list[tuple[Expr, dict[str, NDArray[np.int64]]]]:
    """Expressions whose intermediates no float holds, with constants for some variables."""
    acc, x = var("acc", -(1 << 27), (1 << 27) - 1), var("x", -128, 127)
    multiplier = np.array([2**30 + 12345, 2**31 - 1], np.int64)
    right = np.array([31, 58], np.int64)
    m, s = var("m", int(multiplier.min()), int(multiplier.max())), var("s", 31, 58)
    params = {"m": multiplier, "s": right}
    found: list[tuple[Expr, dict[str, NDArray[np.int64]]]] = []
    for rounding in Rounding:
        found.append((round_shift(acc * m, s, rounding), params))
        found.append((divide(acc * m, var("x0", 1, 90_001), rounding), params))
    found.append((round_shift((x << 20) * m, 31, Rounding.HALF_UP) + (acc * acc * 4 >> 63), params))
    pattern = np.asarray([0.0123, 3.7], np.float32).view(np.uint32).astype(np.int64)
    bits = var("p", int(pattern.min()), int(pattern.max()))
    for rounding in (Rounding.HALF_EVEN, Rounding.HALF_AWAY):
        scaled = scale_float32(acc, bits, 0.0123, 3.7, rounding)
        found.append((saturate(scaled * (1 << 25), -(1 << 60), 1 << 60), {"p": pattern}))
    return found


@pytest.mark.parametrize("index", range(len(wide_expressions())))
def test_expressions_in_int64(index: int) -> None:
    expr, params = wide_expressions()[index]
    rng = random.Random(index)
    free = [node for node in expr.walk() if node.op.value == "var" and node.name not in params]
    values = {
        v.name: np.array(
            [[v.lo, v.hi, v.lo + 1, max(v.lo, 0), max(v.lo, 1), *(rng.randint(v.lo, v.hi) for _ in range(300))]] * 2,
            np.int64,
        ).T
        for v in free
    }
    graph = GraphWriter()
    result = onnx_integers(expr, {name: name for name in values}, params, graph)
    model = graph.model(
        [(n, np.dtype(np.int64), v.shape) for n, v in values.items()], [(result, np.dtype(np.int64), ["n", 2])]
    )
    expected = np.broadcast_to(numpy_value(expr, {**values, **params}), (305, 2))
    for optimize in (True, False):
        np.testing.assert_array_equal(session(model, optimize=optimize).run(None, values)[0], expected)


def awkward(scale: float) -> NDArray[np.float32]:
    """Multiples of half a step, their neighbors in float32, and numbers of every size."""
    halves = (np.arange(-600, 601) * (scale / 2)).astype(np.float32)
    near = [np.nextafter(halves, np.float32(s)) for s in (-np.inf, np.inf)]
    rng = np.random.default_rng(7)
    sizes = (rng.normal(size=400) * 10.0 ** rng.integers(-30, 30, 400)).astype(np.float32)
    rest = np.array([0, -0.0, np.inf, -np.inf, 1e-45, -1e-45], np.float32)
    return np.concatenate([halves, *near, sizes, rest])


@pytest.mark.parametrize("rounding", list(Rounding))
@pytest.mark.parametrize("scale", [1.0, 2.0**-7, 2.0**3, 0.0123, 1 / 3])
@pytest.mark.parametrize(
    ("bits", "signed", "zero", "narrow"),
    [(8, True, 0, False), (8, False, 131, False), (8, True, -128, True), (4, True, 2, False)],
)
def test_inputs_are_quantized_as_formats_say(
    rounding: Rounding, scale: float, bits: int, signed: bool, zero: int, narrow: bool
) -> None:
    zero = zero + 1 if narrow else zero
    format = Format(bits, signed, np.asarray(scale), np.asarray(zero), narrow=narrow)
    x = awkward(scale)
    expected = format.quantize(x, rounding).astype(np.int64)
    for write, lowest in ((quantized_bytes, format.lo), (quantized_floats, 0)):
        graph = GraphWriter()
        out = write(graph, "x", format, rounding)
        dtype = np.dtype(np.uint8) if write is quantized_bytes else F64
        model = graph.model([("x", F32, x.shape)], [(out, dtype, x.shape)])
        for optimize in (True, False):
            got = session(model, optimize=optimize).run(None, {"x": x})[0].astype(np.int64) + lowest
            np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("rounding", list(Rounding))
@pytest.mark.parametrize("dtype", [F32, F64])
def test_roundings(rounding: Rounding, dtype: np.dtype[np.floating]) -> None:
    x = awkward(1.0).astype(dtype)
    x = np.concatenate([x[np.isfinite(x)], np.nextafter(np.array([-0.5, 0.5, 1.5], dtype), dtype.type(0))])
    graph = GraphWriter()
    out = rounded(graph, "x", rounding, dtype)
    model = graph.model([("x", dtype, x.shape)], [(out, dtype, x.shape)])
    np.testing.assert_array_equal(session(model).run(None, {"x": x})[0], round_real(x, rounding))


def test_sums_are_exact_fused_and_unfused() -> None:
    """The unfused emulation is what ONNX Runtime computes from the three nodes with its optimizations off."""
    build = Builder("one", "test")
    a, b, out = (
        build.buffer((1, 256, 256), Format.power_of_two(8, e), stem=name)
        for name, e in (("a", -4), ("b", -5), ("c", -4))
    )
    total = (var("x0", -128, 127) << 1) + var("x1", -128, 127)
    expr = saturate(round_shift(total, 1, Rounding.HALF_UP), -128, 127)
    found = exact_sum(expr, a, b, out)
    assert found is not None
    x, y = np.meshgrid(np.arange(256), np.arange(256), indexing="ij")
    expected = np.clip(((x - 128) * 2 + (y - 128) + 1) >> 1, -128, 127) + 128
    np.testing.assert_array_equal(unfused_sum(found, x, y), expected)
    build.map(expr, [a, b], out)
    program = build.build(["a", "b"], [out.name], batchable=True, input_rounding=Rounding.HALF_EVEN)
    model, ways = onnx_int_model(program, ("a", "b"), ("y",), raw=True, int8=True)
    assert set(ways.values()) == {"onnx-int8"}
    feeds = {"a": (x - 128).astype(np.int8)[None], "b": (y - 128).astype(np.int8)[None]}
    for optimize in (True, False):
        got = session(model, optimize=optimize).run(None, feeds)[0]
        np.testing.assert_array_equal(got[0].astype(np.int64) + 128, expected)


def test_tensor_names_of_the_writer_stay_clear_of_the_network() -> None:
    """A network may call its tensors what the writer would."""
    q = quantized("mlp", "fpga")
    model, _ = onnx_int_model(q.program, ("c_1",), ("v_2",), raw=True, int8=False)
    names = [i.name for i in session(model).get_inputs()] + [o.name for o in session(model).get_outputs()]
    assert names == ["c_1", "v_2"]
