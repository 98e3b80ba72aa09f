"""A share of the values, the largest, is clipped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bitwright.calibrate.scheme import choose_by_range, clipped
from bitwright.calibrate.tensor_stats import TensorStats
from bitwright.number.format import Format, FormatRule


def percentile_range(
    stats: TensorStats, values: NDArray[np.float32] | None, p: float, *, symmetric: bool
) -> tuple[float, float]:
    """The range that keeps ``p`` percent of the values: of ``|x|`` if symmetric, else ``100 - p`` cut at either end.

    Zeros count as values.  With ``values`` exact (linear interpolation between ranks), else off by at most 3.1 %.
    """
    if not stats.finite:
        return 0.0, 0.0
    if symmetric:
        cut = float(np.percentile(np.abs(values), p)) if values is not None else stats.magnitude_percentile(p)
        # More than p percent zeros: a threshold of zero would lose the tensor.
        return clipped(stats, cut if cut > 0 else stats.absmax)
    if values is not None:
        lo, hi = (float(x) for x in np.percentile(values, [100 - p, p]))
    else:
        lo, hi = stats.percentile(100 - p), stats.percentile(p)
    return (stats.lo, stats.hi) if min(lo, 0.0) == max(hi, 0.0) else (lo, hi)


@dataclass(frozen=True)
class Percentile:
    """Clip all but ``p`` percent of the values.

    Attributes:
        p: Percentage of values kept, above 50 and up to 100.
    """

    name: ClassVar[str] = "percentile"
    summary: ClassVar[str] = "Clips a fixed share of the largest values."
    aliases: ClassVar[tuple[str, ...]] = ("quantile",)

    p: float = 99.99

    def __post_init__(self) -> None:
        if not 50 < self.p <= 100:
            raise ValueError(f"p must lie above 50 and up to 100, not {self.p}")

    def choose(
        self,
        stats: TensorStats,
        rule: FormatRule,
        *,
        values: NDArray[Any] | None = None,
        axis: int | None = None,
    ) -> Format:
        """See :meth:`bitwright.calibrate.scheme.Scheme.choose`."""
        symmetric = rule.symmetric or rule.scaling == "power-of-two"

        def range_of(part: TensorStats, row: NDArray[np.float32] | None, _: bool) -> tuple[float, float]:
            return percentile_range(part, row, self.p, symmetric=symmetric)

        return choose_by_range(stats, rule, values, axis, range_of)
