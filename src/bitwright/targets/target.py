"""Targets: what a device can compute, in which numbers, with which rounding.  One TOML file each.

A file says only what differs from the target that it ``extends`` (``base`` if it says nothing), so a shipped file is a
page at most.  Every key and its meaning: ``docs/reference/targets.md``.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Unpack

from bitwright.errors import TargetError, UnknownTarget, printable
from bitwright.number.arithmetic import Arithmetic
from bitwright.number.format import FormatRule
from bitwright.targets.check import ROLES, RULE_FORMATS, check_consistent, read_ops, read_rules
from bitwright.targets.profiles import list_profiles, load_profile
from bitwright.targets.read import Where, build, check_keys, convert, nearest, partial, plain
from bitwright.targets.rules import (
    DEFAULT_OP,
    METHOD_MEANING,
    METHODS,
    OPERATORS,
    Facts,
    FixedFormat,
    Match,
    OpRule,
    Overrides,
    Rule,
)

__all__ = [
    "DEFAULT_OP",
    "METHODS",
    "METHOD_MEANING",
    "OPERATORS",
    "Facts",
    "FixedFormat",
    "Match",
    "OpRule",
    "Rule",
    "Schemes",
    "Target",
    "list_targets",
    "load_target",
]

BASE = "base"
FOLDER = Path(__file__).parent
GROUP = "bitwright.targets"
MAX_BYTES = 1 << 20
MAX_CHAIN = 16
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
SCHEME = re.compile(r"[a-z][a-z0-9-]*(\{[^{}]*\})?")


@dataclass(frozen=True, kw_only=True)
class Schemes:
    """The schemes that choose the formats when the user names none, as ``name`` or ``name{option=value}``."""

    input: str = "minmax"
    activation: str = "minmax"
    weight: str = "minmax"
    bias: str = "minmax"

    def __post_init__(self) -> None:
        for role in ROLES:
            text = getattr(self, role)
            if not SCHEME.fullmatch(text):
                raise ValueError(f'{role}: "{printable(text, 40)}" is not of the form name or name{{option=value}}')


@dataclass(frozen=True, kw_only=True)
class Target:
    """A device, as far as numbers are concerned.  Made by ``load_target``, never changed.

    Attributes:
        name: Short name, as on the command line.
        title: One line for lists.
        summary: A few sentences: what it stands for, and where it departs from the device.
        extends: The target that the file starts from; ``""`` for ``base`` itself.
        path: The file, or None if it came out of an artefact.
        arithmetic: The requantizer.
        profile: Name and version of the rounding rules that it refers to; empty if it says them itself.
        input: Rule for the formats of the network's inputs.
        activation: Rule for the formats of everything between layers, and of the outputs.
        weight: Rule for the formats of weights.
        bias: Rule for the formats of biases; with ``bias_source = "accumulator"`` only its width and rounding count.
        bias_source: ``"accumulator"``: an integer in steps of input scale times weight scale.  ``"own"``: a format of
            its own, shifted into the accumulator.
        ops: Operator → rule; ``"*"`` stands for all that are not named.
        rules: Conditional changes, in the order in which they are applied.
        schemes: Default schemes.
    """

    name: str
    title: str
    summary: str
    extends: str
    path: Path | None = field(default=None, compare=False)
    arithmetic: Arithmetic
    input: FormatRule
    activation: FormatRule
    weight: FormatRule
    bias: FormatRule
    bias_source: Literal["accumulator", "own"]
    ops: Mapping[str, OpRule] = field(hash=False)
    rules: tuple[Rule, ...]
    schemes: Schemes
    profile: str = ""

    def op(self, op_type: str, **facts: Unpack[Facts]) -> OpRule:
        """The rule for an operator of ONNX type ``op_type``, of which ``facts`` are known."""
        rule = self.ops.get(op_type) or self.ops[DEFAULT_OP]
        for change in self._matching(op_type, facts):
            rule = replace(rule, **dict(change.op))  # type: ignore[arg-type]
        return rule

    def weight_rule(self, op_type: str, **facts: Unpack[Facts]) -> FormatRule:
        """The rule for the format of the weights of such an operator."""
        return self._format_rule("weight", op_type, facts)

    def activation_rule(self, op_type: str, **facts: Unpack[Facts]) -> FormatRule:
        """The rule for the format of the outputs of such an operator."""
        return self._format_rule("activation", op_type, facts)

    def bias_rule(self, op_type: str, **facts: Unpack[Facts]) -> FormatRule:
        """The rule for the format of the biases of such an operator."""
        return self._format_rule("bias", op_type, facts)

    def describe(self) -> str:
        """Every rule of the target in plain words, several lines."""
        from bitwright.targets.describe import describe

        return describe(self)

    def to_dict(self) -> dict[str, Any]:
        """The whole target as tables of plain values, in the form of a target file without ``extends``' help."""
        rules = []
        for rule in self.rules:
            table: dict[str, Any] = {"match": plain(rule.match)}
            table |= {name: plain_overrides(getattr(rule, name)) for name in RULE_FORMATS if getattr(rule, name)}
            rules.append(table | plain_overrides(rule.op))
        return {
            **{name: getattr(self, name) for name in TEXTS},
            "bias_source": self.bias_source,
            **{name: plain(getattr(self, name)) for name in ("arithmetic", *ROLES, "schemes")},
            "op": {name: plain(rule) for name, rule in self.ops.items()},
            "rule": rules,
        }

    @classmethod
    def from_dict(cls, table: Mapping[str, Any], *, path: str | Path = "(artefact)") -> Target:
        """The target that ``to_dict`` gave.

        Args:
            table: Plain values, complete: nothing is inherited.
            path: Named in errors.

        Raises:
            BadTargetFile: unknown or missing keys, wrong types or values.
        """
        return _target(table, Where(str(path)), None)

    def with_overrides(self, changes: Mapping[str, Any]) -> Target:
        """A target that differs by ``changes``, for experiments; nested tables are merged, rules are appended.

        Args:
            changes: Tables as in a target file, such as ``{"weight": {"bits": 4}}``.  Unless they hold a name, the
                new target is called ``NAME-modified``.

        Raises:
            BadTargetFile: as for a file.
        """
        renamed = {"name": self.name if self.name.endswith("-modified") else f"{self.name}-modified"}
        return Target.from_dict(_merge(self.to_dict(), renamed | dict(changes)), path=f"(changes to {self.name})")

    def with_profile(self, name: str) -> Target:
        """The same target with other rounding rules.

        Args:
            name: A profile (``list_profiles``), with or without its version.

        Raises:
            UnknownTarget: there is no such profile.
            BadTargetFile: the target's formats cannot be computed by it.
        """
        profile = load_profile(name)
        return self.with_overrides({"name": self.name, "profile": profile.label, **profile.tables})

    def __reduce__(self) -> tuple[Callable[..., Target], tuple[dict[str, Any]]]:
        return Target.from_dict, (self.to_dict(),)

    def _matching(self, op_type: str, facts: Facts) -> Iterator[Rule]:
        return (rule for rule in self.rules if rule.match.holds(op_type, **facts))

    def _format_rule(self, role: Literal["weight", "activation", "bias"], op_type: str, facts: Facts) -> FormatRule:
        rule: FormatRule = getattr(self, role)
        for change in self._matching(op_type, facts):
            rule = replace(rule, **dict(getattr(change, role)))
        return rule


