"""Sums that do not depend on how many threads a machine has."""

from __future__ import annotations

from contextlib import AbstractContextManager


def one_thread() -> AbstractContextManager[object]:
    """Let NumPy's linear algebra run in one thread until the end of the ``with`` block.

    Its libraries cut sums up by the number of threads, so last digits differ, and once in a while a weight that lies
    between two integers goes to the other one.  ONNX Runtime and the integer engine give the same values with any
    number of threads, and keep theirs.
    """
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[object] = threadpool_limits(limits=1, user_api="blas")
    return limits
