"""Loading: old opsets give what new ones give, and every kind of bad file gives one clear error."""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import zoo
from bitwright.errors import BadModelFile, BitwrightError, ModelError, NonFinite, UnknownShape
from bitwright.network.load import load
from bitwright.passes.prepare import prepare


def simple() -> onnx.ModelProto:
    return zoo.conv_bn_relu()


def same_outputs(model: onnx.ModelProto, batches: tuple[int, ...] = (1, 3)) -> None:
    net = load(model)
    folded, _ = prepare(net)
    for batch in batches:
        inputs = zoo.feeds(model, batch)
        want = zoo.run(model, inputs)
        for got in (net.session().run(None, inputs), folded.session().run(None, inputs)):
            for a, b in zip(got, want, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


class TestOldOpsets:
    """Files as exporters wrote them when these opsets were new, against ONNX Runtime on the untouched file."""

    @pytest.mark.parametrize("opset", [7, 9])
    def test_attributes_that_became_inputs(self, opset: int) -> None:
        g = zoo.Graph(f"old{opset}", opset)
        x = g.input("x", ["N", 4, 6, 6])
        x = g.node("Clip", g.conv(x, 4, 6), min=-0.5, max=0.75)
        x = g.node("Pad", x, pads=[0, 0, 1, 0, 0, 0, 0, 2], mode="constant", value=0.5)
        x = g.node("Slice", x, starts=[1, 0], ends=[6, 9], axes=[2, 3])
        a, b = g.node("Split", x, outputs=2, axis=1, split=[2, 4])
        a = g.node("Unsqueeze", g.node("ReduceMean", a, axes=[1], keepdims=0), axes=[1])
        x = g.node("Mul", a, b)
        if opset >= 9:
            x = g.node("Upsample", x, g.constant(np.asarray([1, 1, 2, 2], np.float32)), mode="nearest")
        else:
            x = g.node("Upsample", x, scales=[1.0, 1.0, 2.0, 2.0], mode="nearest")
        x = g.node("Dropout", g.bn(x, 4), ratio=0.5)
        x = g.node("GlobalAveragePool", x)
        x = g.node("Softmax", g.node("Squeeze", x, axes=[2, 3]))
        model = g.build(x)
        same_outputs(model)
        net = load(model)
        assert net.opset == 18
        clip = next(n for n in net.nodes() if n.op_type == "Clip")
        assert net.constant(clip.inputs[1].name) == np.float32(-0.5)
        assert [n.name for n in net.nodes()] == [n.name for n in model.graph.node]

    def test_softmax_of_opset_11_flattens(self) -> None:
        g = zoo.Graph("softmax", 11)
        x = g.conv(g.input("x", ["N", 2, 3, 4]), 2, 3)
        model = g.build(g.node("Softmax", x, axis=1, name="s"), g.node("LogSoftmax", g.relu(x), axis=3))
        same_outputs(model)
        net = load(model)
        assert {s for n in net.nodes() for s in net.sources(n)} == {n.name for n in model.graph.node}

    @pytest.mark.parametrize("mode", ["nearest", "linear"])
    def test_resize_10(self, mode: str) -> None:
        g = zoo.Graph("resize10", 10)
        x = g.conv(g.input("x", ["N", 2, 5, 4]), 2, 3)
        scales = g.constant(np.asarray([1, 1, 2, 3], np.float32))
        same_outputs(g.build(g.node("Resize", x, scales, mode=mode)))

    @pytest.mark.parametrize("opset", [11, 13, 18])
    def test_resize_to_sizes_leaves_the_batch_free(self, opset: int) -> None:
        g = zoo.Graph("sizes", opset)
        x = g.conv(g.input("x", [1, 2, 5, 4]), 2, 3)
        empty = g.constant(np.zeros(0, np.float32)) if opset == 11 else ""
        x = g.node("Resize", x, empty, empty, g.constant(np.asarray([1, 3, 10, 7], np.int64)), mode="linear")
        model = g.build(x)
        same_outputs(model, (1,))
        net = load(model)
        assert net.batchable
        assert net.session().run(None, zoo.feeds(model, 1))[0].shape == (1, 3, 10, 7)
        x4 = np.random.default_rng(1).normal(size=(4, 2, 5, 4)).astype(np.float32)
        got = net.session().run(None, {"x": x4})[0]
        want = np.concatenate([zoo.run(model, {"x": x4[i : i + 1]})[0] for i in range(4)])
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("opset", [11, 13, 17, 18, 21, 23])
    def test_all_later_opsets(self, opset: int) -> None:
        g = zoo.Graph("later", opset)
        x = g.relu6(g.bn(g.conv(g.input("x", ["N", 3, 9, 9]), 3, 4), 4))
        axes = np.asarray([2, 3], np.int64)
        if opset >= 18:
            x = g.node("ReduceMean", x, g.constant(axes), keepdims=0)
        else:
            x = g.node("ReduceMean", x, axes=[2, 3], keepdims=0)
        two = np.asarray([0], np.int64)
        x = g.node("Unsqueeze", x, g.constant(two + 2)) if opset >= 13 else g.node("Unsqueeze", x, axes=[2])
        model = g.build(g.node("Softmax", x, axis=1))
        same_outputs(model)
        assert load(model).opset == max(18, opset)

    def test_padding_rules_become_numbers(self) -> None:
        g = zoo.Graph("auto_pad")
        x = g.input("x", ["N", 2, 7, 10])
        w = g.weight(4, 2, 3, 4)
        a = g.node("Conv", x, w, auto_pad="SAME_UPPER", strides=[2, 3])
        b = g.node("Conv", x, w, auto_pad="SAME_LOWER", strides=[2, 3])
        c = g.node("MaxPool", x, kernel_shape=[4, 3], strides=[2, 2], auto_pad="SAME_UPPER")
        d = g.node("Conv", x, w, auto_pad="VALID")
        e = g.node("ConvTranspose", x, g.weight(2, 3, 3, 3), auto_pad="SAME_UPPER", strides=[2, 2])
        f = g.node("ConvTranspose", x, g.weight(2, 3, 3, 3), output_shape=[15, 20], strides=[2, 2])
        model = g.build(a, b, c, d, e, f)
        same_outputs(model)
        assert all("auto_pad" not in n.attributes and "output_shape" not in n.attributes for n in load(model).nodes())

    def test_too_old_and_too_new(self) -> None:
        model = simple()
        model.opset_import[0].version = 6
        with pytest.raises(BadModelFile, match=r"opset 6; 7 is the oldest"):
            load(model)
        model.opset_import[0].version = 99
        with pytest.raises(BadModelFile, match=r"opset 99; the installed onnx package knows up to"):
            load(model)


class TestInputs:
    def test_initializers_listed_as_inputs(self) -> None:
        model = simple()
        for w in model.graph.initializer:
            model.graph.input.append(helper.make_tensor_value_info(w.name, w.data_type, list(w.dims)))
        net = load(model)
        assert net.inputs == ("x",)
        assert net.shape("x") == (1, 3, 12, 12)

    def test_free_dimension(self) -> None:
        g = zoo.Graph("free")
        x = g.conv(g.input("x", ["N", 3, "height", None]), 3, 4)
        model = g.build(g.relu(x))
        with pytest.raises(
            UnknownShape, match=r"Axis 2 of input 'x'.*called height.*--shape x=1,3,SIZE,SIZE"
        ) as caught:
            load(model)
        assert caught.value.tensor == "x"
        net = load(model, shapes={"x": (1, 3, 8, 9)})
        assert net.shape(net.outputs[0]) == (1, 4, 8, 9)
        assert net.batchable
        with pytest.raises(UnknownShape, match="Axis 3"):
            load(model, shapes={"height": 8})
        with pytest.raises(ModelError, match=r"does not fit"):
            load(model, shapes={"x": (1, 4, 8, 9)})
        with pytest.raises(ModelError, match=r"no input or free dimension 'y'.*height"):
            load(model, shapes={"y": (1, 3)})

    def test_fixed_batch_is_freed(self) -> None:
        g = zoo.Graph("fixed")
        x = g.relu(g.conv(g.input("x", [1, 3, 6, 6]), 3, 8))
        x = g.reshape(x, 1, 2, 4, 36)
        model = g.build(g.reshape(g.node("Transpose", x, perm=[0, 2, 1, 3]), 1, -1))
        net = load(model)
        assert net.batchable
        assert net.shape(net.outputs[0]) == (1, 288)
        x4 = np.random.default_rng(1).normal(size=(4, 3, 6, 6)).astype(np.float32)
        want = np.concatenate([zoo.run(model, {"x": x4[i : i + 1]})[0] for i in range(4)])
        np.testing.assert_allclose(prepare(net)[0].session().run(None, {"x": x4})[0], want, rtol=1e-5, atol=1e-5)

    def test_a_graph_that_mixes_samples_is_not_batchable(self) -> None:
        g = zoo.Graph("mixes")
        x = g.relu(g.conv(g.input("x", [1, 4, 6, 6]), 4, 8))
        x = g.node("Transpose", g.reshape(x, 4, 2, 36), perm=[1, 0, 2])
        x = g.node("Gather", g.reshape(x, 2, -1, 4, 6, 6), g.constant(np.asarray(0, np.int64)), axis=0)
        model = g.build(x)
        net = load(model)
        assert not net.batchable
        assert any("depends on it" in note for note in net.notes)
        same_outputs(model, (1,))
        assert net.session().get_inputs()[0].shape == [1, 4, 6, 6]

    def test_softmax_over_the_batch_is_not_batchable(self) -> None:
        g = zoo.Graph("over")
        assert not load(g.build(g.node("Softmax", g.gemm(g.input("x", ["N", 4]), 4, 3), axis=0))).batchable

    def test_other_float_types_become_float32(self) -> None:
        for kind, dtype in ((TensorProto.FLOAT16, np.float16), (TensorProto.DOUBLE, np.float64)):
            g = zoo.Graph("types")
            x = g.input("x", ["N", 3], kind)
            w = g.constant(g.random.normal(size=(3, 4)).astype(dtype))
            x = g.node("Cast", g.node("MatMul", x, w), to=TensorProto.FLOAT)
            model = g.build(g.node("Cast", x, to=kind), kind=kind)
            net = load(model)
            assert net.dtype("x") == np.float32
            assert net.dtype(net.outputs[0]) == np.float32
            assert any("is run as float32 (1 stored tensors converted)" in note for note in net.notes)
            x32 = np.ones((2, 3), np.float32)
            got = prepare(net)[0].session().run(None, {"x": x32})[0]
            np.testing.assert_allclose(
                got, x32 @ numpy_helper.to_array(model.graph.initializer[0]).astype(np.float32), rtol=1e-3
            )

    def test_wrong_argument(self) -> None:
        with pytest.raises(ModelError, match="not int"):
            load(3)  # type: ignore[arg-type]


class TestControlFlow:
    def branch(self, name: str, source: str, scale: float) -> onnx.GraphProto:
        w = numpy_helper.from_array(np.float32(scale), f"{name}_w")
        node = helper.make_node("Mul", [source, f"{name}_w"], [f"{name}_out"], name="same name")
        out = helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, None)
        return helper.make_graph([node], name, [], [out], [w])

    def test_decided_by_shapes(self) -> None:
        g = zoo.Graph("if_shape")
        x = g.conv(g.input("x", ["N", 3, 4, 4]), 3, 4)
        size = g.node("Gather", g.node("Shape", x), g.constant(np.asarray(1, np.int64)))
        condition = g.node("Equal", size, g.constant(np.asarray(4, np.int64)))
        branches = {"then_branch": self.branch("a", x, 2.0), "else_branch": self.branch("b", x, 3.0)}
        y = g.node("If", condition, **branches)
        second = {"then_branch": self.branch("a2", y, 2.0), "else_branch": self.branch("b2", y, 5.0)}
        z = g.node("If", g.constant(np.asarray(False)), **second)
        model = g.build(z)
        assert all(n.op_type != "If" for n in load(model).nodes())
        same_outputs(model)

    def test_decided_by_data_is_refused(self) -> None:
        g = zoo.Graph("if_data")
        x = g.conv(g.input("x", ["N", 3, 4, 4]), 3, 4)
        condition = g.node("Greater", g.node("ReduceMax", x, keepdims=0), g.constant(np.float32(0)))
        branches = {"then_branch": self.branch("a", x, 2.0), "else_branch": self.branch("b", x, 3.0)}
        model = g.build(g.node("If", condition, name="choice", **branches))
        with pytest.raises(ModelError, match=r"Layer 'choice'.*is a If with a subgraph.*without control flow"):
            load(model)

    def test_functions_are_inlined(self) -> None:
        g = zoo.Graph("functions")
        x = g.input("x", ["N", 4])
        y = g.node("Twice", x, domain="mine")
        graph = helper.make_graph(g.nodes, "functions", g.inputs, [helper.make_tensor_value_info(y, 1, ["N", 4])])
        body = [helper.make_node("Add", ["a", "a"], ["b"], name="inner")]
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
        function = helper.make_function("mine", "Twice", ["a"], ["b"], body, opsets[:1])
        model = helper.make_model(graph, opset_imports=opsets, functions=[function], ir_version=8)
        assert [n.op_type for n in load(model).nodes()] == ["Add"]
        same_outputs(model)


