"""What folding costs, against the published example (float W −0.1555..0.1405, b −0.006..0.0014; folded −1.7785..0.3995)."""

from __future__ import annotations

import numpy as np
import pytest

from bitwright.passes.affine import batch_norm
from bitwright.passes.fold import Fold, channel_bits_lost, compare, sentence


def published() -> tuple[Fold, Fold]:
    return (
        Fold("conv1", "weights", ("bn1",), (-0.1555, 0.1405), (-1.7785, 0.3995), np.asarray([1.0, 11.437, 0.5])),
        Fold("conv1", "bias", ("bn1",), (-0.006, 0.0014), (-3.4817, 4.6812)),
    )


def test_published_numbers() -> None:
    weights, bias = published()
    assert weights.bits_lost == 3  # exponents of int8: -9 to -6
    assert bias.bits_lost == 10  # -14 to -4
    assert weights.factor == pytest.approx(11.437, abs=1e-3)
    assert weights.text == "weights ×11.4, 3 bits lost in channels that are not scaled"
    assert bias.text == "bias 10 bits"
    assert weights.worst_channel == 1
    assert sentence((weights, bias)) == (
        "conv1: weights ×11.4, 3 bits lost in channels that are not scaled; bias 10 bits (largest factor 11.4, in channel 1)"
    )


def test_channels_that_are_not_scaled_lose_what_the_tensor_loses() -> None:
    before = np.asarray([[0.15, -0.1], [0.12, 0.1555], [0.0, 0.0], [0.01, 0.02]])
    after = before * np.asarray([[1.0], [11.437], [5.0], [64.0]])
    np.testing.assert_array_equal(channel_bits_lost(before, after), [3, 0, 0, 3 - 6])


def test_gains_new_biases_and_zeros() -> None:
    weights = np.asarray([[1.0, 2.0]])
    smaller, bias = compare("a", ("s",), (weights, weights / 8), (None, np.asarray([0.5])))
    assert smaller.text == "weights ×0.125, 3 bits gained in channels that are not scaled"
    assert bias.text == "bias new, 0.5..0.5"
    (nothing,) = compare("a", (), (weights * 0, weights * 0), (None, None))
    assert (nothing.factor, nothing.bits_lost) == (1.0, 0)
    np.testing.assert_array_equal(nothing.channel_bits_lost, [0])
    (same,) = compare("a\nb", (), (weights, weights * 1.2), (None, None))
    assert sentence((same,)) == "a\\nb: weights ×1.2, no bits lost"


def test_batch_norm_formula() -> None:
    scale, shift = batch_norm(*(np.asarray([v], np.float32) for v in (2.0, 0.5, 3.0, 3.99)), 0.01)
    assert scale[0] == pytest.approx(1.0)
    assert shift[0] == pytest.approx(0.5 - 3.0)
    assert scale.dtype == np.float64
