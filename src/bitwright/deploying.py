"""From a quantized network to a measurement on a board, in one call."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bitwright.boards.board import Job
from bitwright.boards.registry import find_board
from bitwright.measured import Measured
from bitwright.program.program import Program
from bitwright.program.prune import prune as pruned

if TYPE_CHECKING:
    from bitwright.quantized import Quantized

Progress = Callable[[int, int | None, str], None]
SAMPLES = 2


def deploy(
    quantized: Quantized | Program | str | os.PathLike[str],
    board: str | os.PathLike[str],
    *,
    data: Any = None,
    samples: int = SAMPLES,
    inputs: Mapping[str, NDArray[np.integer[Any]]] | None = None,
    core: str | None = None,
    kernels: str | None = None,
    patches: str | None = None,
    compiler: str | None = None,
    config: str | None = None,
    frames: int | None = None,
    port: str | None = None,
    strict_timing: bool = False,
    clock_mhz: float | None = None,
    prune: bool = True,
    directory: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Measured:
    """Build a network for a board, run it there, compare every integer of every step, and count what it costs.

    Args:
        quantized: A quantized network, its ``.bw`` file, or an integer program, without float islands.
        board: Name of a board (``host``, ``qemu:mps2-an386``, ``serial:/dev/ttyACM0``), or a board file.
        data: Samples to run; random numbers over the range of the input by default, always the same.
        samples: How many.
        inputs: Input buffer → integers ``[n, ...]``, in place of both.
        core: The core that kernels are chosen for, ``"portable"`` for none; the board's own by default.
        kernels: Whose kernels; bitwright's own by default.
        patches: Run the first layers patch by patch, for less RAM: ``auto``, ``off`` or the most patches.
        compiler: ``gcc`` or ``zig``; gcc where it is installed by default.  On this machine the command of a compiler.
        config: Configuration of a processor that is made for the network, for boards that have one.
        frames: Also run this many inferences in one program, for boards that can: what that takes is the throughput.
        port: Serial port of a board that is plugged in, where it is not the only one.
        strict_timing: Refuse a bitstream that is too slow for its clock, instead of saying so.
        clock_mhz: Clock of the device, for frames per second; a usual one by default.
        prune: Take out channels that are constant, which changes no output.
        directory: Where to leave the files; a folder that is deleted by default.
        progress: Called with (done, in all or None, what is going on).

    Raises:
        UnknownTarget: there is no such board; the nearest are named.
        ToolMissing: compiler or emulator is missing; the message says how to install it.
        UnsupportedOp: a layer is a float island.
        DoesNotFit: the board has too little memory, and where.
        TimingMissed: its bitstream is too slow, and timing is strict.
    """
    found = find_board(board)
    job = job_of(
        quantized, core=core, kernels=kernels, patches=patches, compiler=compiler, config=config, frames=frames, port=port,
        strict_timing=strict_timing, clock_mhz=clock_mhz, prune=prune, directory=directory, progress=progress,
    )  # fmt: skip
    if inputs is None:
        inputs = random_inputs(job.program, samples) if data is None else read_inputs(quantized, data, samples)
    return found.measure(job, inputs)


def job_of(
    quantized: Quantized | Program | str | os.PathLike[str],
    *,
    core: str | None = None,
    kernels: str | None = None,
    patches: str | None = None,
    compiler: str | None = None,
    config: str | None = None,
    frames: int | None = None,
    port: str | None = None,
    strict_timing: bool = False,
    clock_mhz: float | None = None,
    prune: bool = True,
    directory: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Job:
    """What is to be done, with the network read and pruned; arguments as for :func:`deploy`.

    Raises:
        UnknownTarget: there is no such core.
    """
    from bitwright.mcu.microcontrollers import check_core
    from bitwright.quantized import open_quantized

    if core not in (None, "portable"):
        check_core(str(core))
    if isinstance(quantized, Program):
        program, contract = quantized, None
    else:
        q = open_quantized(quantized)
        program, contract = q.program, q.contract
    return Job(
        program=pruned(program)[0] if prune else program,
        whole=program,
        contract=contract,
        core=core,
        kernels=kernels,
        patches=patches,
        compiler=compiler,
        config=config,
        frames=frames,
        port=port,
        strict_timing=strict_timing or None,
        clock_mhz=clock_mhz,
        directory=None if directory is None else Path(directory),
        progress=progress,
    )


def random_inputs(program: Program, count: int, seed: int = 0) -> dict[str, NDArray[np.integer[Any]]]:
    """Samples that use the whole range of the input formats, the same every time."""
    from bitwright.export.c.writer import random_samples

    found = random_samples(program, count, seed)
    return {name: np.concatenate([sample[name] for sample in found]) for name in program.inputs}


def read_inputs(
    quantized: Quantized | Program | str | os.PathLike[str], data: Any, count: int
) -> dict[str, NDArray[np.integer[Any]]]:
    """Samples of a source as the integers of the inputs.

    Raises:
        DataError: samples cannot be used, or there are none.
    """
    from bitwright.errors import NoData
    from bitwright.model import open_samples
    from bitwright.quantized import open_quantized

    if isinstance(quantized, Program):
        raise NoData("An integer program has no input contract: give inputs, or the quantized network.")
    q = open_quantized(quantized)
    source = open_samples(q.network, q.contract, data, samples=count)
    parts = [q.integers(b.x if isinstance(b.x, dict) else {q.input_tensors[0]: b.x}) for b in source.batches(count)]
    if not parts:
        raise NoData("The source holds no samples.")
    return {name: np.concatenate([part[name] for part in parts]) for name in q.program.inputs}
