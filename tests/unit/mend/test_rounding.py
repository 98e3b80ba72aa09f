from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from bitwright.mend.rounding import Compensation, best_steps, compensated, damped, descended, refit


def correlated(groups: int, size: int, rows: int = 4000) -> np.ndarray:
    r = np.random.default_rng(0)
    mix = r.normal(size=(groups, size, size)) / np.sqrt(size) + 0.3
    return r.normal(size=(groups, rows, size)) @ mix


def moments(x: np.ndarray) -> np.ndarray:
    return x.swapaxes(1, 2) @ x / x.shape[1]


@pytest.mark.parametrize(("groups", "size"), [(1, 130), (5, 9)])
def test_compensation_beats_plain_rounding(groups: int, size: int) -> None:
    x = correlated(groups, size)
    w = np.random.default_rng(1).normal(size=(groups, 7, size))
    step = np.full((groups, 7), 0.5)
    q = compensated(w, damped(moments(x), 0.01), step, -8, 7)
    assert q.min() >= -8
    assert q.max() <= 7
    plain = np.clip(np.floor(w / 0.5 + 0.5), -8, 7)

    def error(integers: np.ndarray) -> float:
        return float(((x @ (w - integers * 0.5).swapaxes(1, 2)) ** 2).mean())

    assert error(q) < 0.7 * error(plain)


def test_without_correlation_it_is_plain_rounding() -> None:
    w = np.random.default_rng(2).normal(size=(2, 3, 8))
    q = compensated(w, np.stack([np.eye(8)] * 2), np.full((2, 3), 0.25), -128, 127)
    assert np.array_equal(q, np.floor(w / 0.25 + 0.5))


def test_a_coarse_bias_is_made_up_for() -> None:
    """Inputs with a mean let the weights carry what the stored bias lacks."""
    r = np.random.default_rng(3)
    x = np.concatenate([np.ones((1, 5000, 1)), np.abs(r.normal(size=(1, 5000, 20)))], axis=2)
    w = r.normal(size=(1, 4, 21))
    stored = w[:, :, 0] + 0.4
    step = np.full((1, 4), 0.05)
    hessian = damped(moments(x), 1e-4)
    q = compensated(w, hessian, step, -128, 127, first=stored)
    assert q.shape == (1, 4, 20)
    plain = np.floor(w[:, :, 1:] / 0.05 + 0.5)

    def error(integers: np.ndarray) -> float:
        made = np.concatenate([stored[:, :, None], integers * 0.05], axis=2)
        return float(((x @ (w - made).swapaxes(1, 2)) ** 2).mean())

    assert error(q) < 0.25 * error(plain)


def test_refit_is_least_squares() -> None:
    x = correlated(1, 6)
    r = np.random.default_rng(4)
    w, truth = r.normal(size=(2, 1, 3, 6))
    missing = x @ (truth - w).swapaxes(1, 2)
    product = missing.swapaxes(1, 2) @ x / x.shape[1]
    assert np.allclose(refit(w, moments(x), product), truth, atol=1e-8)
    # Heavy damping keeps the weights where they were.
    assert np.allclose(refit(w, damped(moments(x), 1e9), product), w, atol=1e-6)


def test_damping_of_nothing() -> None:
    assert (np.linalg.eigvalsh(damped(np.zeros((2, 3, 3)), 0.01)) > 0).all()


