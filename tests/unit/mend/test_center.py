"""The sign bit: half the step, the same function, and no more than saturation in the place of the activation."""

from __future__ import annotations

import numpy as np
import pytest

import zoo
from bitwright.api import role_schemes
from bitwright.calibrate.assign import assign
from bitwright.calibrate.spec import read_layers
from bitwright.mend.bench import Bench, run_program, sqnr
from bitwright.mend.center import Center, centered
from bitwright.mend.repair import Clock
from bitwright.mend.search import split
from bitwright.mend.solution import Solution
from bitwright.network.load import load
from bitwright.network.network import Network
from bitwright.passes.offsets import offset_sites
from bitwright.passes.prepare import prepare
from bitwright.program.forms import Contract
from bitwright.targets.target import load_target


def pointwise() -> Network:
    """Dense layers over pixels: no padding anywhere."""
    g = zoo.Graph("pointwise")
    x = g.relu6(g.conv(g.input("x", ["N", 3, 6, 6]), 3, 8, 1))
    x = g.relu(g.conv(x, 8, 8, 1))
    return prepare(load(g.build(g.conv(x, 8, 4, 1)), name="pointwise"))[0]


def start(target: str) -> tuple[Solution, Bench]:
    net, chosen = pointwise(), load_target(target)
    x = (3 * np.random.default_rng(5).normal(size=(40, 3, 6, 6))).astype(np.float32)
    bench = split(net, [{net.inputs[0]: x}], chosen)
    spec, statistics = read_layers(net, chosen), bench.observe(net)
    schemes = role_schemes(chosen).made
    formats = assign(spec, statistics, chosen, schemes)
    return Solution(network=net, spec=spec, statistics=statistics, schemes=schemes, formats=formats), bench


@pytest.mark.parametrize("target", ["fpga", "mcu-q7", "dpu"])
def test_half_the_step_and_saturation_for_the_activation(target: str) -> None:
    solution, bench = start(target)
    tensor = offset_sites(solution.network)[0].tensors[0]
    found = centered(solution, bench, tensor)
    assert found is not None
    old, new = solution.formats.activations[tensor], found.formats.activations[tensor]
    assert float(new.scale) == float(old.scale) / 2
    program = found.program(bench.target)
    buffer = next(b for b in program.buffers.values() if b.tensor == tensor)
    assert buffer.lo == -128  # all negative codes
    assert buffer.hi > 0
    names = {step.layer for step in program.steps if isinstance(step.form, Contract)}
    assert len(names) == 3
    # The float network says the same, but for what saturation cuts off at the top.
    want = bench.network.session().run(None, dict(bench.held))[0]
    assert np.allclose(found.network.session().run(None, dict(bench.held))[0], want, atol=1e-4)


def test_the_search_gains() -> None:
    solution, bench = start("fpga")
    found, text = Center().apply(solution, bench, Clock())
    assert "2 of 2 tensors shifted" in text
    scores = [bench.score(s).sqnr for s in (solution, found)]
    assert scores[1] > scores[0] + 0.2


def test_weights_already_rounded_stay_right() -> None:
    """With integers that are far from the weights, the offset must be multiplied by the integers."""
    solution, bench = start("fpga")
    layer = solution.spec.layers[1]
    program = solution.program(bench.target)
    step = next(s for s in program.steps if s.layer == layer.name)
    assert isinstance(step.form, Contract)
    rough = (program.tensors[step.form.weight] // 16) * 16
    given = solution.with_layer(layer.name, weights=rough)
    found = centered(given, bench, offset_sites(solution.network)[0].tensors[0])
    assert found is not None
    before, after = (run_program(s.program(bench.target), bench.network.inputs, bench.held) for s in (given, found))
    assert sqnr(before, after) > 25  # the same but for finer steps


def test_nothing_to_gain_where_codes_are_unsigned_or_free() -> None:
    solution, bench = start("generic")
    found, text = Center().apply(solution, bench, Clock())
    assert found is solution
    assert "no shift helps" in text
