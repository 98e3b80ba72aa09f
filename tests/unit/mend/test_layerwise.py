"""What layers are asked to give after passes have scaled, shifted and cleared channels."""

from __future__ import annotations

import numpy as np
import pytest

import zoo
from bitwright.calibrate.assign import RoleSchemes, assign
from bitwright.calibrate.scheme import load as load_scheme
from bitwright.calibrate.spec import read_layers
from bitwright.mend.bench import Bench, run_float
from bitwright.mend.center import Center
from bitwright.mend.layerwise import Wanted, inside
from bitwright.mend.repair import Clock
from bitwright.mend.rewrite import EqualizeChannels
from bitwright.mend.search import split
from bitwright.mend.solution import Solution
from bitwright.network.load import load
from bitwright.network.network import Network
from bitwright.passes.moved import Moved, between
from bitwright.passes.prepare import prepare
from bitwright.targets.target import load_target

ROWS = 4096


def chain(*, clipped: bool) -> Network:
    g = zoo.Graph("chain")
    act = g.relu6 if clipped else g.relu
    x = act(g.conv(g.input("x", ["N", 3, 10, 10]), 3, 12))
    for _ in range(2):
        w = g.random.normal(size=(12, 1, 3, 3)).astype(np.float32) * 0.5
        w[[2, 7]] *= 30.0
        w[4] = 0.0
        x = act(g.node("Conv", x, g.constant(w), kernel_shape=[3, 3], pads=[1] * 4, group=12))
        x = act(g.conv(x, 12, 12, 1))
    x = g.node("Flatten", g.node("GlobalAveragePool", x))
    return prepare(load(g.build(g.gemm(x, 12, 5)), name="chain"))[0]


def start(net: Network, size: float = 2.0, target_name: str = "fpga") -> tuple[Bench, Solution]:
    target = load_target(target_name)
    x = np.random.default_rng(3).normal(size=(24, 3, 10, 10)).astype(np.float32) * np.float32(size)
    bench = split(net, [{net.inputs[0]: x}], target)
    schemes = RoleSchemes(
        **{role: load_scheme(getattr(target.schemes, role)) for role in ("input", "activation", "weight", "bias")}
    )
    spec, statistics = read_layers(net, target), bench.observe(net)
    formats = assign(spec, statistics, target, schemes)
    return bench, Solution(network=net, spec=spec, statistics=statistics, schemes=schemes, formats=formats)


def wanted(solution: Solution, bench: Bench) -> Wanted:
    return Wanted(solution, bench, ROWS, np.random.default_rng(0), None)


def own_outputs(solution: Solution, bench: Bench, name: str, at: Wanted) -> np.ndarray:
    spec = next(s for s in solution.spec.layers if s.name == name)
    (values,) = run_float(solution.network, [str(spec.layer.main.outputs[0].name)], bench.fit)
    places, _ = at.of(spec)
    rows = [sample.reshape(len(sample), -1)[:, picked].T for sample, picked in zip(values, places, strict=True)]
    return np.concatenate(rows)


def test_where_nothing_changes_it_is_what_the_network_gives() -> None:
    bench, first = start(chain(clipped=False))
    moved, text = EqualizeChannels(settle=False).apply(first, bench, Clock())
    assert "scaled" in text
    assert moved is not first
    moved, text = Center(sure=-100.0, margin=-100.0).apply(moved, bench, Clock())
    assert "shifted" in text
    at = wanted(moved, bench)
    before = {str(n.outputs[0].name): n for n in first.network.nodes()}
    scaled = 0
    for spec in moved.spec.layers:
        if not spec.is_linear:
            continue
        found = between(before[str(spec.layer.main.outputs[0].name)], spec.layer.main, len(spec.weights()))
        assert found is not None
        scaled += bool((found.scale != 1).any() and (found.shift != 0).any())
        _, rows = at.of(spec)
        lo = -np.inf if spec.clamp is None else spec.clamp[0]  # what is below is not told apart
        own = own_outputs(moved, bench, spec.name, at)
        live = found.scale != 0
        assert np.allclose(np.maximum(rows, lo)[:, live], np.maximum(own, lo)[:, live], atol=1e-3 * np.abs(own).max())
    assert scaled >= 2


@pytest.mark.parametrize("target", ["fpga", "fpga-w4"])
def test_a_bound_that_stayed_is_made_up_for(target: str) -> None:
    bench, first = start(chain(clipped=True), 12.0, target)
    plain = wanted(first, bench)
    moved, _ = EqualizeChannels(settle=False).apply(first, bench, Clock())
    at = wanted(moved, bench)
    differs = cut = 0
    for spec in moved.spec.layers:
        if not spec.is_linear or spec.clamp is None:
            continue
        old_spec = next(s for s in first.spec.layers if s.name == spec.name)
        scale = between(old_spec.layer.main, spec.layer.main, len(spec.weights()))
        assert scale is not None
        (_, rows), (_, old) = at.of(spec), plain.of(old_spec)
        end = 6.0 * scale.scale
        asked = (1.05 * end < spec.clamp[1]) & (target == "fpga-w4")
        narrower = np.minimum(old * scale.scale, np.where(asked, end, np.inf))
        assert rows == pytest.approx(narrower, rel=1e-4, abs=1e-4)
        cut += int((narrower < old * scale.scale).sum())
        own = own_outputs(moved, bench, spec.name, at)
        now = Wanted(moved, bench, ROWS, np.random.default_rng(0), None, original=False)
        assert now.of(spec)[1] == pytest.approx(own, rel=1e-4, abs=1e-4)
        differs += float(np.abs(np.clip(own, *spec.clamp) - np.clip(rows, *spec.clamp)).max()) > 0.05
    assert differs  # the new network's own values would be wrong goals
    # With few bits, what a bound cut off before is not asked for where there is no bound now.
    assert bool(cut) == (target == "fpga-w4")


def test_goals_stay_inside_the_bounds_that_were() -> None:
    asked = np.array([[-9.0, -9.0, 9.0, 9.0, 9.0, 9.0]])
    scale, shift = np.array([1.0, 0.5, 0.5, 2.0, 1.0, 0.0]), np.array([-4.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    origin = Moved(scale, shift)
    # Moved along; a lower bound that is still there; narrower than now; wider than now; the same; a cleared channel.
    assert inside(asked, (0.0, 6.0), (-4.0, 6.0), origin).tolist() == [[-9.0, 0.0, 3.0, 9.0, 9.0, 1.0]]
    assert inside(asked, (0.0, np.inf), (0.0, np.inf), Moved(scale, 0 * shift)).tolist() == asked.tolist()
    assert inside(asked, None, (0.0, 6.0), origin) is asked
    assert inside(asked, (0.0, 6.0), None, Moved(np.ones(6), np.zeros(6))).tolist() == [[0.0] * 2 + [6.0] * 4]
