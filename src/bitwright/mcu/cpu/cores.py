"""Cores of computers that run an operating system: which instructions they have, and what compiles and runs code for them.

A core is a file, ``cores/NAME.toml``; nothing else names one.
"""

from __future__ import annotations

import platform
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from bitwright.targets.read import Where, build

FOLDER = Path(__file__).parent.parent / "cores"
Family = Literal["neon", "neon-dot", "avx2", "vnni", "avx512-vnni"]


@dataclass(frozen=True, kw_only=True)
class Compiler:
    """gcc for a core.

    Attributes:
        command: Its name; on a machine of that kind plain ``gcc`` serves too.
        package: The apt packages that have it and its C library.
        flags: What makes code for the core.
    """

    command: str
    package: str
    flags: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Clang:
    """The compiler of the ziglang wheel for a core.

    Attributes:
        target: Its ``-target``.
        flags: What makes code for the core.
    """

    target: str
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Emulator:
    """What runs programs for a core on other machines.

    Attributes:
        command: Its name.
        package: The apt package that has it.
        arguments: Before the program's path.
    """

    command: str
    package: str
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Core:
    """A core that kernels are written for.

    Attributes:
        summary: Which chips have it, in a line.
        family: Which kernels it runs.
        features: The machine's name, and the flags that ``/proc/cpuinfo`` shows on such a core.
        gcc: Its compiler.
        zig: The other compiler.
        emulator: What runs it elsewhere, if anything does.
    """

    summary: str
    family: Family
    features: tuple[str, ...]
    gcc: Compiler
    zig: Clang
    emulator: Emulator | None = None

    def runs_on(self, machine: str, flags: Sequence[str]) -> bool:
        """Whether a machine of this name with these flags runs its code."""
        return self.features[0] == machine and set(self.features[1:]) <= set(flags)


@cache
def cores() -> dict[str, Core]:
    """All cores by name, those with the fastest kernels of their machine last."""
    order = ("neon", "neon-dot", "avx2", "vnni", "avx512-vnni")
    found = {
        file.stem: build(Core, tomllib.loads(file.read_text("utf-8")), Where(str(file)))
        for file in sorted(FOLDER.glob("*.toml"))
    }
    return dict(sorted(found.items(), key=lambda item: order.index(item[1].family)))


def family_of(core: str | None) -> Family | None:
    """The kernels that a core runs, or None for a core that is none of these."""
    return cores()[core].family if core in cores() else None


def this_core() -> str | None:
    """The name of the core with the fastest kernels that this machine runs, or None."""
    machine, flags = platform.machine(), _flags()
    return next((name for name, core in reversed(cores().items()) if core.runs_on(machine, flags)), None)


def _flags() -> tuple[str, ...]:
    """What Linux says that this machine's processor has; nothing where it does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return ()
    line = next((x for x in lines if x.split(":")[0].strip() in ("flags", "Features")), ":")
    return tuple(line.partition(":")[2].split())
