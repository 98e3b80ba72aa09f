"""``ulx3s-25f``, ``icebreaker``, …: real boards that the open processor is built for, over their serial line."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from bitwright.boards.board import Board, Family, Job, Session, Values
from bitwright.boards.processor import check_frames, check_together
from bitwright.errors import ExportError, Mismatch, printable
from bitwright.fpga.board import BoardFile, list_boards, load_board
from bitwright.fpga.config import ProcessorConfig, load_config
from bitwright.fpga.costing import cost, model_ends
from bitwright.fpga.cycles import timing
from bitwright.fpga.image import Image, compile_program
from bitwright.fpga.link import Link
from bitwright.fpga.loader import find_loader, program
from bitwright.fpga.remote import Remote, check_processor
from bitwright.fpga.running import run_batch
from bitwright.mcu.port import open_port
from bitwright.measured import Measured

PATIENCE_S = FIRST_PATIENCE_S = 1.0
DEVICES = Path("/dev")
FIRST_TRIES = 2
"""Questions to a board that may not be programmed yet."""
RETURN_S = 10.0
"""A port may take so long to come back when its chip has programmed the board."""


@dataclass(frozen=True)
class Connected:
    """A board with the right processor and the network on it.

    Attributes:
        remote: The processor.
        board: The board.
        notes: What was done or was there already.
    """

    remote: Remote
    board: BoardFile
    notes: tuple[str, ...]

    @property
    def toolchain(self) -> str:
        """See ``Session.toolchain``."""
        config = self.remote.image.config
        return f"{config.name}, {config.macs} multipliers, fingerprint {config.fingerprint:#010x}"

    def run(self, inputs: Mapping[str, Values]) -> dict[str, Values]:
        """See ``Session.run``; one sample after the other."""
        return run_batch(self.remote.image, self.remote, inputs)


@dataclass(frozen=True)
class Real:
    """A board at a USB port.

    Attributes:
        name: As on the command line.
    """

    name: str

    @cached_property
    def file(self) -> BoardFile:
        """Its description."""
        return load_board(self.name)

    @property
    def summary(self) -> str:
        """See ``Board.summary``."""
        return self.file.summary

    def measure(self, job: Job, inputs: Mapping[str, Values]) -> Measured:
        """See ``Board.measure``.  Every tensor in external memory is compared, and all that the host computes.

        Raises:
            UnknownTarget: there is no such configuration.
            DoesNotFit: the network does not fit the processor, or the processor the board.
            ToolMissing: a tool for building or loading the bitstream is missing.
            TimingMissed: the bitstream is too slow, and timing is strict.
            ExportError: there is no board, or it does not answer.
        """
        began = time.monotonic()
        with self._connected(job, keep=True) as connected:
            remote = connected.remote
            times = timing(remote.image)
            known = model_ends(times, remote.image)
            checks = check_frames(remote.image, remote, inputs, job, "running on the board", known)
            checked, mismatches, first_mismatch = checks.checked, checks.mismatches, checks.first
            batch = None
            if job.frames is not None and job.frames > 1:
                several = compile_program(job.program, remote.image.config, frames=job.frames)
                machine = replace(remote, image=several)
                machine.load()
                batch, good, bad, where = check_together(several, machine, inputs, job)
                checked, mismatches, first_mismatch = checked + good, mismatches + bad, first_mismatch or where
            clock = job.clock_mhz or self.file.clocks(remote.image.config).clock_hz / 1e6
            found = cost(
                remote.image, checks.ends[0], times, device=f"{remote.image.config.name} on {self.name}",
                basis="measured", clock_mhz=clock, batch=batch,
            )  # fmt: skip
            notes = connected.notes
            if remote.link.repeats:
                notes += (f"{remote.link.repeats} questions were asked again because of damaged or lost bytes.",)
            return Measured(
                board=self.name,
                toolchain=connected.toolchain,
                cost=replace(found, notes=(*found.notes, *notes)),
                samples=len(checks.ends),
                outputs_checked=checked,
                mismatches=mismatches,
                first_mismatch=first_mismatch,
                count_range=checks.count_range,
                seconds=time.monotonic() - began,
            )

    @contextmanager
    def session(self, job: Job) -> Iterator[Session]:
        """See ``Board.session``."""
        with self._connected(job, keep=False) as connected:
            yield connected

    @contextmanager
    def _connected(self, job: Job, *, keep: bool) -> Iterator[Connected]:
        job.refuse(self.name, "core", "kernels", "patches", "compiler")
        board = self.file
        config = load_config(job.config or board.config)
        board.check(config)
        job.tell("compiling")
        image = compile_program(job.program, config, keep=keep)
        port = job.port or find_port(board)
        if "@" not in port:
            port = f"{port}@{board.baud}"
        link, notes = self._programmed(job, image, port)
        try:
            remote = Remote(image, link, board.clocks(config).clock_hz, lambda *news: _tell(job, *news))
            remote.load()
            if remote.loaded_before:
                notes = (*notes, "Loading the network skipped: the board has it already.")
                job.tell(notes[-1])
            yield Connected(remote, board, notes)
        finally:
            link.close()

    def _programmed(self, job: Job, image: Image, port: str) -> tuple[Link, tuple[str, ...]]:
        """A line to the right processor, which is built and loaded unless it is there already."""
        job.tell("connecting")
        link = self._right_one(image, port)
        if link is not None:
            note = f"Programming skipped: the board has {image.config.name} loaded already."
            job.tell(note)
            return link, (note,)
        find_loader()  # before anything takes time
        made, lines = build(self.file, image.config, job)
        program(self.file, made, job.tell)
        deadline = time.monotonic() + RETURN_S
        while True:
            try:
                link = Link(open_port(port), patience_s=PATIENCE_S)
                break
            except ExportError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        try:
            check_processor(link, image, self.name)
        except BaseException:
            link.close()
            raise
        return link, (f"Bitstream: {'; '.join(lines)}.",)

    def _right_one(self, image: Image, port: str) -> Link | None:
        """The line, if the right processor is at its end; None if anything else or nothing is."""
        link = Link(open_port(port), patience_s=FIRST_PATIENCE_S, tries=FIRST_TRIES)
        try:
            check_processor(link, image, self.name)
        except (ExportError, Mismatch):
            link.close()
            return None
        except BaseException:
            link.close()
            raise
        link.tries, link.patience_s = Link.TRIES, PATIENCE_S
        return link


def _tell(job: Job, done: int, size: int, what: str) -> None:
    if job.progress is not None:
        job.progress(done, size, what)


def build(board: BoardFile, config: ProcessorConfig, job: Job) -> tuple[Path, list[str]]:
    """The bitstream of a processor for a board, from the cache or made now, and its figures in words.

    Raises:
        ToolMissing: a tool is not installed.
        DoesNotFit: the device is too small.
        TimingMissed: it is too slow, and timing is strict.
    """
    from bitwright.fpga.bitstreams import board_bitstream

    made = board_bitstream(board, config, strict_timing=bool(job.strict_timing), say=job.tell)
    return made.path, made.lines()


def find_port(board: BoardFile) -> str:
    """The serial port of a board that is plugged in.

    Raises:
        ExportError: there is none, or more than one.
    """
    by_name = sorted(str(path) for path in (DEVICES / "serial" / "by-id").glob(board.port))
    found = by_name or sorted(str(path) for kind in ("ttyUSB*", "ttyACM*") for path in DEVICES.glob(kind))
    if len(found) == 1:
        return found[0]
    if not found:
        raise ExportError(
            f"No board is plugged in: there is no serial port for {board.name}. Connect it and power it; where its port has "
            "another name, give it with --port."
        )
    raise ExportError(
        f"Which port is that of {board.name}? There are {printable(', '.join(found), 300)}. Name it with --port."
    )


def find(name: str) -> Board | None:
    """The board of this name."""
    return Real(name) if name in list_boards() else None


FAMILY = Family(names=lambda: {name: load_board(name).summary for name in list_boards()}, find=find)
