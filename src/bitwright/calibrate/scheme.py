"""Schemes: how a tensor's statistics and a target's rule become a format.  Found by their files, named on command lines.

A scheme is a frozen dataclass in its own file of ``schemes/``; its fields are its options.  ``load("percentile{p=99.9}")``
makes one from text.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import pkgutil
import re
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from bitwright.calibrate.ranges import format_for_range, is_signed
from bitwright.calibrate.tensor_stats import TensorStats
from bitwright.errors import CalibrationError, printable
from bitwright.number.format import Format, FormatRule


class Scheme(Protocol):
    """What every scheme offers.

    Attributes:
        name: As on the command line.
        summary: One sentence for lists.
        aliases: Names that other tools give it.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]]

    def choose(
        self,
        stats: TensorStats,
        rule: FormatRule,
        *,
        values: NDArray[Any] | None = None,
        axis: int | None = None,
    ) -> Format:
        """The format of a tensor.

        Args:
            stats: What is known of its values.
            rule: What the target allows.
            values: All its values, for a constant; taken instead of the histogram.
            axis: Its axis of channels.  The format is one per channel if ``rule.per_channel`` and this is given.

        Raises:
            ValueError: if a format per channel is wanted, but neither values nor statistics per channel are given.
        """
        ...


def pieces(
    stats: TensorStats, rule: FormatRule, values: NDArray[Any] | None, axis: int | None
) -> list[tuple[TensorStats, NDArray[np.float32] | None]]:
    """What a format is chosen for separately: the channels, or the whole; (statistics, flat values or None) each.

    Raises:
        ValueError: as :meth:`Scheme.choose`.
    """
    table = None if values is None else rows(values, rule, axis)
    if not rule.per_channel or axis is None:
        return [(stats, None if table is None else table[0])]
    if table is not None:
        return [(TensorStats.of(row), row) for row in table]
    if stats.channel_hist is None or stats.channel_lo is None:
        raise ValueError("a format per channel needs the values or a histogram per channel")
    return [(stats.channel(c), None) for c in range(len(stats.channel_lo))]


def rows(values: NDArray[Any], rule: FormatRule, axis: int | None) -> NDArray[np.float32]:
    """``values`` as float32 ``[channels, n]`` where formats are per channel, else ``[1, n]``."""
    values = np.asarray(values, np.float32)
    if not rule.per_channel or axis is None:
        return np.require(values.reshape(1, -1), requirements=["C", "A"])
    return np.require(np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1), requirements=["C", "A"])


def choose_by_range(
    stats: TensorStats,
    rule: FormatRule,
    values: NDArray[Any] | None,
    axis: int | None,
    range_of: Callable[[TensorStats, NDArray[np.float32] | None, bool], tuple[float, float]],
) -> Format:
    """The format for the range that ``range_of(statistics, values, signed)`` picks for the whole or for each channel."""
    parts = pieces(stats, rule, values, axis)
    signed = is_signed(rule, [part.lo for part, _ in parts])
    chosen = [range_of(part, row, signed) for part, row in parts]
    if not rule.per_channel or axis is None:
        return format_for_range(*chosen[0], rule, signed=signed)
    lo, hi = zip(*chosen, strict=True)
    return format_for_range(lo, hi, rule, axis=axis, signed=signed)


def clipped(stats: TensorStats, threshold: float) -> tuple[float, float]:
    """The range of a tensor cut at ``±threshold``."""
    return max(stats.lo, -threshold), min(stats.hi, threshold)


@cache
def schemes() -> Mapping[str, type[Scheme]]:
    """All schemes by name, sorted."""
    from bitwright.calibrate import schemes as folder

    found: dict[str, type[Scheme]] = {}
    for module in pkgutil.iter_modules(folder.__path__):
        for thing in vars(importlib.import_module(f"{folder.__name__}.{module.name}")).values():
            if isinstance(thing, type) and thing.__module__.endswith(f".{module.name}") and hasattr(thing, "choose"):
                found[typing.cast(type[Scheme], thing).name] = thing
    return types.MappingProxyType(dict(sorted(found.items())))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def load(spec: str | Scheme) -> Scheme:
    """The scheme that ``spec`` names: ``"mse"``, ``"percentile{p=99.9}"``, ``"kl{variant=ncnn}"``.

    Case, ``-`` and ``_`` in the name do not matter, and the names that other tools use are known.  A scheme passes
    through.

    Raises:
        CalibrationError: for an unknown name or option, or a value of the wrong kind; names the nearest.
    """
    if not isinstance(spec, str):
        return spec
    match = re.fullmatch(r"\s*([^{}]*?)\s*(?:\{([^{}]*)\})?\s*", spec)
    if match is None:
        raise CalibrationError(f"Scheme {printable(spec)!r} is not of the form name or name{{option=value, …}}.")
    names = {_plain(n): cls for cls in schemes().values() for n in (cls.name, *cls.aliases)}
    scheme = names.get(_plain(match[1]))
    if scheme is None:
        near = difflib.get_close_matches(_plain(match[1]), list(schemes()), n=1)
        near = near or [names[alias].name for alias in difflib.get_close_matches(_plain(match[1]), names, n=1)]
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise CalibrationError(
            f"There is no calibration scheme {printable(match[1])!r}.{hint} Known are {', '.join(schemes())}."
        )
    return _built(scheme, match[2] or "")


def _built(scheme: type[Scheme], text: str) -> Scheme:
    hints = typing.get_type_hints(scheme)
    fields = [f.name for f in dataclasses.fields(scheme)]  # type: ignore[arg-type]
    options: dict[str, Any] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        key, _, value = (part.strip() for part in item.partition("="))
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            known = f"Its options are {', '.join(fields)}." if fields else "It has no options."
            raise CalibrationError(f"Scheme {scheme.name!r} has no option {printable(key)!r}.{hint} {known}")
        options[key] = _parsed(scheme.name, key, value, hints[key])
    try:
        return scheme(**options)
    except ValueError as error:
        raise CalibrationError(f"Scheme {scheme.name!r}: {error}.") from error


def _parsed(scheme: str, key: str, text: str, hint: Any) -> Any:
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    for kind in kinds:
        if typing.get_origin(kind) is typing.Literal and text in typing.get_args(kind):
            return text
        if kind is type(None) and text == "none":
            return None
        if kind is bool and text in {"true", "false"}:
            return text == "true"
        if kind in {int, float}:
            try:
                return kind(text)
            except ValueError:
                continue
    wanted = " or ".join(
        "|".join(typing.get_args(k)) if typing.get_origin(k) is typing.Literal else getattr(k, "__name__", str(k))
        for k in kinds
    )
    raise CalibrationError(f"Option {key!r} of scheme {scheme!r} cannot be {printable(text)!r}; it takes {wanted}.")
