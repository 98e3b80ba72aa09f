from __future__ import annotations

import numpy as np
import pytest

import zoo
from bitwright.network.load import load
from bitwright.network.network import Network
from bitwright.passes._pass import run
from bitwright.passes.equalize import Equalize, importances
from bitwright.passes.observed import collect
from bitwright.passes.prepare import prepare
from bitwright.targets.target import load_target


def prepared(model: object) -> Network:
    return prepare(load(model, name="net"))[0]


def depthwise(spread: float, clip: bool) -> object:
    """conv → depthwise → conv, where single depthwise weights are ``spread`` times the others."""
    g = zoo.Graph("chain")
    act = g.relu6 if clip else g.relu
    x = act(g.conv(g.input("x", ["N", 3, 10, 10]), 3, 8))
    w = g.random.normal(size=(8, 1, 3, 3)).astype(np.float32)
    w[3] *= spread
    x = act(g.node("Conv", x, g.constant(w), kernel_shape=[3, 3], pads=[1] * 4, group=8))
    return g.build(g.conv(x, 8, 6, 1))


def samples(count: int = 24, scale: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(0).normal(size=(count, 3, 10, 10)) * scale).astype(np.float32)


def equalized(net: Network, x: np.ndarray, target: str | None = None) -> tuple[Network, object]:
    one = Equalize()
    got = collect(net, one.needs(net), [{net.inputs[0]: x}], count=len(x))
    after, (change,) = run(net, [one], got, load_target(target) if target else None)
    return after, change


@pytest.mark.parametrize("name", ["conv_bn_relu", "residual", "fire", "unet", "grouped", "mlp", "transposed_grouped"])
def test_without_clips_the_function_stays(name: str) -> None:
    net = prepared(zoo.ZOO[name]())
    feeds = zoo.feeds(zoo.ZOO[name](), 3)
    one = Equalize()
    got = collect(net, one.needs(net), [feeds], count=3)
    after, (change,) = run(net, [one], got, load_target("fpga"))
    want, have = (n.session(optimize=False).run(None, feeds) for n in (net, after))
    for a, b in zip(have, want, strict=True):
        assert np.abs(a - b).max() <= 2e-5 * max(1.0, np.abs(b).max())
    assert change.notes


def test_ranges_of_a_depthwise_chain_come_together() -> None:
    net = prepared(depthwise(200.0, clip=False))
    after, change = equalized(net, samples(), "fpga")
    assert change.modified
    before, now = (
        np.abs(n.constant(str(next(m for m in n.nodes() if n.attributes(m).get("group") == 8).inputs[1].name)))
        .reshape(8, -1)
        .max(1)
        for n in (net, after)
    )
    assert before.max() / np.median(before) > 50
    assert now.max() / np.median(now) < 6
    assert "falls by" in change.notes[0].text


def test_clipped_channels_wait_for_data() -> None:
    net = prepared(depthwise(200.0, clip=True))
    _, (change,) = run(net, [Equalize()])
    assert not change.modified


def test_a_channel_below_its_clip_is_scaled_without_loss() -> None:
    net = prepared(depthwise(0.005, clip=True))
    x = samples(scale=0.3)  # the clip at 6 is out of reach
    after, change = equalized(net, x, "fpga")
    assert change.modified
    want, have = (n.session().run(None, {net.inputs[0]: x})[0] for n in (net, after))
    assert np.abs(want - have).max() <= 1e-3 * np.abs(want).max()


def test_a_clip_that_is_in_use_costs_little() -> None:
    net = prepared(depthwise(60.0, clip=True))
    x = samples(scale=3.0)
    after, _ = equalized(net, x, "fpga")
    want, have = (n.session().run(None, {net.inputs[0]: x})[0].astype(float) for n in (net, after))
    assert 10 * np.log10((want**2).sum() / max(1e-30, ((have - want) ** 2).sum())) > 15


def test_importance_of_a_chain_by_noise() -> None:
    """White noise of variance 1 put into a tensor gives the energy at the output that its importance says."""
    g = zoo.Graph("linear")
    x = g.conv(g.input("x", ["N", 3, 6, 6]), 3, 4, 1)
    net = prepared(g.build(g.conv(g.conv(x, 4, 5, 1), 5, 2, 1)))
    tensor = next(layer for layer in net.layers()).outputs[0]
    want = importances(net, None)[tensor]
    second, third = (np.asarray(net.constant(str(n.inputs[1].name)), float) for n in net.nodes()[1:])
    noise = np.random.default_rng(1).normal(size=(200_000, 4))
    for channel in range(4):
        only = np.zeros_like(noise)
        only[:, channel] = noise[:, channel]
        hidden = only @ second[:, :, 0, 0].T
        # Energies add up where weights are uncorrelated; so compare with squared weights applied one after the other.
        energy = ((hidden**2).mean(0) * (third[:, :, 0, 0] ** 2).sum(0)).sum()
        assert energy == pytest.approx(want[channel], rel=0.02)


def test_clip_bounds_move_with_their_tensor() -> None:
    """For powers of two the tensor behind a clip at 6 is scaled to end where codes end, exactly."""
    net = prepared(depthwise(1.0, clip=True))
    x = samples(scale=4.0)
    after, change = equalized(net, x, "fpga")
    assert change.modified
    want, have = (n.session().run(None, {net.inputs[0]: x})[0].astype(float) for n in (net, after))
    assert 10 * np.log10((want**2).sum() / max(1e-30, ((have - want) ** 2).sum())) > 15
    bounds = [float(after.constant(str(n.inputs[2].name))) for n in after.nodes() if n.op_type == "Clip"]
    assert any(bound != 6.0 for bound in bounds)
    again, (second,) = run(after, [Equalize()], None, load_target("generic"))
    assert not second.modified
    assert again.fingerprint == after.fingerprint
