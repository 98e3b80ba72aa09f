from __future__ import annotations

import math
from dataclasses import replace

import pytest

from bitwright.metrics.health import Health
from bitwright.metrics.metric import Unit
from bitwright.metrics.paired import mcnemar
from bitwright.metrics.verdict import Finding, Kind, Verdict, p_text, value_text, verdict

TOP1 = Finding("top1", Unit.PROPORTION, "higher", 0.84, 0.84, 400, noun="image", p=1.0, lost=0, gained=0, chance=0.001)


def counted(lost: int, gained: int, samples: int, before: float = 0.8) -> Verdict:
    after = before + (gained - lost) / samples
    return verdict(
        replace(TOP1, float_value=before, quantized_value=after, samples=samples, lost=lost, gained=gained,
                p=mcnemar(lost, gained))
    )  # fmt: skip


@pytest.mark.parametrize(
    ("lost", "gained", "samples", "kind", "text"),
    [
        (1, 0, 20, Kind.NOISE, "1 of 20 images differs: noise (p = 1.00)"),
        (0, 3, 20, Kind.NOISE, "3 of 20 images differ: noise (p = 0.25)"),
        (5, 4, 400, Kind.NOISE, "5 of 400 images lost, 4 gained: noise (p = 1.00)"),
        (12, 3, 400, Kind.LOSS, "12 of 400 images lost, 3 gained: a real drop (p = 0.035)"),
        (2, 30, 400, Kind.GAIN, "2 of 400 images lost, 30 gained: a real gain (p < 0.001)"),
        (0, 0, 400, Kind.SAME, "none of 400 images differs"),
        (1, 0, 1, Kind.NOISE, "1 of 1 image differs: noise (p = 1.00)"),
    ],
)
def test_samples_lost_and_gained(lost: int, gained: int, samples: int, kind: Kind, text: str) -> None:
    assert counted(lost, gained, samples) == Verdict(kind, text)


def test_a_collapse_says_what_is_needed() -> None:
    found = counted(336, 0, 400, before=0.84)
    assert found.kind is Kind.COLLAPSE
    assert found.text == ("accuracy collapsed: 84.0 % → 0.0 %; this network needs per-channel weights or equalization")


def test_a_collapse_says_what_it_looks_like() -> None:
    found = replace(
        TOP1, quantized_value=0.002, lost=336, gained=1, p=0.0, sqnr_db=-3.2, remedy="equalization",
        before=Health(5, 0.01, 0.0, 0.0, 1000), after=Health(412, 0.97, 0.4, 0.3, 1000),
    )  # fmt: skip
    assert verdict(found).text == (
        "accuracy collapsed: 84.0 % → 0.2 % (97 % of the decisions are for class 412; 40 % have several equal highest "
        "scores; 30 % end at the highest value of the output's format; the error is larger than the signal (SQNR -3.2 dB)); "
        "this network needs equalization"
    )


def test_one_class_for_all_is_a_collapse_whatever_the_figure() -> None:
    """On a test set where one class is common, accuracy alone would not tell."""
    stuck, varied = Health(1, 0.95, 0, 0, 2), Health(1, 0.6, 0, 0, 2)
    base = replace(TOP1, float_value=0.7, quantized_value=0.66, p=0.3, lost=20, gained=4)
    assert verdict(replace(base, before=varied, after=stuck)).kind is Kind.COLLAPSE
    assert verdict(replace(base, before=stuck, after=stuck)).kind is Kind.NOISE
    assert verdict(replace(base, before=varied, after=varied)).kind is Kind.NOISE


@pytest.mark.parametrize(
    ("change", "collapses"),
    [
        ({"quantized_value": 0.43}, False),  # more than half is left
        ({"quantized_value": 0.41}, True),
        ({"quantized_value": 0.41, "p": 0.2}, False),  # two samples: could be chance
        ({"float_value": 0.6, "quantized_value": 0.52, "chance": 0.5}, True),  # two classes: 0.52 is nearly nothing
        ({"float_value": 0.6, "quantized_value": 0.52, "chance": None}, False),
    ],
)
def test_half_of_what_was_better_than_chance(change: dict[str, float], collapses: bool) -> None:
    found = replace(TOP1, **{"p": 1e-6, "lost": 170, "gained": 0, **change})
    assert (verdict(found).kind is Kind.COLLAPSE) == collapses


@pytest.mark.parametrize(
    ("after", "p", "kind", "text"),
    [
        (9.505, 0.001, Kind.SAME, None),
        (9.61, 0.4, Kind.NOISE, "mse 9.505 → 9.61: noise (p = 0.40)"),
        (9.9, 0.001, Kind.LOSS, "mse 9.505 → 9.9: a real loss (p = 0.001)"),
        (9.1, 0.001, Kind.GAIN, "mse 9.505 → 9.1: a real gain (p = 0.001)"),
        (30.0, 0.0001, Kind.COLLAPSE, None),
        (30.0, None, Kind.COLLAPSE, None),
        (9.9, None, Kind.UNTESTED, "mse 9.505 → 9.9; there is no test whether that is noise"),
    ],
)
def test_errors_where_less_is_better(after: float, p: float | None, kind: Kind, text: str | None) -> None:
    if kind is Kind.SAME:
        p = 1.0
    found = verdict(Finding("mse", Unit.VALUE, "lower", 9.505, after, 96, p=p))
    assert found.kind is kind
    assert text is None or found.text == text


def test_without_labels_nobody_knows_whether_for_the_worse() -> None:
    found = Finding("agreement", Unit.PROPORTION, "higher", 1.0, 0.97, 400, noun="image", compares=True)
    assert verdict(found) == Verdict(
        Kind.UNTESTED,
        "12 of 400 images are decided differently than by the float network; only labels can tell whether for the worse",
    )
    assert verdict(replace(found, quantized_value=0.2)).kind is Kind.COLLAPSE
    sqnr = Finding("sqnr", Unit.DECIBEL, "higher", math.inf, 27.13, 400, compares=True)
    assert verdict(sqnr).text.startswith("27.1 dB signal to noise")


@pytest.mark.parametrize(
    ("p", "text"),
    [(1.0, "p = 1.00"), (0.0352, "p = 0.035"), (0.0499, "p = 0.050"), (0.00099, "p < 0.001"), (0.0951, "p = 0.10")],
)
def test_p_values(p: float, text: str) -> None:
    assert p_text(p) == text


def test_figures_with_their_units() -> None:
    assert value_text(0.8401, Unit.PROPORTION) == "84.0 %"
    assert value_text(27.13, Unit.DECIBEL) == "27.1 dB"
    assert value_text(math.inf, Unit.DECIBEL) == "∞ dB (no error)"
    assert value_text(9.50459, Unit.VALUE) == "9.505"