@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize(("groups", "size"), [(1, 60), (4, 9)])
def test_descent_finds_better_integers(groups: int, size: int, free: bool) -> None:
    x = np.concatenate([np.ones((groups, 4000, 1)), correlated(groups, size)], axis=2)
    w = np.random.default_rng(6).normal(size=(groups, 5, size + 1))
    step = np.full((groups, 5), 0.5)
    hessian = damped(moments(x), 1e-4)
    stored = np.round(w[:, :, 0])
    plain = np.clip(np.floor(w[:, :, 1:] / 0.5 + 0.5), -8, 7).astype(np.int64)

    def error(integers: np.ndarray) -> float:
        off = x[:, :, 1:] @ (integers * 0.5 - w[:, :, 1:]).swapaxes(1, 2)
        if free:
            return float((off - off.mean(axis=1, keepdims=True)).var())
        return float(((off + (stored - w[:, :, 0])[:, None, :]) ** 2).mean())

    greedy = compensated(w, hessian, step, -8, 7, first=w[:, :, 0] if free else stored)
    for start, least in ((plain, 0.9), (greedy, 1.0)):
        q = descended(start, w, hessian, step, -8, 7, first=None if free else stored)
        assert q.min() >= -8
        assert q.max() <= 7
        assert error(q) <= least * error(start) * (1 + 1e-6)
        again = descended(q, w, hessian, step, -8, 7, first=None if free else stored, sweeps=20)
        assert error(again) <= error(q) * (1 + 1e-6)


def test_a_plan_serves_many_weights() -> None:
    x = np.concatenate([np.ones((2, 4000, 1)), correlated(2, 12)], axis=2)
    hessian = damped(moments(x), 0.01)
    plan = Compensation.of(hessian, given=True)
    r = np.random.default_rng(7)
    for spread in (1.0, 3.0):
        w, step = r.normal(size=(2, 5, 13)) * spread, np.full((2, 5), 0.5)
        first = w[:, :, 0]
        own = compensated(w, hessian, step, -8, 7, first=first)
        assert np.array_equal(compensated(w, plan, step, -8, 7, first=first), own)


def test_steps_are_fitted_to_integers() -> None:
    x = np.concatenate([np.ones((3, 4000, 1)), correlated(3, 12)], axis=2)
    hessian = damped(moments(x), 1e-6)
    r = np.random.default_rng(8)
    q = r.integers(-8, 8, (3, 4, 12))
    q[0, 1] = 0
    true = r.uniform(0.1, 2.0, (3, 4))
    w = np.concatenate([r.normal(size=(3, 4, 1)), q * true[:, :, None]], axis=2)
    start = np.full((3, 4), 0.7)
    found = best_steps(q, w, hessian, start)
    assert found[0, 1] == 0.7  # nothing but zeros has no step
    true[0, 1] = 0.7
    assert np.allclose(found, true)
    # A step of the wrong sign is none.
    w[:, :, 1:] *= -1
    assert np.array_equal(best_steps(q, w, hessian, start), start)
    # Weights that are no multiples: no other step is better.
    w = r.normal(size=(3, 4, 13))
    found = best_steps(q, w, hessian, start)
    kept = found != start

    def error(step: np.ndarray) -> np.ndarray:
        off = w[:, :, 1:] - q * step[:, :, None]
        off = x[:, :, 1:] @ off.swapaxes(1, 2)
        return np.var(off, axis=1)

    assert kept.any()
    assert (error(found)[kept] <= np.minimum(error(found * 0.97), error(found * 1.03))[kept]).all()


@pytest.mark.parametrize("bits", [3, 4])
def test_fitted_steps_and_descent_help_each_other(bits: int) -> None:
    """What `reconstruct` does with few bits: the error falls from sweep to sweep."""
    x = np.concatenate([np.ones((2, 4000, 1)), correlated(2, 24)], axis=2)
    w = np.random.default_rng(9).normal(size=(2, 6, 25))
    hessian, lo, hi = damped(moments(x), 1e-4), -(1 << bits - 1), (1 << bits - 1) - 1
    step = np.abs(w[:, :, 1:]).max(axis=2) / hi
    q = compensated(w, hessian, step, lo, hi, first=w[:, :, 0])

    def error() -> float:
        off = x[:, :, 1:] @ (q * step[:, :, None] - w[:, :, 1:]).swapaxes(1, 2)
        return float(np.var(off, axis=1).mean())

    errors = [error()]
    for _ in range(4):
        q = descended(q, w, hessian, step, lo, hi, sweeps=1)
        step = best_steps(q, w, hessian, step)
        errors.append(error())
    assert all(after <= before * (1 + 1e-3) for before, after in pairwise(errors))
    assert errors[-1] < 0.95 * errors[0]
