"""One network entered as PyTorch, ONNX, Keras and TensorFlow Lite gives the same integers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import bitwright as bw
import frontend_nets as nets
from bitwright.data.contract import InputContract

FORMS = ("torch", "pt2", "onnx", "keras object", ".keras", ".h5", "tflite")


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    import torch

    folder = tmp_path_factory.mktemp("forms")
    net, model = nets.as_torch(), nets.as_keras()
    program = torch.export.export(net.eval(), (torch.zeros(1, 3, nets.SIDE, nets.SIDE),))
    torch.export.save(program, folder / "net.pt2")
    (folder / "net.tflite").write_bytes(nets.as_tflite())
    return {
        "torch": bw.load(net, torch.zeros(1, 3, nets.SIDE, nets.SIDE)),
        "pt2": bw.load(folder / "net.pt2"),
        "onnx": bw.load(nets.as_onnx()),
        "keras object": bw.load(model),
        ".keras": bw.load(nets.save_keras(model, folder / "net.keras")),
        ".h5": bw.load(nets.save_keras(model, folder / "net.h5")),
        "tflite": bw.load(folder / "net.tflite"),
    }


def data_for(model: Any, x: np.ndarray) -> np.ndarray:
    shape = model.network.shape(model.network.inputs[0])
    return x if shape[-1] == 3 else nets.channels_first(x)


def raw(model: Any) -> Any:
    """The model taking arrays as they are."""
    contract = InputContract.from_dict({"input": {"layout": "raw"}, "output": {"task": "none"}})
    net = model.network
    return replace(model, contract=contract.bind([None, *net.shape(net.inputs[0])[1:]], np.float32))


@pytest.mark.parametrize("target", ["fpga", "dpu", "mcu-cmsis-nn", "cpu"])
def test_all_forms_give_the_same_integers(forms: dict[str, Any], target: str) -> None:
    x, wanted = nets.samples(), None
    for form in FORMS:
        model = raw(forms[form])
        own = data_for(model, x)
        q = bw.quantize(model, own[:16], target=target)
        assert q.program.integer_mac_share == 1.0
        got = q.run(own, raw=True)
        wanted = got if wanted is None else wanted
        np.testing.assert_array_equal(got, wanted, err_msg=form)


def test_names_and_shapes_are_the_users(forms: dict[str, Any]) -> None:
    assert {"conv1", "conv2", "depth", "point", "fc"} <= {layer.name for layer in forms["torch"].network.layers()}
    rows = {row.layer: row for row in bw.inspect(forms[".keras"]).layers}
    assert {"conv1", "conv2", "add", "pool", "depth", "point", "fc"} <= set(rows)
    assert rows["conv1"].outputs == ((1, nets.SIDE, nets.SIDE, 8),)
    assert not any("channels_" in name for name in rows)
    assert forms["tflite"].network.inputs == ("image",)
    assert forms["tflite"].network.outputs == ("fc",)
    assert all(forms[form].network.batchable for form in FORMS)
