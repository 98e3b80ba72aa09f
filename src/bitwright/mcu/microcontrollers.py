"""Cores that generated C is written for: what compilers are told, and roughly what an instruction takes."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from bitwright.errors import UnknownTarget, printable
from bitwright.mcu.cpu.cores import cores as computers
from bitwright.targets.read import Where, build

FILE = Path(__file__).parent / "microcontrollers.toml"


@dataclass(frozen=True)
class Core:
    """A core.

    Attributes:
        flags: What gcc is told.
        cross: Prefix of the compiler's command.
        family: Of processors.
        mhz: A usual clock.
        cycles: Clock cycles per instruction, an estimate.
        origin: Where that comes from.
        name: As gcc spells it.
    """

    flags: tuple[str, ...]
    cross: str
    family: str
    mhz: float
    cycles: float
    origin: str
    name: str = ""

    def frames_per_s(self, instructions: int, mhz: float | None = None) -> tuple[float | None, str]:
        """Inferences in a second, and in words how that was estimated."""
        clock = self.mhz if mhz is None else mhz
        if not instructions:
            return None, "nothing is computed"
        words = f"estimated: {clock:g} MHz, {self.cycles:g} cycles per instruction ({self.origin})"
        return clock * 1e6 / (self.cycles * instructions), words


@cache
def microcontrollers() -> Mapping[str, Core]:
    """All cores by name."""
    tables: dict[str, dict[str, Any]] = tomllib.loads(FILE.read_text("utf-8"))
    found = {}
    for name, table in tables.items():
        fields = {("origin" if key == "from" else key): value for key, value in table.items()}
        found[name] = replace(build(Core, fields, Where(str(FILE), (name,))), name=name)
    return found


def find_core(name: str) -> Core:
    """The core called ``name``.

    Raises:
        UnknownTarget: there is none; the nearest are named.
    """
    known = microcontrollers()
    if name not in known:
        raise _unknown(name, list(known))
    return known[name]


def _unknown(name: str, known: list[str]) -> UnknownTarget:
    near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.6)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return UnknownTarget(
        f'There is no core called "{printable(name, 60)}".{hint} The cores are {", ".join(known)}.', nearest=near
    )


def check_core(name: str) -> None:
    """Refuse a name that is neither a microcontroller's core nor a computer's.

    Raises:
        UnknownTarget: it is none; the nearest are named.
    """
    known = [*microcontrollers(), *computers()]
    if name not in known:
        raise _unknown(name, known)
