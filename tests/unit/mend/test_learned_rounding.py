"""AdaRound: its pieces against finite differences, and better integers than the nearest ones."""

from __future__ import annotations

import numpy as np
import pytest

from bitwright.mend.learned_rounding import decisiveness, inverse_rectified, learned, rectified


def test_slopes_are_slopes() -> None:
    v = np.linspace(-2, 2, 41)
    h, slope = rectified(v)
    near = (rectified(v + 1e-6)[0] - rectified(v - 1e-6)[0]) / 2e-6
    assert slope == pytest.approx(near, abs=1e-6)
    h = np.linspace(0.05, 0.95, 18)
    for beta in (2.0, 7.5, 20.0):
        cost, slope = decisiveness(h, beta)
        near = (decisiveness(h + 1e-6, beta)[0] - decisiveness(h - 1e-6, beta)[0]) / 2e-6
        assert slope == pytest.approx(near, rel=1e-4, abs=1e-6)
        assert (cost >= 0).all()
    assert rectified(inverse_rectified(h))[0] == pytest.approx(h)


@pytest.mark.parametrize("drop", [0.0, 0.5])
@pytest.mark.parametrize(("groups", "bounds"), [(1, (-np.inf, np.inf)), (1, (0.0, np.inf)), (3, (0.0, 2.0))])
def test_better_than_the_nearest(groups: int, bounds: tuple[float, float], drop: float) -> None:
    r = np.random.default_rng(0)
    k, out, rows = 24, 6, 3000
    mix = r.normal(size=(groups, k, k)) / np.sqrt(k) + 0.3
    x = np.concatenate([np.ones((groups, rows, 1)), r.normal(size=(groups, rows, k)) @ mix], axis=2).astype(np.float32)
    w = r.normal(size=(groups, out, k + 1)) * 0.3
    wanted = (x @ w.swapaxes(1, 2)).astype(np.float32)
    step = np.full((groups, out), 0.2)
    q = learned(
        x[:, :2000], wanted[:, :2000], w, step, (-8, 7), bounds,
        steps=300, batch=128, rate=0.03, drop=drop, noise=0.05, rng=np.random.default_rng(1),
    )  # fmt: skip
    plain = np.clip(np.floor(w[:, :, 1:] / 0.2 + 0.5), -8, 7).astype(np.int64)
    assert (np.abs(q - w[:, :, 1:] / 0.2) < 1 + 1e-9).all()  # the one below or above

    def error(integers: np.ndarray) -> float:
        made = x[:, 2000:, 1:] @ (integers * 0.2).swapaxes(1, 2) + w[:, None, :, 0]
        return float(((np.clip(made, *bounds) - np.clip(wanted[:, 2000:], *bounds)) ** 2).mean())

    assert error(q) < 0.75 * error(plain)


def test_the_same_seed_gives_the_same_integers() -> None:
    r = np.random.default_rng(2)
    x = r.normal(size=(2, 200, 6)).astype(np.float32)
    w = r.normal(size=(2, 3, 6))
    wanted = (x @ w.swapaxes(1, 2)).astype(np.float32)

    def run(seed: int) -> np.ndarray:
        return learned(
            x, wanted, w, np.full((2, 3), 0.3), (-8, 7), (0.0, np.inf),
            steps=30, batch=20, rate=0.05, drop=0.2, noise=0.1, rng=np.random.default_rng(seed),
        )  # fmt: skip

    assert np.array_equal(run(4), run(4))