class TestBadFiles:
    def refuse(self, path: Path, match: str) -> None:
        with pytest.raises(BadModelFile, match=match) as caught:
            load(path)
        assert "\n" not in str(caught.value)
        assert caught.value.path == str(path)

    def test_missing_folder_empty_text(self, tmp_path: Path) -> None:
        self.refuse(tmp_path / "none.onnx", "cannot be read: No such file")
        self.refuse(tmp_path, "is a folder")
        (tmp_path / "empty.onnx").touch()
        self.refuse(tmp_path / "empty.onnx", "is empty")
        (tmp_path / "text.onnx").write_text("This is a text file, about networks.\n" * 20)
        self.refuse(tmp_path / "text.onnx", "not an ONNX model|holds no network")

    @given(st.binary(min_size=1, max_size=400))
    def test_random_bytes(self, data: bytes) -> None:
        with pytest.raises(BadModelFile):
            load(data)

    @given(st.floats(0, 1, exclude_max=True))
    def test_truncated(self, where: float) -> None:
        data = simple().SerializeToString()
        with pytest.raises(BitwrightError):
            load(data[: int(len(data) * where)])

    @given(st.integers(0, 3000), st.integers(0, 255))
    def test_one_wrong_byte_is_an_error_of_ours_or_harmless(self, where: int, byte: int) -> None:
        data = bytearray(simple().SerializeToString())
        data[where % len(data)] = byte
        try:
            net = load(bytes(data))
        except BitwrightError:
            return
        net.layers()

    def test_short_weight(self) -> None:
        model = simple()
        model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:-3]
        with pytest.raises(BadModelFile, match="does not hold what its shape says"):
            load(model)

    def test_unmade_and_twice_made_tensors(self) -> None:
        model = simple()
        model.graph.node[1].input[0] = "nobody"
        with pytest.raises(BadModelFile):
            load(model)
        model = simple()
        model.graph.node[3].output[0] = model.graph.node[2].output[0]
        with pytest.raises(BadModelFile):
            load(model)

    def test_cycle(self) -> None:
        g = zoo.Graph("cycle")
        g.input("x", ["N", 3])
        g.nodes += [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
        graph = helper.make_graph(g.nodes, "cycle", g.inputs, [helper.make_tensor_value_info("b", 1, ["N", 3])])
        with pytest.raises(BadModelFile, match="graph is damaged"):
            load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))

    @pytest.mark.parametrize(("number", "what"), [(np.nan, "NaN"), (np.inf, "an infinite value")])
    def test_weights_that_are_no_numbers(self, number: float, what: str) -> None:
        model = simple()
        weight = numpy_helper.to_array(model.graph.initializer[0]).copy()
        weight.flat[7] = number
        model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "conv<1>"))
        model.graph.node[0].input[1] = "conv<1>"
        with pytest.raises(
            NonFinite, match=rf"'conv<1>' \(used by Conv 'conv\d+'\) holds {what} at element 7"
        ) as caught:
            load(model)
        assert caught.value.tensor == "conv<1>"

    def test_infinite_masks_are_fine(self) -> None:
        g = zoo.Graph("mask")
        x = g.input("x", ["N", 4])
        mask = g.constant(np.asarray([0, -np.inf, 0, 0], np.float32))
        same_outputs(g.build(g.node("Softmax", g.node("Add", x, mask))))


