from __future__ import annotations

import numpy as np
import pytest

import zoo
from bitwright.network.load import load
from bitwright.network.network import Network
from bitwright.passes.prepare import prepare
from bitwright.passes.scale_classes import FIXED, components, scale_classes


def prepared(model: object) -> Network:
    return prepare(load(model, name="net"))[0]


def test_components_against_a_search() -> None:
    random = np.random.default_rng(0)
    for total in (1, 2, 30, 200):
        left, right = random.integers(0, total, (2, total // 2))
        label = components(total, left, right)
        neighbors: dict[int, set[int]] = {i: {i} for i in range(total)}
        for a, b in zip(left, right, strict=True):
            neighbors[a].add(b)
            neighbors[b].add(a)
        for start in range(total):
            seen, todo = {start}, [start]
            while todo:
                new = neighbors[todo.pop()] - seen
                seen |= new
                todo += new
            assert label[start] == min(seen)


def test_linear_layers_tie_nothing_and_ends_are_fixed() -> None:
    net = prepared(zoo.conv_bn_relu())
    classes = scale_classes(net)
    assert (classes.labels[net.inputs[0]] == FIXED).all()
    assert (classes.labels[net.outputs[0]] == FIXED).all()
    first, second = (layer for layer in net.layers() if layer.op == "Conv")
    assert classes.free(first.outputs[0]).all()
    assert not set(classes.labels[first.outputs[0]]) & set(classes.labels[second.outputs[0]])
    pooled = next(layer for layer in net.layers() if layer.op == "GlobalAveragePool").outputs[0]
    assert np.array_equal(classes.labels[pooled], classes.labels[second.outputs[0]])


def test_residual_ties_both_branches() -> None:
    net = prepared(zoo.residual())
    classes = scale_classes(net)
    add = next(node for node in net.nodes() if node.op_type == "Add")
    a, b = (str(v.name) for v in add.inputs)
    assert np.array_equal(classes.labels[a], classes.labels[b])
    assert np.array_equal(classes.labels[a], classes.labels[str(add.outputs[0].name)])


def test_concatenation_keeps_its_parts_apart() -> None:
    net = prepared(zoo.unet())
    classes = scale_classes(net)
    concat = next(node for node in net.nodes() if node.op_type == "Concat")
    parts = np.concatenate([classes.labels[str(v.name)] for v in concat.inputs])
    assert np.array_equal(parts, classes.labels[str(concat.outputs[0].name)])
    assert len(set(parts)) == len(parts)


@pytest.mark.parametrize("name", ["silu", "activations", "attention"])
def test_curved_functions_fix_what_they_read(name: str) -> None:
    net = prepared(zoo.ZOO[name]())
    classes = scale_classes(net)
    curved = {"Sigmoid", "Tanh", "Elu", "HardSwish", "HardSigmoid", "Softplus", "Softmax", "Erf", "Mul"}
    seen = [node for node in net.nodes() if node.op_type in curved]
    assert seen
    for node in seen:
        for value in (*node.inputs, *node.outputs):
            labels = classes.labels.get(str(value.name))
            assert labels is None or (labels == FIXED).all()


def test_mean_over_channels_is_not_over_space() -> None:
    g = zoo.Graph("mean")
    x = g.relu(g.conv(g.input("x", ["N", 3, 1, 5]), 3, 1, 1))
    net = prepared(g.build(g.conv(g.node("ReduceMean", x, axes=[1], keepdims=1), 1, 2, 1)))
    mean = next(node for node in net.nodes() if node.op_type == "ReduceMean")
    assert not scale_classes(net).free(str(mean.inputs[0].name)).any()


def test_clips_are_known() -> None:
    net = prepared(zoo.depthwise_relu6())
    classes = scale_classes(net)
    assert len(classes.clips) == 2
    assert set(classes.clips.values()) == {6.0}
