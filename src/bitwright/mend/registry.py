"""All repairs by name, and the order in which they are tried."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from bitwright.errors import PassError, printable
from bitwright.mend.adaround import AdaptiveRounding
from bitwright.mend.analytic import CorrectBiasAnalytically
from bitwright.mend.biases import CorrectBias
from bitwright.mend.center import Center
from bitwright.mend.ranges import LearnRanges
from bitwright.mend.reconstruct import Reconstruct
from bitwright.mend.reconstruct_blocks import ReconstructBlocks
from bitwright.mend.repair import Repair
from bitwright.mend.rewrite import EqualizeChannels
from bitwright.mend.schemes import TrySchemes
from bitwright.mend.structure import (
    AbsorbHighBias,
    ClearDeadChannels,
    RequantizeAverages,
    RequantizeJoins,
    SplitConcatenation,
    SplitOutliers,
    UnfoldBatchNorm,
)
from bitwright.mend.widths import WidenActivations

KINDS: tuple[type[Repair], ...] = (
    TrySchemes,
    ClearDeadChannels,
    EqualizeChannels,
    AbsorbHighBias,
    Center,
    CorrectBias,
    CorrectBiasAnalytically,
    LearnRanges,
    Reconstruct,
    ReconstructBlocks,
    AdaptiveRounding,
    RequantizeAverages,
    RequantizeJoins,
    SplitConcatenation,
    SplitOutliers,
    UnfoldBatchNorm,
    WidenActivations,
)
REPAIRS: Mapping[str, type[Repair]] = MappingProxyType({kind.name: kind for kind in KINDS})

AUTO = (
    "schemes,requantize-average,correct-bias,equalize,requantize-average,center,learn-ranges{rounds=1, most=40},"
    "reconstruct,correct-bias{original=true},learn-ranges{most=80}"
)
"""Biases first, so that equalization is compared with its equal; channels before ranges, and ranges before rounding,
because rounding is for one range; what time is left goes to ranges, the slowest repair for what it gains.  Averages are
looked at twice: in a network that channels have ruined, their own noise shows only when these are equal.  Repairs that
add layers or channels, but for these averages, are left to whoever asks for them."""


def read_repairs(text: str | Sequence[Repair], *, seed: int = 0) -> tuple[Repair, ...]:
    """The repairs that ``text`` names: ``"equalize,learn-ranges{rounds=1, margin=0.1}"``.

    Raises:
        PassError: for a name or an option that does not exist, naming the nearest, or a value of the wrong kind.
    """
    if not isinstance(text, str):
        return tuple(text)
    found = []
    for item in re.findall(r"[^,{}]+(?:\{[^{}]*\})?", text):
        match = re.fullmatch(r"\s*([a-z][a-z0-9-]*)\s*(?:\{([^{}]*)\})?\s*", item)
        if match is None:
            raise PassError(f"Repair '{printable(item)}' is not of the form name or name{{option=value, …}}.")
        found.append(_made(match[1], match[2] or "", seed))
    if not found:
        raise PassError(f"No repair is named. Known are {', '.join(REPAIRS)}, and auto for all of them.")
    return tuple(found)


def _made(name: str, options: str, seed: int) -> Repair:
    kind = REPAIRS.get(name)
    if kind is None:
        near = get_close_matches(name, REPAIRS, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise PassError(f"There is no repair '{printable(name)}'.{hint} Known: {', '.join(REPAIRS)}, and auto.")
    hints = typing.get_type_hints(kind)
    fields = [f.name for f in dataclasses.fields(kind)]  # type: ignore[arg-type]
    values: dict[str, Any] = {"seed": seed} if "seed" in fields else {}
    for part in filter(None, (p.strip() for p in options.split(","))):
        key, _, value = (p.strip() for p in part.partition("="))
        if key not in fields:
            near = get_close_matches(key, fields, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise PassError(f"Repair '{name}' has no option '{printable(key)}'.{hint} It has {', '.join(fields)}.")
        values[key] = _value(name, key, value, hints[key])
    return kind(**values)


def _value(repair: str, key: str, text: str, hint: Any) -> Any:
    if hint is bool and text in ("true", "false"):
        return text == "true"
    try:
        if hint in (int, float):
            return hint(text)
        if typing.get_origin(hint) is tuple:  # items are separated by semicolons or spaces
            return tuple(typing.get_args(hint)[0](item) for item in re.split(r"[;\s]+", text) if item)
    except ValueError:
        pass
    raise PassError(f"Option '{key}' of repair '{repair}' cannot be '{printable(text)}'; it takes {hint}.")
