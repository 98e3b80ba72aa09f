"""Averages with a step of their own, as a repair: it keeps what earlier ones have found."""

from __future__ import annotations

import numpy as np

import zoo
from bitwright.mend.biases import CorrectBias
from bitwright.mend.repair import Clock
from bitwright.mend.search import mend
from bitwright.mend.structure import RequantizeAverages
from bitwright.network.load import load
from bitwright.network.network import Network
from bitwright.passes.prepare import prepare
from bitwright.targets.target import load_target

from .test_blocks import images, prepared
from .test_search import schemes


def peaky() -> Network:
    """A map with single large values: in its step, the mean is a handful of codes."""
    g = zoo.Graph("peaky")
    x = g.relu(g.conv(g.input("x", ["N", 3, 12, 12]), 3, 12))
    x = g.relu(g.conv(x, 12, 12, 3))
    return prepare(load(g.build(g.node("Flatten", g.node("GlobalAveragePool", x))), name="peaky"))[0]


def test_the_mean_has_more_codes_and_the_rest_stays() -> None:
    target = load_target("mcu-q7")
    solution, bench = prepared(peaky(), target)
    before, _ = CorrectBias().apply(solution, bench, Clock())
    after, text = RequantizeAverages(share=10.0).apply(before, bench, Clock())
    assert "1 averages" in text
    assert bench.score(after).sqnr > bench.score(before).sqnr + 3
    assert after.constants.biases.keys() == before.constants.biases.keys()
    assert all(np.array_equal(after.constants.biases[n], before.constants.biases[n]) for n in after.constants.biases)
    assert all(after.formats.weights[name] == format for name, format in before.formats.weights.items())
    pooled = after.network.outputs[0]
    assert after.formats.activations[pooled].exponent < before.formats.activations[pooled].exponent
    assert after.program(target).integer_mac_share == 1.0


def test_nothing_to_do() -> None:
    for target, options in (
        ("fpga", {"share": 10.0}),
        ("mcu-q7", {"share": 0.001}),
        ("mcu-q7", {"share": 10.0, "margin": 90.0}),
    ):
        solution, bench = prepared(peaky(), load_target(target))
        found, text = RequantizeAverages(**options).apply(solution, bench, Clock())
        assert found is solution
        assert text


def test_a_search_keeps_it() -> None:
    target, net = load_target("mcu-q7"), peaky()
    result = mend(net, [{net.inputs[0]: images(net)}], target, schemes(target), repairs="requantize-average{share=9}")
    (attempt,) = result.history
    assert attempt.kept
    assert attempt.after.sqnr > attempt.before.sqnr + 3
    assert [layer.op for layer in result.spec.layers].count("Conv") == 3
