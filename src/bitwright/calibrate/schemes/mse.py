"""The format with the smallest squared error: exactly on the values of a constant, expected on a histogram."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bitwright.calibrate.expected import expected_squared_error
from bitwright.calibrate.ranges import affine, code_range, exponent_vitis, format_for_range, is_signed
from bitwright.calibrate.scheme import pieces, rows
from bitwright.calibrate.tensor_stats import TensorStats
from bitwright.number.format import Format, FormatRule

Reals = NDArray[np.float64]
Errors = Callable[[Reals, Reals, Reals], Reals]
"""(scale, lowest code, highest code), each [channels, candidates], to the squared errors; codes without zero point."""


def errors_of_values(table: NDArray[np.float32]) -> Errors:
    """The exact squared error on ``table [channels, n]``."""
    from bitwright.calibrate.kernels import squared_errors

    def errors(scale: Reals, lo: Reals, hi: Reals) -> Reals:
        out = np.empty(scale.shape, np.float64)
        squared_errors(table, np.ascontiguousarray(scale), np.ascontiguousarray(lo), np.ascontiguousarray(hi), out)
        return out

    return errors


def errors_of_bins(parts: list[TensorStats]) -> Errors:
    """The expected squared error on the histogram of each channel."""
    bins = [part.bins() for part in parts]

    def errors(scale: Reals, lo: Reals, hi: Reals) -> Reals:
        return np.stack([expected_squared_error(*b, scale[c], lo[c], hi[c]) for c, b in enumerate(bins)])

    return errors


def best_exponent(start: NDArray[np.int64], errors: Errors, codes: tuple[int, int], steps: int) -> NDArray[np.int64]:
    """The best of ``start, start - 1, … start - steps`` for each channel; the coarsest on ties (Vitis min-diffs)."""
    candidates = start[:, None] - np.arange(steps + 1)
    scale = np.exp2(candidates.astype(np.float64))
    lo, hi = (np.full(scale.shape, float(code)) for code in codes)
    best = np.argmin(errors(scale, lo, hi), 1)  # the first on ties
    return np.asarray(candidates[np.arange(len(start)), best], np.int64)


def best_range(
    lo: Reals, hi: Reals, error_of_range: Callable[[Reals, Reals], Reals], *, one_sided: bool
) -> tuple[Reals, Reals]:
    """Shrink ranges ``[channels]`` to where ``error_of_range(lo, hi)`` (``[channels, candidates]``) is smallest.

    Both ends shrink together over twelve octaves in quarter octaves, then finer and finer around the best; where the
    ends are independent (not ``one_sided``) each is refined alone after that.  The widest wins on ties.
    """
    channels = np.arange(len(lo))
    factor_lo, factor_hi = np.ones((len(lo), 1)), np.ones((len(lo), 1))
    smallest = error_of_range(lo[:, None], hi[:, None])

    def attempt(tries_lo: Reals, tries_hi: Reals) -> None:
        nonlocal factor_lo, factor_hi, smallest
        tries_lo, tries_hi, _ = np.broadcast_arrays(np.minimum(tries_lo, 1.0), np.minimum(tries_hi, 1.0), factor_lo)
        errors = error_of_range(lo[:, None] * tries_lo, hi[:, None] * tries_hi)
        at = np.argmin(errors, 1)
        better = (errors[channels, at] < smallest[:, 0])[:, None]
        factor_lo = np.where(better, tries_lo[channels, at][:, None], factor_lo)
        factor_hi = np.where(better, tries_hi[channels, at][:, None], factor_hi)
        smallest = np.where(better, errors[channels, at][:, None], smallest)

    coarse = np.exp2(-np.arange(1, 49) / 4)[None, :]
    attempt(coarse, coarse)
    for width in (1 / 4, 1 / 32):
        around = np.exp2(np.linspace(width, -width, 17))[None, :]
        attempt(factor_lo * around, factor_hi * around)
    if not one_sided:
        for width in (1.0, 1 / 4, 1 / 32):
            around = np.exp2(np.linspace(width, -width, 17))[None, :]
            attempt(factor_lo * around, factor_hi)
            attempt(factor_lo, factor_hi * around)
    return lo * factor_lo[:, 0], hi * factor_hi[:, 0]


@dataclass(frozen=True)
class Mse:
    """Smallest squared error.

    Power-of-two formats follow Vitis' min-diffs: the exponent by the overflow rule and the ``steps`` finer ones.
    Multiplier formats search over the clipping threshold.

    Attributes:
        steps: How many exponents finer than the overflow rule's are tried (4 in Vitis).
    """

    name: ClassVar[str] = "mse"
    summary: ClassVar[str] = "Smallest squared error of each tensor (Vitis' min-diffs for powers of two)."
    aliases: ClassVar[tuple[str, ...]] = ("min-diffs", "mindiffs", "diffs", "l2", "minmse")

    steps: int = 4

    def __post_init__(self) -> None:
        if not 0 <= self.steps <= 32:
            raise ValueError(f"steps must lie in 0..32, not {self.steps}")

    def choose(
        self,
        stats: TensorStats,
        rule: FormatRule,
        *,
        values: NDArray[Any] | None = None,
        axis: int | None = None,
    ) -> Format:
        """See :meth:`bitwright.calibrate.scheme.Scheme.choose`."""
        axis = axis if rule.per_channel else None
        if values is not None:
            table = rows(values, rule, axis)
            errors, lo, hi = errors_of_values(table), table.min(1), table.max(1)
        else:
            parts = [part for part, _ in pieces(stats, rule, None, axis)]
            errors = errors_of_bins(parts)
            lo, hi = np.array([part.lo for part in parts]), np.array([part.hi for part in parts])
        signed = is_signed(rule, lo)
        lo, hi = np.minimum(lo, 0.0).astype(np.float64), np.maximum(hi, 0.0).astype(np.float64)
        live = (hi > 0) | ((lo < 0) & (signed or not (rule.symmetric or rule.scaling == "power-of-two")))
        if rule.scaling == "power-of-two":
            return self._power_of_two(lo, hi, live, errors, rule, axis, signed)

        def error_of_range(lo: Reals, hi: Reals) -> Reals:
            scale, zero_point = affine(lo, hi, rule, signed=signed)
            codes = (np.asarray(code - zero_point, np.float64) for code in code_range(rule, signed))
            return errors(np.where(scale > 0, scale, 1.0), *codes)

        best_lo, best_hi = best_range(lo, hi, error_of_range, one_sided=rule.symmetric)
        if axis is None:
            best_lo, best_hi = best_lo[0], best_hi[0]
        return format_for_range(best_lo, best_hi, rule, axis=axis, signed=signed)

    def _power_of_two(
        self,
        lo: Reals,
        hi: Reals,
        live: NDArray[np.bool_],
        errors: Errors,
        rule: FormatRule,
        axis: int | None,
        signed: bool,
    ) -> Format:
        """Min-diffs for the living channels; dead ones as :func:`format_for_range` has them."""
        low, high = (lo if signed else np.zeros_like(lo)), hi
        high = np.where(live, high, 1.0)
        start = exponent_vitis(low, high, *code_range(rule, signed))
        exponent = best_exponent(start, errors, code_range(rule, signed), self.steps)
        if not live.all():
            exponent = np.where(live, exponent, exponent[live].max() if live.any() else 1 - rule.bits)
        exponent = np.clip(exponent, *rule.exponent_range)
        chosen = exponent if axis is not None else exponent[0]
        return Format.power_of_two(rule.bits, chosen, signed=signed, axis=axis, narrow=rule.narrow)
