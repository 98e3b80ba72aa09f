"""Expressions compiled for this machine: what ONNX Runtime has no exact and fast operator for.

The source is the one that ``number/render.py`` writes for every expression; numba compiles it once for each shape of
expression, with its constants as arguments, so that the layers of a network share one kernel.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from bitwright.number.expr import Expr
from bitwright.number.render import python_source

Ints = NDArray[np.int64]
SMALLEST_CHUNK = 1 << 15  # elements; below that a second thread costs more than it saves


@numba.njit(nogil=True, cache=True)
def scale32_even(x: int, pattern: int) -> Any:  # pragma: no cover  (compiled)
    """``rint(float32(x) * m)``; ``pattern`` holds the bits of the float32 ``m``."""
    return np.int64(np.rint(np.float32(x) * np.uint32(pattern).view(np.float32)))


@numba.njit(nogil=True, cache=True)
def scale32_away(x: int, pattern: int) -> Any:  # pragma: no cover  (compiled)
    """The same, ties away from zero."""
    product = np.float64(np.float32(x) * np.uint32(pattern).view(np.float32))
    return np.int64(-np.floor(0.5 - product) if product < 0 else np.floor(product + 0.5))


@cache
def _pool() -> ThreadPoolExecutor:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return ThreadPoolExecutor(cores, "kernels-of-bitwright")


@cache
def _compiled(source: str) -> Callable[..., None]:
    scope: dict[str, Any] = {"np": np, "scale32_even": scale32_even, "scale32_away": scale32_away}
    exec(compile(source, "<kernel>", "exec"), scope)  # noqa: S102  (our own text; names and numbers are arguments)
    kernel: Callable[..., None] = numba.njit(nogil=True)(scope["kernel"])
    return kernel


class _Lifted:
    """Constants of an expression as elements of an argument, in order of use."""

    def __init__(self) -> None:
        self.values: list[int] = []

    def __call__(self, value: int) -> str:
        self.values.append(value)
        return f"k{len(self.values) - 1}"


def _in_threads(run: Callable[[int, int], None], rows: int, width: int) -> None:
    """``run(first, last)`` over all rows, split where the work is worth it."""
    parts = max(1, min(_pool()._max_workers, rows, rows * width // SMALLEST_CHUNK))
    if parts == 1:
        run(0, rows)
        return
    edges = np.linspace(0, rows, parts + 1).astype(int).tolist()
    list(_pool().map(run, edges[:-1], edges[1:]))


def run_epilogue(
    expr: Expr, params: Mapping[str, Ints], acc: NDArray[Any], dtype: np.dtype[Any]
) -> NDArray[np.integer[Any]]:
    """The epilogue of accumulators.

    Args:
        expr: Over ``acc`` and ``params``.
        params: Constants, 0-d or ``[channels]``.
        acc: Integers in any number type, ``[n, channels, ...]``, contiguous.
        dtype: Type of the result.
    """
    channels = acc.shape[1]
    names = list(params)
    lifted = _Lifted()
    body = python_source(expr, lambda v: "x" if v == "acc" else f"p{names.index(v)}", lifted)
    lines = ["def kernel(acc, first, last, P, K, out):"]
    lines += [f"    k{i} = K[{i}]" for i in range(len(lifted.values))]
    lines += ["    for r in range(first, last):", "        c = r % P.shape[1]"]
    lines += [f"        p{i} = P[{i}, c]" for i in range(len(names))]
    lines += ["        for j in range(acc.shape[1]):", "            x = np.int64(acc[r, j])"]
    lines += [f"            {line}" for line in body]
    lines += ["            out[r, j] = result"]
    kernel = _compiled("\n".join(lines))
    table = np.zeros((max(1, len(names)), channels), np.int64)
    for i, name in enumerate(names):
        table[i] = params[name]
    flat = np.ascontiguousarray(acc).reshape(len(acc) * channels, -1)
    out = np.empty(flat.shape, dtype)
    numbers = np.asarray(lifted.values or [0], np.int64)
    _in_threads(lambda a, b: kernel(flat, a, b, table, numbers, out), len(flat), flat.shape[1])
    return out.reshape(acc.shape)


def run_elementwise(
    expr: Expr, params: Mapping[str, Ints], inputs: Sequence[NDArray[Any]], dtype: np.dtype[Any]
) -> NDArray[np.integer[Any]]:
    """An expression of tensors of one shape.

    Args:
        expr: Over ``x0``, ``x1`` … and ``params``.
        params: Constants, one number each.
        inputs: Integers, all of one shape.
        dtype: Type of the result.
    """
    names = list(params)
    lifted = _Lifted()
    variables = {f"x{i}": f"v{i}" for i in range(len(inputs))}
    body = python_source(expr, lambda v: variables.get(v) or f"P[{names.index(v)}]", lifted)
    arguments = ", ".join(f"a{i}" for i in range(len(inputs)))
    lines = [f"def kernel({arguments}, first, last, P, K, out):"]
    lines += [f"    k{i} = K[{i}]" for i in range(len(lifted.values))]
    lines += ["    for j in range(first, last):"]
    lines += [f"        v{i} = np.int64(a{i}[j])" for i in range(len(inputs))]
    lines += [f"        {line}" for line in body]
    lines += ["        out[j] = result"]
    kernel = _compiled("\n".join(lines))
    flat = [np.ascontiguousarray(x).reshape(-1) for x in inputs]
    out = np.empty(flat[0].size, dtype)
    table = np.asarray([params[name].item() for name in names] or [0], np.int64)
    numbers = np.asarray(lifted.values or [0], np.int64)
    _in_threads(lambda a, b: kernel(*flat, a, b, table, numbers, out), out.size, 1)
    return out.reshape(inputs[0].shape)
