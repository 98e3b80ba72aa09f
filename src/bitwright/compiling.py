"""A quantized network as a library of machine code for this computer: the integers of the program, at its full speed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import ExportError, printable
from bitwright.export.c.writer import write
from bitwright.mcu.cpu.cores import cores, this_core
from bitwright.mcu.library import Library
from bitwright.program.prune import prune as pruned
from bitwright.quantized import Arrays, Quantized, open_quantized

THIS = "this"


@dataclass(frozen=True)
class Compiled:
    """A compiled network.  Several threads may use one object.

    Attributes:
        quantized: The network.
        library: Its machine code.
        core: The core whose kernels it has; None for portable C.
    """

    quantized: Quantized
    library: Library
    core: str | None

    def run(self, x: Arrays, *, raw: bool = False, threads: int = 1) -> Any:
        """The outputs for real inputs, as ``Quantized.run`` gives them.

        Args:
            x: ``[n, ...]``, or a mapping by input name.
            raw: Give the integers themselves.
            threads: How many samples are computed at a time.

        Returns:
            One array, or a list of them for a network of several outputs.

        Raises:
            InputMismatch: an input is missing or has another shape.
        """
        q = self.quantized
        values = self.integers(q.integers(x), threads=threads)
        outputs = [values[b] for b in q.program.outputs] if raw else q.reals(values)
        return outputs[0] if len(outputs) == 1 else list(outputs)

    def integers(
        self, inputs: Mapping[str, NDArray[np.integer[Any]]], *, threads: int = 1
    ) -> dict[str, NDArray[np.integer[Any]]]:
        """The integers of the outputs for those of the inputs, by buffer."""
        return self.library.run(inputs, threads=threads)


def compile_c(
    q: Quantized | str | os.PathLike[str], *, core: str | None = THIS, cc: str | None = None, prune: bool = True
) -> Compiled:
    """Compile a quantized network for this computer.

    Args:
        q: The network, or its ``.bw`` file.
        core: A core of a computer (``cortex-a72``, ``x86-64-vnni``), whose instructions this machine must have; the best
            that it has by default; None for portable C.
        cc: The C compiler; ``$CC``, ``cc``, ``gcc``, ``clang`` or the ziglang wheel's by default.
        prune: Take out channels that are constant, which changes no output.

    Raises:
        BadModelFile: the file cannot be read.
        UnsupportedOp: a layer stays in float.
        ToolMissing: there is no C compiler; the message says how to install one.
        ExportError: there is no such core.
    """
    network = open_quantized(q)
    chosen = this_core() if core == THIS else core
    if chosen is not None and chosen not in cores():
        raise ExportError(
            f"There is no core '{printable(chosen, 40)}' of a computer; there are {', '.join(cores())}, and "
            f"'{THIS}' for that of this machine."
        )
    program = pruned(network.program)[0] if prune else network.program
    with tempfile.TemporaryDirectory() as folder:
        tree = write(program, folder, core=chosen, contract=network.contract)
        library = Library(tree, program, cc=cc, core=chosen)
    return Compiled(network, library, chosen)
