"""All boards by name.  A family of boards is a line here and a module with a ``FAMILY``; nothing else names one."""

from __future__ import annotations

import difflib
import os
from importlib import import_module
from typing import TYPE_CHECKING

from bitwright.errors import UnknownTarget, printable

if TYPE_CHECKING:
    from bitwright.boards.board import Board, Family

# Modules are loaded when a board is looked for.
FAMILIES = (
    "bitwright.boards.host",
    "bitwright.boards.emulated",
    "bitwright.boards.serial",
    "bitwright.boards.processor",
    "bitwright.boards.fpga_board",
)


def families() -> tuple[Family, ...]:
    """All families of boards."""
    return tuple(import_module(name).FAMILY for name in FAMILIES)


def board_names() -> dict[str, str]:
    """Board → what it is, of all boards that come with bitwright."""
    return {name: summary for family in families() for name, summary in family.names().items()}


def find_board(name: str | os.PathLike[str]) -> Board:
    """The board called ``name``, or that of a file ending in ``.toml``.

    Raises:
        UnknownTarget: no board has this name; the nearest are named.
        BadTargetFile: the file is missing, damaged, or says something impossible.
    """
    text = os.fspath(name)
    for family in families():
        found = family.find(text)
        if found is not None:
            return found
    known = board_names()
    near = nearest(text, known)
    did_you_mean = f" Did you mean {' or '.join(near)}?" if near else ""
    raise UnknownTarget(
        f'There is no board called "{printable(text, 60)}".{did_you_mean} The boards are {", ".join(known)}; for an '
        "emulated board of your own give its file, ending in .toml.",
        nearest=near,
    )


def nearest(text: str, known: dict[str, str]) -> list[str]:
    """The names most like ``text``, which may leave out the family, the series, or name the core instead."""
    parts: dict[str, str] = {}
    for name, summary in known.items():
        inner = name.rpartition(":")[2]
        words = [name, inner, inner.rsplit("-", 1)[-1], inner.split("-", 1)[0], summary.split(",")[0].split(" with")[0]]
        for word in words:
            parts.setdefault(word.lower(), name)
    close = difflib.get_close_matches(text.lower(), parts, n=3, cutoff=0.5)
    return list(dict.fromkeys(parts[word] for word in close))
