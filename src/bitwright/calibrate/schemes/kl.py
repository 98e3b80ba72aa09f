"""Clip where the quantized distribution is closest to the real one, by Kullback-Leibler divergence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from bitwright.calibrate.linear import below, linear_counts, linear_magnitudes
from bitwright.calibrate.ranges import ceil_log2, code_range, is_signed, min_max_exponent
from bitwright.calibrate.scheme import choose_by_range, clipped, pieces
from bitwright.calibrate.schemes.minmax import MinMax
from bitwright.calibrate.tensor_stats import TensorStats
from bitwright.number.format import Format, FormatRule

Reals = NDArray[np.float64]
LINEAR_BINS = 2048


def _prefix(x: NDArray[Any]) -> Reals:
    return np.concatenate([[0.0], np.cumsum(x, dtype=np.float64)])


def _log(x: Reals) -> Reals:
    """Natural logarithm, 0 where ``x`` is 0: such a term is always multiplied by 0."""
    return np.asarray(np.log(np.where(x > 0, x, 1.0)), np.float64)


def divergences_tensorrt(hist: NDArray[Any], levels: int = 128, smooth: float = 1e-4) -> Reals:
    """The divergence for thresholds of ``t = levels … bins - 1`` bins, as TensorRT and the caffe tool judge them.

    P is the histogram up to ``t`` with everything above added to its last bin.  Q merges it (without what is above)
    into ``levels`` groups of ``t // levels`` bins, the last one longer, and spreads each group evenly over those of its
    bins that P fills.  Zeros of both become ``smooth``, both are normalized.  (8-bit Inference with TensorRT, GTC 2017.)

    Q is constant within a group, so every sum follows from prefix sums over groups: a threshold costs ``levels``
    logarithms instead of ``t``.
    """
    hist = np.asarray(hist, np.float64)
    t = np.arange(levels, len(hist))
    total = hist.sum()
    sums, filled, entropy = _prefix(hist), _prefix(hist > 0), _prefix(hist * _log(hist))
    tail, last = total - sums[t], hist[t - 1]
    starts = np.arange(levels)[None, :] * (t // levels)[:, None]
    stops = np.concatenate([starts[:, 1:], t[:, None]], 1)
    group = sums[stops] - sums[starts]
    members = filled[stops] - filled[starts]
    only_tail = (last == 0) & (tail > 0)
    members[:, -1] += only_tail
    empty = t - (filled[t] + only_tail)
    share = group / np.maximum(members, 1)
    orphan = only_tail & (group[:, -1] == 0)  # a last bin that only the tail fills, in a group that is else empty
    share[:, -1] = np.where(orphan, smooth, share[:, -1])
    real = group.copy()
    real[:, -1] += tail
    p_log_p = entropy[t] - last * _log(last) + (last + tail) * _log(last + tail)
    p_log_q = (real * _log(share)).sum(1)
    p_total = total + empty * smooth
    q_total = group.sum(1) + (empty + orphan) * smooth
    # Bins that both leave empty hold the same smooth value: their p·log p and p·log q cancel.
    return np.asarray((p_log_p - p_log_q) / p_total - np.log(p_total) + np.log(q_total), np.float64)


def divergences_ncnn(hist: NDArray[Any], levels: int = 128, smooth: float = 1e-4) -> Reals:
    """The divergence for thresholds of ``t = levels … bins - 1`` bins, as ncnn judges them.

    The histogram is normalized once.  Groups are ``t / levels`` bins wide, bins on a border are shared between two in
    proportion; ``smooth`` is added to every bin of P and Q and neither is normalized again.  (ncnn ncnn2table.cpp.)
    """
    hist = np.asarray(hist, np.float64) / np.sum(hist)
    t = np.arange(levels, len(hist))
    sums, smoothed = _prefix(hist), _prefix(hist + smooth)
    entropy = _prefix((hist + smooth) * np.log(hist + smooth))
    borders = np.arange(levels + 1)[None, :] * t[:, None] / levels
    low, high = np.floor(borders).astype(np.int64), np.ceil(borders).astype(np.int64)
    fraction = borders - low
    cumulative = sums[low] + fraction * hist[np.minimum(low, len(hist) - 1)]
    q = np.diff(cumulative, axis=1) / (t / levels)[:, None]
    p_log_q = (np.log(q + smooth) * (smoothed[low[:, 1:]] - smoothed[high[:, :-1]])).sum(1)
    cut, inner = low[:, 1:-1], fraction[:, 1:-1]
    mixed = np.log(inner * q[:, :-1] + (1 - inner) * q[:, 1:] + smooth) * (hist[cut] + smooth)
    p_log_q += np.where(inner > 0, mixed, 0.0).sum(1)
    tail, last = 1.0 - sums[t], hist[t - 1] + smooth
    p_log_q += tail * np.log(q[:, -1] + smooth)  # the last bin lies wholly in the last group
    p_log_p = entropy[t] - last * np.log(last) + (last + tail) * np.log(last + tail)
    return np.asarray(p_log_p - p_log_q, np.float64)


def kl_threshold(stats: TensorStats, variant: Literal["tensorrt", "ncnn"], levels: int) -> float:
    """The clipping threshold: ``(t + 0.5) · absmax / bins`` for the first ``t`` with the smallest divergence.

    Reads 2048 linear bins of ``|x|`` made from the fixed ones (16 times the levels where there are more than 128).
    Zeros are left out: every threshold keeps them exactly, they tell nothing.  Formats of more than 256 levels resolve
    more than any such histogram, so they keep the whole range.
    """
    if levels > 256:
        return stats.absmax
    bins = max(LINEAR_BINS, 16 * levels)
    hist = linear_magnitudes(stats, bins)
    if not hist.any():
        return stats.absmax
    divergences = (divergences_tensorrt if variant == "tensorrt" else divergences_ncnn)(hist, levels)
    return (levels + int(np.argmin(divergences)) + 0.5) * stats.absmax / bins


def divergences_nnom(stats: TensorStats, exponents: NDArray[np.int64], codes: tuple[int, int]) -> Reals:
    """The divergence of each exponent, as NNoM's ``find_dec_bits_kld`` judges them.

    The values in 2047 bins of ``absmax/1024`` from ``-absmax``; the quantized values in 255 bins eight times as wide,
    each spread over those of its eight fine bins that are not empty; zeros of both become 1e-5; both are normalized.
    """
    left, right, count = stats.bins()
    reach, fine = stats.absmax, stats.absmax / 1024
    edges = np.asarray(-reach + fine * np.arange(2048), np.float64)
    hist = linear_counts(left, right, count, edges)
    result = np.empty(len(exponents))
    for i, exponent in enumerate(exponents):
        step = 2.0 ** int(exponent)
        level = np.arange(codes[0], codes[1] + 1)
        inner = below(left, right, count, (level[:-1] + 0.5) * step)
        mass = np.diff(inner, prepend=0.0, append=float(count.sum()))
        coarse = np.floor((level * step + reach) / (8 * fine)).astype(np.int64)
        # NumPy's last bin is closed; a value on the very end of the range counts in it there and here.
        coarse = np.where(level * step == -reach + 255 * 8 * fine, 254, coarse)
        kept = (coarse >= 0) & (coarse < 255)
        result[i] = _entropy(hist, np.bincount(coarse[kept], mass[kept], 255).astype(np.float64))
    return result


def _entropy(hist: NDArray[np.int64], coarse: Reals, smooth: float = 1e-5) -> float:
    filled = (hist[: 8 * 255] > 0).reshape(255, 8)
    spread = filled * (coarse / np.maximum(filled.sum(1), 1))[:, None]
    q = np.zeros(len(hist))
    q[: 8 * 255] = spread.ravel()
    p = np.where(hist == 0, smooth, hist.astype(np.float64))
    q = np.where(q == 0, smooth, q)
    p, q = p / p.sum(), q / q.sum()
    return float((p * np.log(p / q)).sum())


@dataclass(frozen=True)
class Kl:
    """Smallest divergence between the real and the quantized distribution of an activation.

    Constants keep their whole range, as in the tools that the variants come from, unless ``constants`` is set.

    Attributes:
        variant: ``tensorrt`` (whole groups), ``ncnn`` (fractional groups), ``nnom`` (the min-max exponent and the three
            finer ones); ``auto`` takes nnom for power-of-two formats and tensorrt for others.
        constants: Also clip weights and other constants.
    """

    name: ClassVar[str] = "kl"
    summary: ClassVar[str] = "Clips activations where the distribution changes least (TensorRT, ncnn, NNoM)."
    aliases: ClassVar[tuple[str, ...]] = ("kld", "entropy", "kullback-leibler")

    variant: Literal["auto", "tensorrt", "ncnn", "nnom"] = "auto"
    constants: bool = False

    def choose(
        self,
        stats: TensorStats,
        rule: FormatRule,
        *,
        values: NDArray[Any] | None = None,
        axis: int | None = None,
    ) -> Format:
        """See :meth:`bitwright.calibrate.scheme.Scheme.choose`.

        Raises:
            ValueError: also for the nnom variant on a multiplier format.
        """
        power_of_two = rule.scaling == "power-of-two"
        if self.variant == "nnom" and not power_of_two:
            raise ValueError("the nnom variant chooses between powers of two; this target's steps are multipliers")
        if values is not None and not self.constants:
            return MinMax().choose(stats, rule, values=values, axis=axis)
        if power_of_two and self.variant in {"auto", "nnom"}:
            return self._power_of_two(stats, rule, values, axis)
        variant: Literal["tensorrt", "ncnn"] = "ncnn" if self.variant == "ncnn" else "tensorrt"

        def range_of(part: TensorStats, row: NDArray[np.float32] | None, signed: bool) -> tuple[float, float]:
            part = part if row is None else TensorStats.of(row)
            if not part.absmax:
                return 0.0, 0.0
            return clipped(part, kl_threshold(part, variant, 1 << (rule.bits - signed)))

        return choose_by_range(stats, rule, values, axis, range_of)

    def _power_of_two(
        self, stats: TensorStats, rule: FormatRule, values: NDArray[Any] | None, axis: int | None
    ) -> Format:
        """The best of four exponents, from the coarsest: by NNoM's plain rule ``ceil(log2 max|x|)``, else the target's."""
        axis = axis if rule.per_channel else None
        parts = [part if row is None else TensorStats.of(row) for part, row in pieces(stats, rule, values, axis)]
        signed = is_signed(rule, [part.lo for part in parts])
        chosen: list[int | None] = []
        for part in parts:
            lo, hi = np.array([min(part.lo, 0.0)]), np.array([max(part.hi, 0.0)])
            if not (part.absmax if signed else part.finite and part.hi > 0):
                chosen.append(None)
                continue
            if rule.exponent_rule == "nnom":
                start = ceil_log2(np.maximum(-lo if signed else hi, hi)) - (rule.bits - signed)
            else:
                start = min_max_exponent(lo, hi, rule, signed=signed)
            tries = start[0] - np.arange(4)
            chosen.append(int(tries[np.argmin(divergences_nnom(part, tries, code_range(rule, signed)))]))
        living = [e for e in chosen if e is not None]
        coarsest = max(living) if living else 1 - rule.bits
        exponent = np.clip([coarsest if e is None else e for e in chosen], *rule.exponent_range)
        picked = exponent if axis is not None else exponent[0]
        return Format.power_of_two(rule.bits, picked, signed=signed, axis=axis, narrow=rule.narrow)
