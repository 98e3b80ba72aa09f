"""``sim:…``: the open processor, as a model or as its own hardware description in a simulator."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from bitwright.boards.board import Board, Family, Job, Session, Values
from bitwright.errors import DoesNotFit, printable
from bitwright.fpga.config import ProcessorConfig, load_config
from bitwright.fpga.costing import Batch, Ends, cost, model_ends
from bitwright.fpga.cycles import timing
from bitwright.fpga.image import Image, Segment, compile_program
from bitwright.fpga.running import Functional, Machine, fetch, run_batch, run_frame, run_frames, sample_at
from bitwright.measured import Cost, Measured
from bitwright.program.program import Program
from bitwright.simulate import reference

Kind = Literal["model", "cxxrtl", "verilator"]
USUAL_CONFIG = "dlp576"
NOT_FOR_MODELS = ("core", "kernels", "patches", "compiler", "directory", "port", "strict_timing")
"""Options without a meaning here."""
SUMMARIES: Mapping[Kind, str] = {
    "model": "The open processor, functional model and cycle model",
    "cxxrtl": "The open processor, its RTL in CXXRTL",
    "verilator": "The open processor, its RTL in Verilator",
}


@dataclass(frozen=True)
class Simulated:
    """The processor without a board.

    Attributes:
        kind: What stands for the hardware.
    """

    kind: Kind

    @property
    def name(self) -> str:
        """What the user writes after ``--board``."""
        return f"sim:{self.kind}"

    @property
    def summary(self) -> str:
        """What it is."""
        return SUMMARIES[self.kind]

    def measure(self, job: Job, inputs: Mapping[str, Values]) -> Measured:
        """See ``Board.measure``.  Every tensor in external memory is compared, and all that the host computes.

        Raises:
            UnknownTarget: there is no such configuration.
            DoesNotFit: a layer or the network does not fit it.
            ToolMissing: a tool for simulating is missing.
        """
        job.refuse(self.name, *NOT_FOR_MODELS)
        config = load_config(job.config or USUAL_CONFIG)
        job.tell("compiling")
        image = compile_program(job.program, config, keep=True)
        times = timing(image)
        machine = self._machine(image, job)
        began = time.monotonic()
        checks = check_frames(image, machine, inputs, job, "running", model_ends(times, image))
        checked, mismatches, first = checks.checked, checks.mismatches, checks.first
        batch = None
        if job.frames is not None and job.frames > 1:
            several = compile_program(job.program, config, frames=job.frames)
            batch, good, bad, where = check_together(several, self._machine(several, job), inputs, job)
            checked, mismatches, first = checked + good, mismatches + bad, first or where
        found = cost(image, checks.ends[0], times, device=f"{config.name} on {self.name}", clock_mhz=job.clock_mhz,
                     basis="estimated" if self.kind == "model" else "measured", batch=batch)  # fmt: skip
        return Measured(
            board=self.name,
            toolchain=f"{config.name}, {config.macs} multipliers, fingerprint {config.fingerprint:#010x}",
            cost=found,
            samples=len(checks.ends),
            outputs_checked=checked,
            mismatches=mismatches,
            first_mismatch=first,
            count_range=checks.count_range,
            seconds=time.monotonic() - began,
        )

    def _machine(self, image: Image, job: Job) -> Machine:
        if self.kind == "model":
            return Functional(image)
        from bitwright.fpga.sim.machine import Simulated as Rtl

        return Rtl(image, self.kind, say=job.tell, on_cycles=lambda n: job.tell(f"{n:,} cycles"))

    @contextmanager
    def session(self, job: Job) -> Iterator[Session]:
        """See ``Board.session``."""
        job.refuse(self.name, *NOT_FOR_MODELS)
        config = load_config(job.config or USUAL_CONFIG)
        image = compile_program(job.program, config)
        yield _Session(image, self._machine(image, job), f"{config.name}, {self.summary}")


@dataclass(frozen=True)
class _Session:
    image: Image
    machine: Machine
    toolchain: str

    def run(self, inputs: Mapping[str, Values]) -> dict[str, Values]:
        """One sample after the other."""
        return run_batch(self.image, self.machine, inputs)


@runtime_checkable
class Timed(Protocol):
    """A machine that counts its cycles, and knows when a layer ended."""

    cycles: int

    def profile(self, stamp: int) -> int:
        """The cycle at which a layer's last result was stored."""


