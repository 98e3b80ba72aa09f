"""Means from batch normalizations: the formula, what follows through a network, and the correction."""

from __future__ import annotations

import numpy as np
import pytest

import zoo
from bitwright.api import role_schemes
from bitwright.calibrate.assign import assign
from bitwright.calibrate.spec import read_layers
from bitwright.mend.analytic import CorrectBiasAnalytically, clipped_mean, expectations, linear_mean
from bitwright.mend.repair import Clock
from bitwright.mend.search import split
from bitwright.mend.solution import Solution
from bitwright.network.load import load
from bitwright.network.network import Network
from bitwright.passes.prepare import prepare
from bitwright.targets.target import load_target


@pytest.mark.parametrize(("low", "high"), [(0.0, np.inf), (0.0, 6.0), (-1.0, 1.0), (-np.inf, 0.5), (-np.inf, np.inf)])
def test_clipped_mean(low: float, high: float) -> None:
    mean, deviation = np.array([-2.0, 0.0, 1.0, 5.0]), np.array([0.5, 1.0, 3.0, 2.0])
    x = np.random.default_rng(0).normal(size=(400_000, 4)) * deviation + mean
    assert clipped_mean(mean, deviation, low, high) == pytest.approx(np.clip(x, low, high).mean(0), abs=0.02)
    still = clipped_mean(mean, np.zeros(4), low, high)
    assert still == pytest.approx(np.clip(mean, low, high))


def test_linear_mean() -> None:
    r = np.random.default_rng(1)
    weight, x = r.normal(size=(6, 2, 3)), r.normal(size=4)
    want = [sum(weight[o, i].sum() * x[2 * (o // 3) + i] for i in range(2)) + 1.0 for o in range(6)]
    assert linear_mean(weight, np.ones(6), 2, x) == pytest.approx(want)


def normalized(target: str) -> tuple[Network, Network, Solution, object]:
    """Batch normalizations with the true moments of their inputs, as training leaves them."""
    r = np.random.default_rng(3)
    x = r.normal(size=(64, 3, 10, 10)).astype(np.float32)
    g = zoo.Graph("analytic")
    source = g.input("x", ["N", 3, 10, 10])
    y = g.conv(source, 3, 12, bias=False)
    moments = load(g.build(y), name="first").session().run(None, {"x": x})[0]
    g.nodes, own = (
        list(g.nodes),
        [np.ones(12), r.uniform(0.5, 2.0, 12), moments.mean((0, 2, 3)), moments.var((0, 2, 3))],
    )
    y = g.node("BatchNormalization", y, *[g.constant(v.astype(np.float32)) for v in own])
    y = g.conv(g.relu(y), 12, 8, 1)
    net = prepare(load(g.build(y), name="analytic"))[0]
    chosen = load_target(target)
    bench = split(net, [{"x": x}], chosen)
    spec, statistics, schemes = read_layers(net, chosen), bench.observe(net), role_schemes(chosen).made
    formats = assign(spec, statistics, chosen, schemes)
    return net, net, Solution(network=net, spec=spec, statistics=statistics, schemes=schemes, formats=formats), bench


def test_expectations_meet_the_data() -> None:
    net, _, _, bench = normalized("fpga")
    found = expectations(net)
    relu = next(node for node in net.nodes() if node.op_type == "Relu")
    tensor = str(relu.outputs[0].name)
    values = net.session([tensor]).run([tensor], dict(bench.fit))[0]  # type: ignore[attr-defined]
    assert found[tensor] == pytest.approx(values.mean((0, 2, 3)), abs=0.06)
    assert net.outputs[0] in found  # and through the next layer


def test_correction_takes_the_mean_error_away() -> None:
    _, _, solution, bench = normalized("fpga-w4")
    found, text = CorrectBiasAnalytically().apply(solution, bench, Clock())  # type: ignore[arg-type]
    assert text.startswith("1 of 2 biases")
    layer = solution.spec.layers[-1]
    assert not np.allclose(found.constants.biases[layer.name], layer.bias())
    assert bench.score(found).sqnr > bench.score(solution).sqnr  # type: ignore[attr-defined]


def test_nothing_is_known_without_batch_normalizations() -> None:
    net = prepare(load(zoo.ZOO["fire"](), name="fire"))[0]
    assert not expectations(net)
