"""The number of threads changes no integer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from bitwright.mend.bench import Bench
from bitwright.mend.repair import Clock
from bitwright.mend.solution import Solution
from bitwright.mend.threads import one_thread

from .test_search import mended


def threads() -> list[int]:
    """Of NumPy's own library; other packages may bring another one while a test runs."""
    every = [one for one in threadpool_info() if one["user_api"] == "blas"]
    return [int(one["num_threads"]) for one in every if "numpy" in str(one["filepath"])]


@dataclass(frozen=True)
class Asks:
    """Says how many threads there are."""

    name: ClassVar[str] = "asks"
    summary: ClassVar[str] = "Asks."
    seen: list[int] = field(default_factory=list)

    def apply(self, solution: Solution, bench: Bench, clock: Clock) -> tuple[Solution, str]:
        self.seen.extend(threads())
        return solution, "asked"


def test_repairs_compute_in_one_thread() -> None:
    asks = Asks()
    with threadpool_limits(limits=3, user_api="blas"):
        before = threads()
        mended("fpga", [asks])
        assert threads() == before
    assert asks.seen
    assert set(asks.seen) == {1}
    with one_thread():
        assert threads() == [1]


def test_same_integers() -> None:
    found: list[dict[str, Any]] = []
    for count in (1, 3):
        with threadpool_limits(limits=count, user_api="blas"):
            result = mended("fpga-w4", "correct-bias,reconstruct-blocks{rounds=1, rows=2000}")
        found.append(dict(result.program().tensors))
    first, second = found
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)
