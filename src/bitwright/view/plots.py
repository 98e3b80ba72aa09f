"""Plots with matplotlib, for papers: the same figures and colors as everywhere else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bitwright.errors import printable
from bitwright.view.axis import Axis, cells, lane, quality, shared_axis
from bitwright.view.pairs import pairs_seen
from bitwright.view.palette import light
from bitwright.view.report import page_of
from bitwright.view.seen import Page, TensorSeen
from bitwright.view.strip import state


@dataclass(frozen=True)
class Plots:
    """What can be plotted of a value.

    Attributes:
        value: A quantized network, a report, a calibration or an explanation.
    """

    value: Any

    def profile(self, *, ax: Any = None) -> Any:
        """Signal to noise in the order of execution; gives the ``Axes``.

        Raises:
            TypeError: if the value has no layers with a figure.
        """
        points, what = self._points()
        ax = _axes(ax)
        ax.plot([p[1] for p in points], color=light("accent"), linewidth=1.4)
        ax.set_xlabel("layers in order of execution")
        ax.set_ylabel("SQNR, dB")
        ax.set_title(what, fontsize="medium", wrap=True)
        ax.grid(axis="y", color=light("rule"))
        return ax

    def histogram(self, tensor: str, *, ax: Any = None) -> Any:
        """Values per power of two, with the format as a bracket; gives the ``Axes``.

        Raises:
            KeyError: if there is no such tensor.
            TypeError: if the value has no tensors.
        """
        seen = next((t for t in self._tensors() if t.name == tensor), None)
        if seen is None:
            raise KeyError(f"there is no tensor {printable(tensor)!r}")
        axis = shared_axis([seen])
        ax = _axes(ax)
        drawn = () if seen.bits is None else cells(seen.bits, axis)
        powers = [axis.top - c.column for c in drawn]
        foot = [0] * len(drawn)
        for token, name in (("in4", "inside"), ("under3", "under"), ("over3", "over")):
            counts = [getattr(c, name) for c in drawn]
            if any(counts):
                ax.bar(powers, counts, bottom=foot, width=0.9, color=light(token), label=NAMES[name])
            foot = [a + b for a, b in zip(foot, counts, strict=True)]
        held = lane(seen, axis)
        if held is not None and seen.type.text != "float":
            ax.axvspan(axis.top - held[1] - 0.5, axis.top - held[0] + 0.5, color=light("accent"), alpha=0.08)
        ax.invert_xaxis()
        ax.set_xlabel("most significant bit, power of two")
        _whole(ax.xaxis)
        ax.set_ylabel("values")
        ax.set_title(f"{printable(seen.name, 60)}   {seen.type.text}", fontsize="medium")
        if drawn:
            ax.legend(frameon=False)
        return ax

    def strips(self, count: int = 20, *, ax: Any = None) -> Any:
        """The strips of the tensors that lose most, on one axis; gives the ``Axes``."""
        from bitwright.view.faces import worst_tensors

        tensors = self._tensors()
        shown = worst_tensors(tensors, count)
        axis = shared_axis(tensors)
        ax = _axes(ax)
        for row, tensor in enumerate(shown):
            _strip(ax, row, tensor, axis)
        ax.set_yticks(range(len(shown)), [printable(t.name, 40) for t in shown])
        ax.set_ylim(len(shown) - 0.4, -0.6)
        ax.set_xlim(axis.top + 0.5, axis.bottom - 0.5)
        ax.set_xlabel("most significant bit, power of two")
        _whole(ax.xaxis)
        return ax

    def compare(self, other: Any, count: int = 20, *, ax: Any = None) -> Any:
        """By how much ``other`` stores each tensor better, the largest differences; gives the ``Axes``."""
        found = [row for row in pairs_seen(self._page(), page_of(other)).rows if row.gain_db is not None][:count]
        ax = _axes(ax)
        gains = [row.gain_db or 0.0 for row in found]
        ax.barh(range(len(found)), gains, color=[light("in4") if g >= 0 else light("over3") for g in gains])
        ax.set_yticks(range(len(found)), [printable(row.a.name, 40) for row in found])
        ax.invert_yaxis()
        ax.axvline(0, color=light("text"), linewidth=0.8)
        ax.set_xlabel("gain, dB")
        return ax

    def _page(self) -> Page:
        if type(self.value).__name__ not in {"Quantized", "Report", "Page"}:
            raise TypeError(f"a {type(self.value).__name__} cannot be plotted so")
        return page_of(self.value)

    def _tensors(self) -> Sequence[TensorSeen]:
        if type(self.value).__name__ == "Calibration":
            from bitwright.view.observed import observed_tensors

            return observed_tensors(self.value)
        return self._page().tensors

    def _points(self) -> tuple[list[tuple[str, float]], str]:
        if type(self.value).__name__ == "Explanation":
            rows = [(r.layer, r.cumulative_db) for r in self.value.layers if r.cumulative_db is not None]
            return rows, "all errors so far included"
        page = self._page()
        return [(p.layer, p.sqnr_db) for p in page.profile], page.profile_of


NAMES = {"inside": "inside the type", "under": "below the step", "over": "overflow"}


def _whole(axis: Any) -> None:
    """Ticks at whole numbers only: powers of two have no halves."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True))


def _axes(ax: Any) -> Any:
    if ax is not None:
        return ax
    from matplotlib import pyplot as plt

    return plt.subplots(layout="constrained")[1]


def _strip(ax: Any, row: int, tensor: TensorSeen, axis: Axis) -> None:
    from bitwright.view.axis import level

    held = lane(tensor, axis)
    ax.barh(row, axis.columns, left=axis.bottom - 0.5, color=light("none"), height=0.7)
    if held is not None:
        first, last = axis.top - held[0], axis.top - held[1]
        ax.barh(row, first - last + 1, left=last - 0.5, color=light("lane"), height=0.7)
    drawn = () if tensor.bits is None else cells(tensor.bits, axis)
    most = max((c.total for c in drawn), default=0)
    for cell in drawn:
        token = f"{state(cell)}{level(cell.total, most)}"
        ax.barh(row, 0.9, left=axis.top - cell.column - 0.45, color=light(token), height=0.7)
    if quality(tensor.sqnr_db):
        ax.text(axis.bottom - 0.7, row, f" {tensor.sqnr_db:.1f} dB", va="center", fontsize="small", clip_on=False)
