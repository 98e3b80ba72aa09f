"""The arithmetic of equalization: factors for channels that make the noise of shared steps small at the output.

Nagel et al. 2019 (Data-Free Quantization, arXiv:1906.04721, section 4.1) equalize the ranges of two neighboring layers
at a time, ``s = sqrt(r1 r2) / r2``, until nothing moves.  That treats every channel alike, knows nothing of
activations, and stops at clips.  Here all factors are found together, by descending the noise itself: with ``f`` the
factor of each channel, a layer with one weight step adds, in units of the original network,

    max|W f_out / f_in|^2 · sum_o(I_o / f_o^2) · sum_i(f_i^2 E[x_i^2])

to the output and a tensor with one step ``max(f m)^2 · sum_c(I_c / f_c^2)``, where ``I`` is how much noise in a channel
matters (:func:`importance_before`), ``m`` the largest magnitude and ``E[x^2]`` the energy of a channel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.float64]
Labels = NDArray[np.int64]

POWER = 12
"""The maximum is softened to a norm of this order, so that it has a slope."""

FEW = 6
"""Bits of weights up to which the best step does not reach the largest weight."""
FEW_POWER = 4
FEW_REACH = 2.1
"""With 4 bits the best step ends where the fourth root of the mean fourth power, times this, does: 2.0 for normal weights
(2.6 deviations), 2.3 for Laplace's (Banner et al. 2019, arXiv:1810.05723, table 1)."""


@dataclass(frozen=True, eq=False)
class LinearNoise:
    """A linear layer.

    Attributes:
        inputs: Class of each input channel, ``[in]``.
        outputs: Class of each output channel, ``[out]``.
        groups: Channel groups.
        largest: Largest magnitude over the taps, ``[out, in / groups]``, or their norm of order ``power``.
        taps: Taps of the kernel.
        energy: ``E[x^2]`` of each input channel, ``[in]``.
        importance: Of each output channel, ``[out]``.
        step: Noise power of a step for magnitudes up to 1: ``4^-bits``.
        per_channel: Whether each output channel has its own step.
        bias: ``|b|`` where the bias has one step of its own, ``[out]``, or None.
        bias_step: As ``step``.
        power: Order of the norm that says how wide a step is.
        reach: Where the step ends, in such norms.
    """

    inputs: Labels
    outputs: Labels
    groups: int
    largest: Reals
    taps: int
    energy: Reals
    importance: Reals
    step: float
    per_channel: bool = False
    bias: Reals | None = None
    bias_step: float = 0.0
    power: int = POWER
    reach: float = 1.0

    def range(self, u: Reals) -> float:
        """The magnitude where the step of the weights should end, under logarithms ``u`` ``[classes]``."""
        out, inner = (
            np.exp(u[self.outputs]).reshape(self.groups, -1, 1),
            np.exp(u[self.inputs]).reshape(self.groups, 1, -1),
        )
        scaled = self.largest.reshape(self.groups, -1, inner.shape[2]) * out / inner
        if self.power == POWER:
            return float(scaled.max(initial=0.0))
        return self.reach * float((scaled**self.power).sum() ** (1 / self.power))


@dataclass(frozen=True, eq=False)
class TensorNoise:
    """An activation that is stored with one step.

    Attributes:
        labels: Class of each channel, ``[channels]``.
        absmax: Largest magnitude, ``[channels]``.
        importance: ``[channels]``.
        step: As for weights.
    """

    labels: Labels
    absmax: Reals
    importance: Reals
    step: float


@dataclass(frozen=True, eq=False)
class ClipCost:
    """What it costs to move a channel relative to the clip at its end.

    Attributes:
        labels: ``[channels]``.
        grid: Logarithms of factors, ascending and evenly spaced, ``[points]``.
        cost: Squared change of the clipped value times its importance, ``[channels, points]``.
    """

    labels: Labels
    grid: Reals
    cost: Reals


Term = LinearNoise | TensorNoise | ClipCost


def step_norm(bits: int, count: int) -> tuple[int, float]:
    """Order of the norm of ``count`` weights that says where their step should end, and in how many of them it does."""
    return (FEW_POWER, FEW_REACH / count ** (1 / FEW_POWER)) if bits <= FEW else (POWER, 1.0)


