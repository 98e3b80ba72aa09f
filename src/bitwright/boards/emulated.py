"""``qemu:…``: boards that QEMU imitates, with every instruction counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from bitwright.boards.board import Board, Family, Job, Session, Values
from bitwright.boards.compilers import which
from bitwright.boards.writing import cost, outcome, own_kernels, written
from bitwright.export.c.writer import Exported
from bitwright.mcu import board as machines
from bitwright.mcu import qemu
from bitwright.mcu.firmware import FIRMWARE_RAM, STACK_BYTES
from bitwright.mcu.microcontrollers import find_core
from bitwright.measured import Measured


@dataclass(frozen=True)
class Emulated:
    """A board in an emulator.

    Attributes:
        machine: Its description.
    """

    machine: machines.Board

    @property
    def name(self) -> str:
        """What the user writes after ``--board``."""
        return self.machine.name

    @property
    def summary(self) -> str:
        """What it is."""
        return self.machine.summary

    def measure(self, job: Job, inputs: Mapping[str, Values]) -> Measured:
        """See ``Board.measure``.

        Raises:
            ToolMissing: compiler or emulator is missing.
            DoesNotFit: the board has too little memory.
        """
        machine = self.machine
        with self._written(job) as tree:
            job.tell("compiling and running")
            counts = qemu.measure(tree, tree.program, machine, inputs, which=which(self.name, job.compiler))
            measured = cost(
                tree,
                machine.name,
                counts.totals[0],
                counts.steps,
                unit="instructions",
                basis="measured",
                rate=find_core(machine.core).frames_per_s(counts.totals[0], job.clock_mhz),
                memory={
                    "flash_bytes": counts.flash_bytes,
                    "ram_bytes": counts.ram_bytes,
                    "stack_bytes": counts.stack_bytes,
                },
                limits={"flash_bytes": machine.flash.bytes, "ram_bytes": machine.ram.bytes},
            )
        return outcome(machine.name, counts, measured)

    @contextmanager
    def session(self, job: Job) -> Iterator[Session]:
        """See ``Board.session``."""
        with self._written(job) as tree:
            job.tell("compiling")
            with qemu.Emulated(tree, tree.program, self.machine, which=which(self.name, job.compiler)) as ready:
                yield ready

    @contextmanager
    def _written(self, job: Job) -> Iterator[Exported]:
        job.refuse(self.name, "config", "frames", "port", "strict_timing")
        own_kernels(job, self.name)
        machine, program = self.machine, job.program
        given = sum(program.buffers[name].size_bytes for name in (*program.inputs, *program.outputs))
        ram = machine.ram.bytes - STACK_BYTES - FIRMWARE_RAM - given
        with written(job, machine.core, flash_bytes=machine.flash.bytes, ram_bytes=ram) as tree:
            yield tree


def find(name: str) -> Board | None:
    """The emulated board of this name or file."""
    if name.endswith(".toml"):
        return Emulated(machines.load_board(name))
    whole = machines.full_name(name)
    return None if whole is None else Emulated(machines.load_board(whole))


FAMILY = Family(names=lambda: {name: machines.load_board(name).summary for name in machines.list_boards()}, find=find)
