"""All passes by name: those shipped here and those of other packages (entry-point group ``bitwright.passes``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points

from bitwright.errors import PassError, printable
from bitwright.passes._pass import Pass
from bitwright.passes.absorb_bias import AbsorbBias
from bitwright.passes.dead_channels import DeadChannels
from bitwright.passes.equalize import Equalize
from bitwright.passes.prepare import FINISHING, FOLDING
from bitwright.passes.requantize_average import RequantizeAverage
from bitwright.passes.requantize_join import RequantizeJoin
from bitwright.passes.split_channels import SplitChannels
from bitwright.passes.split_concat import SplitConcat
from bitwright.passes.unfold_scale import UnfoldScale

GROUP = "bitwright.passes"

BUILT_IN: tuple[type[Pass], ...] = (
    *dict.fromkeys(type(one) for one in (*FOLDING, *FINISHING)),
    Equalize,
    AbsorbBias,
    DeadChannels,
    RequantizeAverage,
    RequantizeJoin,
    SplitConcat,
    SplitChannels,
    UnfoldScale,
)


def passes(extra: Iterable[EntryPoint] | None = None) -> Mapping[str, type[Pass]]:
    """Pass name → its dataclass.

    Args:
        extra: Entry points of other packages; by default those that are installed.

    Raises:
        PassError: if two passes have one name, or an entry point gives no pass.
    """
    found: dict[str, type[Pass]] = {}
    origin: dict[str, str] = {}
    for kind in BUILT_IN:
        _add(found, origin, kind, "bitwright itself")
    for point in entry_points(group=GROUP) if extra is None else extra:
        where = f"entry point '{printable(point.name)}' ({printable(point.value)})"
        try:
            kind = point.load()
        except Exception as error:
            raise PassError(
                f"The pass of {where} cannot be imported: {printable(error, 300)}. Fix or uninstall it."
            ) from error
        members = ("name", "summary", "changes_function", "needs", "apply")
        if not isinstance(kind, type) or any(not hasattr(kind, member) for member in members):
            raise PassError(f"The {where} is no pass: it needs {', '.join(members)}. Fix or uninstall it.")
        _add(found, origin, kind, where)
    return found


def _add(found: dict[str, type[Pass]], origin: dict[str, str], kind: type[Pass], where: str) -> None:
    if kind.name in found:
        raise PassError(
            f"Two passes are called '{printable(kind.name)}': one of {origin[kind.name]}, one of {where}. "
            "Uninstall one of the packages, or rename its pass."
        )
    found[kind.name], origin[kind.name] = kind, where


def find_pass(name: str) -> type[Pass]:
    """The pass called ``name``.

    Raises:
        PassError: if there is none, naming the nearest.
    """
    known = passes()
    if name in known:
        return known[name]
    near = get_close_matches(name, known, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise PassError(f"There is no pass '{printable(name)}'.{hint} Known: {', '.join(sorted(known))}.")
