"""The gate: does a report keep what it must?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bitwright.errors import NoData, printable
from bitwright.view.seen import FigureSeen, Page


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """A demand.

    Attributes:
        figure: Name of the figure: ``sqnr``, ``top1``, ``agreement``, …, ``drop`` (points of the metric lost) or
            ``integers`` (share of the multiply-accumulates).
        limit: The bound.
        least: Whether it must be at least that, or at most.
    """

    figure: str
    limit: float
    least: bool = True


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """One demand and what was found.

    Attributes:
        threshold: The demand.
        value: The figure; None if it is infinite.
        kept: Whether it is met.
    """

    threshold: Threshold
    value: float | None
    kept: bool

    @property
    def text(self) -> str:
        """For example ``sqnr is 24.1, less than 25``."""
        shown = "∞" if self.value is None else f"{self.value:.4g}"
        how = "at least" if self.threshold.least else "at most"
        if self.kept:
            return f"{self.threshold.figure} is {shown}, {how} {self.threshold.limit:.4g}"
        return f"{self.threshold.figure} is {shown}, {'less' if self.threshold.least else 'more'} than {self.threshold.limit:.4g}"

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            "figure": self.threshold.figure,
            "least" if self.threshold.least else "most": self.threshold.limit,
            "value": self.value,
            "kept": self.kept,
        }


def judge(page: Page, thresholds: Sequence[Threshold]) -> tuple[Judgement, ...]:
    """Compare a page with demands.

    Raises:
        NoData: if a figure was not measured.
    """
    return tuple(_judged(page, one) for one in thresholds)


def _judged(page: Page, threshold: Threshold) -> Judgement:
    if threshold.figure == "integers":
        value: float | None = page.side.integer_mac_share
    elif threshold.figure == "drop":
        value = _drop(page)
    else:
        value = _value(_figure(page, threshold.figure))
    if value is None:  # nothing at all is lost
        return Judgement(threshold=threshold, value=None, kept=threshold.least)
    kept = value >= threshold.limit if threshold.least else value <= threshold.limit
    return Judgement(threshold=threshold, value=value, kept=kept)


def _value(figure: FigureSeen) -> float | None:
    if figure.infinite:
        return None
    if figure.value is None:
        raise NoData(f"The report's {printable(figure.name, 40)} is no number, so nothing can be asked of it.")
    return figure.value


def _figure(page: Page, name: str) -> FigureSeen:
    for figure in page.figures:
        if figure.name == name:
            return figure
    known = ", ".join(printable(f.name, 40) for f in page.figures)
    has = f"It has {known}." if known else "It holds no figures."
    raise NoData(
        f"The report of '{printable(page.name)}' was written without a measured {printable(name, 40)}. {has} Write it again "
        f"with --data D{'' if name == 'sqnr' else f' --metric {printable(name, 40)}'}."
    )


def _drop(page: Page) -> float:
    """Points of a hundred that the metric lost."""
    for figure in page.figures:
        if figure.before is not None and figure.value is not None:
            change = figure.before - figure.value
            return 100 * (change if figure.better == "higher" else -change)
    raise NoData(
        f"The report of '{printable(page.name)}' has no metric of both networks. Write it again with --data D that has "
        "labels."
    )
