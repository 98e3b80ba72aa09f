"""Calibrations of other tools: every kind is read, placed, and used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bitwright as bw
import frontend_nets as nets
from bitwright.calibrate.foreign import parse, read_numbers
from bitwright.calibrate.foreign_json import module_path
from bitwright.calibrate.placing import fitted, place
from bitwright.errors import CalibrationError
from bitwright.number.format import Format, FormatRule

TEXTS = {
    "TensorRT": "TRT-8203-EntropyCalibration2\nx: 3c00f9f4\ne: 3d000000\n",
    "ncnn": "conv1_param_0 100.0 0.0 50.0 1 1 1 1 inf\nconv1 63.5\n#conv2 1.0\n",
    "Vitis AI": json.dumps({"param": {"Net::conv1.weight": [[8, 7]]}, "output": {"Net::Net/Conv2d[conv1]/input.3": [[8, 4]]}, "input": {}}),
    "NNoM": "#define CONV1_KERNEL_0 {1,2}\n#define TENSOR_CONV1_KERNEL_0_DEC_BITS {7}\n#define CONV1_OUTPUT_DEC 4\n",
    "AIMET": json.dumps(
        {
            "activation_encodings": {"e": [{"bitwidth": 8, "dtype": "int", "is_symmetric": "False", "min": 0.0, "max": 2.55, "offset": 0, "scale": 0.01}]},
            "param_encodings": {"conv1": [{"bitwidth": 8, "dtype": "int", "is_symmetric": "True", "min": -1, "max": 1, "offset": -128, "scale": 0.01}] * 8},
        }
    ),
    "ONNX Runtime": json.dumps({"e": {"CLS": "TensorData", "lowest": {"CLS": "numpy.array", "data": [-1.0]}, "highest": 3.0}}),
}  # fmt: skip


def test_every_kind_is_recognized() -> None:
    for kind, text in TEXTS.items():
        found = parse(text)
        assert found is not None
        assert found.kind == kind
    assert parse("e 3.5\nx 2\n").ranges == {"e": (-3.5, 3.5), "x": (-2.0, 2.0)}  # type: ignore[union-attr]
    vitis = parse("conv1/aquant 8 4\n")
    assert vitis is not None
    assert int(vitis.formats["conv1/aquant"].exponent) == -4
    two = parse(json.dumps({"encodings": [{"name": "e", "output_dtype": "uint8", "y_scale": 0.5, "y_zero_point": 3}]}))
    assert two is not None
    assert two.formats["e"] == Format(8, False, np.float64(0.5), np.int64(3))
    layers = parse(json.dumps({"quant_conv1": {"k": {"type": "weight", "info": {"bit_width": 8, "quantize_pos": 6}}}}))
    assert layers is not None
    assert int(layers.weights["conv1"].exponent) == -6


def test_the_numbers_are_those_of_the_files() -> None:
    trt, ncnn, aimet = (parse(TEXTS[k]) for k in ("TensorRT", "ncnn", "AIMET"))
    assert trt is not None
    assert float(trt.formats["x"].scale) * 127 == pytest.approx(0.99976, abs=1e-5)  # NVIDIA/TensorRT issue 2036
    assert ncnn is not None
    assert ncnn.inputs["conv1"].scale == 1 / 63.5
    assert np.isfinite(ncnn.weights["conv1"].scale).all()  # dead channels take the coarsest step
    assert aimet is not None
    assert aimet.weights["conv1"].signed
    assert not aimet.weights["conv1"].zero_point.any()
    assert not aimet.formats["e"].signed


def test_modules_of_pytorch_are_found_in_vitis_names() -> None:
    name = "ResNet::ResNet/Sequential[layer1]/BasicBlock[0]/Conv2d[conv1]/input.2"
    assert module_path(name) == "layer1.0.conv1"
    assert module_path("ResNet::conv1.weight") == "conv1.weight"


@pytest.mark.parametrize("kind", sorted(TEXTS))
def test_each_kind_decides_formats(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "numbers"
    path.write_text(TEXTS[kind])
    x = nets.channels_first(nets.samples(12))
    collected = bw.calibrate(nets.as_onnx(), x, numbers=path)
    collected.save(tmp_path / "c.bwcal")
    collected = bw.Calibration.load(nets.as_onnx(), tmp_path / "c.bwcal")
    placed = collected.statistics.placed
    assert placed is not None
    assert placed.kind == kind
    target = {"TensorRT": "gpu", "ncnn": "ncnn", "Vitis AI": "dpu", "NNoM": "mcu-q7"}.get(kind, "cpu")
    q = bw.quantize(nets.as_onnx(), collected, target=target)
    buffers = {b.tensor: b.format for b in q.program.buffers.values()}
    if kind == "TensorRT":
        assert float(buffers["e"].scale) == 0.03125
    elif kind in {"Vitis AI", "NNoM"}:
        assert int(buffers["b"].exponent) == -4
    elif kind == "AIMET":
        assert float(buffers["e"].scale) == 0.01
    elif kind == "ONNX Runtime":
        assert float(buffers["e"].scale) == pytest.approx(4 / 255)
    else:
        assert float(buffers["x"].scale) == 1 / 63.5
    ours = bw.quantize(nets.as_onnx(), bw.calibrate(nets.as_onnx(), x), target=target)
    assert bw.compare(ours, q).different > 0


def test_numbers_alone_suffice_where_they_tell_all(tmp_path: Path) -> None:
    x = nets.channels_first(nets.samples(12))
    first = bw.quantize(nets.as_onnx(), x, target="gpu", scheme="minmax")
    first.export("tensorrt", tmp_path / "net.onnx", verify=False)
    told = bw.calibrate(nets.as_onnx(), numbers=tmp_path / "net.onnx.cache")
    second = bw.quantize(nets.as_onnx(), told, target="gpu", scheme="minmax")
    np.testing.assert_array_equal(first.run(x, raw=True), second.run(x, raw=True))


def test_what_does_not_belong_is_said(tmp_path: Path) -> None:
    path = tmp_path / "numbers"
    path.write_text("TRT-8203-EntropyCalibration2\nnobody: 3c00f9f4\n")
    with pytest.raises(CalibrationError, match="nobody"):
        bw.calibrate(nets.as_onnx(), numbers=path)
    path.write_text("TRT-8203-EntropyCalibration2\nnobody: 3c00f9f4\nx: 3c00f9f4\n")
    found = bw.calibrate(nets.as_onnx(), nets.channels_first(nets.samples(4)), numbers=path)
    assert any("'nobody'" in note for note in found.notes)
    with pytest.raises(CalibrationError, match="needs data"):
        bw.calibrate(nets.as_onnx())


@pytest.mark.parametrize(
    "text",
    ["", "hello", "{", "[1]", '{"a": 1}', "TRT-1-X\nx: zz\n", '{"activation_encodings": {"a": [{"scale": "x", "offset": 0}]}}', "#define A 1\n", '{"a": [3, 1]}', "conv_param_0 x\n"],
)  # fmt: skip
def test_other_files_are_errors(tmp_path: Path, text: str) -> None:
    path = tmp_path / "numbers"
    path.write_text(text)
    with pytest.raises(CalibrationError):
        read_numbers(path)
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(CalibrationError):
        read_numbers(path)


def test_formats_are_fitted_to_the_target() -> None:
    exact = Format(8, True, np.float64(0.5))
    assert fitted(exact, FormatRule()) == exact
    unsigned = Format(8, False, np.float64(0.5), np.int64(128))
    assert fitted(unsigned, FormatRule(symmetric=True)) == exact
    power = fitted(Format(8, True, np.float64(0.3)), FormatRule(scaling="power-of-two"))
    assert power.exponent is not None
    wide = fitted(exact, FormatRule(per_channel=True), 3)
    assert wide.axis == 0
    assert wide.scale.tolist() == [0.5] * 3


def test_inputs_of_layers_are_placed() -> None:
    numbers: Any = parse(TEXTS["ncnn"])
    placed = place(numbers, bw.load(nets.as_onnx()).network)
    assert set(placed.activations) == {"x"}
    assert set(placed.weights) == {"conv1"}
