"""Whether each weight goes up or down, learned from what it does to the layer's outputs.

AdaRound (Nagel et al. 2020, arXiv:2004.10568): a weight is ``step · (floor(w / step) + h(v))`` with the rectified
sigmoid ``h``, equation 23; ``v`` descends the error behind the activation, equation 25, and a term that drives ``h`` to
0 or 1 takes over, equation 24.  One layer at a time, so the slopes are written out and nothing else is needed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.float64]

ZETA, GAMMA = 1.1, -0.1
"""How far the sigmoid is stretched before it is cut to 0..1."""
WARM = 0.2
"""Share of the steps without the term that drives to 0 or 1."""


def rectified(v: Reals) -> tuple[Reals, Reals]:
    """``h(v)`` in 0..1, and its slope."""
    s = 1.0 / (1.0 + np.exp(-v))
    h = s * (ZETA - GAMMA) + GAMMA
    inside = (h > 0) & (h < 1)
    return np.clip(h, 0.0, 1.0), np.where(inside, s * (1 - s) * (ZETA - GAMMA), 0.0)


def inverse_rectified(h: Reals) -> Reals:
    """The ``v`` that ``h(v)`` is ``h`` of, for ``h`` in 0..1."""
    s = (np.clip(h, 1e-3, 1 - 1e-3) - GAMMA) / (ZETA - GAMMA)
    return np.asarray(-np.log(1.0 / s - 1.0))


def decisiveness(h: Reals, beta: float) -> tuple[Reals, Reals]:
    """``1 - |2h - 1|^beta``, 0 where ``h`` has decided, and its slope."""
    off = 2 * h - 1
    size = np.abs(off)
    return 1 - size**beta, -2 * beta * np.sign(off) * size ** (beta - 1)


def learned(
    x: NDArray[np.float32],
    wanted: NDArray[np.float32],
    weights: Reals,
    step: Reals,
    limits: tuple[int, int],
    bounds: tuple[float, float],
    *,
    steps: int,
    batch: int,
    rate: float,
    drop: float,
    noise: float,
    rng: np.random.Generator,
    tell: Callable[[int], bool] = lambda i: False,
) -> NDArray[np.int64]:
    """Integers for ``weights``, each the one below or above.

    Args:
        x: Inputs with a leading 1, ``[groups, rows, 1 + k]``.
        wanted: Outputs before the activation, ``[groups, rows, out]``.
        weights: With the bias in front, ``[groups, out, 1 + k]``; the bias is not rounded.
        step: Of each output, ``[groups, out]``.
        limits: Lowest and highest integer.
        bounds: Of the activation.
        steps: Iterations.
        batch: Rows of each.
        rate: Step size of Adam.
        drop: Share of the inputs whose rounding error is replaced by another one of the same size: what is learned then
            holds around the inputs, not only at them (the idea of QDrop, Wei et al. 2022, arXiv:2203.05740).
        noise: Step of the inputs, for that.
        rng: Picks rows and errors.
        tell: Called with the iteration; true ends the learning.

    Returns:
        ``[groups, out, k]``.
    """
    lo, hi = limits
    size = step[:, :, None]
    inner = weights[:, :, 1:]
    below = np.floor(inner / size)
    v = inverse_rectified(inner / size - below)
    plain = np.concatenate([weights[:, :, :1], np.clip(np.floor(inner / size + 0.5), lo, hi) * size], axis=2)
    unit = max(float(np.mean(_errors(x, wanted, plain, bounds) ** 2)), 1e-30)
    first, second = np.zeros_like(v), np.zeros_like(v)
    for i in range(steps):
        rows = rng.integers(0, x.shape[1], min(batch, x.shape[1]))
        seen = x[:, rows]
        if drop > 0:
            other = rng.uniform(-0.5, 0.5, seen.shape).astype(np.float32) * np.float32(noise)
            other[:, :, 0] = 0
            seen = seen + np.where(rng.random(seen.shape) < drop, other, np.float32(0))
        h, slope = rectified(v)
        codes = below + h
        free = (codes > lo) & (codes < hi)
        now = np.concatenate([weights[:, :, :1], np.clip(codes, lo, hi) * size], axis=2)
        error = _errors(seen, wanted[:, rows], now, bounds)
        pull = 2 / (unit * error.size) * (error.swapaxes(1, 2) @ seen[:, :, 1:]) * size * free
        if i >= WARM * steps:
            share = (i - WARM * steps) / max((1 - WARM) * steps, 1)
            beta = 2 + 18 * 0.5 * (1 + np.cos(share * np.pi))
            pull = pull + decisiveness(h, beta)[1] / v.size
        pull = pull * slope
        first, second = 0.9 * first + 0.1 * pull, 0.999 * second + 0.001 * pull**2
        mean, spread = first / (1 - 0.9 ** (i + 1)), second / (1 - 0.999 ** (i + 1))
        v = v - rate * mean / (np.sqrt(spread) + 1e-12)
        if tell(i):
            break
    return np.asarray(np.clip(below + (v > 0), lo, hi), np.int64)


def _errors(x: NDArray[np.float32], wanted: NDArray[np.float32], weights: Reals, bounds: tuple[float, float]) -> Reals:
    """Errors behind the activation, ``[groups, rows, out]``: 0 where both the wanted and the made value are cut off."""
    made = x @ weights.swapaxes(1, 2).astype(np.float32)
    return np.asarray(np.clip(made, *bounds) - np.clip(wanted, *bounds), np.float64)
