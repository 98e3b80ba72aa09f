"""``serial:PORT``: a real board at the other end of a serial line, which runs the generated ``NAME_serial.c``."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from bitwright.boards.board import Board, Family, Job, Session, Values
from bitwright.boards.writing import cost, patched, written
from bitwright.errors import ExportError, printable
from bitwright.export.c.serialtext import identity, offsets
from bitwright.export.c.writer import Exported
from bitwright.mcu import harness
from bitwright.mcu.link import HELLO, OUTPUTS, SUMS, TICKS, Link
from bitwright.mcu.microcontrollers import microcontrollers
from bitwright.mcu.port import open_port
from bitwright.measured import Measured
from bitwright.program.program import Program
from bitwright.simulate import reference

STEM = "serial:"
ECHOES = 5


@dataclass(frozen=True)
class Remote:
    """A network on a board.

    Attributes:
        link: The line to it.
        tree: The emitted files, for the order of elements.
        program: The program that the board runs.
    """

    link: Link
    tree: Exported
    program: Program

    @property
    def toolchain(self) -> str:
        """See ``Session.toolchain``."""
        return "its own build, over a serial line"

    def write(self, inputs: Mapping[str, Values], index: int) -> None:
        """Send the inputs of a sample."""
        places, size = offsets(self.program, self.program.inputs)
        data = bytearray(size)
        for name, at in places.items():
            one = harness.stored(self.tree, self.program, name, np.asarray(inputs[name])[index : index + 1])
            data[at : at + len(one)] = one
        self.link.put(bytes(data))

    def outputs(self) -> dict[str, Values]:
        """The outputs of the last sample."""
        places, size = offsets(self.program, self.program.outputs)
        data = self.link.get(OUTPUTS, size)
        found = {}
        for name, at in places.items():
            found[name] = self._values(name, data[at:])
        return found

    def _values(self, name: str, data: bytes) -> Values:
        buffer = self.program.buffers[name]
        flat = np.frombuffer(data, buffer.format.dtype.newbyteorder("<"), buffer.size).astype(buffer.format.dtype)
        return np.asarray(self.tree.layouts[name].restored(flat))

    def run(self, inputs: Mapping[str, Values]) -> dict[str, Values]:
        """See ``Session.run``."""
        parts = []
        for i in range(harness.samples_in(inputs)):
            self.write(inputs, i)
            self.link.run()
            parts.append(self.outputs())
        return {name: np.concatenate([part[name] for part in parts]) for name in self.program.outputs}

    def differing(self, index: int, want: Values) -> tuple[int, str]:
        """How many integers of a step differ, and the first of them in words; the step is run again for it."""
        step = self.program.steps[index]
        buffer = self.program.buffers[step.outputs[0]]
        data = self.link.step(index, buffer.size_bytes)
        if len(data) != buffer.size_bytes:
            raise ExportError(f"The board sends {len(data)} bytes of step '{printable(step.name)}', not all.")
        got = self._values(buffer.name, data)
        wrong = np.argwhere(np.asarray(want).reshape(got.shape) != got)
        if not len(wrong):
            return 1, f"Step '{printable(step.name)}' differs from one run to the next."
        place = tuple(int(v) for v in wrong[0])
        words = (
            f"The first is in step '{printable(step.name)}' (layer '{printable(step.layer)}') at {list(place)}: "
            f"{int(got[place])} instead of {int(np.asarray(want).reshape(got.shape)[place])}."
        )
        return len(wrong), words


@dataclass(frozen=True)
class OverSerial:
    """A board at a serial port.

    Attributes:
        name: As the user wrote it, ``serial:PORT`` or ``serial:PORT@BAUD``.
    """

    name: str
    summary: str = "A real board that runs the generated serial program"

    @contextmanager
    def session(self, job: Job) -> Iterator[Session]:
        """See ``Board.session``."""
        with self._connected(job) as remote:
            yield remote

    @contextmanager
    def _connected(self, job: Job) -> Iterator[Remote]:
        job.refuse(self.name, "config", "frames", "port", "strict_timing", "compiler")
        link = Link(open_port(self.name.removeprefix(STEM)))
        try:
            programs = [job.whole or job.program, job.program]  # it may have been pruned
            if job.patches is not None:
                programs = [patched(replace(job, program=program), None).program for program in programs]
            known = {identity(program): program for program in programs}
            if link.greeting.identity not in known:
                raise ExportError(
                    f"The board at {printable(self.name)} runs another network: export this one with --to c, build it "
                    "with its NAME_serial.c, and flash it. If it was exported with --patches, give the same --core and "
                    "--patches here."
                )
            chosen = replace(job, program=known[link.greeting.identity], patches=None)
            with written(chosen, None) as tree:
                yield Remote(link, tree, chosen.program)
        finally:
            link.close()

    def measure(self, job: Job, inputs: Mapping[str, Values]) -> Measured:
        """See ``Board.measure``.

        What every step computes is compared by its CRC-32; where one differs, the step itself is fetched.

        Raises:
            ExportError: the port cannot be opened, nobody answers, or the board runs another network.
        """
        job.tell("connecting")
        start = time.perf_counter()
        with self._connected(job) as remote:
            program, count = remote.program, harness.samples_in(inputs)
            found = _Found()
            for i in range(count):
                _one_sample(remote, inputs, i, found)
                if job.progress is not None:
                    job.progress(i + 1, count, "running on the board")
            return self._measured(job, remote, found, time.perf_counter() - start, program)

    def _measured(self, job: Job, remote: Remote, found: _Found, seconds: float, program: Program) -> Measured:
        greeting = remote.link.greeting
        core = microcontrollers().get(job.core or "")
        clock = greeting.clock_hz or (job.clock_mhz or (core.mhz if core else 0)) * 1e6
        totals, steps = found.totals, found.steps
        notes: tuple[str, ...] = ()
        if greeting.counts_cycles and any(totals):
            basis = "measured: cycles of the board's own counter"
            rate = clock / totals[0] if clock and totals[0] else None
        else:
            rate = 1 / max(min(found.wall), 1e-9)
            basis = "measured from here, the time of the line taken off"
            totals = [round(wall * clock) for wall in found.wall]
            steps = [0] * len(program.steps)
            notes = (
                "The board counts no cycles: define bw_serial_ticks() and -DBW_SERIAL_TICKS to have them by layer.",
            )
        if remote.link.repeats:
            notes += (f"{remote.link.repeats} questions were asked again because of damaged or lost bytes.",)
        tree = remote.tree
        measured = cost(
            tree,
            self.name,
            totals[0],
            steps,
            unit="cycles",
            basis="measured",
            rate=(rate, basis),
            memory={
                "constant_bytes": tree.report["flash"]["constant_bytes"],
                "ram_bytes": greeting.arena_bytes + greeting.input_bytes + greeting.output_bytes,
            },
        )
        return Measured(
            board=self.name,
            toolchain=remote.toolchain,
            cost=replace(measured, notes=notes),
            samples=len(totals),
            outputs_checked=found.checked,
            mismatches=found.mismatches,
            first_mismatch=found.first,
            count_range=(min(totals), max(totals)),
            seconds=seconds,
        )


class _Found:
    """What comparing has found so far."""

    def __init__(self) -> None:
        self.checked = self.mismatches = 0
        self.first = ""
        self.totals: list[int] = []
        self.steps: list[int] = []
        self.wall: list[float] = []


def _one_sample(remote: Remote, inputs: Mapping[str, Values], index: int, found: _Found) -> None:
    program, link = remote.program, remote.link
    remote.write(inputs, index)
    echo = min(_timed(lambda: link.ask(HELLO)) for _ in range(ECHOES))
    found.wall.append(max(_timed(link.run) - echo, 1e-9))
    found.totals.append(link.run())
    outputs = remote.outputs()
    link.run(detailed=True)
    sums = link.table(SUMS)
    if index == 0:
        found.steps = list(link.table(TICKS)[1:])
    one = {name: np.asarray(x)[index : index + 1] for name, x in inputs.items()}
    expected = reference.run(program, one, keep=True)
    for at, step in enumerate(program.steps):
        name = step.outputs[0]
        want = np.asarray(expected[name])
        found.checked += want.size
        if zlib.crc32(harness.stored(remote.tree, program, name, want)) == sums[at]:
            continue
        wrong, words = (1, "") if found.first else remote.differing(at, want)
        found.mismatches += wrong
        found.first = found.first or f"{words} Sample {index}."
    for name in program.outputs:
        found.checked += outputs[name].size
        found.mismatches += int(
            np.count_nonzero(outputs[name] != np.asarray(expected[name]).reshape(outputs[name].shape))
        )


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def find(name: str) -> Board | None:
    """The board at a port."""
    return OverSerial(name) if name.startswith(STEM) and len(name) > len(STEM) else None


FAMILY = Family(names=lambda: {"serial:PORT": OverSerial("serial:PORT").summary}, find=find)
