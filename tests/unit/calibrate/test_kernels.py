from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bitwright.calibrate import kernels


@pytest.mark.parametrize("error", [RuntimeError("no locator available"), OSError(28, "No space left on device")])
def test_without_a_place_for_machine_code_kernels_still_compile(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    tried: list[bool] = []

    def njit(signature: Any, *, nogil: bool, cache: bool = False) -> Any:
        def compile_(function: Any) -> Any:
            tried.append(cache)
            if cache:
                raise error
            return function

        return compile_

    monkeypatch.setattr(kernels, "njit", njit)

    def double(x: int) -> int:
        return 2 * x

    assert kernels._compiled("int64(int64)")(double)(4) == 8
    assert tried == [True, False]


def test_scratch_is_empty_and_padded() -> None:
    tables = kernels.scratch()
    assert tables.shape[0] == kernels.TABLES
    assert tables.shape[1] > kernels.BINS
    assert not tables.any()


def test_ordered_bits_compare_as_floats_do() -> None:
    x = np.float32([-np.inf, -2, -1e-45, -0.0, 0.0, 1e-45, 1, 3e38, np.inf])
    order = kernels.ordered_numpy(x)
    assert (np.diff(order.astype(np.int64)) > 0).all()
    assert kernels.ordered_numpy(np.float32([np.nan]))[0] > order[-1]
