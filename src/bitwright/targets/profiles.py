"""Profiles: named and versioned rounding rules, which targets refer to.  One TOML file each, in ``profiles/``.

A profile says how integers are computed, and nothing of formats: the requantizer, and the variant of each operator.  A name
and a version are a promise: what they compute never changes; a corrected meaning gets the next version.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from bitwright.errors import UnknownTarget, printable
from bitwright.number.arithmetic import Arithmetic
from bitwright.targets.check import read_ops
from bitwright.targets.read import Where, check_keys, convert, nearest, partial

FOLDER = Path(__file__).parent / "profiles"
TOP = ("title", "version", "extends", "arithmetic", "op")


@dataclass(frozen=True)
class Profile:
    """Rounding rules.

    Attributes:
        name: Its name.
        version: Counts corrections of its meaning.
        title: What it stands for, in a line.
        tables: ``arithmetic`` and ``op`` as in a target file.
    """

    name: str
    version: int
    title: str
    tables: Mapping[str, Any]

    @property
    def label(self) -> str:
        """``tflite-double@1``, as artefacts carry it."""
        return f"{self.name}@{self.version}"


def list_profiles() -> tuple[str, ...]:
    """The names of all profiles."""
    return tuple(sorted(file.stem for file in FOLDER.glob("*.toml")))


@cache
def load_profile(label: str) -> Profile:
    """A profile by name, or by name and version (``tflite-double@1``).

    Raises:
        UnknownTarget: there is no such profile, or not in this version.
    """
    name, at, version = label.partition("@")
    if name not in list_profiles():
        _refuse(label, nearest(name, list_profiles()))
    file = FOLDER / f"{name}.toml"
    where = Where(str(file))
    table = tomllib.loads(file.read_text("utf-8"))
    check_keys(table, TOP, where)
    partial(Arithmetic, table.get("arithmetic", {}), where / "arithmetic")
    read_ops(table.get("op", {}), where / "op")
    own: dict[str, Any] = {key: table[key] for key in ("arithmetic", "op") if key in table}
    if "extends" in table:
        under = load_profile(str(convert(table["extends"], str, where / "extends"))).tables
        own = {key: {**under.get(key, {}), **own.get(key, {})} for key in {*under, *own}}
    profile = Profile(name, int(table["version"]), str(table["title"]), own)
    if at and version != str(profile.version):
        _refuse(label, f"This release has {profile.label}.")
    return profile


def _refuse(label: str, hint: str) -> NoReturn:
    raise UnknownTarget(
        f'There is no profile called "{printable(label, 60)}". {hint} The profiles are {", ".join(list_profiles())}.',
        nearest=list_profiles(),
    )