def plain_overrides(overrides: Overrides) -> dict[str, Any]:
    """Overrides as a table of plain values."""
    return {name: "none" if value is None else plain(value) for name, value in overrides}


def list_targets() -> tuple[str, ...]:
    """The names of all targets: those shipped, and those of installed packages (entry points ``bitwright.targets``).

    Raises:
        TargetError: two targets have the same name.
    """
    return tuple(sorted(_sources()))


def load_target(name_or_path: str | os.PathLike[str]) -> Target:
    """A target by name, or from a file of your own.

    Args:
        name_or_path: A name of ``list_targets``, or the path of a ``.toml`` file (anything that ends so, or has a
            folder in it).

    Raises:
        UnknownTarget: there is no such name; the nearest are named.
        BadTargetFile: the file is missing, damaged, or says something impossible.
        TargetError: two targets have the same name.
    """
    path = _find(name_or_path)
    table = _resolve(path, ())
    return _target(table, Where(str(path)), path)


def _sources() -> dict[str, Path | metadata.EntryPoint]:
    found: dict[str, Path | metadata.EntryPoint] = {f.stem: f for f in FOLDER.glob("*.toml") if f.stem != BASE}
    for entry in metadata.entry_points(group=GROUP):
        if entry.name in found or entry.name == BASE:
            raise TargetError(
                f'Two targets are called "{printable(entry.name)}": the entry point {printable(entry.value)} of group '
                f"{GROUP} takes a name that is in use. Uninstall that package or ask its authors for another name."
            )
        found[entry.name] = entry
    return found


def _find(name_or_path: str | os.PathLike[str], beside: Path | None = None) -> Path:
    """The file of a target; a relative path is looked up in folder ``beside``."""
    text = os.fspath(name_or_path)
    if not isinstance(name_or_path, str) or text.endswith(".toml") or os.sep in text or "/" in text:
        return (beside or Path()) / text
    if text == BASE:
        return FOLDER / f"{BASE}.toml"
    sources = _sources()
    source = sources.get(text)
    if source is None:
        close = difflib.get_close_matches(text.lower(), sources, n=3, cutoff=0.4)
        did_you_mean = f" Did you mean {' or '.join(close)}?" if close else ""
        raise UnknownTarget(
            f'There is no target called "{printable(text, 60)}".{did_you_mean} The targets are '
            f"{', '.join(sorted(sources))}; for a file of your own give its path, ending in .toml.",
            nearest=close,
        )
    if isinstance(source, Path):
        return source
    try:
        value = source.load()
        return Path(value() if callable(value) else value)
    except Exception as error:  # the package is not ours: whatever it raises, its name must be in the message
        raise TargetError(
            f'The target "{printable(text)}" comes from {printable(source.value)}, which failed with '
            f"{type(error).__name__}: {printable(error)}. It must be the path of a .toml file, or a function that "
            "returns it. Report this to the authors of that package."
        ) from error


