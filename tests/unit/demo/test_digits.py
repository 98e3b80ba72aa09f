"""The demo's network and data are what scripts/make_demo_network.py says."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from bitwright.data.contract import InputContract

FOLDER = Path(__file__).parents[3] / "src" / "bitwright" / "demo"
NETWORK = FOLDER / "digits.onnx"

# What the script printed when it wrote the files.
STATED_ACCURACY = 0.9950
HELD_OUT = 600


def part(name: str) -> tuple[np.ndarray, np.ndarray]:
    with np.load(FOLDER / f"digits-{name}.npz", allow_pickle=False) as arrays:
        return arrays["x"], arrays["y"]


def test_float_accuracy_is_as_stated() -> None:
    contract = InputContract.from_toml(FOLDER / "digits.toml").bind([None, 1, 16, 16])
    x, y = part("val")
    assert len(x) == HELD_OUT
    session = onnxruntime.InferenceSession(NETWORK, providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"image": np.stack([contract.apply(image) for image in x])})
    assert contract.task == "classification"
    # Another machine's sums may turn one close decision.
    assert (logits.argmax(1) == y).mean() == pytest.approx(STATED_ACCURACY, abs=1.01 / HELD_OUT)


def test_it_has_what_makes_quantizing_interesting() -> None:
    model = onnx.load(NETWORK)
    onnx.checker.check_model(model, full_check=True)
    ops = Counter(node.op_type for node in model.graph.node)
    assert ops["BatchNormalization"] == 6
    assert {"Conv", "Relu", "MaxPool", "Add", "Concat", "GlobalAveragePool", "Flatten", "Gemm"} <= ops.keys()
    groups = [helper.i for node in model.graph.node for helper in node.attribute if helper.name == "group"]
    assert 16 in groups
    assert model.opset_import[0].version == 17
    assert len({node.name for node in model.graph.node}) == len(model.graph.node)
    assert all(node.name.replace("_", "").isalnum() for node in model.graph.node)


def test_the_depthwise_layer_has_unequal_channels_once_folded() -> None:
    """Three nearly silent channels before it: this is what a per-tensor format loses accuracy on."""
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(NETWORK).graph.initializer}
    gain, variance = weights["depthwise_norm_gain"], weights["depthwise_norm_variance"]
    folded = weights["depthwise_conv_weight"] * (gain / np.sqrt(variance + 1e-5))[:, None, None, None]
    largest = np.sort(np.abs(folded).max(axis=(1, 2, 3)))
    assert largest[-1] > 16 * np.median(largest)


def test_calibration_and_validation_do_not_overlap() -> None:
    (calib, calib_y), (val, val_y) = part("calib"), part("val")
    assert calib.shape == (100, 16, 16)
    assert calib.dtype == val.dtype == np.uint8
    assert set(calib_y) == set(val_y) == set(range(10))
    assert not {x.tobytes() for x in calib} & {x.tobytes() for x in val}


def test_it_stays_small() -> None:
    assert NETWORK.stat().st_size < 200_000
    assert sum(file.stat().st_size for file in FOLDER.iterdir() if file.is_file()) < 400_000


def test_the_source_of_the_data_is_named() -> None:
    notice = (FOLDER.parents[2] / "NOTICE").read_text()
    assert "digits-val.npz" in notice
    assert "UCI" in notice
