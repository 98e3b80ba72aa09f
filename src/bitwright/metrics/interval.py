"""How sure a figure is: intervals from the samples that it was measured on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bitwright.metrics.metric import Metric, Unit

__all__ = ["Interval", "bootstrap_values", "interval_of", "percentile_interval", "wilson"]

Z95 = 1.959963984540054  # the normal distribution's 97.5 % point
RESAMPLES = 1000
SEED = 20_260_101


@dataclass(frozen=True)
class Interval:
    """Where the figure of many more such samples would lie, with 95 % confidence."""

    low: float
    high: float
    method: Literal["wilson", "bootstrap"]

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {"low": self.low, "high": self.high, "method": self.method}


def wilson(successes: float, trials: int, z: float = Z95) -> tuple[float, float]:
    """The score interval of a proportion.

    The proportions p that ``|successes/trials - p| <= z sqrt(p (1 - p) / trials)`` does not exclude (E. B. Wilson,
    J. Am. Stat. Assoc. 22, 1927); it stays within [0, 1] and is right for shares near 0 and 1 too, unlike
    ``p ± z sqrt(...)``.

    Args:
        successes: 0 to ``trials``.
        trials: At least 1.
        z: Width in standard deviations.
    """
    p, spread = successes / trials, z * z / trials
    center = (p + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(p * (1 - p) / trials + spread / (4 * trials))
    # All or nothing has its own figure as one end; rounding must not move it inwards.
    low = 0.0 if successes == 0 else max(0.0, center - half)
    high = 1.0 if successes == trials else min(1.0, center + half)
    return low, high


def bootstrap_values(
    *metrics: Metric, samples: int, resamples: int = RESAMPLES, seed: int = SEED
) -> NDArray[np.float64] | None:
    """The figures of each metric on data sets drawn from the samples with replacement (B. Efron, Ann. Stat. 7, 1979).

    All metrics see the same draws, so that differences between them are paired.  The same seed gives the same draws.

    Returns:
        ``[draws, metrics]``; draws on which a figure is undefined (no sample of a class, say) are left out.  None if a
        metric cannot be weighted, or all draws are undefined.
    """
    rng = np.random.default_rng(seed)
    even = np.full(samples, 1 / samples)
    rows: list[list[float]] = []
    for _ in range(resamples):
        weights = rng.multinomial(samples, even).astype(np.float64)
        row = [metric.weighted(weights) for metric in metrics]
        if all(value is not None and not math.isnan(value) for value in row):
            rows.append([value for value in row if value is not None])
    return np.array(rows) if rows else None


def percentile_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """The 2.5 % and 97.5 % points, as drawn values (no interpolation, so that infinities are fine)."""
    low, high = np.quantile(values, [0.025, 0.975], method="nearest")
    return float(low), float(high)


def interval_of(metric: Metric, samples: int, drawn: NDArray[np.float64] | None) -> Interval | None:
    """The interval of a metric's figure: Wilson's for a proportion, else the bootstrap's percentiles.

    Args:
        metric: The metric, fed.
        samples: How many samples it was fed with.
        drawn: Its column of ``bootstrap_values``; not used for a proportion.
    """
    if metric.unit is Unit.PROPORTION:
        return Interval(*wilson(round(metric.result() * samples), samples), "wilson")
    if drawn is None or samples < 2:
        return None
    return Interval(*percentile_interval(drawn), "bootstrap")
