"""The command line that does what a button does, ready to be copied."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bitwright.app.session import Session, write
from bitwright.app.settings import Settings, Step
from bitwright.errors import printable


def quoted(words: list[str]) -> str:
    """Words as a shell reads them back, in one line whatever they hold."""
    return "bitwright " + " ".join(_word(word) for word in words)


def _word(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    return "$'" + "".join(_ansi_c(c) for c in word) + "'"


def _ansi_c(c: str) -> str:
    if c in "'\\":
        return f"\\{c}"
    if c.isprintable():
        return c
    return f"\\x{ord(c):02x}" if ord(c) < 0x80 else f"\\U{ord(c):08x}"


def _network(session: Session, settings: Settings) -> list[str]:
    words = [settings.model]
    for shape in settings.shapes:
        words += ["--shape", shape]
    if settings.contract:
        words += ["--input-spec", str(contract_file(session, settings))]
    return words


def _samples(settings: Settings) -> list[str]:
    words: list[str] = []
    if settings.samples is not None:
        words += ["--samples", str(settings.samples)]
    if settings.seed is not None:
        words += ["--seed", str(settings.seed)]
    return [*words, "--skip-bad"] if settings.skip_bad else words


def _beside(settings: Settings, suffix: str) -> str:
    return Path(settings.model).stem + suffix


def open_line(session: Session, settings: Settings) -> str:
    """What stays float, what folding costs."""
    return quoted(["inspect", *_network(session, settings), "--target", settings.target])


def calibrate_line(session: Session, settings: Settings) -> str:
    """Calibrating."""
    return quoted(["calibrate", *_network(session, settings), "--data", settings.data or "DATA", *_samples(settings)])


def quantize_line(session: Session, settings: Settings) -> str:
    """Quantizing, from the calibration, or from the samples where repairs need them."""
    runs = settings.mend or settings.scheme == "auto"
    source = settings.data or "DATA" if runs else _beside(settings, ".bwcal")
    words = ["quantize", *_network(session, settings), "--data", source, "--target", settings.target]
    if runs:
        words += _samples(settings)
    if settings.scheme:
        words += ["--scheme", settings.scheme]
    for tensor, text in settings.formats:
        words += ["--format", f"{tensor}={text}"]
    if settings.mend:
        words += ["--mend", settings.mend, "--time", f"{settings.seconds}s"]
    return quoted([*words, "--prune"] if settings.prune else words)


def validate_line(settings: Settings) -> str:
    """Validating."""
    words = ["validate", _beside(settings, ".bw"), "--data", settings.judge or "DATA"]
    if settings.judged is not None:
        words += ["--samples", str(settings.judged)]
    if settings.metric:
        words += ["--metric", settings.metric]
    return quoted([*words, "--skip-bad"] if settings.skip_bad else words)


def explain_line(settings: Settings) -> str:
    """Explaining."""
    return quoted(["explain", _beside(settings, ".bw"), "--data", settings.judge or settings.data or "DATA"])


def estimate_line(settings: Settings, core: str, config: str) -> str:
    """Estimating."""
    return quoted(["estimate", _beside(settings, ".bw"), *(["--config", config] if config else ["--core", core])])


def export_line(settings: Settings, to: str, options: Mapping[str, str], *, verify: bool, output: str) -> str:
    """Exporting."""
    words = ["export", _beside(settings, ".bw"), "--to", to, "-o", output]
    for name, value in options.items():
        words += ["--option", f"{name}={value}"]
    return quoted([*words, "--verify"] if verify else words)


def report_line(settings: Settings) -> str:
    """The report."""
    words = ["report", _beside(settings, ".bw")]
    if settings.judge:
        words += ["--data", settings.judge]
        words += ["--samples", str(settings.judged)] if settings.judged is not None else []
    return quoted([*words, "-o", _beside(settings, ".html")])


def contract_file(session: Session, settings: Settings) -> Path:
    """The input contract of the settings as a file that the command line can read."""
    path = session.file("contract", settings.key(Step.NETWORK), ".toml")
    if not path.is_file():
        write(path, contract_toml(json.loads(settings.contract)))
    return path


def contract_toml(contract: Mapping[str, Mapping[str, Any]]) -> str:
    """A contract as TOML; shape and type come from the network."""
    lines = []
    for table, keys in contract.items():
        lines.append(f"[{table}]")
        lines += [f"{key} = {_toml(value)}" for key, value in keys.items() if key not in {"shape", "dtype"}]
        lines.append("")
    return "\n".join(lines)


def _toml(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(printable(value, 4000), ensure_ascii=False)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return repr(value).lower() if isinstance(value, bool) else repr(value)
