"""From a finding's remedy to settings: what its button does."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace

from bitwright.app.session import Session, write
from bitwright.app.settings import Settings
from bitwright.errors import BitwrightError, CalibrationError, InputMismatch, printable
from bitwright.view.seen import FindingSeen


def applied(session: Session, settings: Settings, finding: FindingSeen) -> Settings:
    """The settings with the remedy taken.

    Raises:
        BitwrightError: if it holds what settings cannot be.
    """
    from bitwright.calibrate.scheme import load as load_scheme
    from bitwright.mend.registry import read_repairs
    from bitwright.targets.target import load_target

    s = settings
    for name, value in finding.action:
        match name:
            case "mend":
                read_repairs(value)
                s = replace(s, mend=joined(s.mend, value))
            case "scheme":
                if value != "auto":
                    load_scheme(value)
                s = replace(s, scheme=value)
            case "target":
                load_target(value)
                s = replace(s, target=value, formats=())
            case "target_file":
                s = replace(s, target=_target_file(session, value), formats=())
            case "input_contract":
                s = replace(s, contract=_contract(value))
            case "samples":
                s = replace(s, samples=int(value) if value.isdigit() and int(value) > 0 else None)
            case "prune":
                s = replace(s, prune=value in {"True", "yes", "true"})
            case "format" | "formats":
                s = s.with_formats(dict(_formats(value)))
            case _:
                raise CalibrationError(
                    f"The app cannot apply '{printable(name, 40)}' by itself. Its command line can: "
                    f"{printable(finding.command, 600)}"
                )
    if s == settings:
        raise CalibrationError("This remedy is applied already.")
    return s


def joined(old: str, new: str) -> str:
    """Repairs that were chosen before, and another one after them."""
    if not old or new in old.split(","):
        return old or new
    return old if old == "auto" else new if new == "auto" else f"{old},{new}"


def _formats(value: str) -> list[tuple[str, str]]:
    tensor, equals, text = value.rpartition("=")
    if not equals:
        raise CalibrationError(f"'{printable(value, 80)}' is not of the form TENSOR=FORMAT.")
    return [(tensor, text)]


def _target_file(session: Session, text: str) -> str:
    """Keep a target's rules as a file of the session; its path is a target.

    Raises:
        TargetError: if they are none.
    """
    import hashlib

    from bitwright.targets.target import load_target

    path = session.folder / f"target-{hashlib.sha256(text.encode()).hexdigest()[:8]}.toml"
    write(path, text)
    try:
        load_target(path)
    except BitwrightError:
        path.unlink(missing_ok=True)
        raise
    return str(path)


def _contract(text: str) -> str:
    from bitwright.data.contract import InputContract

    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputMismatch(f"The input contract of the remedy is no TOML: {error}.") from error
    InputContract.from_dict(table)
    return json.dumps(table, sort_keys=True)