class Recorder:
    """A machine that notes when layers ended, as far as it knows."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.write, self.read = machine.write, machine.read
        self._found: list[tuple[int, dict[int, int]]] = []

    def run(self, segment: Segment) -> None:
        """Run and read the profile."""
        machine = self.machine
        if not isinstance(machine, Timed):
            machine.run(segment)
            return
        before = machine.cycles
        machine.run(segment)
        self._found.append((machine.cycles - before, {number: machine.profile(number) for number in segment.jobs}))

    @property
    def ends(self) -> Ends | None:
        """What was noted; None from a machine that does not know."""
        return Ends(tuple(self._found)) if isinstance(self.machine, Timed) else None


@dataclass(frozen=True)
class Checks:
    """Samples that ran.

    Attributes:
        ends: When the layers of each ended.
        checked: Integers compared with the reference.
        mismatches: How many differed.
        first: The first of them in words.
    """

    ends: tuple[Ends, ...]
    checked: int
    mismatches: int
    first: str

    @property
    def count_range(self) -> tuple[int, int]:
        """Fewest and most cycles of a sample."""
        counts = [one.cycles for one in self.ends]
        return min(counts), max(counts)


def check_frames(
    image: Image, machine: Machine, inputs: Mapping[str, Values], job: Job, what: str, otherwise: Ends
) -> Checks:
    """Run samples, and compare every tensor in external memory and all that the host computes.

    Args:
        image: The compiled program, with all its tensors kept.
        machine: Runs it.
        inputs: Input buffer → integers ``[n, ...]``.
        job: Whose progress is reported.
        what: What is going on.
        otherwise: When layers end, where the machine does not know.
    """
    count = len(next(iter(inputs.values())))
    checked = mismatches = 0
    first = ""
    ends: list[Ends] = []
    for at in range(count):
        if job.progress is not None:
            job.progress(at, count, what)
        sample = sample_at(inputs, at)
        recorder = Recorder(machine)
        run_frame(image, recorder, sample)
        ends.append(recorder.ends or otherwise)
        good, bad, where = compare(image, machine, sample)
        checked, mismatches, first = checked + good, mismatches + bad, first or where
    return Checks(tuple(ends), checked, mismatches, first)


def check_together(
    image: Image, machine: Machine, inputs: Mapping[str, Values], job: Job
) -> tuple[Batch, int, int, str]:
    """Run several frames in one program, and compare what comes out.

    Args:
        image: Compiled for several frames.
        machine: Runs it.
        inputs: Input buffer → integers ``[n, ...]``; they are taken again where there are fewer than frames.
        job: Whose progress is reported.

    Returns:
        Cycles, integers compared, how many differ, and the first in words.
    """
    frames = image.frames.count
    recorder = Recorder(machine)
    count = len(next(iter(inputs.values())))
    samples = [sample_at(inputs, at % count) for at in range(frames)]
    job.tell(f"{frames} frames in one program")
    found = run_frames(image, recorder, samples)
    checked = mismatches = 0
    first = ""
    for at, (sample, got) in enumerate(zip(samples, found, strict=True)):
        for name, want in reference.run(job.program, sample).items():
            wrong = int((got[name] != want).sum())
            checked, mismatches = checked + want.size, mismatches + wrong
            if wrong and not first:
                first = f"{printable(name)} of frame {at} in one program differs in {wrong} integers."
    return Batch(frames, (recorder.ends or model_ends(timing(image), image)).cycles), checked, mismatches, first


def compare(image: Image, machine: Machine, sample: Mapping[str, Values]) -> tuple[int, int, str]:
    """Integers compared with the reference, how many differ, and the first in words."""
    program: Program = image.program
    want = reference.run(program, sample, keep=True)
    inside = {place.storage for places in image.graph.inputs.values() for place in places}
    checked = mismatches = 0
    first = ""
    for name, place in image.graph.places.items():
        if name not in want or place.storage in inside or place.storage not in image.addresses:
            continue
        got = fetch(image, machine, name)
        wrong = np.flatnonzero((got != want[name]).reshape(-1))
        checked += got.size
        mismatches += len(wrong)
        if len(wrong) and not first:
            at = int(wrong[0])
            first = (
                f"The first is {printable(name)}[{at}]: {int(got.reshape(-1)[at])} where the reference has "
                f"{int(want[name].reshape(-1)[at])}."
            )
    return checked, mismatches, first


def estimate_config(job: Job, name: str, *, clock_mhz: float | None = None) -> Cost:
    """What an inference costs on a configuration, by the cycle model.

    Raises:
        UnknownTarget: there is no such configuration.
        DoesNotFit: a layer or the network does not fit it.
    """
    config: ProcessorConfig = load_config(name)
    image = compile_program(job.program, config)
    times = timing(image)
    return cost(image, model_ends(times, image), times, device=config.name, basis="estimated", clock_mhz=clock_mhz,
                batch=batch_of(job.program, config, job.frames, len(image.instructions())))  # fmt: skip


LONG = 8_000
"""Instructions of a program that is not repeated eight times without being asked for."""


def batch_of(program: Program, config: ProcessorConfig, frames: int | None, instructions: int = 0) -> Batch:
    """What several frames in one program take, by the cycle model.

    Args:
        program: An integer program.
        config: The processor.
        frames: How many; by default as many as there is memory for, up to eight, and two of long programs.
        instructions: Of the program for one frame.

    Raises:
        DoesNotFit: there is no memory for ``frames``.
    """
    for count in (frames,) if frames is not None else (8, 4, 2, 1) if instructions < LONG else (2, 1):
        try:
            return Batch(count, timing(compile_program(program, config, frames=count)).cycles)
        except DoesNotFit:
            if count in (1, frames):
                raise
    raise AssertionError("one frame fits or is refused")


def find(name: str) -> Board | None:
    """The simulated processor of this name."""
    kinds: tuple[Kind, ...] = ("model", "cxxrtl", "verilator")
    return next((Simulated(kind) for kind in kinds if name == f"sim:{kind}"), None)


FAMILY = Family(names=lambda: {f"sim:{kind}": text for kind, text in SUMMARIES.items()}, find=find)