def norm_over_taps(weights: Reals, power: int) -> Reals:
    """Largest magnitude over the taps, ``[out, in / groups]``, or their norm where ``power`` is not that of a maximum."""
    magnitudes = np.abs(weights).astype(np.float64).reshape(*weights.shape[:2], -1)
    if power == POWER:
        return np.asarray(magnitudes.max(axis=2))
    return np.asarray((magnitudes**power).sum(axis=2) ** (1 / power))


def clip_change(values: NDArray[np.floating], bound: float, grid: Reals) -> Reals:
    """Mean squared change of ``clip(x, 0, bound)`` if a channel is multiplied by ``exp(grid)`` and the clip stays.

    Args:
        values: ``[rows, channels]`` before the clip.
        bound: Its upper bound.
        grid: ``[points]``.

    Returns:
        ``[channels, points]`` in units of the unscaled channel.
    """
    x = np.maximum(np.asarray(values, np.float64), 0.0)
    clean = np.minimum(x, bound)
    return np.stack([np.mean((np.minimum(x, bound / np.exp(u)) - clean) ** 2, axis=0) for u in grid], axis=1)


def importance_before(importance: Reals, weights: Reals, groups: int) -> Reals:
    """How much noise in the input channels of a linear layer matters: ``I_i = sum_o I_o sum_taps w_oi^2``.

    Args:
        importance: Of the outputs, ``[out]``.
        weights: ``[out, in / groups, *kernel]``.
        groups: Channel groups.
    """
    squared = (weights**2).reshape(*weights.shape[:2], -1).sum(axis=2)
    grouped = squared.reshape(groups, -1, squared.shape[1])
    return np.asarray(np.einsum("go,goi->gi", importance.reshape(groups, -1), grouped).reshape(-1))


def solve(
    terms: Sequence[Term],
    count: int,
    frozen: NDArray[np.bool_],
    *,
    steps: int = 300,
    rate: float = 0.08,
    limit: float = 20.0,
    progress: Callable[[int, float], None] | None = None,
) -> tuple[Reals, float, float]:
    """Factors with little noise, by Adam (Kingma and Ba 2015, arXiv:1412.6980) on their logarithms.

    Args:
        terms: Where noise comes from.
        count: Number of classes.
        frozen: Classes whose factor is 1, ``[count]``.
        steps: Iterations.
        rate: First step size of a logarithm; it falls to nothing along half a cosine.
        limit: Largest logarithm.
        progress: Called with (iteration, noise).

    Returns:
        Factors ``[count]``, the noise at the beginning, the noise at the end (both in arbitrary units).
    """
    u = np.zeros(count)
    first, second = np.zeros(count), np.zeros(count)
    ready = [_prepared(term) for term in terms]
    start, _ = noise(ready, u)
    best, best_u = start, u
    for i in range(1, steps + 1):
        value, slope = noise(ready, u)
        if value < best:
            best, best_u = value, u
        if progress is not None:
            progress(i, value)
        slope = np.where(frozen, 0.0, slope) / max(value, 1e-300)
        first = 0.9 * first + 0.1 * slope
        second = 0.99 * second + 0.01 * slope**2
        move = (first / (1 - 0.9**i)) / (np.sqrt(second / (1 - 0.99**i)) + 1e-12)
        now = rate * 0.5 * (1 + np.cos(np.pi * i / steps))
        u = np.clip(u - now * np.where(frozen, 0.0, move), -limit, limit)
    return np.exp(best_u), start, best


@dataclass(frozen=True, eq=False)
class _Linear:
    """A :class:`LinearNoise` with what does not change from step to step."""

    term: LinearNoise
    scale: float
    powers: Reals


def _prepared(term: Term | _Linear) -> Term | _Linear:
    if not isinstance(term, LinearNoise):
        return term
    scale = max(float(term.largest.max(initial=0.0)), 1e-300)
    return _Linear(term, scale, (term.largest / scale) ** term.power)


