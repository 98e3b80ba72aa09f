"""From measurements to findings: which causes matter, where they sit, and in which order to look at them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bitwright.errors import printable
from bitwright.explain.drift import Drift
from bitwright.explain.effects import Effects, decibel
from bitwright.explain.finding import Cause, Finding
from bitwright.explain.preparation import Doubt
from bitwright.explain.subject import Subject
from bitwright.explain.words import Witness, percent
from bitwright.layer_rows import float_reasons
from bitwright.program.forms import Island

SEVERE_DB, NOTABLE_DB = 12.0, 20.0
"""Outputs below are wrong; outputs below differ visibly."""
SEVERE_FLIPS, NOTABLE_FLIPS = 0.1, 0.04
"""Shares of changed decisions."""
FEW_LOST, NONE_LOST = 0.95, 0.985
"""Agreement with the float network from which no error is severe, and from which all are minor."""
LOUD = 0.2
"""A share of the noise at the outputs that counts where answers are lost."""
CONCENTRATED = 0.25
"""A layer with so much of a cause's noise is named in a finding of its own."""
MOST_LAYERS = 2
LEAST_SHARE = 0.01
"""Causes with less of the noise are left out."""
ORDER = {"severe": 0, "notable": 1, "minor": 2}


@dataclass(frozen=True, kw_only=True)
class Weighed:
    """A finding before it is ranked.

    Attributes:
        finding: With rank 0.
        noise: Energy at the outputs that it costs; infinite where nothing else can be right before it is mended.
    """

    finding: Finding
    noise: float = field(default=0.0)


def diagnose(
    subject: Subject,
    witness: Witness,
    effects: Effects,
    drift: Drift,
    doubt: Doubt | None,
    *,
    agreement: float | None = None,
) -> tuple[Finding, ...]:
    """All findings, the worst first; none has a remedy yet.

    Args:
        subject: The network.
        witness: Says what is known of its layers.
        effects: What was measured.
        drift: Of calibration.
        doubt: Of the inputs.
        agreement: Share of equal answers on all samples, in 0..1; None where there are none.
    """
    found = [
        *_preparation(doubt),
        *(_tempered(one, agreement, effects.integers) for one in _errors(witness, effects)),
        *_accumulators(effects),
        *_islands(subject, effects),
        *_calibration(drift, effects),
    ]
    found = _rooted(found)
    found.sort(key=lambda one: (ORDER[one.finding.severity], -one.noise))
    return tuple(replace(one.finding, rank=i + 1) for i, one in enumerate(found))


def _rooted(found: list[Weighed]) -> list[Weighed]:
    """A channel that folding or training made large stretches the weights and the output of its layer alike.

    Then rounding of the output is a consequence, and the finding that names the channel's weights comes first.
    """
    roots: dict[tuple[str, int | None], Weighed] = {
        (one.finding.layer, one.finding.channel): one
        for one in found
        if one.finding.cause in (Cause.FOLD, Cause.WEIGHT_RANGE)
        and one.finding.channel is not None
        and one.finding.severity != "minor"
    }
    changed = list(found)
    for one in found:
        root = roots.get((one.finding.layer, one.finding.channel))
        if one.finding.cause != Cause.ACTIVATION_ROUNDING or root is None:
            continue
        also = f" The same channel stretches its output, which costs more: {one.finding.numbers.get('alone_db', 0):.1f} dB."
        grave = min(root.finding.severity, one.finding.severity, key=lambda name: ORDER[name])
        told = root.finding.sentence + (also if one.noise > root.noise else "")
        better = Weighed(
            finding=replace(root.finding, severity=grave, sentence=told), noise=max(root.noise, one.noise * (1 + 1e-9))
        )
        changed = [better if item is root else item for item in changed]
    return changed


def _tempered(one: Weighed, agreement: float | None, whole: float) -> Weighed:
    """Where hardly an answer is lost, no error can be severe, however loud it is."""
    if agreement is None:
        return one
    if agreement < FEW_LOST:
        # Answers are lost, so what makes most of the noise counts, however quiet it is.
        loud = one.noise >= LOUD * whole and one.finding.severity == "minor"
        return replace(one, finding=replace(one.finding, severity="notable")) if loud else one
    gentlest = "minor" if agreement >= NONE_LOST else "notable"
    grave = max(one.finding.severity, gentlest, key=lambda name: ORDER[name])
    return replace(one, finding=replace(one.finding, severity=grave))


def severity(effects: Effects, noise: float, flips: int | None) -> str:
    """How bad noise at the outputs is, and changed decisions (None where there are none)."""
    level = decibel(effects.signal, noise)
    level = math.inf if level is None else level
    changed = 0.0 if flips is None else flips / max(1, effects.samples)
    # One changed decision among a few dozen is chance.
    if level < SEVERE_DB or (changed >= SEVERE_FLIPS and flips is not None and flips >= 3):
        return "severe"
    if level < NOTABLE_DB or (changed >= NOTABLE_FLIPS and flips is not None and flips >= 3):
        return "notable"
    return "minor"


