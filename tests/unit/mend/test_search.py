"""Planted problems are mended; what is kept is decided on held samples; runs repeat and resume."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

import zoo
from bitwright.calibrate.assign import RoleSchemes
from bitwright.calibrate.scheme import load as load_scheme
from bitwright.errors import NoData, PassError
from bitwright.mend.bench import Bench, Score, divergence
from bitwright.mend.registry import AUTO, REPAIRS, read_repairs
from bitwright.mend.repair import Clock, Repair
from bitwright.mend.search import Mended, mend
from bitwright.mend.solution import Solution
from bitwright.network.load import load
from bitwright.network.network import Network
from bitwright.passes.prepare import prepare
from bitwright.simulate.engine import Engine, compare
from bitwright.simulate.inputs import quantize_input
from bitwright.targets.target import Target, load_target


def depthwise_chain() -> Network:
    """ReLU6, depthwise, weights of single channels far larger than the rest: what breaks one step per tensor."""
    g = zoo.Graph("planted")
    x = g.relu6(g.conv(g.input("x", ["N", 3, 12, 12]), 3, 12))
    for _ in range(2):
        w = g.random.normal(size=(12, 1, 3, 3)).astype(np.float32) * 0.4
        w[[2, 7]] *= 40.0
        x = g.relu6(g.node("Conv", x, g.constant(w), kernel_shape=[3, 3], pads=[1] * 4, group=12))
        x = g.relu6(g.conv(x, 12, 12, 1))
    x = g.node("Flatten", g.node("GlobalAveragePool", x))
    return prepare(load(g.build(g.gemm(x, 12, 5)), name="planted"))[0]


def images(count: int = 48) -> np.ndarray:
    return np.random.default_rng(5).normal(size=(count, 3, 12, 12)).astype(np.float32)


def schemes(target: Target) -> RoleSchemes:
    own = target.schemes
    return RoleSchemes(**{role: load_scheme(getattr(own, role)) for role in ("input", "activation", "weight", "bias")})


def mended(target: str, repairs: object = "auto", **options: object) -> Mended:
    chosen = load_target(target)
    net, x = depthwise_chain(), images()
    batches = [{net.inputs[0]: x[i : i + 16]} for i in range(0, len(x), 16)]
    return mend(net, batches, chosen, schemes(chosen), repairs=repairs, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("target", ["fpga", "dpu", "mcu-q7", "generic"])
def test_a_planted_problem_is_mended(target: str) -> None:
    result = mended(target, "schemes,equalize,reconstruct,correct-bias")
    assert result.after.sqnr > result.before.sqnr + (4 if target != "generic" else 0.5)
    assert any(a.repair == "equalize" and a.kept for a in result.history) or target == "generic"
    # The result is a program like any other: the engine gives the reference's integers.
    program = result.program()
    name = program.inputs[0]
    feeds = {name: quantize_input(images(4), program.buffers[name].format, program.input_rounding)}
    compare(program, feeds, Engine(program, keep=True).run(feeds)).require("engine")
    assert not any("float" in note for note in program.notes)
    assert program.integer_mac_share == 1.0


@pytest.mark.parametrize(
    "repairs", ["adaround{iterations=120, rows=1000}", "adaround{iterations=120, rows=1000, drop=0.3}"]
)
def test_few_bits_are_learned(repairs: str) -> None:
    plain = mended("fpga-w4", "equalize")
    result = mended("fpga-w4", f"equalize,{repairs}")
    assert result.after.sqnr > plain.after.sqnr + 0.15
    assert result.history[-1].kept


@pytest.mark.parametrize(
    "repair", ["absorb-bias", "dead-channels", "split-concat", "split-channels", "unfold-scale", "analytic-bias"]
)
def test_repairs_of_structure_end_and_say_what_they_did(repair: str) -> None:
    result = mended("fpga", repair)
    (attempt,) = result.history
    assert attempt.text
    assert result.program().integer_mac_share == 1.0
    if repair == "unfold-scale":  # single channels of the planted weights stand out by 40
        assert attempt.kept
        assert "stand on their own" in attempt.text


def test_history_is_truthful() -> None:
    result = mended("fpga", "equalize,reconstruct")
    score = result.before
    for attempt in result.history:
        assert attempt.before == score
        assert attempt.kept == attempt.after.beats(score)
        score = attempt.after if attempt.kept else score
        assert attempt.repair in attempt.sentence
        assert ("not kept" in attempt.sentence) != attempt.kept
    assert result.after == score


def test_same_seed_same_integers_broken_off_or_not(tmp_path: Path) -> None:
    repairs = "equalize,reconstruct{rows=500},learn-ranges{rounds=1}"
    first = mended("fpga", repairs, seed=3)

    def interrupt(text: str, share: float) -> None:
        if "; reconstruct" in text:
            raise KeyboardInterrupt

    file = tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        mended("fpga", repairs, seed=3, checkpoint=file, progress=interrupt)
    begun: list[str] = []
    second = mended("fpga", repairs, seed=3, checkpoint=file, progress=lambda text, share: begun.append(text))
    assert not any("; equalize" in text for text in begun)
    a, b = first.program(), second.program()
    assert a.tensors.keys() == b.tensors.keys()
    assert all(np.array_equal(a.tensors[name], b.tensors[name]) for name in a.tensors)
    assert [x.format for x in a.buffers.values()] == [x.format for x in b.buffers.values()]


def test_resumes(tmp_path: Path) -> None:
    file = tmp_path / "state"
    repairs = "schemes,equalize,reconstruct{rows=500}"
    whole = mended("mcu-q7", repairs, checkpoint=file)
    again = mended("mcu-q7", repairs, checkpoint=file)  # everything is done already
    assert [a.to_json() for a in again.history] == [a.to_json() for a in whole.history]
    a, b = whole.program(), again.program()
    assert all(np.array_equal(a.tensors[name], b.tensors[name]) for name in a.tensors)
    other = mended("mcu-q7", "equalize", checkpoint=file, seed=1)
    assert [x.repair for x in other.history] == ["equalize"]
    file.write_bytes(b"damaged")
    assert mended("mcu-q7", "equalize", checkpoint=file, seed=1).history


@dataclass(frozen=True)
class Harms:
    """Zero weights in the last layer."""

    name: ClassVar[str] = "harms"
    summary: ClassVar[str] = "Harms."

    def apply(self, solution: Solution, bench: Bench, clock: Clock) -> tuple[Solution, str]:
        layer = [s for s in solution.spec.layers if s.is_linear][-1]
        return solution.with_layer(layer.name, weights=np.zeros(layer.weights().shape, np.int64)), "zeroed a layer"


def test_what_harms_is_not_kept() -> None:
    result = mended("fpga", [Harms()])
    assert not result.history[0].kept
    assert result.history[0].after.sqnr < result.before.sqnr
    assert result.after == result.before
    assert not result.constants.weights


def test_budget_and_goal() -> None:
    late = mended("fpga", time_budget_s=0.0)
    assert "time" in late.stopped
    assert not late.history
    assert not late.complete
    near = mended("generic", max_drop=100.0, repairs=[Harms()])
    assert near.before.sqnr > 25
    assert "differ" in near.stopped
    assert not near.history


@dataclass(frozen=True)
class Slow:
    """Takes all the time there is."""

    name: ClassVar[str] = "slow"
    summary: ClassVar[str] = "Slow."

    def apply(self, solution: Solution, bench: Bench, clock: Clock) -> tuple[Solution, str]:
        time.sleep(max(0.0, min(clock.until - time.monotonic(), 60.0)))
        return solution, "waited"


def test_what_the_clock_cut_short_is_tried_again(tmp_path: Path) -> None:
    file = tmp_path / "state"
    first = mended("fpga", [Harms(), Slow()], time_budget_s=2.0, checkpoint=file)
    assert [a.cut for a in first.history] == [False, True]
    assert not first.complete
    second = mended("fpga", [Harms(), Slow()], time_budget_s=1.0, checkpoint=file)
    assert [a.repair for a in second.history] == ["harms", "slow"]
    whole = mended("fpga", [Harms()], time_budget_s=600.0)
    assert whole.complete


@dataclass(frozen=True)
class Sharing:
    """Tells how much of the time it was given."""

    name: ClassVar[str] = "sharing"
    summary: ClassVar[str] = "Sharing."
    part: ClassVar[float] = 0.1

    def apply(self, solution: Solution, bench: Bench, clock: Clock) -> tuple[Solution, str]:
        return solution, f"{clock.until - time.monotonic():.0f}"


def test_the_last_repair_gets_all_the_time_that_is_left() -> None:
    given = [float(a.text) for a in mended("fpga", [Sharing(), Sharing()], time_budget_s=1000.0).history]
    assert given[0] == pytest.approx(100, abs=2)
    assert given[1] > 900


def test_too_few_samples() -> None:
    target = load_target("fpga")
    net = depthwise_chain()
    with pytest.raises(NoData, match="at least 3"):
        mend(net, [{net.inputs[0]: images(2)}], target, schemes(target))


class TestRegistry:
    def test_all_repairs_have_the_shape(self) -> None:
        for name, kind in REPAIRS.items():
            one = kind()
            assert isinstance(one, Repair)
            assert kind.name == name
            assert kind.summary.endswith(".")
            assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]

    def test_auto(self) -> None:
        assert {one.name for one in read_repairs(AUTO)} <= set(REPAIRS)

    def test_options(self) -> None:
        (one,) = read_repairs("reconstruct{rows=100, damping=0.1;0.2}", seed=7)
        assert (one.rows, one.damping, one.seed) == (100, (0.1, 0.2), 7)  # type: ignore[attr-defined]

    @pytest.mark.parametrize(
        ("text", "match"),
        [
            ("equalise", "Did you mean 'equalize'"),
            ("equalize{step=3}", "Did you mean 'steps'"),
            ("equalize{steps=many}", "cannot be 'many'"),
            ("", "No repair is named"),
            ("Equalize!", "not of the form"),
        ],
    )
    def test_errors(self, text: str, match: str) -> None:
        with pytest.raises(PassError, match=match):
            read_repairs(text)


def test_score() -> None:
    low, high = Score(sqnr=10.0, agreement=0.9), Score(sqnr=12.0, agreement=0.92)
    assert high.beats(low)
    assert not low.beats(high)
    assert not low.beats(low)
    assert not Score(sqnr=10.5, agreement=0.5).beats(low)
    assert str(Score(sqnr=1.0)) == "1.00 dB"


def test_divergence() -> None:
    logits = np.array([[0.0, 1.0, 2.0], [3.0, 0.0, -1.0]])
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    other = np.array([[0.5, 1.0, 1.0], [2.0, 0.0, 0.0]])
    q = np.exp(other) / np.exp(other).sum(1, keepdims=True)
    want = (p * np.log(p / q)).sum(1).mean()
    assert divergence(logits, other) == pytest.approx(want)
    assert divergence(logits, logits + 7) == pytest.approx(0, abs=1e-12)
    assert divergence(p, q) == pytest.approx(want)
    # A classifier whose answers are clearer wins over one with a little less noise.
    clear, quiet = (
        Score(sqnr=20.0, agreement=1.0, divergence=0.001),
        Score(sqnr=21.0, agreement=1.0, divergence=0.1),
    )
    assert clear.beats(quiet)
    assert not quiet.beats(clear)
