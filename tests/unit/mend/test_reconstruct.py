"""What layers are fitted to behind an activation."""

from __future__ import annotations

import numpy as np
import pytest

from bitwright.mend.layerwise import Problem
from bitwright.mend.reconstruct import _Work


def problem(bounds: tuple[float, float], *, noise: float = 0.8) -> Problem:
    """Outputs that are beyond the bounds half of the time, of inputs that arrive with errors."""
    rng = np.random.default_rng(5)
    x = np.maximum(rng.normal(size=(1, 6000, 12)), 0)
    weights = np.concatenate([np.full((1, 8, 1), -0.3), rng.normal(size=(1, 8, 12))], axis=2)
    wanted = x @ weights[:, :, 1:].swapaxes(1, 2) + weights[:, :, 0]
    seen = np.maximum(x + noise * rng.normal(size=x.shape), 0)
    inputs = np.concatenate([np.ones((1, 6000, 1)), seen], axis=2)
    return Problem(
        x=inputs.astype(np.float32),
        wanted=wanted.astype(np.float32),
        bounds=bounds,
        train=4000,
        weights=weights,
        stored=np.zeros((1, 8, 12), np.int64),
    )


def test_aiming_anew_gains_behind_an_activation() -> None:
    given = problem((0.0, 1.5))
    work = _Work.of(given, (0.01,))
    errors = [given.error(work.settled(aims)[1][0]) for aims in (0, 1, 2, 6)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.97 * errors[0] < 0.97 * given.error(given.weights)
    goal, (fit,) = work.settled(6)
    made = given.inputs @ fit.swapaxes(1, 2)
    above = (given.wanted[:, :4000] >= 1.5) & (made >= 1.6)
    assert above.any()
    assert (goal[above] >= 1.5).all()  # nothing is asked of them, but that they stay there


def test_without_an_activation_the_first_aim_is_the_last() -> None:
    given = problem((-np.inf, np.inf))
    work = _Work.of(given, (0.01, 0.3))
    first, again = work.settled(0), work.settled(6)
    assert first[0].tobytes() == again[0].tobytes()
    assert [fit.tobytes() for fit in first[1]] == [fit.tobytes() for fit in again[1]]
    (best, _) = first[1]
    rows = given.inputs[0]
    least = np.linalg.lstsq(rows, given.wanted[0, :4000].astype(np.float64), rcond=None)[0].T
    assert best[0] == pytest.approx(least, abs=0.05)
