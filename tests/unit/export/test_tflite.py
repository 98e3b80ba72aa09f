"""The ``.tflite`` exporter: legal by the specification, exact where its runtime is, and refused where it cannot be."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tflite
from hypothesis import given, settings
from hypothesis import strategies as st

from bitwright.errors import ExportError, ToolMissing
from bitwright.export.report import ExportReport, Reading
from bitwright.export.running import make_codes, random_samples
from bitwright.export.tflite.canvas import NONE, RELU, RELU6, RELU_N1_TO_1, SAME, VALID, bounds, fused
from bitwright.export.tflite.linear import needed_pads, padding_mode
from bitwright.export.tflite_file import EXPORTER, read_tflite, readings_by_kernels
from bitwright.number.expr import saturate, var
from bitwright.number.format import Format
from bitwright.program.forms import Axis
from exports import calibrated, quantized

# Networks whose kernels in TFLite are integer arithmetic that the targets know.
EXACT = ("conv_bn_relu", "residual", "depthwise_relu6", "grouped", "unet", "transposed_grouped", "pads", "split_slice",
         "tf_style", "shuffle", "space_depth", "shape_chain", "shared", "scales", "fire", "mlp")  # fmt: skip

# Means and Softmax, which XNNPACK computes in its own way.
OWN_KERNELS = {"conv_bn_relu", "fire", "tf_style"}


@cache
def readings(network: str, target: str, **options: bool) -> dict[str, Reading]:
    """Kernels → what they compute."""
    q = quantized(network, target)
    codes = make_codes(q, random_samples(q, 4), "random")
    with tempfile.TemporaryDirectory() as folder:
        report = EXPORTER.export(q, Path(folder) / "net.tflite", **options)
        return readings_by_kernels(q, report, codes)


@pytest.mark.parametrize("network", EXACT)
def test_reference_kernels_give_the_integers_of_litert(network: str) -> None:
    found = readings(network, "litert")["reference kernels"]
    assert found.compared
    assert found.differing == 0


@pytest.mark.parametrize("network", [n for n in EXACT if n not in OWN_KERNELS])
def test_xnnpack_gives_the_integers_of_single_rounding(network: str) -> None:
    found = readings(network, "mcu-cmsis-nn-single")["XNNPACK"]
    assert found.largest <= 1
    assert found.differing <= found.compared * 0.005


@pytest.mark.parametrize("network", ["silu", "activations"])
def test_lookups_are_the_programs_tables_in_reference_kernels(network: str, tmp_path: Path) -> None:
    q = quantized(network, "litert")
    report = EXPORTER.export(q, tmp_path / "net.tflite", lookups=True)
    assert not {"LOGISTIC", "TANH", "HARD_SWISH", "LEAKY_RELU"} & set(operators(report.files[0]))
    if network == "silu":
        assert readings(network, "litert", lookups=True)["reference kernels"].differing == 0
    own = EXPORTER.export(q, tmp_path / "own.tflite")
    kernels = set(operators(own.files[0]))
    assert ("LOGISTIC" in kernels) == (network == "activations")


@pytest.mark.parametrize("target", ["generic", "cpu", "gpu", "ncnn", "fpga"])
def test_other_targets_are_close(target: str) -> None:
    found = readings("depthwise_relu6", target)
    assert all(reading.largest <= 4 for reading in found.values()), found


def test_real_numbers_outside(tmp_path: Path) -> None:
    assert readings("residual", "litert", float_io=True)["reference kernels"].differing == 0
    report = EXPORTER.export(quantized("residual", "litert"), tmp_path / "net.tflite", float_io=True)
    model = model_of(report.files[0])
    graph = model.Subgraphs(0)
    for place in (graph.Inputs(0), graph.Outputs(0)):
        assert graph.Tensors(place).Type() == tflite.TensorType.FLOAT32
    assert operators(report.files[0])[0] == "QUANTIZE"
    assert operators(report.files[0])[-1] == "DEQUANTIZE"


def model_of(path: Path) -> tflite.Model:
    data = path.read_bytes()
    assert data[4:8] == b"TFL3"
    return tflite.Model.GetRootAs(data, 0)


NAMES = {v: k for k, v in vars(tflite.BuiltinOperator).items() if not k.startswith("_")}


def operators(path: Path) -> list[str]:
    model = model_of(path)
    graph = model.Subgraphs(0)
    codes = [model.OperatorCodes(i).BuiltinCode() for i in range(model.OperatorCodesLength())]
    return [NAMES[codes[graph.Operators(i).OpcodeIndex()]] for i in range(graph.OperatorsLength())]


@pytest.mark.parametrize("target", ["litert", "mcu-cmsis-nn"])
def test_scales_are_in_single_precision_from_the_start(target: str) -> None:
    """A scale that the file cannot hold would give the runtime another multiplier than the program has."""
    q = quantized("residual", target)
    formats = [b.format for b in q.program.buffers.values() if b.tensor is not None]
    formats += [x.format for x in q.program.learnables if x.parameter == "Weights"]
    for format in formats:
        np.testing.assert_array_equal(format.scale, format.scale.astype(np.float32))
    finer = [x.format.scale for x in quantized("residual", "generic").program.learnables if x.parameter == "Weights"]
    assert any((scale != scale.astype(np.float32)).any() for scale in finer)


@pytest.mark.parametrize(
    ("network", "target"), [("residual", "litert"), ("depthwise_relu6", "cpu"), ("mlp", "generic")]
)
def test_the_file_obeys_the_specification(network: str, target: str, tmp_path: Path) -> None:
    """Weights in -127..127 with zero points 0, biases int32 at the product of scales, activations int8 per tensor."""
    q = quantized(network, target)
    report = EXPORTER.export(q, tmp_path / "net.tflite")
    model = model_of(report.files[0])
    graph = model.Subgraphs(0)
    codes = [model.OperatorCodes(i).BuiltinCode() for i in range(model.OperatorCodesLength())]
    seen = 0
    for i in range(graph.OperatorsLength()):
        operator = graph.Operators(i)
        name = NAMES[codes[operator.OpcodeIndex()]]
        if name not in {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}:
            continue
        seen += 1
        data, weights, bias = (graph.Tensors(operator.Inputs(j)) for j in range(3))
        values = model.Buffers(weights.Buffer()).DataAsNumpy().view(np.int8)
        assert values.min() >= -127
        assert weights.Type() == data.Type() == tflite.TensorType.INT8
        assert not weights.Quantization().ZeroPointAsNumpy().any()
        scales = weights.Quantization().ScaleAsNumpy()
        axis = weights.Quantization().QuantizedDimension()
        assert len(scales) in {1, weights.Shape(axis)}
        assert axis == (3 if name == "DEPTHWISE_CONV_2D" else 0)
        assert bias.Type() == tflite.TensorType.INT32
        np.testing.assert_array_equal(
            bias.Quantization().ScaleAsNumpy(), data.Quantization().ScaleAsNumpy()[0] * scales
        )
        assert data.Quantization().ScaleLength() == 1
        assert -128 <= data.Quantization().ZeroPoint(0) <= 127
    assert seen
    signature = model.SignatureDefs(0)
    assert {signature.Inputs(i).Name().decode() for i in range(signature.InputsLength())} == set(q.input_tensors)
    assert {signature.Outputs(i).Name().decode() for i in range(signature.OutputsLength())} == set(q.output_tensors)


def test_unsigned_bytes_are_the_same_numbers(tmp_path: Path) -> None:
    q = quantized("conv_bn_relu", "cpu")
    report = EXPORTER.export(q, tmp_path / "net.tflite")
    graph = model_of(report.files[0]).Subgraphs(0)
    place = graph.Tensors(graph.Inputs(0)).Quantization()
    format = q.program.buffers[q.program.inputs[0]].format
    assert not format.signed
    assert place.ZeroPoint(0) == int(format.zero_point) - 128
    assert np.float32(place.Scale(0)) == np.float32(format.scale)


def test_a_changed_weight_is_seen(tmp_path: Path) -> None:
    q = quantized("residual", "litert")
    report = EXPORTER.export(q, tmp_path / "net.tflite")
    model = model_of(report.files[0])
    largest = max(range(model.BuffersLength()), key=lambda i: model.Buffers(i).DataLength())
    values = model.Buffers(largest).DataAsNumpy().tobytes()
    data = report.files[0].read_bytes()
    place = data.index(values)
    report.files[0].write_bytes(data[:place] + values[1:] + values[:1] + data[place + len(values) :])
    found = read_tflite(q, report, make_codes(q, random_samples(q, 2), "random"))
    assert found.differing > found.compared / 10


def test_what_tflite_has_not_is_refused_by_name(tmp_path: Path) -> None:
    from bitwright.api import quantize
    from bitwright.targets.target import load_target

    with pytest.raises(ExportError, match=r"'matmul14'.*stays in float"):
        EXPORTER.export(quantized("attention", "generic"), tmp_path / "net.tflite")
    with pytest.raises(ExportError, match=r"weights reach -128"):
        EXPORTER.export(quantized("shuffle", "fpga"), tmp_path / "net.tflite")
    collected = calibrated("residual")
    wide = load_target("generic").with_overrides({"activation": {"bits": 16}})
    with pytest.raises(ExportError, match="activations are int8"):
        EXPORTER.export(quantize(collected.model, collected, wide), tmp_path / "net.tflite")
    assert not list(tmp_path.iterdir())


def test_without_the_packages_the_command_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    q = quantized("mlp", "litert")
    report = EXPORTER.export(q, tmp_path / "net.tflite")
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(ToolMissing, match="pip install ai-edge-litert"):
        EXPORTER.read(q, report, make_codes(q, random_samples(q, 1), "random"))
    monkeypatch.setitem(sys.modules, "tflite", None)
    with pytest.raises(ToolMissing, match=r"pip install 'bitwright\[tflite\]'"):
        EXPORTER.export(q, tmp_path / "net.tflite")


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(b"0000TFL3" + bytes(64))
    report = ExportReport(format="tflite", files=(path,), promise="close", facts={"float_io": False})
    q = quantized("mlp", "litert")
    with pytest.raises(ExportError, match="LiteRT refuses"):
        EXPORTER.read(q, report, make_codes(q, random_samples(q, 1), "random"))


# ---------------------------------------------------------------- pieces


def test_fused_activations_are_their_kernels_limits() -> None:
    format = Format(8, True, np.asarray(0.05), np.asarray(-100))
    assert fused((-128, 127), format) == NONE
    assert fused((-100, 127), format) == RELU
    assert fused((-100, 20), format) == RELU6
    assert fused((-120, -80), format) == RELU_N1_TO_1
    assert fused((-99, 127), format) is None


def test_bounds_are_read_off_the_epilogue() -> None:
    unsigned = Format(8, False, np.asarray(0.1))
    x = var("acc", -(1 << 20), 1 << 20)
    assert bounds(saturate(x, 3, 200), unsigned) == (3 - 128, 200 - 128)
    assert bounds(x, unsigned) == (-128, 127)


@settings(max_examples=50, deadline=None)
@given(
    st.integers(1, 20), st.integers(1, 5), st.integers(1, 3), st.integers(1, 2), st.integers(0, 3), st.integers(0, 3)
)
def test_padding_modes_mean_the_same_windows(
    n: int, taps: int, stride: int, dilation: int, before: int, after: int
) -> None:
    """TensorFlow's SAME and VALID, by their definition, give each output the same first element."""
    axis = Axis(taps=taps, stride=stride, dilation=dilation, before=before, after=after)
    outputs = axis.outputs(n)
    mode = padding_mode([axis], [n]) if outputs else None
    reach = (taps - 1) * dilation + 1
    if mode == VALID:
        assert outputs == (n - reach) // stride + 1
        assert before == 0
    elif mode == SAME:
        assert outputs == -(-n // stride)
        assert before == max(0, (outputs - 1) * stride + reach - n) // 2
    elif outputs:
        border = needed_pads(axis, n)
        assert sum(border) > 0
        assert (n + sum(border) - reach) // stride + 1 == outputs
