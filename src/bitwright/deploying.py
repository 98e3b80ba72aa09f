"""From a program to a measurement on a board, in one call."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.data.contract import InputContract
from bitwright.export.c.writer import random_samples, write
from bitwright.mcu.board import load_board
from bitwright.mcu.firmware import STACK_BYTES, Which
from bitwright.mcu.qemu import Measured, measure
from bitwright.program.program import Program
from bitwright.program.prune import prune as pruned

SAMPLES = 2


def deploy(
    program: Program,
    board: str | Path,
    *,
    inputs: Mapping[str, NDArray[np.integer[Any]]] | None = None,
    which: Which = "gcc",
    prune: bool = True,
    portable: bool = False,
    contract: InputContract | None = None,
    directory: str | Path | None = None,
) -> Measured:
    """Write a program as C for a board, build it, run it there, compare every integer and count instructions.

    Args:
        program: An integer program without float islands.
        board: Name of a board, or a board file.
        inputs: Input buffer → integers ``[n, ...]``; two random samples by default.
        which: ``gcc`` or ``zig``.
        prune: Take out channels that are constant, which changes no output.
        portable: Use no kernels for the board's core.
        contract: The input contract, for the function that takes pixels.
        directory: Where to leave the C files; a folder that is deleted by default.

    Raises:
        UnknownTarget: there is no such board; the nearest are named.
        ToolMissing: compiler or emulator is missing; the message says how to install it.
        UnsupportedOp: a layer is a float island.
        DoesNotFit: the board has too little memory, and where.
    """
    chosen = load_board(board)
    small = pruned(program)[0] if prune else program
    if inputs is None:
        samples = random_samples(small, SAMPLES)
        inputs = {name: np.concatenate([s[name] for s in samples]) for name in small.inputs}
    given = sum(small.buffers[name].size_bytes for name in (*small.inputs, *small.outputs))
    with tempfile.TemporaryDirectory() as folder:
        tree = write(
            small,
            folder if directory is None else directory,
            core=None if portable else chosen.core,
            contract=contract,
            flash_bytes=chosen.flash.bytes,
            ram_bytes=chosen.ram.bytes - STACK_BYTES - 8192 - given,
        )
        return measure(tree, small, chosen, inputs, which=which)
