from __future__ import annotations

import numpy as np
import pytest

from bitwright.calibrate.schemes.minmax import MinMax
from bitwright.calibrate.tensor_stats import TensorStats
from bitwright.number.format import FormatRule


def test_ranges_per_channel_come_from_statistics_or_values() -> None:
    x = np.random.default_rng(0).normal(size=(3, 4, 50)).astype(np.float32)
    rule = FormatRule(per_channel=True)
    by_stats = MinMax().choose(TensorStats.of(x, 1), rule, axis=1)
    by_values = MinMax().choose(TensorStats(), rule, values=x, axis=1)
    assert by_stats == by_values
    np.testing.assert_allclose(by_stats.scale, np.abs(x).max((0, 2)) / 127)
    with pytest.raises(ValueError, match="per channel"):
        MinMax().choose(TensorStats.of(x), rule, axis=1)


def test_without_an_axis_the_format_is_for_the_whole() -> None:
    got = MinMax().choose(TensorStats.of([-1.27, 0.5]), FormatRule(per_channel=True))
    assert got.axis is None
    assert float(got.scale) == pytest.approx(0.01)