class TestExternalData:
    def save(self, folder: Path, location: str = "weights.bin") -> Path:
        path = folder / "net.onnx"
        onnx.save_model(simple(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
        if location != "weights.bin":
            model = onnx.load(path, load_external_data=False)
            for tensor in model.graph.initializer:
                for entry in tensor.external_data:
                    if entry.key == "location":
                        entry.value = location
            path.write_bytes(model.SerializeToString())
        return path

    def test_same_as_inline(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = self.save(tmp_path)
        net, inline = load(path), load(simple())
        assert net.fingerprint == inline.fingerprint
        inputs = zoo.feeds(simple(), 2)
        want = zoo.run(simple(), inputs)[0]
        for one in (net, prepare(net)[0]):
            np.testing.assert_allclose(one.session().run(None, inputs)[0], want, rtol=1e-4, atol=1e-5)
        monkeypatch.chdir(tmp_path)
        assert load("net.onnx").fingerprint == inline.fingerprint
        net.save(tmp_path / "copy.onnx")
        assert load(tmp_path / "copy.onnx").fingerprint == inline.fingerprint

    def test_missing_and_short(self, tmp_path: Path) -> None:
        path = self.save(tmp_path)
        data = tmp_path / "weights.bin"
        data.write_bytes(data.read_bytes()[:-1])
        with pytest.raises(BadModelFile, match=r"'weights.bin' is too short"):
            load(path)
        data.unlink()
        with pytest.raises(BadModelFile, match="there is no such file"):
            load(path)

    @pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/../../secret", "x\0y"])
    def test_outside_the_folder(self, tmp_path: Path, location: str) -> None:
        (tmp_path / "secret").write_bytes(bytes(100_000))
        inner = tmp_path / "model"
        inner.mkdir()
        with pytest.raises(BadModelFile, match=r"outside the model's folder|no such file"):
            load(self.save(inner, location))

    def test_symbolic_link_out(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_bytes(bytes(100_000))
        inner = tmp_path / "model"
        inner.mkdir()
        (inner / "link").symlink_to(tmp_path / "secret")
        with pytest.raises(BadModelFile, match="outside the model's folder"):
            load(self.save(inner, "link"))

    def test_bytes_have_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(BadModelFile, match="was not given as a path"):
            load(self.save(tmp_path).read_bytes())

    @pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
    def test_two_gigabytes_need_little_memory(self, tmp_path: Path) -> None:
        """A sparse file stands for the weights; loading runs in a process of its own, to see its peak."""
        side, layers = 5000, 21
        count = side * side
        graph_nodes, weights = [], []
        for i in range(layers):
            tensor = TensorProto(name=f"w{i}", data_type=TensorProto.FLOAT, dims=[side, side])
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", "big.bin"), ("offset", str(i * count * 4)), ("length", str(count * 4))):
                tensor.external_data.add(key=key, value=value)
            weights.append(tensor)
            graph_nodes.append(helper.make_node("MatMul", [f"t{i}", f"w{i}"], [f"t{i + 1}"], name=f"m{i}"))
        ends = [helper.make_tensor_value_info(n, 1, ["N", side]) for n in ("t0", f"t{layers}")]
        graph = helper.make_graph(graph_nodes, "big", ends[:1], ends[1:], weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        (tmp_path / "big.onnx").write_bytes(model.SerializeToString())
        with (tmp_path / "big.bin").open("wb") as file:
            file.truncate(layers * count * 4)
        code = (
            "import sys\n"
            "from bitwright.network.load import load\n"
            f"net = load({str(tmp_path / 'big.onnx')!r})\n"
            "assert len(net.layers()) == 21 and net.shape('t21') == (1, 5000)\n"
            # Not ru_maxrss: it starts at what the parent had when it forked.
            "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
            "sys.stdout.write(str(int(peak.split()[1]) // 1024))\n"
        )
        import subprocess

        environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
        assert layers * count * 4 > 2e9
        assert int(done.stdout) < 200, f"{done.stdout} MB"


class TestHostileNames:
    NAMES = (
        "<script>alert(1)</script>",
        "../../x",
        "",
        "",
        "same",
        "same",
        "n" * 10_000,
        "\u202eRTL",
        "a\nb\x1b[2J",
        "Relu_3",
    )

    def model(self) -> onnx.ModelProto:
        g = zoo.Graph("hostile")
        x = g.input("<img src=x>", ["N", 3, 4, 4])
        for name in self.NAMES:
            x = g.node("Relu", g.conv(x, 3, 3), name=name)
            g.nodes[-2].name = ""
        return g.build(x)

    def test_survive_with_unique_names(self) -> None:
        model = self.model()
        net = load(model)
        names = [node.name for node in net.nodes()]
        assert len(set(names)) == len(names) == 2 * len(self.NAMES)
        assert all(names)
        assert {n for n in self.NAMES if n} <= set(names)
        assert "Conv_0" in names
        assert [node.name for node in load(model).nodes()] == names, "names are stable"
        again = load(prepare(net)[0].serialize())
        assert {s for n in again.nodes() for s in again.sources(n)} == set(names)
        for node in model.graph.node:
            node.name = ""  # ONNX Runtime itself refuses equal names
        inputs = zoo.feeds(model)
        np.testing.assert_allclose(again.session().run(None, inputs)[0], zoo.run(model, inputs)[0], rtol=1e-5)

    def test_names_of_pytorch_modules(self) -> None:
        g = zoo.Graph("modules")
        x = g.input("x", ["N", 3, 4, 4])
        x = g.relu(g.conv(g.node("Identity", x, name="node_1"), 3, 3))
        scopes = ["['', 'stem', 'stem.conv', 'identity']", "['', 'stem', 'stem.conv', 'conv2d']", "[__import__('os')]"]
        for node, text in zip(g.nodes, scopes, strict=True):
            node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=text)
        model = g.build(x)
        assert [n.name for n in load(model).nodes()] == ["stem.conv.Identity", "stem.conv", model.graph.node[2].name]

    def test_many_equal_names_are_quick(self) -> None:
        g = zoo.Graph("equal")
        x = g.input("x", ["N", 3])
        for _ in range(3000):
            x = g.node("Relu", x, name="a")
        net = load(g.build(x))
        assert len({node.name for node in net.nodes()}) == 3000

    def test_errors_escape_names(self) -> None:
        model = self.model()
        model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "\x1b[2J\nx"
        with pytest.raises(UnknownShape) as caught:
            load(model)
        assert "\x1b" not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_small_file_cannot_fill_the_memory() -> None:
    """ConstantOfShape of 2^40 elements: left in the graph, not computed."""
    g = zoo.Graph("bomb")
    x = g.input("x", ["N", 3])
    big = g.node("ConstantOfShape", g.constant(np.asarray([1 << 20, 1 << 20], np.int64)))
    model = g.build(g.node("Add", x, g.node("ReduceMean", big, keepdims=0)))
    net, _ = prepare(load(model))
    assert any(node.op_type == "ConstantOfShape" for node in net.nodes())


def test_shared_weight_bytes_are_read_in_order(tmp_path: Path) -> None:
    path = tmp_path / "one.onnx"
    (tmp_path / "w.bin").write_bytes(b"skip" + struct.pack("<6f", *range(6)))
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2, 3], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "w.bin"), ("offset", "4"), ("length", "24")):
        tensor.external_data.add(key=key, value=value)
    ends = [helper.make_tensor_value_info(n, 1, ["N", s]) for n, s in (("x", 2), ("y", 3))]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [tensor])
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())
    np.testing.assert_array_equal(load(path).constant("w"), np.arange(6, dtype=np.float32).reshape(2, 3))