def _errors(witness: Witness, effects: Effects) -> Iterator[Weighed]:
    for row in effects.causes():
        if row.share < LEAST_SHARE:
            continue
        cause = row.cause
        parts = {tensor: effects.alone(tensor, cause) for tensor in effects.sums}
        total = sum(parts.values()) or 1.0
        ranked = sorted(parts, key=lambda t: -parts[t])
        named = [t for t in ranked[:MOST_LAYERS] if parts[t] >= CONCENTRATED * total]
        whole = effects.noise[("", str(cause))]
        if not named:
            yield _spread(witness, effects, cause, ranked, parts, whole)
        for tensor in named:
            # Several layers that err together cost more than each alone: one that has nearly all stands for all.
            noise = whole if parts[tensor] > 0.8 * total else min(whole, parts[tensor])
            yield _single(witness, effects, cause, tensor, noise, parts[tensor] / total)


def _single(witness: Witness, effects: Effects, cause: Cause, tensor: str, noise: float, part: float) -> Weighed:
    evidence = witness.evidence(cause, tensor)
    sums = effects.sums[tensor]
    flips = effects.flips.get((tensor, str(cause)))
    if flips is None and part > 0.8:
        flips = effects.flips.get(("", str(cause)))
    words, numbers = _cost(effects, noise, flips)
    without = _without(effects, cause)
    finding = Finding(
        rank=0,
        cause=cause,
        severity=severity(effects, noise, flips),
        layer=sums.piece.name,
        tensor=tensor,
        channel=evidence.channel,
        sentence=_sentence(f"{evidence.text}. {words}{without}"),
        numbers={**evidence.numbers, **numbers, "share_of_cause": part},
    )
    return Weighed(finding=finding, noise=noise)


def _spread(
    witness: Witness, effects: Effects, cause: Cause, ranked: Sequence[str], parts: dict[str, float], noise: float
) -> Weighed:
    worst = [t for t in ranked[:3] if parts[t] > 0]
    flips = effects.flips.get(("", str(cause)))
    words, numbers = _cost(effects, noise, flips)
    evidence = witness.evidence(cause, worst[0]) if worst else None
    count = sum(value > 0 for value in parts.values())
    names = ", ".join(f"'{printable(effects.sums[t].piece.name, 40)}'" for t in worst)
    first = f" For one, {evidence.text}." if evidence is not None else ""
    finding = Finding(
        rank=0,
        cause=cause,
        severity=severity(effects, noise, flips),
        layer=effects.sums[worst[0]].piece.name if worst else "",
        tensor=worst[0] if worst else "",
        channel=evidence.channel if evidence is not None else None,
        sentence=_sentence(
            f"{cause.meaning}, in {count} layers, most of all in {names}. {words}{_without(effects, cause)}{first}"
        ),
        numbers={**(evidence.numbers if evidence is not None else {}), **numbers, "layers": count},
    )
    return Weighed(finding=finding, noise=noise)


def _cost(effects: Effects, noise: float, flips: int | None) -> tuple[str, dict[str, Any]]:
    level = decibel(effects.signal, noise)
    numbers: dict[str, Any] = {"alone_db": level}
    text = (
        "Nothing of it reaches the outputs"
        if level in (None, math.inf)
        else f"Alone it leaves the outputs {level:.1f} dB"
    )
    if flips is not None:
        numbers |= {"changed": flips, "samples": effects.samples}
        text += f" and changes {flips} of {effects.samples} answers"
    return text, numbers


def _without(effects: Effects, cause: Cause) -> str:
    without = decibel(effects.signal, effects.without.get(cause, 0.0))
    now = effects.output_db
    if without is None or now is None or math.isinf(without):
        return "."
    return f"; without it they would have {without:.1f} dB instead of {now:.1f} dB."


def _sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:]


def _preparation(doubt: Doubt | None) -> Iterator[Weighed]:
    if doubt is None:
        return
    now, better = doubt.now, doubt.better
    parts = []
    numbers: dict[str, Any] = {"better": better.text}
    if now.divergence is not None and better.divergence is not None:
        parts.append(
            f"what '{printable(doubt.layer, 60)}' gives is {now.divergence:.2f} away from what its batch normalization saw "
            f"in training, and only {better.divergence:.2f} with {better.text}"
        )
        numbers |= {"divergence": now.divergence, "divergence_better": better.divergence}
    if now.correct is not None and better.correct is not None:
        parts.append(
            f"the float network gives {percent(now.correct)} right answers, and {percent(better.correct)} with {better.text}"
        )
        numbers |= {"float_correct": now.correct, "float_correct_better": better.correct}
    text = f"the inputs are not prepared as in training: {'; '.join(parts)}."
    finding = Finding(
        rank=0,
        cause=Cause.PREPROCESSING,
        severity="severe",
        layer=doubt.layer,
        sentence=_sentence(text),
        numbers=numbers,
    )
    yield Weighed(finding=finding, noise=math.inf)


