"""A Softmax of powers of two hides nothing: repairs are judged by what goes into it."""

from __future__ import annotations

import numpy as np
import pytest

import zoo
from bitwright.calibrate.assign import assign
from bitwright.calibrate.spec import read_layers
from bitwright.mend.bench import Bench, before_softmax
from bitwright.mend.search import split
from bitwright.mend.solution import Solution
from bitwright.network.load import load
from bitwright.network.network import Network
from bitwright.passes.prepare import prepare
from bitwright.targets.target import load_target

from .test_blocks import images
from .test_search import schemes


def classifier(softmax: bool) -> Network:
    g = zoo.Graph("classifier")
    x = g.relu(g.conv(g.input("x", ["N", 3, 8, 8]), 3, 8))
    x = g.gemm(g.node("Flatten", g.node("GlobalAveragePool", x)), 8, 6)
    return prepare(load(g.build(g.node("Softmax", x, axis=1) if softmax else x), name="classifier"))[0]


def solved(target: str, softmax: bool) -> tuple[Solution, Bench]:
    chosen, net = load_target(target), classifier(softmax)
    bench = split(net, [{net.inputs[0]: 9 * images(net)}], chosen, classes=True)
    spec, statistics = read_layers(net, chosen), bench.observe(net)
    formats = assign(spec, statistics, chosen, schemes(chosen))
    return Solution(network=net, spec=spec, statistics=statistics, schemes=schemes(chosen), formats=formats), bench


def test_powers_of_two_are_looked_through() -> None:
    (with_it, bench), (without, plain) = solved("mcu-q7", True), solved("mcu-q7", False)
    program = with_it.program(bench.target)
    (name,) = program.outputs
    assert program.buffers[before_softmax(program, name)].format != program.buffers[name].format
    assert before_softmax(program, program.inputs[0]) == program.inputs[0]
    score, expected = bench.score(with_it), plain.score(without)
    assert score.sqnr == pytest.approx(expected.sqnr)
    assert score.divergence == pytest.approx(expected.divergence)
    assert bench.score_float(with_it.network).sqnr == 200.0
    assert bench.trial(with_it) == pytest.approx(plain.trial(without))
    assert np.allclose(bench.heights(with_it), plain.heights(without))


def test_other_targets_are_judged_by_their_outputs() -> None:
    solution, bench = solved("fpga", True)
    program = solution.program(bench.target)
    assert bench.wanted[0].max() <= 1.0
    assert bench.score(solution).sqnr == bench.score_program(program).sqnr
