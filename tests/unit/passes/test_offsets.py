"""Offsets of activations: the sites, exactness where bounds move along, and high-bias absorption."""

from __future__ import annotations

import numpy as np
import pytest

import zoo
from bitwright.network.load import load
from bitwright.network.network import Network
from bitwright.passes._pass import run
from bitwright.passes.absorb_bias import AbsorbBias, absorbable
from bitwright.passes.observed import ChannelStats, collect
from bitwright.passes.offsets import offset_sites, shift
from bitwright.passes.prepare import prepare


def prepared(g: zoo.Graph, *outputs: str) -> Network:
    return prepare(load(g.build(*outputs), name=g.name))[0]


def chain(*, lifted: float = 0.0, pads: int = 0) -> Network:
    """Conv, ReLU6, pooling, an unpadded Conv, ReLU, Flatten, Gemm."""
    g = zoo.Graph("chain")
    x = g.conv(g.input("x", ["N", 3, 9, 9]), 3, 6, bias=False, gain=0.7)
    b = np.zeros(6, np.float32)
    b[:2] = lifted
    x = g.node(
        "MaxPool", g.relu6(g.node("Add", x, g.constant(b.reshape(1, 6, 1, 1)))), kernel_shape=[3, 3], pads=[1] * 4
    )
    x = g.relu(g.conv(x, 6, 5, 3, pads=[pads] * 4))
    size = 9 - 2 * (1 - pads)
    return prepared(g, g.gemm(g.node("Flatten", x), 5 * size * size, 4))


def images(net: Network, count: int = 6) -> dict[str, np.ndarray]:
    shape = net.shape(net.inputs[0])
    return {net.inputs[0]: np.random.default_rng(0).normal(size=(count, *shape[1:])).astype(np.float32)}


def outputs(net: Network) -> np.ndarray:
    return net.session(optimize=False).run(None, images(net))[0]


def test_sites() -> None:
    sites = offset_sites(chain())
    assert [len(site.tensors) for site in sites] == [2, 2]  # with the pool; with Flatten
    assert [len(site.readers) for site in sites] == [1, 1]
    assert [len(site.tensors) for site in offset_sites(chain(pads=1))] == [2]  # zeros around the first tensor
    assert not offset_sites(prepared_zoo("residual"))  # sums and padding everywhere


def prepared_zoo(name: str) -> Network:
    return prepare(load(zoo.ZOO[name](), name=name))[0]


def test_concatenations_are_shifted_together() -> None:
    g = zoo.Graph("joined")
    x = g.relu(g.conv(g.input("x", ["N", 3, 6, 6]), 3, 4))
    y = g.node("Concat", g.relu(g.conv(x, 4, 3, 1)), g.relu(g.conv(x, 4, 5, 3)), axis=1)
    net = prepared(g, g.conv(y, 8, 2, 1))
    (site,) = offset_sites(net)  # the first tensor is padded by one of its readers
    assert len(site.makers) == 2
    assert len(site.tensors) == 3
    assert not offset_sites(net, joined=False)
    before = outputs(net)
    shift(net, site, np.asarray(0.75), bounds=True)
    assert np.allclose(outputs(net), before, atol=1e-5)


def test_shifting_changes_nothing_but_the_tensors() -> None:
    net = chain()
    before = outputs(net)
    first, second = offset_sites(net)
    tensor = first.tensors[0]
    values = net.session([tensor], optimize=False).run([tensor], images(net))[0]
    shift(net, first, np.asarray(2.5), bounds=True)
    shift(net, second, np.asarray(-0.5), bounds=True)
    assert np.allclose(outputs(net), before, atol=1e-4)
    moved = net.session([tensor], optimize=False).run([tensor], images(net))[0]
    assert np.allclose(moved, values - 2.5, atol=1e-5)


class TestAbsorb:
    def test_arithmetic(self) -> None:
        stats = ChannelStats(
            lo=np.array([1.0, -3.0, 4.0], np.float32),
            hi=np.array([5.0, 3.0, 8.0], np.float32),
            mean=np.array([3.0, 0.0, 6.0]),
            energy=np.array([9.25, 1.0, 36.25]),
            places=1,
        )
        assert absorbable(stats, 3.0, np.inf) == pytest.approx([1.5, 0.0, 4.5])
        assert absorbable(stats, 3.0, 6.0) == pytest.approx([1.5, 0.0, 0.0])  # the third meets the bound

    def test_a_lifted_channel_loses_its_constant(self) -> None:
        net = chain(lifted=3.0)
        one = AbsorbBias(sigmas=2.0)
        got = collect(net, one.needs(net), [images(net)], count=6)
        after, (change,) = run(net, [one], got)
        assert change.modified
        assert any("2 of 6 channels" in note.text for note in change.notes)
        assert np.allclose(outputs(after), outputs(net), atol=0.5)
        tensor = offset_sites(net)[0].tensors[0]
        high = [n.session([tensor]).run([tensor], images(net))[0].max() for n in (net, after)]
        assert high[1] < high[0] - 0.5

    def test_nothing_observed_nothing_done(self) -> None:
        _, (change,) = run(chain(lifted=3.0), [AbsorbBias()])
        assert not change.modified
