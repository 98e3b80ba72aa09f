"""Emitted C as a shared library that Python calls: the integers of the board at the speed of this machine."""

from __future__ import annotations

import ctypes
import tempfile
import threading
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import InputMismatch, printable
from bitwright.mcu.cpu.cores import cores
from bitwright.mcu.host import OPTIMIZE, Tree, build
from bitwright.mcu.host import compiler as find_compiler
from bitwright.program.program import Program

Values = NDArray[np.integer[Any]]


class Library:
    """A compiled network.

    Calls are re-entrant: each has an arena of its own, so threads may share one library.

    Args:
        tree: Emitted files.
        program: Their program.
        cc: Compiler; this machine's by default.
        flags: Its options; by default those of ``core``.
        core: The core that the files were written for, one of ``mcu/cores/``; this machine by default.

    Raises:
        ToolMissing: there is no compiler.
    """

    def __init__(
        self,
        tree: Tree,
        program: Program,
        *,
        cc: str | None = None,
        flags: Sequence[str] | None = None,
        core: str | None = None,
    ) -> None:
        folder = tempfile.mkdtemp(prefix="bitwright-")
        path = Path(folder) / f"{tree.prefix}.so"
        self.compiler = build(tree, path, cc=cc, flags=core_flags(core, cc) if flags is None else flags, test=False)
        self.tree, self.program = tree, program
        self.handle = ctypes.CDLL(str(path))
        # The file may go as soon as it is mapped; systems that lock it keep it until the process ends.
        weakref.finalize(self, _remove, path)
        self._run = getattr(self.handle, f"{tree.prefix}_run")
        self._run.restype = ctypes.c_int
        self._own = threading.local()

    def run(self, inputs: Mapping[str, Values], *, threads: int = 1) -> dict[str, Values]:
        """The integers of the outputs.

        Args:
            inputs: Input buffer → integers ``[n, ...]`` in the network's own order.
            threads: How many samples are computed at a time.

        Returns:
            Output buffer → integers ``[n, ...]``.

        Raises:
            InputMismatch: an input is missing or has another shape.
        """
        program = self.program
        count = len(inputs.get(program.inputs[0], ()))
        for name in program.inputs:
            shape = program.buffers[name].shape
            if name not in inputs or np.shape(inputs[name]) != (count, *shape[1:]):
                raise InputMismatch(
                    f"Input '{printable(name)}' must be integers of shape [n, {', '.join(map(str, shape[1:]))}], not "
                    f"{list(np.shape(inputs.get(name, ())))}."
                )
        given = [self.stored(name, np.asarray(inputs[name])) for name in program.inputs]
        made = {n: np.empty((count, program.buffers[n].size), program.buffers[n].format.dtype) for n in program.outputs}
        arrays = [*given, *made.values()]

        def work(samples: range) -> None:
            arena = self._arena()
            for i in samples:
                status = self._run(*(_pointer(a, i) for a in arrays), _pointer(arena, 0))
                if status != 0:
                    raise InputMismatch(f"{self.tree.prefix}_run refused its arguments (status {status}).")

        threads = max(1, min(threads, count))
        if threads == 1:
            work(range(count))
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(work, [range(start, count, threads) for start in range(threads)]))
        return {name: self.restored(name, flat) for name, flat in made.items()}

    def stored(self, name: str, values: Values) -> Values:
        """Samples ``[n, ...]`` of a buffer as its C type ``[n, size]`` in storage order."""
        buffer, layout = self.program.buffers[name], self.tree.layouts[name]
        rows = np.asarray(values, dtype=buffer.format.dtype)
        if layout.order is not None and layout.order[0] == 0:
            turned = rows.reshape(-1, *buffer.shape[1:]).transpose(layout.order)
            return np.ascontiguousarray(turned).reshape(-1, buffer.size)
        return np.ascontiguousarray(rows.reshape(-1, buffer.size)[:, layout.positions])

    def restored(self, name: str, rows: Values) -> Values:
        """The inverse of :meth:`stored`."""
        shape, layout = self.program.buffers[name].shape, self.tree.layouts[name]
        if layout.order is not None and layout.order[0] == 0:
            turned = rows.reshape(-1, *(shape[axis] for axis in layout.order[1:]))
            return np.ascontiguousarray(turned.transpose(np.argsort(layout.order)))
        out = np.empty_like(rows)
        out[:, layout.positions] = rows
        return out.reshape(-1, *shape[1:])

    def _arena(self) -> NDArray[np.int64]:
        """Working memory of this thread, kept between calls."""
        if not hasattr(self._own, "arena"):
            self._own.arena = np.zeros(self.arena_bytes // 8 + 1, np.int64)
        found: NDArray[np.int64] = self._own.arena
        return found

    @property
    def arena_bytes(self) -> int:
        """Working memory of one call."""
        return self.tree.plan.arena_bytes


def core_flags(core: str | None, cc: str | None = None) -> tuple[str, ...]:
    """Options that make code for a core, or for this machine where none is named.

    Args:
        core: One of ``mcu/cores/``, or None.
        cc: The compiler; zig has names of its own.
    """
    zig = "zig" in Path(find_compiler(cc)[0]).name
    if core in cores():
        chosen = cores()[core]
        return (*OPTIMIZE, *(("-target", chosen.zig.target, *chosen.zig.flags) if zig else chosen.gcc.flags))
    return (*OPTIMIZE, "-mcpu=native" if zig else "-march=native")


def _pointer(array: NDArray[Any], sample: int) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data + sample * array.strides[0])


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.parent.rmdir()
