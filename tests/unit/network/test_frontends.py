"""What each front end reads, and what it says of files that it does not."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bitwright as bw
import frontend_nets as nets
from bitwright.errors import BadModelFile, ModelError, UnknownShape, UnsupportedOp


def run(model: Any, x: np.ndarray) -> np.ndarray:
    net = model.network
    return net.session().run(None, {net.inputs[0]: x})[0]


# ---------------------------------------------------------------- Keras


def every_layer() -> Any:
    """A Keras model with most layers that are read."""
    package = nets.keras()
    package.utils.set_random_seed(1)
    L = package.layers
    x = entry = package.Input((12, 12, 3), name="image")
    x = L.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 3.0])(L.Rescaling(2.0, offset=0.5)(x))
    x = L.ZeroPadding2D(((0, 1), (1, 0)))(x)
    x = L.BatchNormalization(scale=False)(L.Conv2D(8, 3, strides=2, padding="same", activation="silu")(x))
    x = L.SeparableConv2D(6, 3, padding="same", depth_multiplier=2, activation="relu6")(x)
    x = L.LeakyReLU(negative_slope=0.1)(L.Dropout(0.3)(x))
    y = L.Conv2D(6, (1, 3), dilation_rate=2, padding="same", groups=2, use_bias=False)(x)
    y = L.PReLU(shared_axes=[1, 2])(y)
    inner = package.Sequential(
        [package.Input((7, 7, 6)), L.Conv2D(6, 3, padding="same"), L.BatchNormalization()], name="inner"
    )
    x = L.Concatenate()([L.Add()([x, y, inner(x)]), L.Multiply()([x, y]), L.Average()([x, y]), L.Subtract()([x, y])])
    x = L.AveragePooling2D(2, padding="same")(L.Cropping2D(1)(L.UpSampling2D(2)(x)))
    x = package.ops.relu(x * 1.5 + 0.25)
    x = L.Conv2DTranspose(5, 3, strides=2, padding="same", activation="tanh")(x)
    gate = L.Dense(5, activation="sigmoid")(L.GlobalAveragePooling2D(keepdims=True)(x))
    x = L.Multiply()([x, gate])
    flat = L.Dense(7, activation="elu")(L.Flatten()(L.MaxPooling2D(3)(x)))
    other = L.Dense(7)(L.Reshape((-1,))(L.Permute((2, 1, 3))(L.DepthwiseConv2D(3, strides=2)(x))))
    last = L.LayerNormalization()(L.Maximum()([flat, other]))
    return package.Model(entry, L.Softmax()(L.Dense(4)(last)))


def test_keras_layers_compute_what_keras_computes(tmp_path: Path) -> None:
    model = every_layer()
    x = np.random.default_rng(1).normal(size=(3, 12, 12, 3)).astype(np.float32)
    wanted = nets.predict(model, x)
    for source in (model, nets.save_keras(model, tmp_path / "m.keras"), nets.save_keras(model, tmp_path / "m.h5")):
        loaded = bw.load(source)
        np.testing.assert_allclose(run(loaded, x), wanted, atol=2e-5)
        assert loaded.network.batchable
        assert any(layer.name.startswith("inner/") for layer in loaded.network.layers())


def test_a_sequential_model_and_one_axis(tmp_path: Path) -> None:
    package = nets.keras()
    L = package.layers
    model = package.Sequential(
        [
            package.Input((20, 4)),
            L.Conv1D(6, 3, padding="causal", dilation_rate=2, activation="relu"),
            L.MaxPooling1D(2),
            L.Conv1D(5, 3, strides=2, padding="same"),
            L.GlobalMaxPooling1D(),
            L.Dense(3),
        ]
    )
    x = np.random.default_rng(2).normal(size=(2, 20, 4)).astype(np.float32)
    loaded = bw.load(nets.save_keras(model, tmp_path / "m.keras"))
    np.testing.assert_allclose(run(loaded, x), nets.predict(model, x), atol=1e-5)


def changed_keras(tmp_path: Path, change: Any) -> Path:
    """A ``.keras`` file whose configuration was changed."""
    path = nets.save_keras(nets.as_keras(), tmp_path / "a.keras")
    out = tmp_path / "b.keras"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "config.json":
                config = json.loads(data)
                change(config)
                data = json.dumps(config).encode()
            new.writestr(name, data)
    return out


def test_code_in_a_file_is_refused_by_name(tmp_path: Path) -> None:
    def to_lambda(config: Any) -> None:
        config["config"]["layers"][2] |= {"class_name": "Lambda", "module": "keras.layers"}

    with pytest.raises(UnsupportedOp, match=r"Lambda.*not executed") as caught:
        bw.load(changed_keras(tmp_path, to_lambda))
    assert caught.value.layer == "conv2"


@pytest.mark.parametrize("name", ["\x1b[31mred", "../../etc", "a" * 5000])
def test_unknown_layers_are_named_safely(tmp_path: Path, name: str) -> None:
    def to_custom(config: Any) -> None:
        config["config"]["layers"][2] |= {"class_name": name, "module": "evil", "registered_name": name}

    with pytest.raises(UnsupportedOp, match="not read") as caught:
        bw.load(changed_keras(tmp_path, to_custom))
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 800


def test_free_axes_of_keras_inputs_are_asked_for(tmp_path: Path) -> None:
    def free(config: Any) -> None:
        config["config"]["layers"][0]["config"]["batch_shape"] = [None, None, 8, 3]

    with pytest.raises(UnknownShape, match="--shape image=1,SIZE,8,3"):
        bw.load(changed_keras(tmp_path, free))


@pytest.mark.parametrize("suffix", [".keras", ".h5", ".tflite", ".pt2"])
@pytest.mark.parametrize("keep", [0, 3, 40, 0.3, 0.9])
def test_damaged_files_are_errors(tmp_path: Path, suffix: str, keep: float) -> None:
    path = tmp_path / f"net{suffix}"
    if suffix == ".tflite":
        path.write_bytes(nets.as_tflite())
    elif suffix == ".pt2":
        save_program(path)
    else:
        nets.save_keras(nets.as_keras(), path)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep if keep >= 1 or not keep else keep * len(data))])
    with pytest.raises(BadModelFile):
        bw.load(path)


def test_links_out_of_a_weights_file_are_not_followed(tmp_path: Path) -> None:
    import h5py

    path = nets.save_keras(nets.as_keras(), tmp_path / "net.h5")
    with h5py.File(path, "r+") as file:
        group = file["model_weights"]
        del group["conv1"]
        group["conv1"] = h5py.ExternalLink("/etc/hostname", "/x")
    with pytest.raises(BadModelFile, match="another place"):
        bw.load(path)


# ---------------------------------------------------------------- SavedModel


def varint(value: int) -> bytes:
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def message(*parts: tuple[int, int | bytes]) -> bytes:
    out = b""
    for number, value in parts:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


def table(entries: dict[bytes, bytes]) -> bytes:
    """A LevelDB table of one block."""

    def block(pairs: dict[bytes, bytes]) -> bytes:
        body = b"".join(varint(0) + varint(len(k)) + varint(len(v)) + k + v for k, v in sorted(pairs.items()))
        return body + struct.pack("<II", 0, 1)

    data = block(entries)
    out = data + b"\0" + b"\0" * 4
    index = block({b"~": varint(0) + varint(len(data))})
    at = len(out)
    out += index + b"\0" + b"\0" * 4
    empty = block({})
    meta = len(out)
    out += empty + b"\0" + b"\0" * 4
    footer = varint(meta) + varint(len(empty)) + varint(at) + varint(len(index))
    return out + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


def saved_model(folder: Path) -> Path:
    """A SavedModel as Keras 2 wrote them: the configuration inside, the numbers in a checkpoint."""
    model = nets.as_keras()
    config = model.get_config()
    for layer in config["layers"]:  # Keras 2's way of saying what a layer reads
        calls = layer["inbound_nodes"]
        layer["inbound_nodes"] = [
            [[*t["config"]["keras_history"], {}] for t in np.ravel(call["args"]).tolist()] for call in calls
        ]
    text = json.dumps({"class_name": "Functional", "config": config}).encode()
    user = message((1, b"_tf_keras_network"), (3, text))
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(message((2, message((7, message((1, message((4, user)))))))))
    entries, data, count = {b"": message((1, 1))}, b"", 0
    for layer in model.layers:
        if not layer.weights:
            continue
        for variable in layer.weights:
            array = np.asarray(
                variable.detach() if hasattr(variable, "detach") else variable.value.detach(), np.float32
            )
            shape = message(*((2, message((1, n))) for n in array.shape))
            key = f"layer_with_weights-{count}/{variable.name}/.ATTRIBUTES/VARIABLE_VALUE".encode()
            entries[key] = message((1, 1), (2, shape), (4, len(data)), (5, array.nbytes))
            data += array.tobytes()
        count += 1
    (folder / "variables" / "variables.index").write_bytes(table(entries))
    (folder / "variables" / "variables.data-00000-of-00001").write_bytes(data)
    return folder


def test_a_saved_model_of_keras_2_needs_no_tensorflow(tmp_path: Path) -> None:
    x = nets.samples(3)
    folder = saved_model(tmp_path / "saved")
    np.testing.assert_allclose(run(bw.load(folder), x), run(bw.load(nets.as_keras()), x), atol=1e-6)
    short = folder / "variables" / "variables.data-00000-of-00001"
    short.write_bytes(short.read_bytes()[:100])
    with pytest.raises(BadModelFile, match="too short"):
        bw.load(folder)
    (folder / "saved_model.pb").write_bytes(b"\xff\xff\xff")
    with pytest.raises(BadModelFile):
        bw.load(folder)


# ---------------------------------------------------------------- PyTorch


def save_program(path: Path) -> None:
    import torch

    program = torch.export.export(nets.as_torch().eval(), (torch.zeros(1, 3, nets.SIDE, nets.SIDE),))
    torch.export.save(program, path)


def test_modules_keep_their_names_and_their_mode() -> None:
    import torch

    net = nets.as_torch().train()
    loaded = bw.load(net, torch.zeros(2, 3, nets.SIDE, nets.SIDE))
    assert net.training
    assert loaded.network.batchable
    x = nets.channels_first(nets.samples(3))
    np.testing.assert_allclose(run(loaded, x), net.eval()(torch.from_numpy(x)).detach().numpy(), atol=1e-5)


def test_wrong_examples_say_why() -> None:
    import torch

    net = nets.as_torch()
    with pytest.raises(ModelError, match="Give an example"):
        bw.load(net)
    with pytest.raises(ModelError, match=r"cannot export Net.*channels"):
        bw.load(net, torch.zeros(1, 5, nets.SIDE, nets.SIDE))
    with pytest.raises(ModelError, match="must be a tensor"):
        bw.load(net, "image")


def test_programs_that_call_other_functions_are_refused(tmp_path: Path) -> None:
    path, out = tmp_path / "net.pt2", tmp_path / "evil.pt2"
    save_program(path)
    for old, new, why in (
        (b"torch.ops.aten.relu.default", b"torch.hub.load", "calls 'torch.hub.load'"),
        (b'"target": "torch.ops.aten.relu.default"', b'"expr_str": "__import__(1)", "target": "torch.ops.aten.relu.default"', "a size"),
    ):  # fmt: skip
        with zipfile.ZipFile(path) as old_file, zipfile.ZipFile(out, "w") as new_file:
            for name in old_file.namelist():
                new_file.writestr(name, old_file.read(name).replace(old, new))
        with pytest.raises(BadModelFile, match=why):
            bw.load(out)


@pytest.mark.parametrize("suffix", [".th", ".pth", ".pb", ".caffemodel", ".cfg"])
def test_files_that_hold_no_network_say_what_to_do(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"net{suffix}"
    path.write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(BadModelFile, match="not read"):
        bw.load(path)


# ---------------------------------------------------------------- TensorFlow Lite


def test_unknown_operators_are_named(tmp_path: Path) -> None:
    from bitwright.export.tflite.flat import Graph

    graph = Graph("net")
    x, y = graph.tensor("x", (1, 4), "float32"), graph.tensor("the_output", (1, 4), "float32")
    graph.op("CUMSUM", [x, graph.constant("axis", np.array(1, np.int32))], [y])
    path = tmp_path / "net.tflite"
    path.write_bytes(graph.packed([("x", x)], [("y", y)], ""))
    with pytest.raises(UnsupportedOp, match=r"CUMSUM.*the_output"):
        bw.load(path)
