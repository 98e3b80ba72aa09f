"""From the fields of a form to other settings, checked before they are taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from bitwright.app.session import Session
from bitwright.app.settings import LONGEST, Settings
from bitwright.app.steps import contract_of
from bitwright.app.uploads import data_path
from bitwright.app.whatif import Bench, Change
from bitwright.errors import CalibrationError, InputMismatch, printable
from bitwright.view.tensors import format_powers

if TYPE_CHECKING:
    from bitwright.view.seen import FindingSeen, TensorSeen

Fields = Mapping[str, str]


def edited(session: Session, fields: Fields) -> tuple[str, Settings]:
    """What was done, in words, and the settings after it.

    Raises:
        BitwrightError: if a field cannot be what it says.
    """
    s, told = session.settings, list[str]()
    for reader in (_target, _samples, _scheme, _judge, _shapes):
        s, text = reader(s, fields)
        told += [text] if text else []
    if fields.get("contract"):
        s = replace(s, contract=contract_of(session.model().contract, fields))
        told.append("preprocessing")
    return ", ".join(told) or "settings", s


def _target(s: Settings, fields: Fields) -> tuple[Settings, str]:
    from bitwright.targets.target import load_target

    chosen = fields.get("target_file", "").strip() or fields.get("target", "").strip()
    if not chosen or chosen == s.target:
        return s, ""
    load_target(_short(chosen))
    # Formats set by hand keep the rules of the target that they were set for.
    return replace(s, target=chosen, formats=()), f"target {chosen}"


def _samples(s: Settings, fields: Fields) -> tuple[Settings, str]:
    old = s
    if "data" in fields:
        s = replace(s, data=data_path(fields["data"]) if fields["data"].strip() else "")
    for name in ("samples", "seed"):
        if name in fields:
            s = replace(s, **{name: _number(name, fields[name], 1 if name == "samples" else 0)})  # type: ignore[arg-type]
    if "has-skip_bad" in fields:
        s = replace(s, skip_bad=fields.get("skip_bad") == "yes")
    return s, "calibration samples" if s != old else ""


def _scheme(s: Settings, fields: Fields) -> tuple[Settings, str]:
    from bitwright.calibrate.scheme import load as load_scheme
    from bitwright.mend.registry import read_repairs

    old = s
    if "scheme" in fields and fields["scheme"] not in {"", "auto"}:
        load_scheme(_short(fields["scheme"]))
    if "scheme" in fields:
        s = replace(s, scheme=fields["scheme"])
    if "mend" in fields:
        if fields["mend"].strip() not in {"", "auto"}:
            read_repairs(_short(fields["mend"]))
        s = replace(s, mend=fields["mend"].strip())
    if "seconds" in fields:
        s = replace(s, seconds=_number("seconds", fields["seconds"], 1) or 300)
    if "has-prune" in fields:
        s = replace(s, prune=fields.get("prune") == "yes")
    return s, "scheme and repairs" if s != old else ""


def _judge(s: Settings, fields: Fields) -> tuple[Settings, str]:
    from bitwright.commands.catalog import METRICS

    old = s
    if "judge" in fields:
        s = replace(s, judge=data_path(fields["judge"]) if fields["judge"].strip() else "")
    if "judged" in fields:
        s = replace(s, judged=_number("samples", fields["judged"], 1))
    if "metric" in fields:
        if fields["metric"] not in {"", *METRICS}:
            raise InputMismatch(f"There is no metric {printable(fields['metric'], 60)!r}.")
        s = replace(s, metric=fields["metric"])
    return s, "validation samples" if s != old else ""


def _shapes(s: Settings, fields: Fields) -> tuple[Settings, str]:
    if "shapes" not in fields:
        return s, ""
    shapes = tuple(_short(fields["shapes"]).split())
    return replace(s, shapes=shapes), "shapes" if shapes != s.shapes else ""


def _number(name: str, text: str, least: int) -> int | None:
    text = text.strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 12 or int(text) < least:
        raise InputMismatch(f"{name} is a whole number from {least} on, not {printable(text, 40)!r}.")
    return int(text)


def _short(text: str) -> str:
    if len(text) > LONGEST:
        raise InputMismatch(f"This text has {len(text):,} characters, and {LONGEST:,} is the most.")
    return text


def change_of(fields: Fields) -> Change:
    """A change of a format, as the fields beside the histogram say it.

    Raises:
        InputMismatch: if a number is none.
    """

    def whole(name: str) -> int | None:
        text = fields.get(name, "").strip()
        if not text:
            return None
        try:
            return int(text)
        except ValueError as error:
            raise InputMismatch(f"{name} is a whole number, not {printable(text, 40)!r}.") from error

    signed = {"yes": True, "no": False}.get(fields.get("signed", ""))
    return Change(
        shift=whole("shift") or 0,
        bits=whole("bits"),
        signed=signed,
        text=fields.get("format", ""),
        scheme=fields.get("scheme", ""),
    )


def formats_set(
    session: Session, fields: Fields, bench: Bench, find: Callable[[str], TensorSeen | None]
) -> tuple[str, Settings]:
    """The settings after formats of one or several tensors were set, moved or taken back.

    Raises:
        CalibrationError: if the target forbids one.
    """
    s = session.settings
    marks = fields.get("marks", fields.get("mark", "")).split(".")
    tensors = [t for t in map(find, marks) if t is not None]
    if fields.get("reset") == "all":
        return "all types as chosen", replace(s, formats=())
    if not tensors:
        raise CalibrationError("No such tensor is there any more: select it again.")
    if fields.get("reset"):
        return _named("type as chosen", tensors), s.with_formats({t.name: None for t in tensors})
    if "marks" in fields:
        many = (
            Change(shift=int(fields["shift"]))
            if fields.get("shift") in {"-1", "1"}
            else Change(scheme=fields["scheme"])
        )
        changes: dict[str, str | None] = {}
        moved: set[str] = set()
        for tensor in tensors:
            if not bench.schemes_apply(tensor) or tensor.name in moved:
                continue  # what shares a format with one before moves with it
            found = bench.try_format(tensor, many)
            if found.refusal:
                raise CalibrationError(found.refusal)
            moved |= {tensor.name, *found.others}
            changes[tensor.name] = found.format
        return _named("type", tensors), s.with_formats(changes)
    found = bench.try_format(tensors[0], wanted(fields, bench, tensors[0]))
    if found.refusal:
        raise CalibrationError(found.refusal)
    taken = dict.fromkeys(found.others)  # one format, one entry
    return f"type of {printable(tensors[0].name, 60)}: {printable(str(found.after.type.text), 60)}", s.with_formats(
        {**taken, tensors[0].name: found.format}
    )


def wanted(fields: Fields, bench: Bench, tensor: TensorSeen) -> Change:
    """The format that the fields beside a histogram say: the one that is shown, moved and widened as they say.

    With a script the fields agree with what is shown; without one they are all there is.
    """
    base = change_of({k: v for k, v in fields.items() if k in {"format", "scheme"}})
    if base.scheme:
        return replace(base, text="")
    change = change_of(fields)
    fraction = fields.get("fraction", "").strip()
    shift = 0
    if fraction.lstrip("-").isdigit():
        _, bottoms = format_powers(bench.changed(tensor, base))
        shift = -int(fraction) - int(bottoms.min())
    return replace(change, shift=shift)


def _named(what: str, tensors: list[TensorSeen]) -> str:
    first = printable(tensors[0].name, 60)
    return f"{what} of {first}" if len(tensors) == 1 else f"{what} of {len(tensors)} tensors"


def remedied(session: Session, finding: FindingSeen) -> tuple[str, Settings]:
    """The settings after a finding's remedy: what its ``action`` says, as options of ``quantize``.

    Raises:
        BitwrightError: if the remedy is none that settings can hold.
    """
    from bitwright.app.remedies import applied

    return f"remedy: {printable(finding.title, 80)}", applied(session, session.settings, finding)
