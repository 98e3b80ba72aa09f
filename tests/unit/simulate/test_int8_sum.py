from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from bitwright.number.expr import Expr, const, round_shift, saturate, var
from bitwright.number.format import Format, Rounding
from bitwright.number.render import numpy_value
from bitwright.program.program import Buffer
from bitwright.simulate.graph import GraphWriter
from bitwright.simulate.int8_sum import Int8Sum, find_sum


def buffer(exponent: int, lo: int = -128, hi: int = 127) -> Buffer:
    return Buffer(name="b", shape=(1, 4), format=Format.power_of_two(8, exponent), lo=lo, hi=hi)


def summed(a: Buffer, b: Buffer, out: Buffer, rounding: Rounding, low: int = -128) -> Expr:
    """``x0 * 2^ea + x1 * 2^eb`` in steps of the output."""
    exponents = [int(x.format.exponent) for x in (a, b, out)]  # type: ignore[arg-type]
    base = min(exponents[:2])
    x0, x1 = (
        var(f"x{i}", x.lo, x.hi) * const(1 << (e - base))
        for i, (x, e) in enumerate(zip((a, b), exponents, strict=False))
    )
    return saturate(round_shift(x0 + x1, exponents[2] - base, rounding), low, 127)


def run(found: Int8Sum, a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.int64]:
    import onnxruntime

    graph = GraphWriter()
    names = [graph.constant(np.asarray(v, t)) for v, t in found.constants]
    graph.node("QLinearAdd", "a", *names[:2], "b", *names[2:], outputs=["c"], domain="com.microsoft")
    kind = np.dtype(np.uint8)
    model = graph.model([("a", kind, a.shape), ("b", kind, b.shape)], [("c", kind, a.shape)], contrib=True)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.clip(np.asarray(session.run(None, {"a": a, "b": b})[0], np.int64), *found.clip)


@pytest.mark.parametrize("rounding", [Rounding.HALF_UP, Rounding.HALF_EVEN])
@pytest.mark.parametrize("exponents", [(-5, -5, -5), (-5, -5, -4), (-6, -5, -4), (-4, -6, -3)])
def test_every_pair_of_codes_is_right(exponents: tuple[int, int, int], rounding: Rounding) -> None:
    a, b, out = (buffer(e) for e in exponents)
    expr = summed(a, b, out, rounding)
    found = find_sum(expr, a, b, out)
    assert found is not None
    x0, x1 = np.meshgrid(np.arange(-128, 128), np.arange(-128, 128), indexing="ij")
    expected = numpy_value(expr, {"x0": x0, "x1": x1})
    # Odd shapes, so that the kernels' last, shorter pieces are run too.
    for cut in (256, 251, 7):
        got = run(found, (x0[:, :cut] + 128).astype(np.uint8), (x1[:, :cut] + 128).astype(np.uint8))
        assert (got - 128 == expected[:, :cut]).all()


def test_a_fused_relu_is_a_clip() -> None:
    a, b, out = buffer(-5, lo=0), buffer(-5), buffer(-4)
    found = find_sum(summed(a, b, out, Rounding.HALF_UP, low=0), a, b, out)
    assert found is not None
    assert found.clip == (128, 255)


def test_what_is_no_sum_is_not_found() -> None:
    a, b, out = buffer(-5), buffer(-5), buffer(-4)
    x0, x1 = var("x0", -128, 127), var("x1", -128, 127)
    assert find_sum(saturate(round_shift(x0 * x1, 6, Rounding.HALF_UP), -128, 127), a, b, out) is None
    assert find_sum(saturate(x0 + 1, -128, 127), a, b, out) is None
