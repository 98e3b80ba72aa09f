"""From the tables of a TOML file to frozen dataclasses, with errors that say which key of which file is wrong.

Types come from the dataclasses themselves, so a field added there can be written in files at once.  Nothing in a file
is executed or imported.
"""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import StrEnum
from functools import cache
from typing import Any, Literal, NoReturn, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from bitwright.errors import BadTargetFile, printable

T = TypeVar("T")
BARE = re.compile(r"[A-Za-z0-9_-]+|(rule)?\[\d+\]")
NONE = "none"
"""How a file takes back an optional value that it inherits; TOML has no null."""


@dataclass(frozen=True)
class Where:
    """A place in a target file: the file, and the path of keys to the value."""

    path: str
    keys: tuple[str, ...] = ()

    def __truediv__(self, key: object) -> Where:
        return Where(self.path, (*self.keys, str(key)))

    @property
    def key(self) -> str:
        """The keys as they are written in TOML: ``rule[2].match.op``."""
        text = ""
        for key in self.keys:
            written = key if BARE.fullmatch(key) else f'"{key}"'
            text += f".{written}" if text and not key.startswith("[") else written
        return text

    def fail(self, what: str, hint: str = "") -> NoReturn:
        """Raise: ``what`` is wrong here, ``hint`` says what to write instead."""
        place = f" at {printable(self.key)}" if self.key else ""
        message = f"Target file {printable(self.path)}{place}: {what}." + (f" {hint}" if hint else "")
        raise BadTargetFile(message, path=self.path, key=self.key, hint=hint)


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint: the known name most like ``name``, or all of them if none is like it and they are few."""
    known = sorted(known)
    # Case is the commonest slip, and difflib does not see it.
    folded = {k.lower(): k for k in known}
    found = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    if found:
        return f'Did you mean "{folded[found[0]]}"?'
    return f"Known: {', '.join(known)}." if len(known) <= 24 else "See docs/reference/targets.md for the known ones."


def check_keys(table: object, known: Iterable[str], where: Where) -> Mapping[str, object]:
    """``table``, which must be a table with no other keys than ``known``."""
    if not isinstance(table, Mapping):
        where.fail(f"a table is needed, not {_shown(table)}")
    known = tuple(known)
    for key in table:
        if key not in known:
            (where / key).fail("this key is unknown", nearest(str(key), known))
    return table


def build(cls: type[T], table: object, where: Where) -> T:
    """An instance of dataclass ``cls`` from a table that mirrors its fields.

    Raises:
        BadTargetFile: an unknown or missing key, a value of the wrong type, or one that the dataclass refuses.
    """
    values = partial(cls, table, where)
    for f in fields(cls):  # type: ignore[arg-type]
        if f.name not in values and f.default is MISSING and f.default_factory is MISSING:
            (where / f.name).fail("this key is missing")
    try:
        return cls(**values)
    except ValueError as error:
        where.fail(str(error))


def partial(cls: type[object], table: object, where: Where, also: Iterable[str] = ()) -> dict[str, Any]:
    """The converted values of those fields of ``cls`` that ``table`` holds; keys in ``also`` are left alone."""
    hints = _hints(cast(Hashable, cls))
    also = tuple(also)
    table = check_keys(table, (*hints, *also), where)
    return {key: convert(value, hints[key], where / key) for key, value in table.items() if key not in also}


@cache
def _hints(cls: Hashable) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {f.name: hints[f.name] for f in fields(cls)}  # type: ignore[arg-type]


def convert(value: object, hint: Any, where: Where) -> object:
    """``value`` as TOML gives it, turned into what type ``hint`` says.

    Raises:
        BadTargetFile: it cannot be.
    """
    origin, args = get_origin(hint), get_args(hint)
    if origin in {Union, types.UnionType}:
        return _union(value, args, where)
    if origin is Literal:
        if value not in args or isinstance(value, bool) != isinstance(args[0], bool):
            where.fail(f"{_shown(value)} is not possible", _choices(value, args))
        return value
    if origin is tuple:
        return _tuple(value, args, where)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        if not isinstance(value, str) or value not in tuple(hint):
            where.fail(f"{_shown(value)} is not possible", _choices(value, tuple(hint)))
        return hint(value)
    if is_dataclass(hint):
        return build(cast(type[object], hint), value, where)
    # bool is an int to Python, and an int serves as a float; nothing else is converted.
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        where.fail(f"{_KINDS[hint]} is needed, not {_shown(value)}")
    return value


_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def _union(value: object, args: Sequence[Any], where: Where) -> object:
    if type(None) in args:
        args = [a for a in args if a is not type(None)]
        if value == NONE or value is None:
            return None
    if len(args) == 1:
        return convert(value, args[0], where)
    # Several kinds: a table can only be the dataclass, a text only the literals, so the error of that kind is the one
    # to show.
    for arg in args:
        if is_dataclass(arg) and isinstance(value, Mapping):
            return convert(value, arg, where)
        if isinstance(arg, type) and not is_dataclass(arg) and type(value) is arg:
            return value
    literals = tuple(choice for arg in args if get_origin(arg) is Literal for choice in get_args(arg))
    if value not in [c for c in literals if isinstance(c, str)]:
        extra = [_KINDS.get(a, "a table") for a in args if get_origin(a) is not Literal]
        where.fail(f"{_shown(value)} is not possible", _choices(value, literals, extra))
    return value


def _tuple(value: object, args: Sequence[Any], where: Where) -> tuple[object, ...]:
    if len(args) == 2 and args[1] is Ellipsis:
        # One value may stand for a list of one: op = "Conv".
        items = value if isinstance(value, list | tuple) else [value]
        kinds = [args[0]] * len(items)
        if not items:
            where.fail("an empty list is not possible")
    else:
        items, kinds = value, list(args)  # type: ignore[assignment]
        if not isinstance(value, list | tuple) or len(value) != len(args):
            where.fail(f"a list of {len(args)} values is needed, not {_shown(value)}")
    return tuple(convert(v, k, where / f"[{i}]") for i, (v, k) in enumerate(zip(items, kinds, strict=True)))


def _choices(value: object, choices: Sequence[object], extra: Sequence[str] = ()) -> str:
    texts = [c for c in choices if isinstance(c, str)]
    close = difflib.get_close_matches(str(value).lower(), texts, n=1, cutoff=0.6) if isinstance(value, str) else []
    if close:
        return f'Did you mean "{close[0]}"?'
    return f"Possible: {', '.join([*(_shown(c) for c in choices), *extra])}."


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a table"
    return f'"{printable(value, 40)}"' if isinstance(value, str) else printable(value, 40)


def plain(value: object) -> Any:
    """The opposite of ``convert``: dataclasses, tuples and enumerations as tables, lists and texts for TOML or JSON.

    Fields that hold their default are left out, except that None stands as ``"none"`` where the default is not None.
    """
    if isinstance(value, StrEnum):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        table = {}
        for f in fields(value):
            item = getattr(value, f.name)
            if f.default is MISSING or item != f.default:
                table[f.name] = NONE if item is None else plain(item)
        return table
    if isinstance(value, tuple | list):
        return [plain(v) for v in value]
    return value
