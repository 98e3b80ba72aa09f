"""Export and prove: what was written is read back by somebody else, compared, and certified."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bitwright.errors import ExportError, Mismatch
from bitwright.export.registry import find_exporter
from bitwright.export.report import ExportReport, Reading, sha256, sha256_file, write_json
from bitwright.export.running import Codes, make_codes, random_samples

if TYPE_CHECKING:
    from bitwright.quantized import Quantized

SAMPLES = 8


@dataclass(frozen=True, kw_only=True)
class Exported:
    """An export and its proof.

    Attributes:
        report: What was written.
        reading: What reading it back found; None unless that was asked for.
        certificate: The certificate's file, or None.
    """

    report: ExportReport
    reading: Reading | None = None
    certificate: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        found = self.report.to_json()
        if self.reading is not None:
            found["verified"] = outcome(self.reading)
            found["certificate"] = str(self.certificate)
        return found


def outcome(reading: Reading) -> dict[str, Any]:
    """A reading as plain values."""
    return {
        "reader": reading.reader,
        "samples": reading.samples,
        "compared": reading.compared,
        "differing": reading.differing,
        "largest_difference": reading.largest,
        "notes": list(reading.notes),
    }


def program_sha256(q: Quantized) -> str:
    """Hash of the program and its constants, the same on every machine, whatever else the ``.bw`` file holds."""
    from bitwright.program.codec import program_to_dict
    from bitwright.program.file import TENSORS, to_members

    text = json.dumps(program_to_dict(q.program), sort_keys=True, separators=(",", ":"))
    return sha256(text.encode("utf-8") + to_members(q.artefact)[TENSORS])


def export(
    q: Quantized,
    to: str,
    path: str | os.PathLike[str],
    *,
    verify: bool = False,
    data: Any = None,
    samples: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> Exported:
    """Write a quantized network in another form.

    Args:
        q: The quantized network.
        to: Name of the exporter.
        path: File or folder to write.
        verify: Read the files back with an independent reader, compare, and write ``PATH.certificate.json``.
        data: Samples for that; by default numbers drawn at random over the range of the input, always the same.
        samples: How many; by default 8.
        options: Of the exporter.

    Raises:
        ExportError: if there is no such exporter, or the network cannot be written in this form.
        Mismatch: if a file that promises the program's integers computes others: a bug of ours.
    """
    exporter = find_exporter(to)
    report = exporter.export(q, path, **(options or {}))
    if not verify:
        return Exported(report=report)
    codes = _codes(q, data, samples or SAMPLES) if exporter.runs else None
    reading = exporter.read(q, report, codes)
    certificate = write_json(_certificate_path(Path(path)), certify(q, report, reading, codes))
    if reading.differing and report.promise != "close":
        raise Mismatch(
            f"{report.files[0].name} differs from the program: {reading.sentence} This is a bug in bitwright: please "
            "report it with the network.",
        )
    return Exported(report=report, reading=reading, certificate=certificate)


def _certificate_path(path: Path) -> Path:
    return path / "certificate.json" if path.is_dir() else path.with_name(f"{path.name}.certificate.json")


def _codes(q: Quantized, data: Any, samples: int) -> Codes:
    if data is None:
        return make_codes(q, random_samples(q, samples), "drawn at random over the range of the input")
    from bitwright.model import open_samples

    source = open_samples(q.network, q.contract, data, samples=samples)
    parts: list[Sequence[Any]] = []
    for batch in source.batches(samples):
        parts.append([batch.x[t] for t in q.input_tensors] if isinstance(batch.x, dict) else [batch.x])
    arrays = [np.concatenate(column) for column in zip(*parts, strict=True)]
    if len(arrays) != len(q.input_tensors):
        raise ExportError(f"The samples hold {len(arrays)} inputs; the network has {len(q.input_tensors)}.")
    return make_codes(q, arrays, str(source.fingerprint))


def certify(q: Quantized, report: ExportReport, reading: Reading, codes: Codes | None) -> dict[str, Any]:
    """The certificate: who read what, with hashes of the model, the data and the result."""
    from bitwright import __version__

    return {
        "bitwright": __version__,
        "format": report.format,
        "promise": report.promise,
        "network": q.name,
        "target": q.program.target,
        "model_sha256": program_sha256(q),
        "network_fingerprint": q.provenance.get("fingerprint"),
        "files": {path.name: sha256_file(path) for path in report.files},
        "data": None if codes is None else {"origin": codes.origin, "samples": codes.samples, "sha256": codes.sha256},
        "result_sha256": sha256(reading.result),
        **outcome(reading),
    }