def _read(path: Path) -> dict[str, Any]:
    where = Where(str(path))
    try:
        if path.stat().st_size > MAX_BYTES:
            where.fail(f"it is larger than {MAX_BYTES >> 20} MiB", "Target files are a few hundred lines at most.")
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        where.fail("there is no such file", f"The names of targets are: {', '.join(list_targets())}.")
    except OSError as error:
        where.fail(f"it cannot be read ({error.strerror})")
    except UnicodeDecodeError:
        where.fail("it is not UTF-8 text")
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        where.fail(f"it is not valid TOML ({printable(error)})")


def _resolve(path: Path, chain: tuple[Path, ...]) -> dict[str, Any]:
    """The tables of ``path`` on top of those of the file that it extends, and so on."""
    where = Where(str(path))
    here = path.resolve()
    if here in chain or len(chain) >= MAX_CHAIN:
        names = " → ".join(p.name for p in (*chain, here))
        (where / "extends").fail(f"the files extend each other in a circle ({names})", "Take one of them out.")
    table = _read(path)
    # Unknown keys are found here too, so that the error names the file in which they stand.
    _check(table, where)
    if here == FOLDER / f"{BASE}.toml":
        return table
    parent = table.setdefault("extends", BASE)
    if not isinstance(parent, str) or not parent:
        (where / "extends").fail("the name or path of a target is needed")
    try:
        found = _find(parent, path.parent)
    except UnknownTarget:
        (where / "extends").fail(f'there is no target "{printable(parent, 60)}"', nearest(parent, (*_sources(), BASE)))
    under = _resolve(found, (*chain, here))
    if "profile" in table:
        under = _merge(under, _profile(table, where))
    return _merge(under, table)


def _profile(table: dict[str, Any], where: Where) -> Mapping[str, Any]:
    """The tables of the profile that a file refers to; its name gets the version that was found."""
    name = convert(table["profile"], str, where / "profile")
    try:
        profile = load_profile(str(name))
    except UnknownTarget:
        (where / "profile").fail(f'there is no profile "{printable(name, 60)}"', nearest(str(name), list_profiles()))
    table["profile"] = profile.label
    return profile.tables


def _merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``over`` laid on ``under``: tables are merged key by key, rules are appended, all else is replaced."""
    merged = dict(under)
    for key, value in over.items():
        old = merged.get(key)
        # A prescribed format is one thing: an exponent must not meet an inherited scale.
        if isinstance(old, Mapping) and isinstance(value, Mapping) and key != "output":
            merged[key] = _merge(old, value)
        elif key == "rule" and isinstance(old, list) and isinstance(value, list):
            merged[key] = [*old, *value]
        else:
            merged[key] = value
    return merged


TEXTS = ("name", "title", "summary", "extends", "profile")
TOP = (*TEXTS, "arithmetic", *ROLES, "bias_source", "op", "rule", "schemes")


def _check(table: Mapping[str, Any], where: Where) -> None:
    """Every key and type of one file, complete or not."""
    check_keys(table, TOP, where)
    for key, cls in (("arithmetic", Arithmetic), ("schemes", Schemes), *((role, FormatRule) for role in ROLES)):
        if key in table:
            partial(cls, table[key], where / key)
    read_ops(table.get("op", {}), where / "op")
    read_rules(table.get("rule", []), where / "rule")


def _target(table: Mapping[str, Any], where: Where, path: Path | None) -> Target:
    check_keys(table, TOP, where)
    for key in TOP:
        if key not in table and key not in {"rule", "schemes", "extends", "profile"}:
            (where / key).fail("this key is missing")
    texts = {key: convert(table.get(key, ""), str, where / key) for key in TEXTS}
    if not NAME.fullmatch(str(texts["name"])):
        (where / "name").fail(
            f'"{printable(texts["name"], 40)}" is not a name', "Use lower-case letters, digits, dots and hyphens."
        )
    formats: dict[str, Any] = {role: build(FormatRule, table[role], where / role) for role in ROLES}
    ops = read_ops(table["op"], where / "op")
    if DEFAULT_OP not in ops:
        (where / "op" / DEFAULT_OP).fail("this key is missing", "It is the rule for operators not named.")
    rules = read_rules(table.get("rule", []), where / "rule")
    source: Any = convert(table["bias_source"], Literal["accumulator", "own"], where / "bias_source")
    target = Target(
        **texts,  # type: ignore[arg-type]
        path=path,
        arithmetic=build(Arithmetic, table["arithmetic"], where / "arithmetic"),
        **formats,
        bias_source=source,
        ops=MappingProxyType(ops),
        rules=rules,
        schemes=build(Schemes, table.get("schemes", {}), where / "schemes"),
    )
    check_consistent(target, where)
    return target
