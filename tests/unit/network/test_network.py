"""Reading, editing, copying and running a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

import zoo
from bitwright.errors import ModelError, UnknownShape
from bitwright.network.load import load
from bitwright.network.network import Network
from bitwright.passes.prepare import prepare


@pytest.fixture
def net() -> Network:
    return load(zoo.residual(), name="residual")


def test_reading(net: Network) -> None:
    assert net.inputs == ("x",)
    (output,) = net.outputs
    assert net.shape("x") == (1, 3, 8, 8)
    assert net.shape(output) == (1, 12, 4, 4)
    assert net.dtype(output) == np.float32
    conv = net.nodes()[0]
    weight = str(conv.inputs[1].name)  # type: ignore[union-attr]
    assert net.is_constant(weight)
    assert net.constant(weight).shape == (8, 3, 3, 3)  # type: ignore[union-attr]
    assert net.constant("x") is None
    assert net.producer(output) is net.nodes()[-1]
    assert net.node(str(conv.name)) is conv
    with pytest.raises(KeyError):
        net.node("nobody")
    assert "residual" in repr(net)


def test_unknown_shape_says_what_to_do() -> None:
    g = zoo.Graph("nonzero")
    x = g.node("NonZero", g.input("x", ["N", 3]))
    net = load(g.build(g.node("Cast", x, to=1)))
    with pytest.raises(UnknownShape, match=r"does not follow from the input shapes.*--shape") as caught:
        net.shape(net.outputs[0])
    assert caught.value.tensor == net.outputs[0]


def test_attributes_have_defaults() -> None:
    g = zoo.Graph("defaults")
    x = g.input("x", ["N", 3, 8])
    y = g.node("Conv", x, g.weight(4, 3, 3))
    z = g.node("Transpose", g.node("LeakyRelu", y))
    net = load(g.build(z))
    conv, leaky, transpose = net.nodes()
    attributes = net.attributes(conv)
    assert attributes["group"] == 1
    assert {k: attributes[k] for k in ("kernel_shape", "strides", "dilations", "pads")} == {
        "kernel_shape": (3,),
        "strides": (1,),
        "dilations": (1,),
        "pads": (0, 0),
    }
    assert net.attributes(leaky)["alpha"] == pytest.approx(0.01)
    assert net.attributes(transpose)["perm"] == (2, 1, 0)


class TestEditing:
    def test_fuse_merges_sources(self, net: Network) -> None:
        a, b, c = net.nodes()[:3]
        net.fuse(a, b, c)
        net.fuse(a, b)
        assert net.sources(a) == (a.name, b.name, c.name)
        again = load(net.serialize())
        assert again.sources(again.node(str(a.name))) == net.sources(a)

    def test_new_nodes_and_constants(self, net: Network) -> None:
        relu = net.nodes()[1]
        source = relu.inputs[0]
        assert source is not None
        two = net.new_constant("two", np.float32(2))
        assert net.new_constant("two", np.float32(2)).name == "two_2"
        shape = net.shape(str(source.name))
        value = net.new_node("Mul", [source, two], before=relu, name=str(relu.name), sources=["a"], shape=shape)
        net.set_input(relu, 0, value)
        assert net.shape(str(value.name)) == shape
        assert value.producer().name == f"{relu.name}_2"  # type: ignore[union-attr]
        onnx.checker.check_model(onnx.load_from_string(net.serialize()), full_check=True)

    def test_replace_keeps_the_name_of_an_output(self, net: Network) -> None:
        last = net.nodes()[-1]
        (name,) = net.outputs
        source = last.inputs[0]
        assert source is not None
        assert net.replace(last.outputs[0], source)
        net.remove(last, because=net.note_removed(last, str(source.name)))
        assert net.outputs == (name,)
        assert net.removed[-1].tensor == name
        assert net.shape(name) == (1, 12, 4, 4)
        net.session().run(None, {"x": np.zeros((2, 3, 8, 8), np.float32)})

    def test_replace_refuses_what_cannot_be_renamed(self, net: Network) -> None:
        last = net.nodes()[-1]
        before = net.fingerprint
        assert not net.replace(last.outputs[0], net.value("x"))
        assert net.fingerprint == before

    def test_a_layer_that_loses_its_main_node_falls_apart(self, net: Network) -> None:
        conv, relu = net.nodes()[:2]
        net.group(relu, [conv, relu], "Pattern", {"alpha": 2})
        assert net.attributes(relu)["alpha"] == 2
        net.replace(relu.outputs[0], conv.outputs[0])
        net.remove(relu)
        assert net.layer_of(conv) == conv.name
        assert sum(len(layer.nodes) for layer in net.layers()) == len(net.nodes())


class TestCopies:
    def test_clone_is_independent(self, net: Network) -> None:
        before = net.serialize()
        copy = net.clone()
        assert copy.fingerprint == net.fingerprint
        copy.set_attributes(copy.nodes()[0], strides=[2, 2])
        copy.fuse(copy.nodes()[0], copy.nodes()[1])
        assert copy.fingerprint != net.fingerprint
        assert net.serialize() == before

    def test_fingerprint(self, net: Network) -> None:
        assert len(net.fingerprint) == 64
        assert load(zoo.residual(), name="other").fingerprint == net.fingerprint
        assert load(net.serialize()).fingerprint == net.fingerprint
        changed = net.clone()
        weight = changed.nodes()[0].inputs[1]
        array = np.array(changed.constant(str(weight.name)))  # type: ignore[union-attr]
        array.flat[5] = np.nextafter(array.flat[5], 9, dtype=np.float32)
        changed.set_input(changed.nodes()[0], 1, changed.new_constant("w", array))
        changed.sweep()
        assert changed.fingerprint != net.fingerprint

    def test_save_and_load(self, tmp_path: Path) -> None:
        folded, _ = prepare(load(zoo.shape_chain()))
        folded.save(tmp_path / "a.onnx")
        again = load(tmp_path / "a.onnx")
        assert again.name == "a"
        assert again.removed == folded.removed
        assert again.batchable
        assert again.fingerprint == folded.fingerprint
        assert not prepare(again)[1] or not any(change.modified for change in prepare(again)[1])

    def test_metadata_that_was_tampered_with_is_ignored(self) -> None:
        model = zoo.mlp()
        helper.set_model_props(
            model, {"bitwright.removed": "[[1, 2]", "bitwright.notes": "3", "bitwright.batchable": "{}"}
        )
        assert load(model).removed == ()
        helper.set_model_props(model, {})
        model.graph.node[0].metadata_props.add(key="bitwright.layer", value="nobody")
        model.graph.node[1].metadata_props.add(key="bitwright.sources", value="{broken")
        model.graph.node[2].metadata_props.add(key="bitwright.attributes", value="[1]")
        net = load(model)
        assert sum(len(layer.nodes) for layer in net.layers()) == len(net.nodes())
        assert [net.sources(n) for n in net.nodes()[:2]] == [(n.name,) for n in net.nodes()[:2]]
        net.attributes(net.nodes()[2])


class TestSession:
    def test_any_tensor_can_be_asked_for(self, net: Network) -> None:
        inside = str(net.nodes()[2].outputs[0].name)
        session = net.session([inside], threads=1, optimize=False)
        assert [o.name for o in session.get_outputs()] == [*net.outputs, inside]
        (value,) = session.run([inside], {"x": np.zeros((2, 3, 8, 8), np.float32)})
        assert value.shape == (2, *net.shape(inside)[1:])

    def test_what_runtime_refuses_is_one_error(self) -> None:
        g = zoo.Graph("unknown")
        g.nodes.append(helper.make_node("Mystery", [g.input("x", ["N", 3])], ["y"], domain="nobody", name="m"))
        graph = helper.make_graph(g.nodes, "unknown", g.inputs, [helper.make_tensor_value_info("y", 1, ["N", 3])])
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("nobody", 1)]
        net = load(helper.make_model(graph, opset_imports=opsets, ir_version=8))
        with pytest.raises(ModelError, match=r"ONNX Runtime cannot run unknown: .*Mystery") as caught:
            net.session()
        assert "\n" not in str(caught.value)


def test_multi_output_layers() -> None:
    net = load(zoo.split_slice())
    split = next(layer for layer in net.layers() if layer.op == "Split")
    assert len(split.outputs) == 2
    assert len(split.inputs) == 1
