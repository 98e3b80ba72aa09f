"""Other widths: a planted tensor that needs them, the sums of bytes and work, the front, exact integers."""

from __future__ import annotations

import json
import tomllib

import numpy as np
import pytest

import zoo
from bitwright import api
from bitwright.api import role_schemes
from bitwright.calibrate.assign import assign
from bitwright.calibrate.spec import read_layers
from bitwright.cli import run
from bitwright.mend.bench import Bench
from bitwright.mend.repair import Clock
from bitwright.mend.search import split
from bitwright.mend.solution import Solution
from bitwright.mend.widths import Point, WidenActivations, candidates, front, sizes, trade, with_width
from bitwright.network.load import load
from bitwright.network.network import Network
from bitwright.passes.prepare import prepare
from bitwright.simulate.engine import Engine, compare
from bitwright.simulate.inputs import quantize_input
from bitwright.targets.target import load_target


def network() -> Network:
    """The second tensor has a channel a hundred times the others that nobody reads: eight bits are few for it."""
    g = zoo.Graph("wide")
    x = g.relu(g.conv(g.input("x", ["N", 3, 6, 6]), 3, 6))
    w = g.random.normal(size=(6, 6, 1, 1)).astype(np.float32)
    w[1] *= 100
    x = g.relu(g.node("Conv", x, g.constant(w), kernel_shape=[1, 1]))
    back = g.random.normal(size=(4, 6, 1, 1)).astype(np.float32)
    back[:, 1] = 0
    return prepare(load(g.build(g.node("Conv", x, g.constant(back), kernel_shape=[1, 1])), name="wide"))[0]


@pytest.fixture
def start() -> tuple[Solution, Bench]:
    net, chosen = network(), load_target("generic")
    x = np.random.default_rng(1).normal(size=(40, 3, 6, 6)).astype(np.float32)
    bench = split(net, [{net.inputs[0]: x}], chosen)
    spec, statistics, schemes = read_layers(net, chosen), bench.observe(net), role_schemes(chosen).made
    formats = assign(spec, statistics, chosen, schemes)
    return Solution(network=net, spec=spec, statistics=statistics, schemes=schemes, formats=formats), bench


def test_sizes(start: tuple[Solution, Bench]) -> None:
    solution, bench = start
    total, work = sizes(solution)
    weights = 6 * 3 * 9 + 36 + 24
    stored = (3 + 6 + 6 + 4) * 36
    assert total == pytest.approx(weights + stored, abs=6 * 36 * 2)  # a tensor before ReLU may be listed too
    assert work == 36 * weights
    first = solution.spec.layers[0]
    narrow = with_width(solution, bench.target, "weights", first.name, 4)
    assert sizes(narrow) == (total - first.weights().size / 2, work - first.macs / 2)
    wide = with_width(solution, bench.target, "activation", first.outputs[0], 16)
    assert sizes(wide)[0] == total + 6 * 36
    assert sizes(wide)[1] == work + 36 * 36


def test_the_integers_of_mixed_widths_are_exact(start: tuple[Solution, Bench]) -> None:
    solution, bench = start
    layers = solution.spec.layers
    solution = with_width(solution, bench.target, "weights", layers[0].name, 4)
    solution = with_width(solution, bench.target, "activation", layers[1].outputs[0], 16)
    program = solution.program(bench.target)
    assert {b.format.bits for b in program.buffers.values()} == {8, 16}
    name = program.inputs[0]
    x = bench.held[bench.network.inputs[0]][:4]
    feeds = {name: quantize_input(x, program.buffers[name].format, program.input_rounding)}
    compare(program, feeds, Engine(program, keep=True).run(feeds)).require("engine")


def test_the_planted_tensor_is_named_first(start: tuple[Solution, Bench]) -> None:
    solution, bench = start
    ranked = candidates(solution, bench, Clock(), weights=(4,), activations=(16,))
    best = max(ranked, key=lambda w: w.gain)
    assert (best.name, best.bits) == (solution.spec.layers[1].outputs[0], 16)
    assert best.gain > 3
    # The rule in a target file does the same.
    target = bench.target.with_overrides(tomllib.loads(best.rule))
    formats = assign(read_layers(bench.network, target), solution.statistics, target, solution.schemes)
    assert formats.activations[best.name].bits == 16
    assert sum(f.bits == 16 for f in formats.activations.values()) == sum(
        f.bits == 16
        for f in with_width(solution, bench.target, "activation", best.name, 16).formats.activations.values()
    )
    assert [w.bytes > 0 for w in ranked] == sorted((w.bytes > 0 for w in ranked), reverse=True)
    found, text = WidenActivations().apply(solution, bench, Clock())
    assert best.name in text
    assert bench.score(found).sqnr > bench.score(solution).sqnr + 3
    assert "no activation gains" in WidenActivations(margin=99.0).apply(solution, bench, Clock())[1]


def test_front() -> None:
    def at(gain: float, size: float, work: float) -> Point:
        return Point(widths=(), gain=gain, bytes=size, work=work)

    best, small, quick, beaten = at(2, 10, 10), at(1, 5, 10), at(0, 20, 1), at(0.5, 6, 10)
    assert front([beaten, quick, small, best]) == [best, small, quick]


def test_trade(start: tuple[Solution, Bench]) -> None:
    solution, bench = start
    ranked, points = trade(solution, bench, Clock(), weights=(6, 4), points=3)
    assert len(ranked) == 2 * 3 + 2  # weights of three layers, and two tensors inside
    assert [p.gain for p in points] == sorted((p.gain for p in points), reverse=True)
    assert any(len(p.widths) > 1 for p in points)
    assert json.dumps([p.to_json() for p in points])


def test_command(tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path  # type: ignore[assignment]
    api.load(network().serialize()).network.save(folder / "wide.onnx")  # type: ignore[operator]
    (folder / "wide.toml").write_text('[input]\nlayout = "raw"\n')  # type: ignore[operator]
    np.save(folder / "x.npy", np.random.default_rng(1).normal(size=(24, 3, 6, 6)).astype(np.float32))  # type: ignore[operator]
    line = ["widths", str(folder / "wide.onnx"), "--data", str(folder / "x.npy"), "--target", "fpga", "--quiet"]  # type: ignore[operator]
    assert run([*line, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ranked"]
    assert found["front"]
    assert run(line) == 0
    assert "activation" in capsys.readouterr().out
    assert run([*line, "--weights", "x"]) == 2
    assert "numbers of bits" in capsys.readouterr().err
