"""Passes that change the structure: dead channels, split concatenations and channels, scales of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import zoo
from bitwright.network.load import load
from bitwright.network.network import Network
from bitwright.passes import normal
from bitwright.passes._pass import Change, Pass, run
from bitwright.passes.dead_channels import DeadChannels
from bitwright.passes.linear import read_linear
from bitwright.passes.observed import collect
from bitwright.passes.prepare import prepare
from bitwright.passes.split_channels import SplitChannels, divided, outliers
from bitwright.passes.split_concat import SplitConcat
from bitwright.passes.unfold_scale import UnfoldScale, channel_scales
from bitwright.targets.target import load_target


def prepared(g: zoo.Graph, *outputs: str) -> Network:
    return prepare(load(g.build(*outputs), name=g.name))[0]


def images(net: Network, count: int = 5) -> dict[str, np.ndarray]:
    shape = net.shape(net.inputs[0])
    return {net.inputs[0]: np.random.default_rng(0).normal(size=(count, *shape[1:])).astype(np.float32)}


def outputs(net: Network) -> np.ndarray:
    return net.session(optimize=False).run(None, images(net))[0]


def applied(net: Network, one: Pass, target: Any = None) -> tuple[Network, Change]:
    got = collect(net, one.needs(net), [images(net)], count=5)
    after, (change,) = run(net, [one], got, target)
    again, (second,) = run(after, [one], collect(after, one.needs(after), [images(net)], count=5), target)
    assert not second.modified
    assert again.fingerprint == after.fingerprint
    return after, change


def test_dead_channels() -> None:
    g = zoo.Graph("dead")
    w = np.random.default_rng(1).normal(size=(6, 3, 3, 3)).astype(np.float32)
    w[2] *= 50.0  # the largest weights of all, and never heard
    b = np.zeros(6, np.float32)
    b[2] = -1e4
    x = g.relu(
        g.node("Conv", g.input("x", ["N", 3, 8, 8]), g.constant(w), g.constant(b), kernel_shape=[3, 3], pads=[1] * 4)
    )
    net = prepared(g, g.conv(g.node("MaxPool", x, kernel_shape=[2, 2]), 6, 4, 3))
    after, change = applied(net, DeadChannels())
    assert change.modified
    assert np.allclose(outputs(after), outputs(net), atol=1e-5)
    first, second = (read_linear(after, node) for node in after.nodes() if node.op_type == "Conv")
    assert first is not None
    assert second is not None
    assert not first.weight[2].any()
    assert first.bias is not None
    assert first.bias[2] == 0
    assert not second.weight[:, 2].any()
    assert np.abs(first.weight).max() < 5
    # Without data only what is proven: the weights of this channel are not zero.
    assert not run(net, [DeadChannels()])[1][0].modified


def test_split_concat() -> None:
    g = zoo.Graph("cat")
    x = g.input("x", ["N", 3, 8, 8])
    parts = [g.relu(g.conv(x, 3, 4, gain=k)) for k in (0.1, 1.0, 30.0)]
    y = g.node("Concat", *parts, axis=1)
    first, second = g.relu(g.conv(y, 12, 5, 3, strides=[2, 2])), g.conv(y, 12, 4, 1)
    net = prepared(g, first, second)
    after, change = applied(net, SplitConcat())
    assert change.modified
    for got, want in zip(after.session().run(None, images(net)), net.session().run(None, images(net)), strict=True):
        assert np.allclose(got, want, atol=1e-4)
    ops = [node.op_type for node in after.nodes()]
    assert "Concat" not in ops
    assert ops.count("Conv") == 3 + 3 + 3
    sums = [layer for layer in after.layers() if layer.op == "Add" and len(layer.nodes) == 2]
    assert len(sums) == 1  # the ReLU stays with the sum that stands for its convolution
    _, change = applied(prepared_like(), SplitConcat())
    assert not change.modified


def prepared_like() -> Network:
    g = zoo.Graph("alike")
    x = g.input("x", ["N", 3, 6, 6])
    y = g.node("Concat", g.relu(g.conv(x, 3, 4)), g.relu(g.conv(x, 3, 4)), axis=1)
    return prepared(g, g.conv(y, 8, 2, 1))


class TestSplitChannels:
    def test_outliers(self) -> None:
        largest = np.array([1.0, 1.0, 12.0, 1.0, 5.0])
        assert list(outliers(largest, 3.0, 10)) == [1, 1, 4, 1, 2]
        assert outliers(largest, 3.0, 2).sum() == 7
        assert list(outliers(largest, 20.0, 10)) == [1] * 5

    @pytest.mark.parametrize("count", [2, 3, 5])
    def test_shares_round_to_the_whole(self, count: int) -> None:
        w = np.random.default_rng(2).normal(size=(40, 1)) * 3
        parts = divided(w, np.array([count]), 0.25)
        assert parts.shape == (40, count)
        assert np.allclose(parts.sum(axis=1, keepdims=True), w)
        rounded = np.floor(parts / 0.25 + 0.5).sum(axis=1)
        assert np.array_equal(rounded, np.floor(w[:, 0] / 0.25 + 0.5))

    def test_pass(self) -> None:
        g = zoo.Graph("ocs")
        x = g.relu(g.conv(g.input("x", ["N", 3, 8, 8]), 3, 16))
        w = np.random.default_rng(3).normal(size=(5, 16, 3, 3)).astype(np.float32)
        w[:, 7] *= 20
        net = prepared(
            g, g.relu(g.node("Conv", g.node("MaxPool", x, kernel_shape=[2, 2]), g.constant(w), kernel_shape=[3, 3]))
        )
        after, change = applied(net, SplitChannels(share=0.5))
        assert change.modified
        assert np.allclose(outputs(after), outputs(net), atol=1e-3)
        layers = [read_linear(after, node) for node in after.nodes() if node.op_type == "Conv"]
        assert layers[0] is not None
        assert layers[1] is not None
        assert layers[0].outputs == layers[1].inputs > 16
        assert np.abs(layers[1].weight).max() < 0.5 * np.abs(w).max()


class TestUnfold:
    def net(self) -> Network:
        g = zoo.Graph("unfold")
        x = g.conv(g.input("x", ["N", 3, 8, 8]), 3, 8, bias=False)
        gamma = np.ones(8, np.float32)
        gamma[3] = 60.0
        rest = [
            g.constant(v) for v in (gamma, np.full(8, 0.2, np.float32), np.zeros(8, np.float32), np.ones(8, np.float32))
        ]
        x = g.relu(g.node("BatchNormalization", x, *rest))
        return prepared(g, g.gemm(g.node("Flatten", g.node("GlobalAveragePool", x)), 8, 4))

    def test_pass(self) -> None:
        net = self.net()
        after, change = applied(net, UnfoldScale(), load_target("fpga"))
        assert change.modified
        assert np.allclose(outputs(after), outputs(net), rtol=1e-4, atol=1e-3)
        plain, scale = (read_linear(after, node) for node in after.nodes() if node.op_type == "Conv")
        assert plain is not None
        assert scale is not None
        ranges = np.abs(plain.weight).reshape(8, -1).max(axis=1)
        assert ranges.max() == pytest.approx(ranges.min(), rel=1e-5)
        assert scale.groups == 8
        assert scale.weight.shape == (8, 1, 1, 1)

    def test_not_where_each_channel_has_a_step(self) -> None:
        _, change = applied(self.net(), UnfoldScale(), load_target("generic"))
        assert not change.modified

    def test_scales(self) -> None:
        layer = next(found for node in self.net().nodes() if (found := read_linear(self.net(), node)) is not None)
        scales = channel_scales(layer)
        assert np.exp(np.log(scales).mean()) == pytest.approx(1.0)
        assert scales.argmax() == 3


class TestNormal:
    def test_folding_remembers_and_rewriting_follows(self) -> None:
        g = zoo.Graph("normal")
        x = g.relu(g.bn(g.conv(g.input("x", ["N", 3, 16, 16]), 3, 8, bias=False), 8))
        net = prepared(g, g.conv(x, 8, 2, 1))
        known = [normal.read(node) for node in net.nodes() if node.op_type == "Conv"]
        assert known[0] is not None
        assert known[1] is None
        bn = next(n for n in g.nodes if n.op_type == "BatchNormalization")
        stored = {t.name: np.frombuffer(t.raw_data, np.float32) for t in g.weights}
        assert known[0].mean == pytest.approx(stored[bn.input[2]], rel=1e-5)
        assert known[0].deviation == pytest.approx(stored[bn.input[1]], rel=1e-3)

    def test_damaged_marks_count_as_nothing(self) -> None:
        net = prepared_like()
        node = net.nodes()[0]
        for text in ("{", "[1, 2]", "[[1], [2, 3]]", "[[1], [-2]]", '[["a"], [1]]'):
            node.metadata_props[normal.KEY] = text
            assert normal.read(node) is None
