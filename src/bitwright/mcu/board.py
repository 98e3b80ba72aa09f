"""Boards: what a machine is, where its memory lies, which compiler flags it wants and how its timer is read.

A board is a file, ``boards/NAME.toml``; nothing else names one.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bitwright.errors import BadTargetFile, UnknownTarget, printable
from bitwright.targets.read import Where, build

FOLDER = Path(__file__).parent / "boards"


@dataclass(frozen=True)
class Machine:
    """How QEMU imitates the board.

    Attributes:
        system: QEMU's command.
        machine: Its ``-M``.
        package: The apt package that has the command.
        arguments: Further arguments.
    """

    system: str
    machine: str
    package: str
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Gcc:
    """The cross compiler.

    Attributes:
        command: Its name.
        package: The apt package that has it.
        flags: What makes code for this core.
        bare: It comes without a C library; ours is used, which has the four functions that the network needs.
    """

    command: str
    package: str
    flags: tuple[str, ...]
    bare: bool = False


@dataclass(frozen=True)
class Zig:
    """The compiler of the ziglang wheel, in place of gcc.

    Attributes:
        target: Its ``-target``.
        flags: What makes code for this core.
    """

    target: str
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Memory:
    """A stretch of memory.

    Attributes:
        origin: First address.
        bytes: Its size.
    """

    origin: int
    bytes: int


@dataclass(frozen=True)
class Timer:
    """What counts time, which in QEMU is instructions.

    Attributes:
        kind: ``cmsdk-dual`` (Arm CMSDK dual timer), ``sse-counter`` (system counter of Arm SSE-300), or ``instret``
            (the instruction counter of RISC-V).
        address: Its registers.
        hz: Its ticks per second.
    """

    kind: Literal["cmsdk-dual", "sse-counter", "instret"]
    address: int
    hz: int


@dataclass(frozen=True)
class Board:
    """A machine that networks run on.

    Attributes:
        name: What the user writes after ``--board``.
        summary: What it is, in a line.
        core: The core that kernels are chosen for.
        startup: Which start-up code, ``firmware/start_NAME.c``.
        qemu: How it is imitated.
        gcc: Its compiler.
        zig: The other compiler.
        flash: Where code and constants go.
        ram: Where the arena goes.
        timer: What counts.
    """

    name: str
    summary: str
    core: str
    startup: Literal["arm", "riscv"]
    qemu: Machine
    gcc: Gcc
    zig: Zig
    flash: Memory
    ram: Memory
    timer: Timer


def list_boards() -> tuple[str, ...]:
    """Names of all boards that come with the package."""
    return tuple(sorted(f"qemu:{file.stem}" for file in FOLDER.glob("*.toml")))


def load_board(name_or_path: str | os.PathLike[str]) -> Board:
    """A board by name, or from a ``.toml`` file of your own.

    The series may be left out, or be another one of the maker's: ``qemu:an386``, ``qemu:mps2-an547``.

    Raises:
        UnknownTarget: no board has this name.
        BadTargetFile: the file is missing, damaged, or says something impossible.
    """
    text = os.fspath(name_or_path)
    if text.endswith(".toml"):
        return _read(Path(text))
    name = full_name(text)
    if name is None:
        raise UnknownTarget(
            f'There is no board called "{printable(text, 60)}". The boards are {", ".join(list_boards())}.'
        )
    return _read(FOLDER / f"{name.removeprefix('qemu:')}.toml")


def full_name(text: str) -> str | None:
    """The board that ``text`` names, whole or without its series; None if there is none, or several."""
    known = list_boards()
    if text in known:
        return text
    family, _, short = text.partition(":")
    word = short.removeprefix("mps2-").removeprefix("mps3-")
    found = [name for name in known if word and word in name.removeprefix("qemu:").split("-")]
    return found[0] if family == "qemu" and len(found) == 1 else None


def board_of_core(core: str) -> Board | None:
    """A board that comes with the package and has this core, or None."""
    return next((board for board in map(load_board, list_boards()) if board.core == core), None)


def _read(path: Path) -> Board:
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadTargetFile(
            f"Board file {printable(path)} cannot be read: {printable(error)}. Give the path of a TOML file like those "
            "in the folder bitwright/mcu/boards.",
            path=str(path),
        ) from error
    return build(Board, table, Where(str(path)))