def _calibration(drift: Drift, effects: Effects) -> Iterator[Weighed]:
    """Where ranges drift and yet no error of it counts, it is still worth saying."""
    known = effects.noise.get(("", str(Cause.CALIBRATION_DATA)), 0.0)
    if drift.inputs_differ and drift.calibrated:
        text = (
            f"the inputs of calibration and these were not prepared alike: their mean is {drift.input_shift:+.2f} "
            f"deviations away and their deviation {drift.input_ratio:.3g} times that of calibration."
        )
    elif drift.significant and not known:
        text = (
            f"{percent(drift.beyond)} of the tensors leave the range that {drift.calibrated} calibration samples gave them "
            f"(by {drift.growth:.3g} times in the median), chance explains {percent(drift.expected)}: ranges were still "
            "growing when calibration ended. No error of it shows yet."
        )
    else:
        return
    grave = "notable" if drift.inputs_differ else "minor"
    finding = Finding(
        rank=0, cause=Cause.CALIBRATION_DATA, severity=grave, sentence=_sentence(text), numbers=drift.numbers()
    )
    yield Weighed(finding=finding, noise=known)


def _accumulators(effects: Effects) -> Iterator[Weighed]:
    for name, wraps in effects.wraps.items():
        tight = wraps.tight
        share = wraps.beyond / max(1, wraps.count)
        text = (
            f"the sums of '{printable(name, 60)}' may need {tight.need} bits and the accumulator has {tight.have}: "
            f"{tight.need - tight.have} too few. They reach {wraps.lowest}..{wraps.highest} here, and {percent(share)} of "
            "them leave it"
        )
        level = decibel(wraps.signal, wraps.noise)
        grave = "minor"
        if wraps.beyond:
            text += f"; if the device lets them wrap round, the outputs have {level or 0.0:.1f} dB"
            changed = wraps.changed / max(1, wraps.samples)
            bad = level is None or level < SEVERE_DB or changed >= SEVERE_FLIPS
            grave = "severe" if bad else "notable"
        else:
            text += "; it is proven possible, not seen"
        finding = Finding(
            rank=0,
            cause=Cause.ACCUMULATOR,
            severity=grave,
            layer=name,
            tensor=wraps.tensor,
            sentence=_sentence(f"{text}."),
            numbers={
                "bits_needed": tight.need,
                "bits": tight.have,
                "beyond": share,
                "lowest": wraps.lowest,
                "highest": wraps.highest,
                "wrapped_db": level,
            },
        )
        # In units of the noise of the other findings; what wraps is on top of all that the integers cost.
        noise = wraps.noise / max(wraps.signal, 1e-30) * effects.signal
        yield Weighed(finding=finding, noise=noise)


def _islands(subject: Subject, effects: Effects) -> Iterator[Weighed]:
    reasons = float_reasons(subject.spec, subject.program)
    if not reasons:
        return
    islands = [step for step in subject.program.steps if isinstance(step.form, Island)]
    share = 1.0 - subject.program.integer_mac_share
    (first, why), *_ = reasons.items()
    noise = sum(
        effects.noise.get((t, ""), 0.0) for t, s in effects.sums.items() if s.piece.spec is None and s.piece.steps
    )
    read = {name for step in subject.program.steps if not isinstance(step.form, Island) for name in step.inputs}
    inside = any(name in read for step in islands for name in step.outputs)
    ops = ", ".join(dict.fromkeys(s.op for s in subject.spec.layers if s.name in reasons))
    text = (
        f"{len(reasons)} of {len(subject.spec.layers)} layers run in float ({percent(share)} of the multiply-accumulates, "
        f"{len(islands)} {'islands' if len(islands) != 1 else 'island'}, {ops}): '{printable(first, 60)}' because "
        f"{printable(why, 200).rstrip('.')}."
    )
    finding = Finding(
        rank=0,
        cause=Cause.FLOAT_ISLAND,
        # One at the very end costs a little time; one in between makes the device wait for the processor and back.
        severity="notable" if share >= 0.01 or inside else "minor",
        layer=first,
        sentence=_sentence(text),
        numbers={
            "layers": len(reasons),
            "islands": len(islands),
            "float_mac_share": share,
            "integer_mac_share": subject.program.integer_mac_share,
            "operators": ops,
        },
    )
    yield Weighed(finding=finding, noise=noise)
