"""The result of validating a quantized network: for people and for programs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bitwright.errors import printable
from bitwright.metrics.interval import Interval
from bitwright.metrics.metric import Unit
from bitwright.metrics.verdict import Kind, Verdict, value_text
from bitwright.shown import Shown

__all__ = ["Pair", "Seconds", "Validation"]

Figure = float  # within a class that has a field of this name, the type needs another


@dataclass(frozen=True)
class Pair:
    """A number of bytes of the float and of the quantized network."""

    float: int
    quantized: int


@dataclass(frozen=True)
class Seconds:
    """Wall time spent in the float network, in the quantized network, and waiting for data."""

    float: Figure
    quantized: Figure
    data: Figure


@dataclass(frozen=True)
class Validation(Shown):
    """What was measured, on the same samples for both networks.

    Attributes:
        samples: How many.
        metric: Name of the metric.
        unit: How its figures are printed.
        float: Figure of the float network; None where it has none (it does not differ from itself).
        quantized: Figure of the quantized network.
        agreement: Share of decisions that are the same.
        output_sqnr_db: Signal to noise of the outputs; infinite if they are equal.
        learnable_bytes: Weights and biases.
        integer_mac_share: Share of the multiply-accumulates done in integers, 0 to 1.
        engine: What computed the quantized outputs.
        values_checked: How many integers were compared with the reference simulator.
        mismatches: How many of them differed.
        seconds: Where time went.
        target: Name of the target.
        interval: 95 % interval of the figure of ``float`` and ``quantized``, as far as known.
        paired_p: Two-sided p of the test that both networks are equally good; None if none applies.
        lost: Samples right before and wrong now; None for metrics where samples are not right or wrong.
        gained: The other way round.
        verdict: What that means.
        notes: What else the user should know.
        partial: Whether it was interrupted, so that these are the first samples only.
        decides: Whether the output holds classes, so that agreement means something to people.
    """

    samples: int
    metric: str
    unit: Unit
    float: Figure | None
    quantized: Figure
    agreement: Figure
    output_sqnr_db: Figure
    learnable_bytes: Pair
    integer_mac_share: Figure
    engine: str
    values_checked: int
    mismatches: int
    seconds: Seconds
    target: str
    verdict: Verdict
    interval: Mapping[str, Interval] = field(default_factory=dict)
    paired_p: Figure | None = None
    lost: int | None = None
    gained: int | None = None
    notes: tuple[str, ...] = ()
    partial: bool = False
    decides: bool = True

    @property
    def collapsed(self) -> bool:
        """Whether the quantized network is of no use."""
        return self.verdict.kind is Kind.COLLAPSE

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``json.dumps``; figures that are not finite become None, for JSON has no such numbers."""
        return {
            "samples": self.samples,
            "metric": self.metric,
            "float": finite(self.float),
            "quantized": finite(self.quantized),
            "agreement": finite(self.agreement),
            "output_sqnr_db": finite(self.output_sqnr_db),
            "learnable_bytes": {"float": self.learnable_bytes.float, "quantized": self.learnable_bytes.quantized},
            "integer_mac_share": self.integer_mac_share,
            "bit_exact": {
                "engine": self.engine,
                "values_checked": self.values_checked,
                "mismatches": self.mismatches,
            },
            "seconds": {
                "float": self.seconds.float,
                "quantized": self.seconds.quantized,
                "data": self.seconds.data,
            },
            "target": self.target,
            "interval": {
                name: {"low": finite(i.low), "high": finite(i.high), "method": i.method}
                for name, i in self.interval.items()
            },
            "paired_p": self.paired_p,
            "lost": self.lost,
            "gained": self.gained,
            "verdict": {"kind": self.verdict.kind.value, "text": self.verdict.text},
            "notes": list(self.notes),
        }

    def lines(self) -> list[str]:
        """The same for people, one statement a line, plain text without markup."""
        result = [f"{printable(self.metric)} on {self.samples} samples, target {printable(self.target)}"]
        if self.float is not None:
            result.append(f"  float       {self._figure('float', self.float)}")
        result.append(f"  quantized   {self._figure('quantized', self.quantized)}")
        result.append(f"  → {self.verdict.text}")
        if self.decides and self.metric != "agreement":
            result.append(
                f"  agreement   {value_text(self.agreement, Unit.PROPORTION)} of decisions as the float network's"
            )
        if self.metric != "sqnr":
            result.append(f"  output SQNR {value_text(self.output_sqnr_db, Unit.DECIBEL)}")
        before, after = self.learnable_bytes.float, self.learnable_bytes.quantized
        saved = f" ({100 * (after - before) / before:+.1f} %)" if before else ""
        result.append(f"  learnables  {before:,} → {after:,} bytes{saved}")
        result.append(f"  integers    {100 * self.integer_mac_share:.1f} % of the multiply-accumulates")
        if self.mismatches:
            exact = (
                f"{self.mismatches:,} of {self.values_checked:,} values DIFFER from the reference: please report this"
            )
        else:
            exact = f"{self.values_checked:,} values compared with the reference, 0 differ"
        result.append(f"  bit-exact   {exact} (engine {printable(self.engine)})")
        t = self.seconds
        result.append(
            f"  time        float {t.float:.1f} s, quantized {t.quantized:.1f} s, waiting for data {t.data:.1f} s"
        )
        return result + [f"  note: {printable(note, 400)}" for note in self.notes]

    def _figure(self, name: str, value: Figure) -> str:
        text = value_text(value, self.unit)
        interval = self.interval.get(name)
        if interval is None:
            return text
        return f"{text}   (95 %: {value_text(interval.low, self.unit)} … {value_text(interval.high, self.unit)})"


def finite(value: float | None) -> float | None:
    """``value``, or None if it is not a finite number."""
    return value if value is not None and math.isfinite(value) else None
