from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitwright.metrics.paired import bootstrap_p, mcnemar, sign_flip


@given(st.integers(0, 6), st.integers(0, 6))
def test_mcnemar_counts_coin_tosses(lost: int, gained: int) -> None:
    """Among all tosses of a coin, those at least as far from even."""
    n = lost + gained
    far = [abs(2 * sum(toss) - n) >= abs(lost - gained) for toss in itertools.product((0, 1), repeat=n)]
    assert mcnemar(lost, gained) == pytest.approx(sum(far) / len(far))


def test_mcnemar_of_known_cases() -> None:
    assert mcnemar(1, 0) == 1
    assert mcnemar(12, 3) == pytest.approx(0.03515625)
    assert mcnemar(6, 0) == 0.03125
    assert mcnemar(5, 5) == 1


def test_mcnemar_of_many_joins_the_exact_one() -> None:
    # 1000 changes are counted in integers, 1002 in logarithms; both near the normal law with continuity correction.
    assert mcnemar(530, 470) == pytest.approx(0.0620, abs=2e-4)
    assert mcnemar(531, 471) == pytest.approx(0.0624, abs=4e-4)
    assert mcnemar(501, 501) == 1
    assert mcnemar(5000, 0) < 1e-300


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
def test_sign_flip_tries_all_signs(values: list[int]) -> None:
    observed = abs(sum(values))
    far = [abs(sum(s * v for s, v in zip(signs, values, strict=True))) >= observed
           for signs in itertools.product((-1, 1), repeat=len(values))]  # fmt: skip
    assert sign_flip(np.array(values, float)) == pytest.approx(sum(far) / len(far))


def test_sign_flip_of_many_is_near_the_normal_law() -> None:
    d = np.random.default_rng(0).normal(size=400)
    d += 1.96 * np.sqrt((d * d).sum()) / 400 - d.mean()  # two standard errors from 0
    assert sign_flip(d) == pytest.approx(0.05, abs=0.015)
    assert sign_flip(d) == sign_flip(d)
    assert sign_flip(d) == pytest.approx(sign_flip(-d), abs=0.01)


def test_sign_flip_is_never_zero_and_one_without_a_difference() -> None:
    assert sign_flip(np.ones(100)) == 1 / 10_001
    assert sign_flip(np.zeros(100)) == 1
    assert sign_flip(np.array([])) == 1
    assert sign_flip(np.array([np.nan, np.inf, 0.0])) == 1


def test_sign_flip_does_not_cry_wolf() -> None:
    """Under no difference, p below 0.05 must come about 5 times in 100."""
    rng = np.random.default_rng(4)
    alarms = sum(
        sign_flip(rng.standard_exponential(30) * rng.choice([-1, 1], 30), flips=500) < 0.05 for _ in range(300)
    )
    assert 5 <= alarms <= 26  # binomial(300, 0.05) within three standard deviations


def test_bootstrap_p() -> None:
    draws = np.array([1.0] * 95 + [-1.0] * 4)
    assert bootstrap_p(draws) == pytest.approx(2 * 5 / 100)
    assert bootstrap_p(-draws) == bootstrap_p(draws)
    assert bootstrap_p(np.zeros(50)) == 1
