"""What exporting wrote, what reading it back found, and the certificate of both."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Promise = Literal["bit-exact", "close", "tables"]
"""``bit-exact``: the file computes the program's integers.  ``close``: it computes in float between integers, and
single outputs can differ.  ``tables``: it computes nothing, it holds the program's numbers for another tool."""


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """What an exporter wrote.

    Attributes:
        format: Name of the exporter.
        files: What was written; the first is the one to hand on.
        promise: What the files claim to compute.
        notes: What the user should know, in sentences.
        facts: Plain values that say how it was written; the exporter's own reader gets them back.
        handle: What that reader needs beyond plain values.
    """

    format: str
    files: tuple[Path, ...]
    promise: Promise
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    handle: Any = field(default=None, repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "format": self.format,
            "files": [str(path) for path in self.files],
            "promise": self.promise,
            "notes": list(self.notes),
            "facts": dict(self.facts),
        }


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What an independent reader found in exported files.

    Attributes:
        reader: Who read them, with its version.
        compared: Values compared: output integers of a network that runs, or numbers of a table.
        differing: How many differ.
        largest: The largest difference, in steps of the output for networks; 0 where none differs.
        result: The values read, for the certificate's hash.
        samples: Samples that were run; 0 for tables.
        notes: What the user should know, in sentences.
    """

    reader: str
    compared: int
    differing: int
    largest: float = 0.0
    result: bytes = b""
    samples: int = 0
    notes: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """The outcome in words."""
        what = "output integers" if self.samples else "values"
        if not self.differing:
            return f"{self.reader}: {self.compared} {what} compared, 0 differ."
        share = 100 * self.differing / max(1, self.compared)
        return (
            f"{self.reader}: {self.compared} {what} compared, {self.differing} differ ({share:.3g} %), "
            f"by {self.largest:g} at most."
        )


def merge(readings: Sequence[Reading]) -> Reading:
    """Several readings of one export as one."""
    return Reading(
        reader="; ".join(dict.fromkeys(r.reader for r in readings)),
        compared=sum(r.compared for r in readings),
        differing=sum(r.differing for r in readings),
        largest=max((r.largest for r in readings), default=0.0),
        result=b"".join(r.result for r in readings),
        samples=max((r.samples for r in readings), default=0),
        notes=tuple(dict.fromkeys(n for r in readings for n in r.notes)),
    )


def compare_codes(
    reader: str,
    expected: Sequence[NDArray[Any]],
    got: Sequence[NDArray[Any]],
    *,
    notes: tuple[str, ...] = (),
) -> Reading:
    """Compare output integers, one array ``[n, ...]`` per output."""
    differing = compared = 0
    largest = 0
    for want, have in zip(expected, got, strict=True):
        distance = np.abs(want.astype(np.int64) - have.astype(np.int64))
        compared += distance.size
        differing += int(np.count_nonzero(distance))
        largest = max(largest, int(distance.max(initial=0)))
    samples = len(expected[0]) if expected else 0
    result = b"".join(np.ascontiguousarray(x.astype("<i8")).tobytes() for x in got)
    return Reading(
        reader=reader,
        compared=compared,
        differing=differing,
        largest=float(largest),
        result=result,
        samples=samples,
        notes=notes,
    )


def sha256(data: bytes) -> str:
    """Hex digest."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_bytes(path: Path, data: bytes) -> Path:
    """Write a file, whole or not at all; folders above it are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def write_json(path: Path, value: Any) -> Path:
    """Write plain values as JSON that a person can read."""
    return write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False) + os.linesep).encode("utf-8"))
