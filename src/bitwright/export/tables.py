"""``csv``, ``json``, ``parquet``: everything that is known of a quantized network, as tables."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bitwright.errors import ToolMissing
from bitwright.export.exporter import Exporter
from bitwright.export.report import ExportReport, Reading, write_bytes
from bitwright.number.format import Format

if TYPE_CHECKING:
    from bitwright.export.running import Codes
    from bitwright.quantized import Quantized

Row = Mapping[str, Any]
Tables = dict[str, list[Row]]


def _format_row(format: Format) -> dict[str, Any]:
    exponent = format.exponent
    return {
        "format": str(format),
        "bits": format.bits,
        "signed": format.signed,
        "lowest": format.lo,
        "highest": format.hi,
        "axis": format.axis,
        # Always lists, one number per channel or one in all, so that a column holds one kind of value.
        "scale": np.atleast_1d(format.scale).tolist(),
        "zero_point": np.atleast_1d(format.zero_point).tolist(),
        "exponent": None if exponent is None else np.atleast_1d(exponent).tolist(),
    }


def tables(q: Quantized) -> Tables:
    """Table name → rows of plain values; every row of a table has the same keys, in the same order.

    - ``tensors``: each buffer of the program with its format, proven range and the network's tensor that it is.
    - ``learnables``: each weight and bias as stored.
    - ``layers``: what became of each layer, and why.
    - ``steps``: the program.
    - ``calibration``: the calibration table, if the file carries its statistics.
    - ``notes``: what was said while it was made.
    """
    program = q.program
    found: Tables = {
        "tensors": [
            {"name": b.name, "tensor": b.tensor, "shape": list(b.shape), "lo": b.lo, "hi": b.hi} | _format_row(b.format)
            for b in program.buffers.values()
        ],
        "learnables": [
            {
                "layer": x.layer,
                "parameter": x.parameter,
                "tensor": x.tensor,
                "shape": list(x.shape),
                "count": x.count,
                "bytes": x.size_bytes,
            }
            | _format_row(x.format)
            for x in program.learnables
        ],
        "layers": [dict(row) for row in q.provenance.get("layers", ())],
        "steps": [
            {
                "name": s.name,
                "layer": s.layer,
                "op": s.op,
                "form": type(s.form).__name__,
                "inputs": list(s.inputs),
                "outputs": list(s.outputs),
                "sources": list(s.sources),
            }
            for s in program.steps
        ],
        "calibration": _calibration(q),
        "notes": [{"note": str(note)} for note in q.provenance.get("notes", ())],
    }
    return {name: rows for name, rows in found.items() if rows}


def _calibration(q: Quantized) -> list[Row]:
    statistics = q.statistics
    if statistics is None:
        return []
    from bitwright.calibrate.table import calibration_table

    return [row.to_json() for row in calibration_table(q.network, statistics, q.contract)]


# ---------------------------------------------------------------- writing


def export_csv(q: Quantized, path: str | os.PathLike[str]) -> ExportReport:
    """Write a folder with one CSV file per table; lists and mappings are JSON in their cells.

    Args:
        q: The quantized network.
        path: The folder.
    """
    return _folder(q, Path(path), "csv", _csv_bytes)


def export_parquet(q: Quantized, path: str | os.PathLike[str]) -> ExportReport:
    """Write a folder with one Parquet file per table; lists and mappings are JSON in their cells.

    Args:
        q: The quantized network.
        path: The folder.

    Raises:
        ToolMissing: if pyarrow is not installed.
    """
    return _folder(q, Path(path), "parquet", _parquet_bytes)


def export_json(q: Quantized, path: str | os.PathLike[str]) -> ExportReport:
    """Write all tables as one JSON file: an object of lists of rows.

    Args:
        q: The quantized network.
        path: The file.
    """
    found = tables(q)
    data = json.dumps(found, indent=1, ensure_ascii=False).encode("utf-8")
    return _report("json", (write_bytes(Path(path), data),), found)


def _folder(q: Quantized, path: Path, suffix: str, encode: Callable[[Sequence[Row]], bytes]) -> ExportReport:
    found = tables(q)
    encoded = {name: encode(rows) for name, rows in found.items()}
    files = tuple(write_bytes(path / f"{name}.{suffix}", data) for name, data in encoded.items())
    return _report(suffix, files, found)


def _report(name: str, files: tuple[Path, ...], found: Tables) -> ExportReport:
    rows = {table: len(rows) for table, rows in found.items()}
    return ExportReport(format=name, files=files, promise="tables", facts={"rows": rows})


def cell(value: Any) -> Any:
    """A value as one cell: lists and mappings as JSON."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict | tuple) else value


