"""Each folding pass on the cases that its docstring numbers; that outputs stay equal is a law (contract tests)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest

import zoo
from bitwright.network.load import load
from bitwright.network.network import Network
from bitwright.passes._pass import Change, Pass, run
from bitwright.passes.fold_batchnorm import FoldBatchNorm
from bitwright.passes.fold_constants import FoldConstants
from bitwright.passes.fold_pad import FoldPad
from bitwright.passes.fold_scale import FoldScale
from bitwright.passes.fuse_activation import FuseActivation
from bitwright.passes.group_functions import GroupFunctions
from bitwright.passes.lone_batchnorm import LoneBatchNorm
from bitwright.passes.matmul_to_gemm import MatMulToGemm
from bitwright.passes.prepare import prepare
from bitwright.passes.remove_identity import RemoveIdentity


def applied(model: onnx.ModelProto, *passes: Pass) -> tuple[Network, tuple[Change, ...]]:
    before = load(model)
    after, changes = run(before, passes)
    inputs = zoo.feeds(model, 2 if before.batchable else 1)
    want = zoo.run(model, inputs)
    for a, b in zip(after.session(optimize=False).run(None, inputs), want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    return after, changes


def ops(net: Network) -> list[str]:
    return [node.op_type for node in net.nodes()]


def texts(changes: Sequence[Change]) -> str:
    return "\n".join(note.text for change in changes for note in change.notes)


class TestBatchNorm:
    @pytest.mark.parametrize(
        "name", ["conv_bn_relu", "depthwise_relu6", "grouped", "transposed_grouped", "unet", "mlp", "audio"]
    )
    def test_all_fold(self, name: str) -> None:
        net, (change,) = applied(zoo.ZOO[name](), FoldBatchNorm())
        assert "BatchNormalization" not in ops(net)
        assert {fold.kind for fold in change.folds} == {"weights", "bias"}
        for fold in change.folds:
            assert np.isfinite(fold.factor)
            assert len(fold.channel_bits_lost) in {len(fold.scales), 0} or not fold.scales.size

    def test_names_of_both_and_the_range(self) -> None:
        model = zoo.conv_bn_relu()
        conv, bn = model.graph.node[0], model.graph.node[1]
        weights = {w.name: onnx.numpy_helper.to_array(w) for w in model.graph.initializer}
        net, (change,) = applied(model, FoldBatchNorm())
        node = net.node(conv.name)
        assert net.sources(node) == (conv.name, bn.name)
        gamma, _, _, variance = (weights[name].astype(np.float64) for name in bn.input[1:])
        scale = gamma / np.sqrt(variance + 1e-5)
        wanted = weights[conv.input[1]] * scale.reshape(-1, 1, 1, 1)
        np.testing.assert_allclose(net.constant(str(node.inputs[1].name)), wanted, rtol=1e-6)  # type: ignore[union-attr]
        fold = change.folds[0]
        assert fold.after == pytest.approx((wanted.min(), wanted.max()))
        assert fold.worst_channel == np.argmax(np.abs(scale))
        assert fold.sources == (bn.name,)
        assert f"{conv.name}: weights ×" in texts([change])

    def test_shared_output_and_padding_stay_with_reasons(self) -> None:
        net, changes = applied(zoo.shared(), FoldBatchNorm())
        assert ops(net).count("BatchNormalization") == 2
        said = texts(changes)
        assert "is used elsewhere too" in said
        assert "pads its input with zeros" in said

    def test_before_a_padded_convolution_without_shift(self) -> None:
        g = zoo.Graph("zero_shift")
        x = g.relu(g.input("x", ["N", 3, 5, 5]))
        ones, zeros = (g.constant(np.full(3, v, np.float32)) for v in (1, 0))
        scale = g.constant(np.asarray([0.5, 2, 3], np.float32))
        model = g.build(g.conv(g.node("BatchNormalization", x, scale, zeros, zeros, ones), 3, 4))
        assert ops(applied(model, FoldBatchNorm())[0]) == ["Relu", "Conv"]

    def test_parameters_that_are_computed(self) -> None:
        g = zoo.Graph("computed")
        x = g.conv(g.input("x", ["N", 3, 5, 5]), 3, 3)
        scale = g.node(
            "Reshape", g.node("ReduceMean", g.input("s", [3, 2]), axes=[1]), g.constant(np.asarray([3], np.int64))
        )
        rest = [g.constant(np.ones(3, np.float32)) for _ in range(3)]
        net, changes = run(load(g.build(g.node("BatchNormalization", x, scale, *rest))), [FoldBatchNorm()])
        assert "BatchNormalization" in ops(net)
        assert "a parameter is not constant" in texts(changes)

    def test_gemm_with_factors(self) -> None:
        g = zoo.Graph("factors")
        x, c = g.input("x", ["N", 5]), g.constant(np.asarray([[0.5]], np.float32))
        model = g.build(g.bn(g.node("Gemm", x, g.weight(5, 4), c, alpha=2.0, beta=-3.0), 4))
        net, _ = applied(model, FoldBatchNorm())
        (node,) = net.nodes()
        assert (net.attributes(node)["alpha"], net.attributes(node)["beta"], net.attributes(node)["transB"]) == (
            1,
            1,
            1,
        )

    def test_lone(self) -> None:
        net, _ = applied(zoo.shared(), FoldBatchNorm(), LoneBatchNorm())
        assert "BatchNormalization" not in ops(net)
        depthwise = [n for n in net.nodes() if n.op_type == "Conv" and net.attributes(n)["group"] == 6]
        assert len(depthwise) == 1
        assert net.attributes(depthwise[0])["kernel_shape"] == (1, 1)
        g = zoo.Graph("rank2")
        x = g.gemm(g.input("x", ["N", 4]), 4, 4)
        net, _ = applied(g.build(g.bn(x, 4), x), LoneBatchNorm())
        assert "BatchNormalization" in ops(net)


class TestScale:
    def test_all_fold(self) -> None:
        net, changes = applied(zoo.scales(), FoldScale())
        assert ops(net) == ["Conv", "Relu", "Conv"]
        assert texts(changes).count("weights ×") == 6

    def test_input_shift_before_padding_stays(self) -> None:
        g = zoo.Graph("input_shift")
        x = g.node("Sub", g.input("x", ["N", 3, 5, 5]), g.constant(np.float32(0.5)))
        net, changes = applied(g.build(g.conv(x, 3, 4)), FoldScale())
        assert ops(net) == ["Sub", "Conv"]
        assert "arithmetic on the input left in place: 'conv" in texts(changes)

    def test_along_another_axis_or_two_tensors(self) -> None:
        g = zoo.Graph("other_axis")
        x = g.conv(g.input("x", ["N", 3, 4, 4]), 3, 4)
        x = g.node("Mul", x, g.constant(np.asarray([1, 2, 3, 4], np.float32)))
        x = g.node("Add", x, g.constant(g.random.normal(size=(4, 4, 1)).astype(np.float32)))
        net, (change,) = applied(g.build(x), FoldScale())
        assert ops(net) == ["Conv", "Mul", "Add"]
        assert not change.modified

    def test_growing_constant_is_no_scale(self) -> None:
        g = zoo.Graph("grows")
        x = g.gemm(g.input("x", ["N", 4]), 4, 3)
        net, _ = applied(g.build(g.node("Mul", x, g.constant(np.ones((2, 1, 3), np.float32) * 2))), FoldScale())
        assert ops(net) == ["Gemm", "Mul"]

    def test_matmul_of_rank_3_takes_factors_only(self) -> None:
        g = zoo.Graph("rank3")
        x = g.node("MatMul", g.input("x", ["N", 5, 4]), g.weight(4, 6))
        x = g.node("Mul", x, g.constant(np.arange(1, 7, dtype=np.float32)))
        net, _ = applied(g.build(g.node("Add", x, g.constant(np.ones(6, np.float32)))), FoldScale())
        assert ops(net) == ["MatMul", "Add"]


class TestMatMul:
    def test_bias_joins(self) -> None:
        net, _ = applied(zoo.mlp(), MatMulToGemm(), FoldScale())
        assert "MatMul" not in ops(net)
        assert "Add" not in ops(net)
        for node in net.nodes():
            if node.op_type == "Gemm":
                assert net.attributes(node)["transB"] == 1
                assert net.shape(str(node.inputs[1].name))[0] == net.shape(str(node.outputs[0].name))[-1]  # type: ignore[union-attr]

    def test_factors_are_reported(self) -> None:
        _, (change,) = applied(zoo.mlp(), MatMulToGemm())
        assert [(fold.kind, fold.factor) for fold in change.folds] == [("weights", 0.5), ("bias", 2.0)]

    def test_rank_3_stays(self) -> None:
        net, _ = applied(zoo.attention(), MatMulToGemm())
        assert "Gemm" not in ops(net)


class TestPad:
    def test_into_convolution_and_exact_pools(self) -> None:
        net, changes = applied(zoo.pads(), FoldPad())
        assert ops(net).count("Pad") == 1  # the padding of channels with 0.25
        convs = [net.attributes(n)["pads"] for n in net.nodes() if n.op_type == "Conv"]
        assert convs == [(2, 2, 2, 2)]
        pool = next(n for n in net.nodes() if n.op_type == "AveragePool")
        assert net.attributes(pool)["count_include_pad"] == 1
        assert "takes over the padding" in texts(changes)

    @pytest.mark.parametrize("case", ["negative input", "reflect", "value", "output"])
    def test_stays(self, case: str) -> None:
        g = zoo.Graph("stays")
        x = g.input("x", ["N", 3, 6, 6])
        pads = g.constant(np.asarray([0, 0, 1, 1, 0, 0, 1, 1], np.int64))
        value = [g.constant(np.float32(1))] if case == "value" else []
        padded = g.node("Pad", x, pads, *value, mode="reflect" if case == "reflect" else "constant")
        if case == "negative input":
            model = g.build(g.node("MaxPool", padded, kernel_shape=[3, 3]))
        else:
            y = g.conv(padded, 3, 4)
            model = g.build(*([y, padded] if case == "output" else [y]))
        assert "Pad" in ops(applied(model, FoldPad())[0])


class TestIdentity:
    def test_all_kinds_go_and_are_remembered(self) -> None:
        g = zoo.Graph("identities")
        x = g.conv(g.input("x", ["N", 3, 4, 5]), 3, 3)
        ints = lambda *v: g.constant(np.asarray(v, np.int64))
        made = []
        for op, inputs, attributes in (
            ("Identity", [], {}),
            ("Dropout", [], {}),
            ("Reshape", [ints(0, 3, 4, 5)], {}),
            ("Transpose", [], {"perm": [0, 1, 2, 3]}),
            ("Cast", [], {"to": 1}),
            ("Pad", [ints(*[0] * 8)], {}),
            ("Slice", [ints(0), ints(99), ints(2)], {}),
            ("Concat", [], {"axis": 1}),
            ("Expand", [ints(1, 3, 1, 1)], {}),
            ("AveragePool", [], {"kernel_shape": [1, 1]}),
            ("Mul", [g.constant(np.float32(1))], {}),
            ("Add", [g.constant(np.zeros((1, 3, 1, 1), np.float32))], {}),
            ("Clip", [], {}),
        ):
            made.append(f"my {op}")
            x = g.node(op, x, *inputs, name=made[-1], **attributes)
        model = g.build(x)
        net, _ = applied(model, RemoveIdentity())
        assert ops(net) == ["Conv"]
        assert [r.name for r in net.removed] == made
        assert {r.tensor for r in net.removed} == set(net.outputs) == {x}
        again = load(net.serialize())
        assert again.removed == net.removed

    def test_what_looks_like_one(self) -> None:
        g = zoo.Graph("no_identity")
        x = g.conv(g.input("x", ["N", 3, 4, 4]), 3, 3)
        ints = lambda *v: g.constant(np.asarray(v, np.int64))
        x = g.node("Slice", x, ints(-1), ints(-99), ints(2), ints(-1))  # a flip
        x = g.node("Transpose", x, perm=[0, 1, 3, 2])
        x = g.node("Sub", g.constant(np.float32(0)), x)
        x = g.node("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        net, (change,) = applied(g.build(x), RemoveIdentity())
        assert not change.modified
        assert len(net.nodes()) == 5

    def test_transposes_that_cancel_or_merge(self) -> None:
        g = zoo.Graph("transposes")
        x = g.conv(g.input("x", ["N", 3, 4, 5]), 3, 2)
        x = g.node("Transpose", g.node("Transpose", x, perm=[0, 2, 3, 1]), perm=[0, 3, 1, 2])
        y = g.node("Transpose", g.node("Transpose", g.relu(x), perm=[0, 2, 3, 1]), perm=[0, 2, 1, 3])
        net, _ = applied(g.build(y), RemoveIdentity())
        assert ops(net) == ["Conv", "Relu", "Transpose"]
        assert net.attributes(net.nodes()[-1])["perm"] == (0, 3, 2, 1)

    def test_input_to_output_stays(self) -> None:
        g = zoo.Graph("through")
        x = g.input("x", ["N", 3])
        net, _ = applied(g.build(g.node("Identity", x)), RemoveIdentity())
        assert ops(net) == ["Identity"]


class TestConstants:
    def test_shape_chain_leaves_the_batch_free(self) -> None:
        net, (change,) = applied(zoo.shape_chain(), FoldConstants())
        reshape = next(n for n in net.nodes() if n.op_type == "Reshape")
        np.testing.assert_array_equal(net.constant(str(reshape.inputs[1].name)), [0, 16, 4])  # type: ignore[union-attr]
        assert not {"Shape", "Gather", "Unsqueeze", "Constant"} & set(ops(net))
        assert {r.op for r in net.removed} == {"Shape", "Gather", "Unsqueeze", "Concat", "Transpose"}
        assert all(r.constant for r in net.removed)
        assert change.modified

    def test_dequantize_is_information(self) -> None:
        g = zoo.Graph("dequantize")
        w = g.constant(g.random.integers(-128, 127, (4, 3)).astype(np.int8))
        w = g.node("DequantizeLinear", w, g.constant(np.float32(0.01)))
        net, _ = applied(g.build(g.node("MatMul", g.input("x", ["N", 4]), w)), FoldConstants())
        assert ops(net) == ["MatMul"]
        assert net.stated is not None
        (weight,) = net.stated.constants.values()
        assert weight.format.bits == 8
        assert np.abs(weight.codes).max() > 100

    def test_expand_and_slice_with_the_batch(self) -> None:
        g = zoo.Graph("batch_readers")
        x = g.conv(g.input("x", ["N", 3, 4, 4]), 3, 4)
        shape = g.node("Shape", x)
        x = g.node("Expand", x, shape)
        x = g.node("Slice", x, g.constant(np.zeros(4, np.int64)), shape)
        net, _ = applied(g.build(g.relu(x)), FoldConstants())
        assert "Shape" not in ops(net)


class TestActivations:
    def test_grouping(self) -> None:
        net, (change,) = applied(zoo.residual(), FuseActivation())
        layers = {layer.name: [n.op_type for n in layer.nodes] for layer in net.layers()}
        assert ["Add", "Relu"] in layers.values()
        assert ["Conv", "Relu"] in layers.values()
        assert change.modified
        reloaded = load(net.serialize())
        assert [(a.name, a.op, a.sources) for a in reloaded.layers()] == [
            (a.name, a.op, a.sources) for a in net.layers()
        ]

    def test_clip_and_relu_both(self) -> None:
        g = zoo.Graph("both")
        x = g.relu6(g.relu(g.conv(g.input("x", ["N", 3, 4, 4]), 3, 4)))
        (layer,) = applied(g.build(x), FuseActivation())[0].layers()
        assert [n.op_type for n in layer.nodes] == ["Conv", "Relu", "Clip"]
        assert (layer.op, layer.inputs, layer.outputs) == ("Conv", ("x",), (x,))

    def test_not_onto_what_others_read(self) -> None:
        g = zoo.Graph("others")
        x = g.conv(g.input("x", ["N", 3, 4, 4]), 3, 4)
        net, _ = applied(g.build(g.node("Add", x, g.relu(x))), FuseActivation())
        assert [layer.op for layer in net.layers()] == ["Conv", "Relu", "Add"]
        g = zoo.Graph("output")
        x = g.conv(g.input("x", ["N", 3, 4, 4]), 3, 4)
        assert len(applied(g.build(g.relu(x), x), FuseActivation())[0].layers()) == 2

    def test_functions(self) -> None:
        net, _ = applied(zoo.silu(), GroupFunctions())
        assert [layer.op for layer in net.layers() if layer.op != "Conv"] == [
            "SiLU",
            "HardSwish",
            "Mish",
            "Gelu",
            "HardSwish",
        ]
        gelu = next(layer for layer in net.layers() if layer.op == "Gelu")
        assert net.attributes(gelu.main)["approximate"] == "none"
        assert len(gelu.inputs) == len(gelu.outputs) == 1

    def test_tanh_gelu_and_a_function_nobody_knows(self) -> None:
        g = zoo.Graph("tanh_gelu")
        f = lambda v: g.constant(np.float32(v))
        x = g.conv(g.input("x", ["N", 3, 4, 4]), 3, 4)
        cube = g.node("Mul", g.node("Pow", x, f(3)), f(0.044715))
        t = g.node("Tanh", g.node("Mul", g.node("Add", x, cube), f(np.sqrt(2 / np.pi))))
        x = g.node("Mul", g.node("Mul", f(0.5), x), g.node("Add", t, f(1)))
        x = g.conv(x, 4, 4)
        x = g.node("Mul", x, g.node("Tanh", x))
        net, _ = applied(g.build(x), GroupFunctions())
        named = [layer for layer in net.layers() if len(layer.nodes) > 1]
        assert [(layer.op, net.attributes(layer.main)["approximate"]) for layer in named] == [("Gelu", "tanh")]

    def test_function_whose_inside_is_read(self) -> None:
        g = zoo.Graph("inside")
        x = g.conv(g.input("x", ["N", 3, 4, 4]), 3, 4)
        s = g.node("Sigmoid", x)
        _, (change,) = applied(g.build(g.node("Mul", x, s), s), GroupFunctions())
        assert not change.modified

    def test_folding_leaves_functions_alone(self) -> None:
        g = zoo.Graph("half")
        x = g.conv(g.input("x", ["N", 3, 4, 4]), 3, 4)
        e = g.node("Erf", g.node("Div", x, g.constant(np.float32(np.sqrt(2)))))
        x = g.node("Mul", g.node("Mul", x, g.node("Add", e, g.constant(np.float32(1)))), g.constant(np.float32(0.5)))
        net, _ = prepare(load(g.build(g.conv(x, 4, 2))))
        assert [layer.op for layer in net.layers()] == ["Conv", "Gelu", "Conv"]
