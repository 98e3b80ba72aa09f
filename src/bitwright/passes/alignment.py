"""Scaling whole tensors so that steps of powers of two are used to their last code.

A step of a power of two is up to twice as wide as the range needs, four times the noise.  Multiplying a whole tensor
by ``2^a`` moves its own range by ``a``, and the weights that make it by ``a``, and those that read it by ``-a``: with
``h`` the logarithm (base 2) of a range in units of the highest code, the noise of a step is ``4^(ceil(h) - h)`` times
what it would be if any step were allowed.  All shifts together are chosen to make the sum small.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of a power of two.

    Attributes:
        noise: What it would add to the output if it could be as fine as its range.
        height: ``log2(range / highest code)``.
        up: Groups of tensors whose shift raises the range.
        down: Groups of tensors whose shift lowers it.
    """

    noise: float
    height: float
    up: int | None = None
    down: int | None = None

    def at(self, shifts: Reals) -> float:
        """The noise under shifts ``[groups]``."""
        height = self.height
        height += 0.0 if self.up is None else float(shifts[self.up])
        height -= 0.0 if self.down is None else float(shifts[self.down])
        # A range a hair beyond the last code saturates by less than rounding errs.
        return float(self.noise * 4.0 ** (np.ceil(height - 0.004) - height))


def align(steps: Sequence[Step], pinned: NDArray[np.bool_], *, points: int = 32, rounds: int = 8) -> Reals:
    """Shifts in ``[0, 1)`` with little noise, by coordinate descent.

    Args:
        steps: All steps.
        pinned: Groups that cannot be scaled, ``[groups]``; group 0 first.
        points: Shifts that are tried, evenly spaced; the ones at which a step just fits are tried as well.
        rounds: How often to go through all groups; it ends early when none moves.
    """
    shifts = np.zeros(len(pinned))
    touching: dict[int, list[Step]] = {}
    for step in steps:
        for group in {step.up, step.down} - {None}:
            touching.setdefault(int(group or 0), []).append(step)
    for _ in range(rounds):
        moved = False
        for group, own in sorted(touching.items()):
            if pinned[group]:
                continue
            tries = np.concatenate([np.arange(points) / points, _fits(own, group, shifts)])
            trial = shifts.copy()
            best, least = float(shifts[group]), sum(step.at(shifts) for step in own) * (1 - 1e-9)
            for shift in tries:
                trial[group] = shift
                value = sum(step.at(trial) for step in own)
                if value < least:
                    best, least = float(shift), value
            moved |= best != shifts[group]
            shifts[group] = best
        if not moved:
            break
    return shifts


def _fits(steps: Sequence[Step], group: int, shifts: Reals) -> Reals:
    """Shifts of ``group`` at which one of ``steps`` is used to its last code."""
    found = []
    for step in steps:
        if step.up == step.down:
            continue
        other = step.down if step.up == group else step.up
        rest = 0.0 if other is None else float(shifts[other])
        exact = -(step.height - rest) if step.up == group else step.height + rest
        found.append(exact % 1.0)
    return np.asarray(found, np.float64)
