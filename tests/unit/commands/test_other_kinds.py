"""Commands on networks that are no ONNX, and on numbers of other tools."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import bitwright as bw
import frontend_nets as nets
from command_line import CALIB, MODEL, Line


@pytest.fixture
def line(capsys: pytest.CaptureFixture[str]) -> Line:
    return Line(capsys)


def test_a_keras_file_goes_all_the_way(line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    nets.save_keras(nets.as_keras(), tmp_path / "net.keras")
    (tmp_path / "net.toml").write_text('[input]\nlayout = "raw"\n[output]\ntask = "none"\n')
    np.save(tmp_path / "x.npy", nets.samples(12))
    found = line("inspect", "net.keras", "--json").json
    assert next(row["layer"] for row in found["layers"]) == "conv1"
    assert found["layers"][0]["outputs"] == [[1, nets.SIDE, nets.SIDE, 8]]
    assert line("quantize", "net.keras", "--data", "x.npy", "--target", "fpga", "-o", "net.bw", "--quiet").code == 0
    assert (
        line("validate", "net.bw", "--data", "x.npy", "--metric", "sqnr", "--quiet", "--json").json["bit_exact"][
            "mismatches"
        ]
        == 0
    )


def test_a_quantized_file_needs_no_data(line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bw.quantize(MODEL, CALIB, target="mcu-cmsis-nn").export("tflite", tmp_path / "net.tflite", verify=False)
    assert line("quantize", "net.tflite", "-o", "net.bw").code == 0
    details = line("details", "net.bw", "--json").json
    assert details["target"] == "mcu-cmsis-nn"
    assert line("details", "net.tflite", "--json").json["formats"] == details["formats"]
    assert line("quantize", "net.tflite", "--scheme", "mse", "-o", "b.bw").code == 2
    answer = line("quantize", MODEL, "-o", "c.bw")
    assert answer.code == 2
    assert "--data" in answer.err


def test_numbers_of_another_tool(line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bw.quantize(MODEL, CALIB, target="gpu").export("tensorrt", tmp_path / "trt.onnx", verify=False)
    answer = line("calibrate", MODEL, "--from", "trt.onnx.cache", "-o", "trt.bwcal")
    assert answer.code == 0
    assert "TensorRT" in answer.out + answer.err
    assert line("quantize", MODEL, "--data", "trt.bwcal", "--target", "gpu", "-o", "net.bw", "--quiet").code == 0
    (tmp_path / "odd.txt").write_text("hello\n")
    answer = line("calibrate", MODEL, "--from", "odd.txt", "-o", "x.bwcal")
    assert answer.code == 2
    assert "no kind that is known" in " ".join(answer.err.split())
    assert line("calibrate", MODEL, "-o", "x.bwcal").code == 2
