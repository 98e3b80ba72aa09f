"""What a board is to everybody who runs networks on one: it measures a program, and it runs batches of samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import ExportError, printable
from bitwright.measured import Measured
from bitwright.program.program import Program

if TYPE_CHECKING:
    from bitwright.data.contract import InputContract

Values = NDArray[np.integer[Any]]
Progress = Callable[[int, int | None, str], None]


@dataclass(frozen=True, kw_only=True)
class Job:
    """What the user asked for.  None and False mean: as the board does it by itself.

    Attributes:
        program: An integer program.
        whole: The program before channels were taken out, if any were.
        contract: The input contract.
        core: The core that kernels are chosen for.
        kernels: Whose kernels.
        patches: How first layers run patch by patch, as :func:`bitwright.export` has it for C.
        compiler: ``gcc`` or ``zig``; or the command of a compiler, where the board is this machine.
        config: Configuration of a processor that is made for the network.
        frames: Inferences in one program, for figures of throughput.
        port: Serial port of a board that has one beside its name.
        strict_timing: Refuse a bitstream that is too slow for its clock.
        clock_mhz: Clock of the device, for figures per second.
        directory: Where to leave what was built.
        progress: Called with (done, in all or None, what is going on).
    """

    program: Program
    whole: Program | None = None
    contract: InputContract | None = None
    core: str | None = None
    kernels: str | None = None
    patches: str | None = None
    compiler: str | None = None
    config: str | None = None
    frames: int | None = None
    port: str | None = None
    strict_timing: bool | None = None
    clock_mhz: float | None = None
    directory: Path | None = None
    progress: Progress | None = None

    def refuse(self, board: str, *names: str) -> None:
        """Refuse options that the board has no meaning for.

        Raises:
            ExportError: one of ``names`` was given.
        """
        for name in names:
            value = getattr(self, name)
            if value is not None:
                words = name.replace("_", " ")
                given = words if value is True else f"{words} '{printable(value, 60)}'"
                raise ExportError(f"Board {printable(board, 60)} has no {words}: leave out {given}.")

    def tell(self, what: str) -> None:
        """Report what is going on."""
        if self.progress is not None:
            self.progress(0, None, what)


class Session(Protocol):
    """A network that is ready on a board."""

    @property
    def toolchain(self) -> str:
        """What built and runs it, with versions."""

    def run(self, inputs: Mapping[str, Values]) -> dict[str, Values]:
        """The integers of the outputs ``[n, ...]`` for those of the inputs, by buffer."""


class Board(Protocol):
    """A machine, real or imitated, that programs run on."""

    @property
    def name(self) -> str:
        """What the user writes after ``--board``."""

    @property
    def summary(self) -> str:
        """What it is, in a line."""

    def measure(self, job: Job, inputs: Mapping[str, Values]) -> Measured:
        """Build the program, run samples, compare every integer with the reference, and count."""

    def session(self, job: Job) -> AbstractContextManager[Session]:
        """Build the program and keep it ready for batches of samples."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """Boards of one kind.

    Attributes:
        names: Their names and what each is; a name in capitals stands for a word of the user's (``serial:PORT``).
        find: The board of a name, or None if the name is of another family.
    """

    names: Callable[[], Mapping[str, str]]
    find: Callable[[str], Board | None]
