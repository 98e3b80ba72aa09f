from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitwright.passes.alignment import Step, align


def total(steps: list[Step], shifts: np.ndarray) -> float:
    return sum(step.at(shifts) for step in steps)


def test_noise_of_a_step() -> None:
    nothing = np.zeros(1)
    assert Step(noise=2.0, height=3.0).at(nothing) == pytest.approx(2.0)
    assert Step(noise=2.0, height=2.5).at(nothing) == pytest.approx(4.0)  # half an octave too wide
    assert Step(noise=1.0, height=0.25, up=1, down=2).at(np.array([0, 0.5, 0.75])) == pytest.approx(1.0)


def test_one_tensor_is_brought_to_its_last_code() -> None:
    shifts = align([Step(noise=1.0, height=0.3, up=1)], np.array([True, False]))
    assert shifts[0] == 0
    assert shifts[1] == pytest.approx(0.7)


def test_weights_between_two_tensors() -> None:
    """Two tensors and the weights between them: all three could fit, because the heights allow it."""
    steps = [
        Step(noise=1.0, height=0.25, up=1),
        Step(noise=1.0, height=0.5, up=2),
        Step(noise=1.0, height=0.25, up=2, down=1),
    ]
    shifts = align(steps, np.array([True, False, False]))
    # One group at a time ends within a few percent of what all at once could reach.
    assert total(steps, shifts) == pytest.approx(3.0, rel=0.04)
    assert total(steps, np.zeros(3)) > 6


@given(st.integers(0, 10_000))
def test_never_worse_and_pinned_stays(seed: int) -> None:
    r = np.random.default_rng(seed)
    groups = 6
    steps = [
        Step(
            noise=float(r.uniform(0.1, 2)),
            height=float(r.uniform(-3, 3)),
            up=int(r.integers(groups)),
            down=int(r.integers(groups)) if r.random() < 0.7 else None,
        )
        for _ in range(12)
    ]
    pinned = r.random(groups) < 0.3
    shifts = align(steps, pinned)
    assert ((shifts >= 0) & (shifts < 1)).all()
    assert not shifts[pinned].any()
    assert total(steps, shifts) <= total(steps, np.zeros(groups)) * (1 + 1e-9)
