"""Rounding weights one column at a time, each column making up for the errors of those before it.

Optimal Brain Quantization with a fixed order (Frantar and Alistarh 2022, arXiv:2208.11580; GPTQ, Frantar et al. 2023,
arXiv:2210.17323, algorithm 1), for any number of groups at once, with saturation, and with a bias among the columns:
a bias that is stored coarsely is rounded first, and the weights take its error over.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.float64]

BLOCK = 96


def damped(hessian: Reals, share: float) -> Reals:
    """``hessian`` ``[groups, k, k]`` with ``share`` of its mean diagonal added to the diagonal."""
    size = hessian.shape[-1]
    mean = np.trace(hessian, axis1=1, axis2=2) / size
    mean = np.where(mean > 0, mean, 1.0)
    return np.asarray(hessian + (share * mean)[:, None, None] * np.eye(size))


def refit(weights: Reals, hessian: Reals, product: Reals) -> Reals:
    """Weights that make ``E|w x - (w0 x + r)|^2`` small, kept near ``w0`` by the damping of ``hessian``.

    Args:
        weights: ``w0``, ``[groups, out, k]``.
        hessian: ``E[x x^T]``, damped, ``[groups, k, k]``.
        product: ``E[r x^T]``, ``[groups, out, k]``.
    """
    return np.asarray(weights + np.linalg.solve(hessian, product.swapaxes(1, 2)).swapaxes(1, 2))


@dataclass(frozen=True, eq=False)
class Compensation:
    """What :func:`compensated` needs of second moments; it is the same for all weights and steps.

    Attributes:
        order: In which columns are rounded, ``[groups, k]``.
        upper: The Cholesky factor of the inverse in that order, ``[groups, k, k]``.
        given: Whether column 0 is a bias that is stored as it is given.
    """

    order: NDArray[np.int64]
    upper: Reals
    given: bool

    @classmethod
    def of(cls, hessian: Reals, *, given: bool = False) -> Compensation:
        """Of ``E[x x^T]``, damped, ``[groups, k, k]``."""
        groups, size = hessian.shape[:2]
        order = np.argsort(-np.diagonal(hessian, axis1=1, axis2=2), axis=1, kind="stable")
        if given:
            rest = order[order != 0].reshape(groups, size - 1)
            order = np.concatenate([np.zeros((groups, 1), np.int64), rest], axis=1)
        sorted_hessian = np.take_along_axis(np.take_along_axis(hessian, order[:, :, None], 1), order[:, None, :], 2)
        inverse = np.linalg.inv(sorted_hessian)
        upper = np.linalg.cholesky((inverse + inverse.swapaxes(1, 2)) / 2).swapaxes(1, 2)
        return cls(order=order, upper=np.asarray(upper, np.float64), given=given)


def compensated(
    weights: Reals,
    hessian: Reals | Compensation,
    step: Reals,
    lo: int,
    hi: int,
    first: Reals | None = None,
) -> NDArray[np.int64]:
    """Integers for ``weights`` that keep ``E|(w - step q) x|^2`` small.

    Args:
        weights: ``[groups, out, k]``.
        hessian: ``E[x x^T]``, damped, ``[groups, k, k]``, or what was computed from it.
        step: Of each output, ``[groups, out]``.
        lo: Lowest integer.
        hi: Highest integer.
        first: Real values ``[groups, out]`` that column 0 (the bias) is stored as; then the result leaves it out.

    Returns:
        ``[groups, out, k]``, or ``[groups, out, k - 1]`` with ``first``.
    """
    plan = hessian if isinstance(hessian, Compensation) else Compensation.of(hessian, given=first is not None)
    order, upper, size = plan.order, plan.upper, weights.shape[2]
    w = np.take_along_axis(weights, order[:, None, :], 2).copy()
    q = np.zeros(w.shape, np.int64)
    for start in range(0, size, BLOCK):
        stop = min(start + BLOCK, size)
        errors = np.zeros((*w.shape[:2], stop - start))
        for j in range(start, stop):
            column = w[:, :, j]
            if j == 0 and first is not None:
                stored = first
            else:
                q[:, :, j] = np.clip(np.floor(column / step + 0.5), lo, hi).astype(np.int64)
                stored = q[:, :, j] * step
            error = (column - stored) / upper[:, j, j][:, None]
            w[:, :, j + 1 : stop] -= error[:, :, None] * upper[:, None, j, j + 1 : stop]
            errors[:, :, j - start] = error
        w[:, :, stop:] -= errors @ upper[:, start:stop, stop:]
    back = np.argsort(order, axis=1)
    q = np.take_along_axis(q, back[:, None, :], 2)
    return q if first is None else q[:, :, 1:]


def best_steps(q: NDArray[np.int64], weights: Reals, hessian: Reals, step: Reals) -> Reals:
    """The steps ``[groups, out]`` that make ``E|(w - step q) x|^2`` least for given integers and a free bias.

    Args:
        q: ``[groups, out, k]``.
        weights: With the bias in front, ``[groups, out, 1 + k]``.
        hessian: With the bias in front, damped, ``[groups, 1 + k, 1 + k]``.
        step: Where they would be no steps (nothing but zeros, or of the wrong sign), these stay.
    """
    inner = _without_bias(hessian)
    spread = q @ inner
    over, under = (spread * weights[:, :, 1:]).sum(axis=2), (spread * q).sum(axis=2)
    found = over / np.where(under > 0, under, 1.0)
    return np.asarray(np.where((under > 0) & (found > 0), found, step))


def _without_bias(hessian: Reals) -> Reals:
    """Second moments of the other columns where the first, the bias, is always the best one."""
    edge = hessian[:, 0, 1:]
    return np.asarray(hessian[:, 1:, 1:] - edge[:, :, None] * edge[:, None, :] / hessian[:, 0, 0][:, None, None])


def descended(
    q: NDArray[np.int64],
    weights: Reals,
    hessian: Reals,
    step: Reals,
    lo: int,
    hi: int,
    *,
    first: Reals | None = None,
    sweeps: int = 2,
) -> NDArray[np.int64]:
    """Integers near ``q`` with a smaller ``E|(w - step q) x|^2``: one weight after the other goes to its best integer.

    Coordinate descent, as in QuantEase (Behdin et al. 2023, arXiv:2309.01885) and CDQuant (Nair and Suggala 2024,
    arXiv:2406.17542).  The error never grows.

    Args:
        q: ``[groups, out, k]``.
        weights: With the bias in front, ``[groups, out, 1 + k]``.
        hessian: ``E[x x^T]`` with the bias in front, damped, ``[groups, 1 + k, 1 + k]``.
        step: Of each output, ``[groups, out]``.
        lo: Lowest integer.
        hi: Highest integer.
        first: The bias as it is stored, ``[groups, out]``; None if it may be anything, and will be the best one.
        sweeps: How often to go through all weights.
    """
    off = q * step[:, :, None] - weights[:, :, 1:]
    if first is None:
        inner = _without_bias(hessian)
        slope = off @ inner
    else:
        inner = hessian[:, 1:, 1:]
        slope = off @ inner + (first - weights[:, :, 0])[:, :, None] * hessian[:, None, 0, 1:]
    curvature = np.maximum(np.diagonal(inner, axis1=1, axis2=2), 1e-30)
    q = q.copy()
    for _ in range(sweeps):
        moved = False
        for j in range(q.shape[2]):
            best = q[:, :, j] - slope[:, :, j] / (curvature[:, None, j] * step)
            new = np.clip(np.floor(best + 0.5), lo, hi).astype(np.int64)
            change = new - q[:, :, j]
            if change.any():
                moved = True
                slope += (change * step)[:, :, None] * inner[:, None, j, :]
                q[:, :, j] = new
        if not moved:
            break
    return q
