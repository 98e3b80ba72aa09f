"""A program as plain JSON values and back, the constants left out.

What is written follows from the dataclasses alone, so a new field or form needs no line here.  Reading believes
nothing: every value is checked against the declared type, and the ranges of expressions are derived anew.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, Literal, NoReturn, Union, cast, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import printable
from bitwright.number.expr import Expr, Op, from_rows, to_rows
from bitwright.number.format import Format
from bitwright.program.program import Program

KIND = "is"
"""Key that names the class where a field may hold several."""
DEEPEST_EXPRESSION = 200
MOST_ROWS = 4096
INT64_LO, INT64_HI = -(1 << 63), (1 << 63) - 1


class Malformed(ValueError):
    """Plain values that do not describe a program; the message says where and why."""


def refuse(where: str, why: str) -> NoReturn:
    """Raise :class:`Malformed` for the value at ``where``."""
    raise Malformed(f"{printable(where)}: {why}")


def program_to_dict(program: Program) -> dict[str, Any]:
    """The program as JSON-ready values; ``tensors`` holds only the type and shape of each constant."""
    plain = {f.name: encode(getattr(program, f.name)) for f in fields(program) if f.name != "tensors"}
    plain["tensors"] = {name: [t.dtype.name, list(t.shape)] for name, t in program.tensors.items()}
    return plain


def program_from_dict(data: object, tensors: Mapping[str, NDArray[np.integer[Any]]]) -> Program:
    """The inverse of :func:`program_to_dict`.

    Args:
        data: What was written.
        tensors: The constants by name.

    Raises:
        Malformed: a value is missing, unknown, or of the wrong type; a constant is missing or unlike its entry.
    """
    entries = _object(data, "program", {f.name for f in fields(Program)})
    listed = _mapping(entries["tensors"], "tensors")
    if listed.keys() != tensors.keys():
        name = sorted(listed.keys() ^ tensors.keys())[0]
        refuse(f"tensors.{name}", "its constants are missing" if name in listed else "no such constants are declared")
    for name, entry in listed.items():
        have = [tensors[name].dtype.name, list(tensors[name].shape)]
        if entry != have:
            refuse(f"tensors.{name}", f"its constants are {have[0]}{have[1]}, not what the program declares")
    ordered = {name: tensors[name] for name in listed}
    hints = _hints(Program)
    values = {k: decode(hints[k], v, k) for k, v in entries.items() if k != "tensors"}
    return Program(tensors=ordered, **values)


def encode(value: Any) -> Any:
    """A field of a program as JSON-ready values."""
    match value:
        case Enum():
            return value.value
        case None | str() | bool() | int() | float():
            return value
        case Expr():
            return to_rows(value)
        case Format():
            return format_to_dict(value)
        case Mapping():
            return {str(k): encode(v) for k, v in value.items()}
        case tuple() | list():
            return [encode(v) for v in value]
        case _ if is_dataclass(value):
            plain = {f.name: encode(getattr(value, f.name)) for f in fields(value)}
            return {KIND: type(value).__name__, **plain}
    raise TypeError(f"a program holds no {type(value).__name__}")


def decode(hint: Any, data: object, where: str) -> Any:
    """A value of the type ``hint`` from JSON values; the inverse of :func:`encode`.

    Raises:
        Malformed: the data is not of that type.
    """
    origin, args = get_origin(hint), get_args(hint)
    if hint is Expr:
        return expression(data, where)
    if hint is Format:
        return format_from_dict(data, where)
    if origin in (Union, types.UnionType):
        return _one_of(args, data, where)
    if origin is tuple:
        return tuple(decode(args[0], v, f"{where}[{i}]") for i, v in enumerate(_list(data, where)))
    if origin is Literal:
        return data if isinstance(data, str) and data in args else refuse(where, f"is none of {', '.join(args)}")
    if origin is not None and issubclass(origin, Mapping):
        return {k: decode(args[1], v, f"{where}.{k}") for k, v in _mapping(data, where).items()}
    if is_dataclass(hint):
        return _dataclass(cast(type, hint), data, where)
    return _scalar(hint, data, where)


def _scalar(hint: Any, data: object, where: str) -> Any:
    if hint is int:
        return _integer(data, where)
    if hint in (str, bool):
        return data if type(data) is hint else refuse(where, f"should be of type {hint.__name__}")
    if isinstance(hint, type) and issubclass(hint, Enum):
        known = {member.value: member for member in hint}
        return known[data] if isinstance(data, str) and data in known else refuse(where, "is not a known word")
    raise TypeError(f"no rule to read {hint}")


def _one_of(args: tuple[Any, ...], data: object, where: str) -> Any:
    if data is None and type(None) in args:
        return None
    rest = [a for a in args if a is not type(None)]
    if len(rest) == 1:
        return decode(rest[0], data, where)
    kind = _mapping(data, where).get(KIND)
    for hint in rest:
        if kind == hint.__name__:
            return decode(hint, data, where)
    return refuse(where, f"its kind {printable(kind)!r} is unknown")


def _dataclass(hint: type, data: object, where: str) -> Any:
    hints = _hints(hint)
    needed = {f.name for f in fields(hint) if f.default is MISSING and f.default_factory is MISSING}
    entries = dict(_mapping(data, where))
    if entries.pop(KIND, None) != hint.__name__:
        refuse(where, f"should be a {hint.__name__}")
    _keys(entries, where, hints.keys(), needed)
    values = {k: decode(hints[k], v, f"{where}.{k}") for k, v in entries.items()}
    try:
        return hint(**values)
    except (ValueError, OverflowError) as why:
        refuse(where, str(why))


@cache
def _hints(hint: type) -> dict[str, Any]:
    return get_type_hints(hint)


def format_to_dict(chosen: Format) -> dict[str, Any]:
    """A format as JSON-ready values; one number where all channels agree on it."""
    zero = np.unique(chosen.zero_point)
    return {
        "bits": chosen.bits,
        "signed": chosen.signed,
        "scale": chosen.scale.tolist(),
        "zero_point": int(zero[0]) if zero.size == 1 else chosen.zero_point.tolist(),
        "axis": chosen.axis,
        "narrow": chosen.narrow,
    }


def format_from_dict(data: object, where: str = "format") -> Format:
    """The inverse of :func:`format_to_dict`.

    Raises:
        Malformed: it is not a format.
    """
    entries = _object(data, where, {"bits", "signed", "scale", "zero_point", "axis", "narrow"})
    bits = _integer(entries["bits"], f"{where}.bits")
    signed, narrow = (_scalar(bool, entries[k], f"{where}.{k}") for k in ("signed", "narrow"))
    axis = None if entries["axis"] is None else _integer(entries["axis"], f"{where}.axis")
    scales, zeros = entries["scale"], entries["zero_point"]
    for scale in scales if isinstance(scales, list) else [scales]:
        if type(scale) not in (int, float):
            refuse(f"{where}.scale", "holds something that is no number")
    for zero in zeros if isinstance(zeros, list) else [zeros]:
        _integer(zero, f"{where}.zero_point")
    try:
        return Format(bits, signed, np.asarray(scales, np.float64), np.asarray(zeros, np.int64), axis, narrow)
    except (ValueError, OverflowError) as why:
        refuse(where, str(why))


def expression(data: object, where: str) -> Expr:
    """An expression from the rows of ``number.expr.to_rows``; its ranges follow from the ranges of its variables.

    Raises:
        Malformed: a row is not one of ours, refers to a later row, may leave 64 bits, shift too far or divide by less
            than 1; or the expression is so deep that walking it would exhaust the stack.
    """
    rows = _list(data, where)
    if not 0 < len(rows) <= MOST_ROWS:
        refuse(where, f"is an expression of {len(rows)} rows")
    depths: list[int] = []
    for i, row in enumerate(rows):
        if not isinstance(row, list) or not row or not isinstance(row[0], str):
            refuse(f"{where}[{i}]", "is no row of an expression")
        inner = [] if row[0] in (Op.CONST, Op.VAR) else [v for v in row[1:3] if type(v) is int and 0 <= v < i]
        depths.append(1 + max((depths[v] for v in inner), default=0))
    if max(depths) > DEEPEST_EXPRESSION:
        refuse(where, f"is nested more than {DEEPEST_EXPRESSION} deep")
    try:
        return from_rows(rows)
    except ValueError as why:
        refuse(where, str(why))


def _list(data: object, where: str) -> list[Any]:
    return data if isinstance(data, list) else refuse(where, "should be a list")


def _mapping(data: object, where: str) -> dict[str, Any]:
    return data if isinstance(data, dict) else refuse(where, "should be an object")


def _object(data: object, where: str, keys: set[str]) -> dict[str, Any]:
    entries = _mapping(data, where)
    _keys(entries, where, keys, keys)
    return entries


def _keys(entries: Mapping[str, Any], where: str, known: Iterable[str], needed: set[str]) -> None:
    unknown, missing = sorted(entries.keys() - set(known)), sorted(needed - entries.keys())
    if unknown:
        refuse(f"{where}.{unknown[0]}", "is unknown")
    if missing:
        refuse(f"{where}.{missing[0]}", "is missing")


def _integer(data: object, where: str) -> int:
    if type(data) is not int or not INT64_LO <= data <= INT64_HI:
        refuse(where, "should be an integer of at most 64 bits")
    return data
