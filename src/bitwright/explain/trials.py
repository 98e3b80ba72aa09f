"""Remedies are tried before they are recommended: applied, lowered again, run on samples that nothing learned from."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bitwright.calibrate.assign import assign
from bitwright.calibrate.scheme import load as load_scheme
from bitwright.calibrate.spec import read_layers
from bitwright.errors import BitwrightError, printable
from bitwright.explain.finding import Cause, Finding, Gain, Remedy
from bitwright.explain.memory import observed
from bitwright.explain.preparation import Doubt
from bitwright.explain.remedies import SLOWEST, Idea, escape, ideas
from bitwright.explain.subject import Subject
from bitwright.explain.toml import contract_text, target_text
from bitwright.lower import lower
from bitwright.mend.bench import Bench, Score
from bitwright.mend.registry import read_repairs
from bitwright.mend.repair import Clock
from bitwright.mend.solution import Solution
from bitwright.number.expr import signed_bits

if TYPE_CHECKING:
    from bitwright.program.program import Program
    from bitwright.targets.target import Target

MATERIAL_DB = 0.3
"""A remedy that brings less is not one."""
HALF = 0.5
"""Other rules of the target are put first only where nothing inside them brings half as many decibels."""
HARMLESS_DB = 3.0
"""What takes away a harm that the integers do not show may cost so much."""
MOST_FINDINGS = 6
LEAST_SECONDS = 2.0
"""What a repair may take at least; at most a third of the time that is left."""


@dataclass
class Trials:
    """Tries ideas once each and remembers.

    Attributes:
        subject: The network.
        bench: Samples: those to learn from, and those that judge.
        until: ``time.monotonic()`` after which nothing more is begun.
        tell: Called with what is going on.
        seed: Of repairs.
    """

    subject: Subject
    bench: Bench
    until: float = float("inf")
    tell: Callable[[str], None] = field(default=lambda text: None)
    seed: int = 0

    def __post_init__(self) -> None:
        self.base = self.bench.score_program(self.subject.program)
        self._known: dict[str, tuple[Score, float] | str] = {}

    def heal(self, findings: Sequence[Finding], doubt: Doubt | None) -> tuple[Finding, ...]:
        """The findings with their remedies, in the same order."""
        # What is quick for every finding comes before what takes all the time that it gets.
        for finding in findings[:MOST_FINDINGS]:
            for idea in sorted(ideas(self.subject, finding), key=lambda one: one.slow):
                if idea.slow < SLOWEST and finding.cause != Cause.PREPROCESSING:
                    self._measured(idea, late=False)
        healed = []
        for i, finding in enumerate(findings):
            if finding.cause == Cause.PREPROCESSING and doubt is not None:
                healed.append(replace(finding, remedy=self._prepared(doubt)))
                continue
            late = i >= MOST_FINDINGS
            remedies = [self._remedy(idea, late=late) for idea in ideas(self.subject, finding)]
            if finding.cause in (Cause.ACCUMULATOR, Cause.FLOAT_ISLAND):
                healed.append(self._structural(finding, remedies))
            else:
                healed.append(_chosen(finding, remedies))
        return tuple(healed)

    def _structural(self, finding: Finding, remedies: Sequence[tuple[Idea, Remedy, Score | None]]) -> Finding:
        """Findings whose harm the simulated integers do not show: sums that wrap, layers that leave the device.

        A remedy takes the harm away by itself; what has to be shown is that it costs no accuracy.
        """
        tried = [(remedy, score) for _, remedy, score in remedies if score is not None]
        good = [remedy for remedy, score in tried if score.height >= self.base.height - HARMLESS_DB]
        best = good[0] if good else tried[0][0] if tried else remedies[0][1] if remedies else None
        if best is None:
            operators = str(finding.numbers.get("operators", ""))
            if not operators:
                return finding
            text = f"Replace {operators} before training by what the target has, or accept the way to the processor and back."
            return replace(finding, remedy=Remedy(sentence=text, how="nothing to try without training again"))
        rest = tuple(remedy for _, remedy, _ in remedies if remedy is not best)
        if finding.cause == Cause.ACCUMULATOR and best.gain is not None:
            gain = replace(best.gain, before_db=finding.numbers.get("wrapped_db"), before=None, after=None, metric="")
            text = best.sentence.split(":", 1)[0]
            best = replace(best, gain=gain, sentence=_with_gain(text, gain))
        return replace(finding, remedy=best, others=rest)

    # ---------------------------------------------------------------- one idea

    def _remedy(self, idea: Idea, *, late: bool) -> tuple[Idea, Remedy, Score | None]:
        found = self._measured(idea, late=late)
        target = self.subject.target.name
        data = "D" if idea.kind != "calibrate" else "MORE"
        options: dict[str, Any] = {}
        command = f"bitwright quantize MODEL --data {data} --target {target}"
        text = ""
        match idea.kind:
            case "mend":
                options, command = {"mend": idea.value}, f"{command} --mend {idea.value}"
            case "scheme":
                options, command = {"scheme": idea.value}, f"{command} --scheme {idea.value}"
            case "target":
                name = f"{idea.changes['name']}.toml"
                text = target_text(self.subject.target, idea.changes)
                options, command = {"target": name}, f"bitwright quantize MODEL --data D --target {name}"
            case _:
                pass
        gain, how = None, ""
        score = None
        if isinstance(found, str):
            how = found
        else:
            score, seconds = found
            gain = self.gain(score, seconds)
            held = len(next(iter(self.bench.held.values())))
            how = f"applied and measured on {held} samples that it did not learn from"
        sentence = _with_gain(idea.text, gain)
        remedy = Remedy(
            sentence=sentence,
            mend=idea.value if idea.kind == "mend" else "",
            options=options,
            command=command,
            target_file=text,
            gain=gain,
            how=how,
        )
        return idea, remedy, score

    def gain(self, after: Score, seconds: float) -> Gain:
        """What a score brings over the network as it is."""

        def known(value: float) -> float | None:
            return None if np.isnan(value) else value

        classes = self.bench.classes and not np.isnan(self.base.agreement)
        return Gain(
            before_db=self.base.sqnr,
            after_db=after.sqnr,
            metric="agreement" if classes else "",
            before=known(self.base.agreement) if classes else None,
            after=known(after.agreement) if classes else None,
            top1_before=known(self.base.correct),
            top1_after=known(after.correct),
            samples=len(next(iter(self.bench.held.values()))),
            seconds=seconds,
        )

    def _measured(self, idea: Idea, *, late: bool) -> tuple[Score, float] | str:
        if idea.key not in self._known:
            if late:
                return "not tried: other findings come first"
            if time.monotonic() >= self.until:
                return "not tried: the time was up"
            self.tell(f"trying to {idea.text}")
            began = time.monotonic()
            try:
                score = self._score(idea)
                self._known[idea.key] = (score, time.monotonic() - began)
            except (BitwrightError, ValueError) as why:
                self._known[idea.key] = f"could not be tried: {printable(why, 200)}"
        return self._known[idea.key]

    def _score(self, idea: Idea) -> Score:
        subject, bench = self.subject, self.bench
        match idea.kind:
            case "mend":
                return self._mended(idea.value)
            case "scheme":
                scheme = load_scheme(idea.value)
                schemes = replace(subject.schemes, activation=scheme, weight=scheme, bias=scheme)
                return bench.score(self._solution(schemes=schemes))
            case "calibrate":
                return bench.score(self._solution(statistics=observed(subject.network, bench.fit)))
            case _:
                target = subject.target.with_overrides(idea.changes)
                spec = read_layers(subject.network, target)
                formats = assign(spec, subject.statistics, target, subject.schemes)
                program = lower(subject.network, spec, formats, target)
                if "fits" in str(idea.changes["name"]) and still_tight(program, target, idea):
                    raise ValueError("the sums may still leave the accumulator")
                return bench.score_program(program)

    def _mended(self, spec: str) -> Score:
        """The repairs one after the other, each kept if the integers get better, as mending does it."""
        solution, score = self.subject.solution, self.base
        now = time.monotonic()
        until = now + max(LEAST_SECONDS, (self.until - now) / 3)
        for one in read_repairs(spec, seed=self.seed):
            found, _ = one.apply(solution, self.bench, Clock(until, self.tell))
            if found is solution:
                continue
            after = self.bench.score(found)
            if after.beats(score):
                solution, score = found, after
        return score

    def _solution(self, **changes: Any) -> Solution:
        """Formats chosen anew, by other schemes or from other statistics."""
        subject = self.subject
        schemes = changes.get("schemes", subject.schemes)
        statistics = changes.get("statistics", subject.statistics)
        formats = assign(subject.spec, statistics, subject.target, schemes)
        return Solution(
            network=subject.network, spec=subject.spec, statistics=statistics, schemes=schemes, formats=formats
        )

    # ---------------------------------------------------------------- inputs

    def _prepared(self, doubt: Doubt) -> Remedy:
        """Other inputs: calibrated and lowered again with them, and judged by labels where there are some."""
        subject, bench, way = self.subject, self.bench, doubt.better
        name = subject.quantized.contract.name or subject.network.inputs[0]
        name = name if name in bench.fit else subject.network.inputs[0]
        other = replace(
            bench,
            fit={**bench.fit, name: way.apply(np.asarray(bench.fit[name]))},
            held={**bench.held, name: way.apply(np.asarray(bench.held[name]))},
        )
        gain, how = None, "not tried: the time was up"
        if time.monotonic() < self.until:
            self.tell(f"trying inputs as {way.text}")
            began = time.monotonic()
            score = other.score(self._solution(statistics=observed(subject.network, other.fit)))
            gain = self.gain(score, time.monotonic() - began)
            # What the float network said of wrong inputs is no measure; labels are.
            metric = "" if self.bench.labels is None else "top1"
            gain = replace(gain, metric=metric, before=gain.top1_before, after=gain.top1_after)
            how = f"calibrated, quantized and run again with such inputs, on {len(next(iter(other.held.values())))} samples"
        return Remedy(
            sentence=_with_gain(f"prepare the inputs as {way.text}, for calibration and ever after", gain),
            options={"input_spec": "input.toml"},
            command="bitwright quantize MODEL --input-spec input.toml --data D --target " + subject.target.name,
            input_contract=contract_text(way.contract),
            gain=gain,
            how=how,
        )


def still_tight(program: Program, target: Target, idea: Idea) -> bool:
    """Whether the layer that the idea is about may still leave the accumulator."""
    layers = {rule["match"]["layer"] for rule in idea.changes["rule"]}
    return any(
        escape(step.layer) in layers and signed_bits(form.acc_lo, form.acc_hi) > target.arithmetic.accumulator_bits
        for step, form in program.contracts()
    )


def _chosen(finding: Finding, remedies: Sequence[tuple[Idea, Remedy, Score | None]]) -> Finding:
    """The remedy that brings most, one inside the target's rules before one that changes them; the others after it."""

    def height(item: tuple[Idea, Remedy, Score | None]) -> float:
        return -np.inf if item[2] is None else item[2].height

    ranked = sorted(remedies, key=lambda item: -height(item))
    inside = [item for item in ranked if item[0].kind != "target"]
    outside = [item for item in ranked if item[0].kind == "target"]
    best = next(iter(inside), None)
    other = next(iter(outside), None)
    if other is not None and (best is None or not _helps(best) or _brings(best) < HALF * _brings(other)):
        best = other if best is None or height(other) > height(best) else best
    if best is None:
        return finding
    rest = tuple(item[1] for item in ranked if item is not best)
    if not _helps(best):
        # Nothing that was tried helps; what was not tried is still worth knowing.
        untried = [item[1] for item in ranked if item[2] is None]
        return replace(finding, others=(*untried, *(r for r in rest if r not in untried)))
    return replace(finding, remedy=best[1], others=rest)


def _brings(item: tuple[Idea, Remedy, Score | None]) -> float:
    gain = item[1].gain
    return 0.0 if gain is None else gain.decibels or 0.0


def _helps(item: tuple[Idea, Remedy, Score | None]) -> bool:
    gain = item[1].gain
    if gain is None:
        return False
    return (gain.decibels or 0.0) >= MATERIAL_DB or (gain.points or 0.0) >= 1.0


def _with_gain(text: str, gain: Gain | None) -> str:
    sentence = text[:1].upper() + text[1:]
    if gain is None:
        return f"{sentence}."
    parts = []
    if gain.points is not None:
        assert gain.before is not None  # points are their difference
        assert gain.after is not None
        name = "same answers as the float network" if gain.metric == "agreement" else "right answers"
        parts.append(f"{name} from {100 * gain.before:.1f} % to {100 * gain.after:.1f} %")
    if gain.before_db is not None and gain.after_db is not None:
        parts.append(f"outputs from {gain.before_db:.1f} dB to {gain.after_db:.1f} dB")
    return f"{sentence}: {', '.join(parts)}." if parts else f"{sentence}."


__all__ = ["Trials"]