def _csv_bytes(rows: Sequence[Row]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: cell(value) for key, value in row.items()})
    return text.getvalue().encode("utf-8")


def _pyarrow() -> Any:
    try:
        import_module("pyarrow.parquet")
        return import_module("pyarrow")
    except ImportError as error:
        raise ToolMissing(
            "Parquet files need pyarrow: pip install 'bitwright[parquet]'",
            tool="pyarrow",
            install="pip install 'bitwright[parquet]'",
        ) from error


def _parquet_bytes(rows: Sequence[Row]) -> bytes:
    pyarrow = _pyarrow()
    columns = {key: [cell(row[key]) for row in rows] for key in rows[0]}
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table(columns), sink)
    return bytes(sink.getvalue().to_pybytes())


# ---------------------------------------------------------------- reading back


def _read(q: Quantized, report: ExportReport, read: Callable[[Path], list[Row]], reader: str, *, text: bool) -> Reading:
    """Compare every cell with the tables, made anew."""
    wanted = tables(q)
    compared = differing = 0
    for path in report.files:
        want, got = wanted[path.stem], read(path)
        for i in range(max(len(want), len(got))):
            ours = {k: cell(v) for k, v in want[i].items()} if i < len(want) else {}
            theirs = dict(got[i]) if i < len(got) else {}
            for key in {*ours, *theirs}:
                expected = ours.get(key)
                if text:
                    expected = "" if expected is None else str(expected)
                compared += 1
                differing += expected != theirs.get(key)
    result = b"".join(path.read_bytes() for path in report.files)
    return Reading(reader=reader, compared=compared, differing=differing, result=result)


def read_csv(q: Quantized, report: ExportReport, codes: Codes | None) -> Reading:
    """Read the files with Python's csv module and compare every cell."""
    assert codes is None  # tables do not run

    def rows(path: Path) -> list[Row]:
        with path.open(newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))

    return _read(q, report, rows, "Python's csv", text=True)


def read_parquet(q: Quantized, report: ExportReport, codes: Codes | None) -> Reading:
    """Read the files with pyarrow and compare every cell."""
    assert codes is None  # tables do not run
    pyarrow = _pyarrow()

    def rows(path: Path) -> list[Row]:
        return list(pyarrow.parquet.read_table(path).to_pylist())

    return _read(q, report, rows, f"pyarrow {pyarrow.__version__}", text=False)


def read_json(q: Quantized, report: ExportReport, codes: Codes | None) -> Reading:
    """Parse the file and compare every value."""
    assert codes is None  # tables do not run
    data = report.files[0].read_bytes()
    got, want = json.loads(data), tables(q)
    compared = differing = 0
    for name in {*got, *want}:
        ours, theirs = want.get(name, []), got.get(name, [])
        for i in range(max(len(ours), len(theirs))):
            left = json.loads(json.dumps(ours[i])) if i < len(ours) else {}
            right = theirs[i] if i < len(theirs) else {}
            keys = {*left, *right}
            compared += len(keys)
            differing += sum(left.get(k) != right.get(k) for k in keys)
    return Reading(reader="Python's json", compared=compared, differing=differing, result=data)


CSV = Exporter(
    name="csv",
    summary="Tables in a folder of CSV files: tensors, learnables, layers, steps, calibration.",
    promise="tables",
    path="folder",
    suffix="",
    write=export_csv,
    read=read_csv,
    runs=False,
)
JSON = Exporter(
    name="json",
    summary="The same tables in one JSON file.",
    promise="tables",
    path="file",
    suffix=".json",
    write=export_json,
    read=read_json,
    runs=False,
)
PARQUET = Exporter(
    name="parquet",
    summary="The same tables in a folder of Parquet files (needs pyarrow).",
    promise="tables",
    path="folder",
    suffix="",
    write=export_parquet,
    read=read_parquet,
    runs=False,
)