def noise(terms: Sequence[Term | _Linear], u: Reals) -> tuple[float, Reals]:
    """The noise at the output for logarithms ``u`` ``[count]``, and its slope."""
    total, slope = 0.0, np.zeros_like(u)
    for one in terms:
        term = _prepared(one)
        match term:
            case _Linear():
                total += _linear(term, u, slope)
            case TensorNoise():
                total += _tensor(term, u, slope)
            case ClipCost():
                total += _clip(term, u, slope)
    return total, slope


def _soft_max(log_values: Reals) -> tuple[float, Reals]:
    """Logarithm of the softened maximum of ``exp(log_values)``, and its slope."""
    top = float(log_values.max())
    weights = np.exp(POWER * (log_values - top))
    total = float(weights.sum())
    return top + np.log(total) / POWER, weights / total


def _tensor(term: TensorNoise, u: Reals, slope: Reals) -> float:
    live = term.absmax > 0
    if not live.any():
        return 0.0
    labels = term.labels[live]
    own = u[labels]
    height, share = _soft_max(own + np.log(term.absmax[live]))
    weights = term.importance[live] * np.exp(-2 * own)
    total = float(weights.sum())
    value = term.step * np.exp(2 * height) * total
    if total > 0:
        np.add.at(slope, labels, value * 2 * (share - weights / total))
    return float(value)


def _clip(term: ClipCost, u: Reals, slope: Reals) -> float:
    spacing = term.grid[1] - term.grid[0]
    place = np.clip((u[term.labels] - term.grid[0]) / spacing, 0, len(term.grid) - 1.001)
    at = place.astype(np.int64)
    row = np.arange(len(at))
    low, high = term.cost[row, at], term.cost[row, at + 1]
    np.add.at(slope, term.labels, (high - low) / spacing)
    return float((low + (high - low) * (place - at)).sum())


def _linear(prepared: _Linear, u: Reals, slope: Reals) -> float:
    term, scale = prepared.term, prepared.scale
    groups, power = term.groups, term.power
    out, inner = u[term.outputs].reshape(groups, -1), u[term.inputs].reshape(groups, -1)
    powers = prepared.powers.reshape(groups, out.shape[1], inner.shape[1])
    # Centered, so that high powers stay within floats.
    middle_out, middle_in = out.mean(), inner.mean()
    row_out = np.exp(power * np.clip(out - middle_out, -40, 40))
    row_in = np.exp(-power * np.clip(inner - middle_in, -40, 40))
    each = row_out * np.einsum("goi,gi->go", powers, row_in)  # sum over inputs of |w'|^p, per output
    passed = term.importance.reshape(groups, -1) * np.exp(-2 * out)
    energy = np.exp(2 * inner) * term.energy.reshape(groups, -1)
    fed = energy.sum(axis=1)
    value = 0.0
    if term.per_channel:
        size = term.step * (term.reach * scale) ** 2 * np.exp(2 * (middle_out - middle_in)) * each ** (2 / power)
        parts = size * passed * fed[:, None]
        value += float(parts.sum())
        heights = np.where(each > 0, 2 * parts / np.maximum(each, 1e-300), 0.0)
        # The factor of an output goes into its own step and out again: no slope.
        through = np.einsum("go,goi->gi", heights * row_out, powers) * row_in
        np.add.at(slope, term.inputs, (-through + 2 * energy * (size * passed).sum(axis=1)[:, None]).reshape(-1))
    else:
        sum_of_powers = float(each.sum())
        if sum_of_powers <= 0:
            return 0.0
        size = term.step * (term.reach * scale * np.exp(middle_out - middle_in)) ** 2 * sum_of_powers ** (2 / power)
        parts = passed * fed[:, None] * size
        value += float(parts.sum())
        np.add.at(slope, term.outputs, (2 * value * each / sum_of_powers - 2 * parts).reshape(-1))
        through = np.einsum("go,goi->gi", row_out, powers) * row_in
        reach = size * passed.sum(axis=1)
        np.add.at(slope, term.inputs, (-2 * value * through / sum_of_powers + 2 * energy * reach[:, None]).reshape(-1))
    if term.bias is not None and term.bias.any():
        own = TensorNoise(term.outputs, term.bias, term.importance, term.bias_step)
        value += _tensor(own, u, slope)
    return value
