"""Copies with the step of a join: the same function, and a finer step for whoever else reads the tensor."""

from __future__ import annotations

import numpy as np
import pytest

import zoo
from bitwright.mend.biases import CorrectBias
from bitwright.mend.repair import Clock
from bitwright.mend.structure import RequantizeJoins
from bitwright.network.load import load
from bitwright.network.network import Network
from bitwright.passes._pass import run
from bitwright.passes.observed import collect
from bitwright.passes.prepare import prepare
from bitwright.passes.requantize_join import RequantizeJoin
from bitwright.targets.target import load_target

from .test_blocks import images, prepared


def joined(gain: float, op: str = "Add") -> Network:
    """A small tensor joins a large one, and another layer reads it too, which has a say of its own at the output."""
    g = zoo.Graph("joined")
    x = g.input("x", ["N", 3, 8, 8])
    small, large = g.relu(g.conv(x, 3, 8)), g.relu(g.conv(x, 3, 8, gain=gain))
    y = g.node("Concat", small, large, axis=1) if op == "Concat" else g.node(op, small, large)
    first = g.conv(y, 16 if op == "Concat" else 8, 4, 1, gain=1 / gain)
    second = g.conv(small, 8, 4, 3)
    return prepare(load(g.build(g.node("Concat", first, second, axis=2)), name="joined"))[0]


def outputs(net: Network) -> np.ndarray:
    return net.session(optimize=False).run(None, {net.inputs[0]: images(net, 3)})[0]


@pytest.mark.parametrize("op", ["Add", "Sub", "Concat"])
def test_same_function(op: str) -> None:
    net, one = joined(30.0, op), RequantizeJoin()
    seen = collect(net, one.needs(net), [{net.inputs[0]: images(net, 5)}], count=5)
    after, (change,) = run(net, [one], seen, load_target("mcu-q7"))
    assert change.modified
    assert np.array_equal(outputs(after), outputs(net))
    assert len(after.nodes()) == len(net.nodes()) + 1
    again = collect(after, one.needs(after), [{net.inputs[0]: images(net, 5)}], count=5)
    assert not run(after, [one], again, load_target("mcu-q7"))[1][0].modified
    assert not run(net, [one])[1][0].modified  # nothing was observed
    assert not run(net, [RequantizeJoin(ratio=1e6)], seen)[1][0].modified
    assert not run(net, [one], seen, load_target("fpga"))[1][0].modified


def test_the_other_reader_has_more_codes() -> None:
    target = load_target("mcu-q7")
    solution, bench = prepared(joined(30.0), target)
    before, _ = CorrectBias().apply(solution, bench, Clock())
    after, text = RequantizeJoins().apply(before, bench, Clock())
    assert "1 inputs of joins" in text
    assert bench.score(after).sqnr > bench.score(before).sqnr + 1
    assert set(before.constants.biases) == set(after.constants.biases)
    small = next(
        n for n, f in before.formats.activations.items() if after.formats.activations[n].exponent != f.exponent
    )
    assert after.formats.activations[small].exponent < before.formats.activations[small].exponent


def test_copies_that_gain_nothing_are_not_made() -> None:
    for gain, options in ((1.0, {}), (30.0, {"margin": 90.0})):
        solution, bench = prepared(joined(gain), load_target("mcu-q7"))
        found, text = RequantizeJoins(**options).apply(solution, bench, Clock())
        assert found is solution
        assert text
