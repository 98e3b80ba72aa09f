"""The face for people who come from Vitis AI: options, printout and files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from bitwright.errors import CalibrationError, InputMismatch, NoData
from bitwright.familiar.vitis import CalibrationRuns, check_nodes, find_input_fn, vitis_quantize
from bitwright.quantized import Quantized
from command_line import CALIB, MODEL, Line

IMAGES = np.load(CALIB)["x"][:, None].astype(np.float32) / 255
SCRIPT = f"""
import numpy as np
x = np.load({str(CALIB)!r})["x"][:, None].astype(np.float32) / 255
def calib(iter):
    return {{"image": x[iter * 4 : iter * 4 + 4]}}
def short(iter):
    if iter > 2:
        raise StopIteration
    return calib(iter)
def wrong(iter):
    return x[:2]
def broken(iter):
    raise KeyError("nothing")
number = 3
"""


def fn(iteration: int) -> dict[str, np.ndarray]:
    return {"image": IMAGES[iteration * 4 : iteration * 4 + 4]}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"fn_{tmp_path.name}.py").write_text(SCRIPT)  # a name of its own: modules are imported once
    return tmp_path


def test_it_prints_what_users_of_the_tool_know(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = Line(capsys)(
        "vitis", "quantize", "--input_model", MODEL, "--input_fn", f"fn_{folder.name}.calib", "--calib_iter", 5,
        "--output_dir", "out", "--gpu", 0,
    )  # fmt: skip
    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    assert lines == [
        "INFO: Found input nodes: image",
        "INFO: Found output nodes: logits",
        "INFO: Calibrating for 5 iterations...",
        "INFO: Calibration Done.",
        "INFO: Generating Deploy Model...",
        "INFO: Deploy Model Generated.",
        "********************* Quantization Summary *********************",
        "INFO: Output:",
        f"  quantize_eval_model: {Path('out/quantize_eval_model.onnx')}",
        f"  deploy_model: {Path('out/deploy_model.onnx')}",
        f"  bitwright: {Path('out/deploy_model.bw')}",
    ]
    assert re.search(r"100% \(5 of 5\) \|#+\| Elapsed Time: \d:\d\d:\d\d Time: \d:\d\d:\d\d", answer.err)
    q = Quantized.load("out/deploy_model.bw")
    assert q.program.target == "dpu"
    assert q.provenance["calibration_samples"] == 20  # iterations times batch
    assert q.provenance["schemes"]["weight"] == "mse"
    real = onnxruntime.InferenceSession("out/deploy_model.onnx").run(None, {"image": IMAGES[:8]})[0]
    np.testing.assert_array_equal(real, q.run(IMAGES[:8]).astype(np.float32))
    model = onnx.load("out/quantize_eval_model.onnx")
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in model.graph.node}


def test_json_and_options(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = Line(capsys)(
        "vitis", "quantize", "--input_frozen_graph", MODEL, "--input_fn", f"fn_{folder.name}:short", "--calib_iter", 9,
        "--output_dir", "out", "--method", 0, "--weight_bit", 6, "--input_nodes", "image", "--output_nodes", "logits",
        "--input_shapes", "?,1,16,16", "--json",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert answer.json["samples"] == 12  # the function ended early
    q = Quantized.load(answer.json["bw"])
    assert q.provenance["schemes"]["weight"] == "minmax"
    assert {x.format.bits for x in q.program.learnables if x.parameter == "Weights"} == {6}


def test_repairs_by_their_names(tmp_path: Path) -> None:
    result = vitis_quantize(MODEL, fn, tmp_path, calib_iter=4, do_cle=True)
    assert any("equalize" in str(one) for one in result.quantized.provenance["repairs"])
    assert result.samples == 16


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--input_nodes", "imag"), "Did you mean 'image'"),
        (("--output_nodes", "softmax_1"), "The output nodes are logits"),
        (("--input_shapes", "1,2:3"), "has 2 shapes"),
        (("--input_shapes", "a,b"), "is no shape"),
        (("--method", 7), "method"),
    ],
)
def test_what_is_wrong_is_said(
    arguments: tuple[object, ...], words: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = Line(capsys)(
        "vitis",
        "quantize",
        "--input_model",
        MODEL,
        "--input_fn",
        f"fn_{folder.name}.calib",
        "--calib_iter",
        2,
        *arguments,
    )
    assert answer.code == 2
    assert words in " ".join(answer.err.split())


def test_input_functions(folder: Path) -> None:
    name = f"fn_{folder.name}"
    assert len(list(CalibrationRuns(find_input_fn(f"{name}.calib"), 3))) == 12
    for text, words in ((f"{name}.nothing", "has no 'nothing'"), ("calib", "module.function"), (f"{name}.number", "no function"),
                        ("no_such_module.fn", "cannot be found")):  # fmt: skip
        with pytest.raises(NoData, match=words):
            find_input_fn(text)
    for text, words in (("wrong", "gives ndarray"), ("broken", r"input_fn\(0\) failed with KeyError")):
        with pytest.raises(NoData, match=words):
            list(CalibrationRuns(find_input_fn(f"{name}.{text}"), 1))
    with pytest.raises(NoData, match="same, one or more"):
        list(CalibrationRuns(lambda i: {"a": np.ones((2, 1)), "b": np.ones((3, 1))}, 1))
    with pytest.raises(CalibrationError, match="no method 5"):
        vitis_quantize(MODEL, fn, folder, method=5)
    with pytest.raises(InputMismatch, match="leaves out b"):
        check_nodes(["a"], ["a", "b"], "input")


def test_inspect_lists_nodes_and_layers(capsys: pytest.CaptureFixture[str]) -> None:
    answer = Line(capsys)("vitis", "inspect", "--input_model", MODEL)
    assert answer.code == 0
    assert "INFO: Found input nodes: image" in answer.out
    assert "on target dpu" in answer.out
    assert Line(capsys)("vitis", "inspect", "--input_model", MODEL, "--json").json["target"] == "dpu"
