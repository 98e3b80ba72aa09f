from __future__ import annotations

import numpy as np
import pytest

from bitwright.data.batch import Sample, by_name, check_same, side_by_side
from bitwright.errors import InputMismatch


def sample(x: object, index: int = 0, y: object = None, floats: bool = False) -> Sample:
    return Sample(x, y, index, f"file {index}", floats)  # type: ignore[arg-type]


def test_side_by_side() -> None:
    batch = side_by_side([sample(np.full((2, 3), i, np.float32), i, i * 10) for i in range(4)])
    assert isinstance(batch.x, np.ndarray)
    assert batch.x.shape == (4, 2, 3)
    assert batch.x[:, 0, 0].tolist() == [0, 1, 2, 3]
    assert (batch.y, batch.indices, len(batch)) == ([0, 10, 20, 30], (0, 1, 2, 3), 4)
    assert not batch.float_source


def test_labels_are_none_only_if_all_are() -> None:
    x = np.zeros(2, np.float32)
    assert side_by_side([sample(x), sample(x)]).y is None
    assert side_by_side([sample(x), sample(x, y=0)]).y == [None, 0]


def test_by_name() -> None:
    x = np.zeros(2)
    assert by_name(x, "in") == {"in": x}
    assert by_name({"a": x}) == {"a": x}


def test_differences_are_named() -> None:
    first = sample({"a": np.zeros(2), "b": np.zeros(3)})
    check_same(sample({"a": np.ones(2), "b": np.ones(3)}, 1), first)
    for other in ({"a": np.zeros(2)}, {"a": np.zeros(2), "b": np.zeros(4)}, {"a": np.zeros(2), "b": np.zeros(3, "f4")}):
        with pytest.raises(InputMismatch, match=r"Sample 1 \(file 1\) is .* but sample 0 \(file 0\) is"):
            check_same(sample(other, 1), first)
