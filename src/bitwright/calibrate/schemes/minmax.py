"""The whole range, nothing clipped beyond what the target's own rule clips."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from numpy.typing import NDArray

from bitwright.calibrate.ranges import format_for_range
from bitwright.calibrate.scheme import rows
from bitwright.calibrate.tensor_stats import TensorStats
from bitwright.number.format import Format, FormatRule


@dataclass(frozen=True)
class MinMax:
    """The range from smallest to largest value.

    Power-of-two exponents follow ``rule.exponent_rule`` exactly (MathWorks, Vitis overflow, NNoM max-min).
    """

    name: ClassVar[str] = "minmax"
    summary: ClassVar[str] = "Whole range, nothing clipped; exponents by the target's own rule."
    aliases: ClassVar[tuple[str, ...]] = ("max_min", "range", "overflow", "nonoverflow", "absmax")

    def choose(
        self,
        stats: TensorStats,
        rule: FormatRule,
        *,
        values: NDArray[Any] | None = None,
        axis: int | None = None,
    ) -> Format:
        """See :meth:`bitwright.calibrate.scheme.Scheme.choose`."""
        if not rule.per_channel or axis is None:
            if values is not None:
                stats = TensorStats.of(values)
            return format_for_range(stats.lo, stats.hi, rule)
        if values is not None:
            table = rows(values, rule, axis)
            return format_for_range(table.min(1), table.max(1), rule, axis=axis)
        if stats.channel_lo is None or stats.channel_hi is None:
            raise ValueError("a format per channel needs the values or ranges per channel")
        return format_for_range(stats.channel_lo, stats.channel_hi, rule, axis=axis)
