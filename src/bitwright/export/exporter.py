"""What an exporter is: a function that writes, and an independent reader of what it wrote."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bitwright.errors import ExportError, printable
from bitwright.export.report import ExportReport, Promise, Reading

if TYPE_CHECKING:
    from bitwright.export.running import Codes
    from bitwright.quantized import Quantized

TRUTHS: Mapping[str, bool] = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True, kw_only=True)
class Exporter:
    """A format that quantized networks can be written in.

    Attributes:
        name: What ``--to`` calls it.
        summary: What it writes and for whom, in one sentence.
        promise: What its files claim to compute.
        path: Whether the user names a file or a folder.
        suffix: The usual end of the file's name.
        write: ``write(q, path, **options)``; keyword-only parameters are the options.
        read: ``read(q, report, codes)``: reads the files back without the code that wrote them, and compares.
        runs: Whether reading back runs the network on samples.
    """

    name: str
    summary: str
    promise: Promise
    path: Literal["file", "folder"]
    suffix: str
    write: Callable[..., ExportReport]
    read: Callable[[Quantized, ExportReport, Codes | None], Reading]
    runs: bool

    @property
    def options(self) -> dict[str, inspect.Parameter]:
        """The keyword-only parameters of ``write``."""
        parameters = inspect.signature(self.write).parameters
        return {name: p for name, p in parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}

    def export(self, q: Quantized, path: str | os.PathLike[str], **options: Any) -> ExportReport:
        """Write ``q``.

        Raises:
            ExportError: if an option is unknown, or the network cannot be written in this form.
        """
        for name in options:
            if name not in self.options:
                known = ", ".join(self.options) or "none"
                raise ExportError(f"{self.name} has no option '{printable(name, 40)}'; it has: {known}.")
        return self.write(q, Path(path), **options)

    def parse(self, texts: Mapping[str, str]) -> dict[str, Any]:
        """Options given as text, as on a command line.

        Raises:
            ExportError: if one is unknown or is no such value.
        """
        found: dict[str, Any] = {}
        for name, text in texts.items():
            key = name.replace("-", "_")
            if key not in self.options:
                known = ", ".join(self.options) or "none"
                raise ExportError(f"{self.name} has no option '{printable(name, 40)}'; it has: {known}.")
            default = self.options[key].default
            if isinstance(default, bool) or "bool" in str(self.options[key].annotation):
                if text.lower() not in TRUTHS:
                    raise ExportError(f"Option {name} of {self.name} is yes or no, not '{printable(text, 40)}'.")
                found[key] = TRUTHS[text.lower()]
            else:
                found[key] = text
        return found
