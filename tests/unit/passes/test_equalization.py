from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitwright.passes.equalization import (
    POWER,
    ClipCost,
    LinearNoise,
    TensorNoise,
    clip_change,
    importance_before,
    noise,
    norm_over_taps,
    solve,
    step_norm,
)


def some_terms(seed: int, *, per_channel: bool, groups: int, bits: int = 8) -> tuple[list, int]:
    r = np.random.default_rng(seed)
    inputs, outputs = 4, 6 if groups == 1 else 4
    grid = np.linspace(-4, 4, 33)
    middle = np.arange(1, 1 + inputs)
    after = np.arange(5, 5 + outputs)
    power, reach = step_norm(bits, inputs // groups * (1 if per_channel else outputs))
    linear = LinearNoise(
        inputs=middle,
        outputs=after,
        groups=groups,
        largest=r.uniform(0.01, 3, (outputs, inputs // groups)),
        taps=9,
        energy=r.uniform(0.1, 2, inputs),
        importance=r.uniform(0.1, 2, outputs),
        step=1.0,
        per_channel=per_channel,
        bias=r.uniform(0, 2, outputs),
        bias_step=0.5,
        power=power,
        reach=reach,
    )
    tensor = TensorNoise(middle, r.uniform(0.1, 5, inputs), r.uniform(0.1, 2, inputs), 1.0)
    clip = ClipCost(middle, grid, clip_change(r.normal(size=(50, inputs)) * 3, 6.0, grid))
    return [linear, tensor, clip], 5 + outputs


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("groups", [1, 4])
def test_slope_is_that_of_the_noise(per_channel: bool, groups: int, bits: int) -> None:
    terms, count = some_terms(3, per_channel=per_channel, groups=groups, bits=bits)
    # Off the knots of the clip's table, where its slope jumps.
    u = np.random.default_rng(0).uniform(-0.9, 0.9, count) * 0.1 + 0.13
    value, slope = noise(terms, u)
    assert value > 0
    for i in range(count):
        step = np.zeros(count)
        step[i] = 1e-5
        high, low = noise(terms, u + step)[0], noise(terms, u - step)[0]
        assert slope[i] == pytest.approx((high - low) / 2e-5, rel=1e-3, abs=1e-4)


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_solve_never_makes_it_worse(seed: int) -> None:
    terms, count = some_terms(seed, per_channel=False, groups=1)
    frozen = np.zeros(count, bool)
    frozen[0] = True
    factors, before, after = solve(terms, count, frozen, steps=60)
    assert after <= before
    assert factors[0] == 1.0
    assert noise(terms, np.log(factors))[0] == pytest.approx(after)


def test_a_single_large_channel_is_made_small() -> None:
    """A weight a thousand times the others, which its input's channel can take up."""
    largest = np.ones((4, 4))
    largest[:, 2] = 1000.0
    labels = np.arange(1, 5)
    terms = [
        LinearNoise(np.arange(1, 5), np.zeros(4, int), 1, largest, 1, np.array([1, 1, 1e-6, 1]), np.ones(4), 1.0),
        TensorNoise(labels, np.array([1, 1, 1e-3, 1.0]), np.ones(4), 1e-4),
    ]
    factors, before, after = solve(terms, 5, np.arange(5) == 0)
    assert factors[3] / factors[1] > 100
    assert after < before / 1000


@pytest.mark.parametrize("heavy", [False, True])
def test_the_best_step_of_four_bits_ends_where_the_norm_says(heavy: bool) -> None:
    r = np.random.default_rng(0)
    w = (r.laplace(size=(64, 64, 3, 3)) if heavy else r.normal(size=(64, 64, 3, 3))).astype(np.float32)
    power, reach = step_norm(4, w.size)
    linear = LinearNoise(
        np.arange(64), np.arange(64), 1, norm_over_taps(w, power), 9, np.ones(64), np.ones(64), 1.0,
        power=power, reach=reach,
    )  # fmt: skip
    ends = np.linspace(0.5, 8.0, 151)
    steps = ends / 7.5
    errors = [float(np.mean((np.clip(np.round(w / step), -8, 7) * step - w) ** 2)) for step in steps]
    best = float(ends[int(np.argmin(errors))])
    assert linear.range(np.zeros(64)) == pytest.approx(best, rel=0.15)
    assert linear.range(np.zeros(64)) < 0.6 * np.abs(w).max()
    assert step_norm(8, w.size) == (POWER, 1.0)
    assert norm_over_taps(w, POWER) == pytest.approx(np.abs(w).max(axis=(2, 3)))


def test_clip_change() -> None:
    values = np.array([[1.0, 8.0], [5.0, -1.0]])
    cost = clip_change(values, 6.0, np.log(np.array([0.5, 1.0, 2.0])))
    assert cost.shape == (2, 3)
    assert np.allclose(cost[:, 1], 0)
    # Twice as large: cut off at 3 of the old; half: 8 is no longer cut off at 6.
    assert np.allclose(cost[0], [0, 0, (5 - 3) ** 2 / 2])
    assert np.allclose(cost[1], [(8 - 6) ** 2 / 2, 0, (6 - 3) ** 2 / 2])


def test_importance_before() -> None:
    weights = np.arange(8.0).reshape(4, 1, 2)
    got = importance_before(np.array([1.0, 2.0, 3.0, 4.0]), weights, 2)
    assert got.tolist() == [1 * (0 + 1) + 2 * (4 + 9), 3 * (16 + 25) + 4 * (36 + 49)]
