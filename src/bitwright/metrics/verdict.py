"""What a difference between two figures means, in one plain sentence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from bitwright.metrics.health import Health
from bitwright.metrics.metric import Unit

__all__ = ["Finding", "Kind", "Verdict", "p_text", "value_text", "verdict"]

LEVEL = 0.05
CONSTANT, CONSTANT_FLOAT = 0.9, 0.7
WORSE_FACTOR = 3.0
REMEDY = "per-channel weights or equalization"


class Kind(StrEnum):
    """How it ended."""

    SAME = "same"
    NOISE = "noise"
    LOSS = "loss"
    GAIN = "gain"
    COLLAPSE = "collapse"
    UNTESTED = "untested"
    """No test applies: there are no labels, or the metric gives one figure only."""


@dataclass(frozen=True)
class Verdict:
    """The finding and its sentence."""

    kind: Kind
    text: str


@dataclass(frozen=True)
class Finding:
    """What was measured.

    Attributes:
        metric: Name of the metric.
        unit: Its unit.
        better: Its direction.
        float_value: Figure of the float network.
        quantized_value: Figure of the quantized network.
        samples: How many samples.
        noun: What a sample is called, in the singular.
        p: Two-sided p of the paired test; None if none applies.
        lost: Samples that the float network had right and the quantized has wrong; None if samples are not right or
            wrong.
        gained: The other way round.
        chance: The figure of a network that guesses; None if unknown.
        compares: Whether the metric itself compares with the float network (agreement, sqnr).
        before: Decisions of the float network; None if not watched.
        after: Decisions of the quantized network.
        sqnr_db: Of the outputs; None if not measured.
        remedy: What a network that collapses needs under the rules of its target.
    """

    metric: str
    unit: Unit
    better: Literal["higher", "lower"]
    float_value: float
    quantized_value: float
    samples: int
    noun: str = "sample"
    p: float | None = None
    lost: int | None = None
    gained: int | None = None
    chance: float | None = None
    compares: bool = False
    before: Health | None = None
    after: Health | None = None
    sqnr_db: float | None = None
    remedy: str = REMEDY


def verdict(found: Finding) -> Verdict:
    """The sentence.

    A difference with p below 0.05 is called real.  A collapse is a real loss of more than half of what the float network
    was better than chance, an error more than three times the float network's, or one class decided for more than 90 %
    of the samples where the float network's favorite had less than 70 %; agreement below one half is one too.
    """
    if _collapsed(found):
        return Verdict(Kind.COLLAPSE, _collapse_text(found))
    if found.compares:
        return Verdict(Kind.UNTESTED, _compared_text(found))
    if found.lost is not None and found.gained is not None:
        return _counted(found, found.lost, found.gained)
    return _scored(found)


def _collapsed(found: Finding) -> bool:
    if _is_stuck(found):
        return True
    if found.compares:
        return found.metric == "agreement" and found.quantized_value < 0.5
    if found.p is not None and found.p >= LEVEL:
        return False
    if found.better == "lower":
        return found.quantized_value > WORSE_FACTOR * found.float_value > 0
    if found.unit not in {Unit.PROPORTION, Unit.SHARE}:
        return False
    chance = found.chance or 0.0
    above = found.float_value - chance
    return above > 0 and found.quantized_value - chance < above / 2


def _is_stuck(found: Finding) -> bool:
    """Whether the quantized network says nearly always the same, and the float network does not."""
    before, after = found.before, found.after
    # Two decisions may well be equal, and one must be.
    return (
        before is not None
        and after is not None
        and found.samples > 2
        and after.constant > CONSTANT
        and before.constant < CONSTANT_FLOAT
    )


def _collapse_text(found: Finding) -> str:
    name = {"top1": "accuracy", "top5": "top-5 accuracy"}.get(found.metric, found.metric)
    figures = f"{value_text(found.float_value, found.unit)} → {value_text(found.quantized_value, found.unit)}"
    if found.compares:
        figures = value_text(found.quantized_value, found.unit)
    signs = []
    if found.after is not None:
        if _is_stuck(found):
            signs.append(f"{percent(found.after.constant, 0)} of the decisions are for class {found.after.favorite}")
        before = found.before or Health(0, 0.0, 0.0, 0.0, 0)
        if found.after.tied - before.tied > 0.1:
            signs.append(f"{percent(found.after.tied, 0)} have several equal highest scores")
        if found.after.saturated > 0.1:
            signs.append(f"{percent(found.after.saturated, 0)} end at the highest value of the output's format")
    if found.sqnr_db is not None and found.sqnr_db < 0:
        signs.append(f"the error is larger than the signal (SQNR {found.sqnr_db:.1f} dB)")
    because = f" ({'; '.join(signs)})" if signs else ""
    return f"{name} collapsed: {figures}{because}; this network needs {found.remedy}"


def _compared_text(found: Finding) -> str:
    if found.unit is Unit.PROPORTION:
        differ = round((1 - found.quantized_value) * found.samples)
        return (
            f"{differ} of {_many(found.samples, found.noun)} {_verb(differ, 'is', 'are')} decided differently than by the "
            "float network; only labels can tell whether for the worse"
        )
    what = (
        "of the decisions are the float network's" if found.metric == "agreement" else "signal to noise at the outputs"
    )
    return f"{value_text(found.quantized_value, found.unit)} {what}; only labels can tell what that costs"


def _counted(found: Finding, lost: int, gained: int) -> Verdict:
    """Lost and gained samples."""
    p = found.p if found.p is not None else 1.0
    n, noun = found.samples, found.noun
    if lost + gained == 0:
        return Verdict(Kind.SAME, f"none of {_many(n, noun)} differs")
    if p >= LEVEL:
        if lost == 0 or gained == 0:
            differ = lost + gained
            text = f"{differ} of {_many(n, noun)} {_verb(differ, 'differs', 'differ')}: noise ({p_text(p)})"
        else:
            text = f"{lost} of {_many(n, noun)} lost, {gained} gained: noise ({p_text(p)})"
        return Verdict(Kind.NOISE, text)
    kind, what = (Kind.LOSS, "a real drop") if lost > gained else (Kind.GAIN, "a real gain")
    return Verdict(kind, f"{lost} of {_many(n, noun)} lost, {gained} gained: {what} ({p_text(p)})")


def _scored(found: Finding) -> Verdict:
    """Two figures."""
    before, after = found.float_value, found.quantized_value
    change = f"{found.metric} {value_text(before, found.unit)} → {value_text(after, found.unit)}"
    if after == before and (found.p is None or found.p >= LEVEL):
        return Verdict(Kind.SAME, f"{found.metric} is {value_text(after, found.unit)} for both")
    if found.p is None:
        return Verdict(Kind.UNTESTED, f"{change}; there is no test whether that is noise")
    if found.p >= LEVEL:
        return Verdict(Kind.NOISE, f"{change}: noise ({p_text(found.p)})")
    worse = (after < before) == (found.better == "higher")
    kind, what = (Kind.LOSS, "a real loss") if worse else (Kind.GAIN, "a real gain")
    return Verdict(kind, f"{change}: {what} ({p_text(found.p)})")


def p_text(p: float) -> str:
    """``p = 0.35``, ``p = 0.035``, ``p < 0.001``."""
    if p < 0.001:
        return "p < 0.001"
    return f"p = {p:.2f}" if p >= 0.095 else f"p = {p:.3f}"


def value_text(value: float, unit: Unit) -> str:
    """A figure with its unit: ``84.0 %``, ``27.1 dB``, ``9.505``."""
    match unit:
        case Unit.PROPORTION | Unit.SHARE if math.isfinite(value):
            return percent(value, 1)
        case Unit.DECIBEL:
            return "∞ dB (no error)" if value == math.inf else f"{value:.1f} dB"
    return f"{value:.4g}"


def percent(share: float, digits: int) -> str:
    """``84.0 %``."""
    return f"{100 * share:.{digits}f} %"


def _many(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _verb(n: int, one: str, more: str) -> str:
    return one if n == 1 else more
