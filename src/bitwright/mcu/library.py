"""Emitted C as a shared library that Python calls: the integers of the board at the speed of this machine."""

from __future__ import annotations

import ctypes
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import InputMismatch, printable
from bitwright.mcu.host import OPTIMIZE, Tree, build
from bitwright.program.program import Program

Values = NDArray[np.integer[Any]]


class Library:
    """A compiled network.

    Calls are re-entrant: each has an arena of its own, so threads may share one library.

    Args:
        tree: Emitted files.
        program: Their program.
        cc: Compiler; this machine's by default.
        flags: Its options.

    Raises:
        ToolMissing: there is no compiler.
    """

    def __init__(
        self,
        tree: Tree,
        program: Program,
        *,
        cc: str | None = None,
        flags: Sequence[str] = (*OPTIMIZE, "-march=native"),
    ) -> None:
        folder = tempfile.mkdtemp(prefix="bitwright-")
        path = Path(folder) / f"{tree.prefix}.so"
        self.compiler = build(tree, path, cc=cc, flags=flags, test=False)
        self.tree, self.program = tree, program
        self.handle = ctypes.CDLL(str(path))
        # The file may go as soon as it is mapped; systems that lock it keep it until the process ends.
        weakref.finalize(self, _remove, path)
        self._run = getattr(self.handle, f"{tree.prefix}_run")
        self._run.restype = ctypes.c_int

    def run(self, inputs: Mapping[str, Values]) -> dict[str, Values]:
        """The integers of the outputs.

        Args:
            inputs: Input buffer → integers ``[n, ...]`` in the network's own order.

        Returns:
            Output buffer → integers ``[n, ...]``.

        Raises:
            InputMismatch: an input is missing or has another shape.
        """
        program = self.program
        for name in program.inputs:
            shape = program.buffers[name].shape
            if name not in inputs or np.shape(inputs[name])[1:] != shape[1:]:
                raise InputMismatch(
                    f"Input '{printable(name)}' must be integers of shape [n, {', '.join(map(str, shape[1:]))}], not "
                    f"{list(np.shape(inputs.get(name, ())))}."
                )
        count = len(inputs[program.inputs[0]])
        arena = np.zeros(self.arena_bytes // 8 + 1, np.int64)
        results: dict[str, list[Values]] = {name: [] for name in program.outputs}
        for i in range(count):
            given = [self.stored(name, np.asarray(inputs[name])[i : i + 1]) for name in program.inputs]
            made = [np.empty(program.buffers[n].size, program.buffers[n].format.dtype) for n in program.outputs]
            status = self._run(*(_pointer(a) for a in (*given, *made, arena)))
            if status != 0:
                raise InputMismatch(f"{self.tree.prefix}_run refused its arguments (status {status}).")
            for name, flat in zip(program.outputs, made, strict=True):
                results[name].append(self.tree.layouts[name].restored(flat))
        none = {n: np.empty((0, *program.buffers[n].shape[1:]), program.buffers[n].format.dtype) for n in results}
        return {name: np.concatenate(parts) if parts else none[name] for name, parts in results.items()}

    def stored(self, name: str, values: Values) -> Values:
        """One sample of a buffer as its C type, flat, in storage order."""
        buffer = self.program.buffers[name]
        flat = self.tree.layouts[name].stored(values.reshape(buffer.shape))
        return np.ascontiguousarray(flat, dtype=buffer.format.dtype)

    @property
    def arena_bytes(self) -> int:
        """Working memory of one call."""
        return self.tree.plan.arena_bytes


def _pointer(array: NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.parent.rmdir()
