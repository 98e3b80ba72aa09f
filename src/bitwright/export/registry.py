"""All exporters by name: those shipped here and those of other packages (entry-point group ``bitwright.exporters``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from bitwright.errors import ExportError, printable

if TYPE_CHECKING:
    from bitwright.export.exporter import Exporter

GROUP = "bitwright.exporters"

# Name → where its Exporter is.  Modules are loaded when a format is used, so that the names alone cost nothing.
BUILT_IN: Mapping[str, str] = {
    "c": "bitwright.export.c_library:EXPORTER",
    "csv": "bitwright.export.tables:CSV",
    "json": "bitwright.export.tables:JSON",
    "ncnn": "bitwright.export.ncnn:EXPORTER",
    "nnom": "bitwright.export.nnom:EXPORTER",
    "onnx-int": "bitwright.export.onnx_int:EXPORTER",
    "onnx-qdq": "bitwright.export.onnx_qdq:EXPORTER",
    "openvino": "bitwright.export.openvino:EXPORTER",
    "parquet": "bitwright.export.tables:PARQUET",
    "rtl": "bitwright.export.rtl.exporter:EXPORTER",
    "tensorrt": "bitwright.export.tensorrt:EXPORTER",
    "tflite": "bitwright.export.tflite_file:EXPORTER",
    "torch": "bitwright.export.torch_module:EXPORTER",
    "vitis": "bitwright.export.vitis:EXPORTER",
}


def exporter_names(extra: Iterable[EntryPoint] | None = None) -> tuple[str, ...]:
    """The names of all exporters, without loading any.

    Args:
        extra: Entry points of other packages; by default those that are installed.

    Raises:
        ExportError: if two exporters have one name.
    """
    return tuple(sorted(_sources(extra)))


def _sources(extra: Iterable[EntryPoint] | None) -> dict[str, str | EntryPoint]:
    found: dict[str, str | EntryPoint] = dict(BUILT_IN)
    for point in entry_points(group=GROUP) if extra is None else extra:
        if point.name in found:
            other = found[point.name]
            first = "bitwright itself" if isinstance(other, str) else printable(other.value)
            raise ExportError(
                f"Two exporters are called '{printable(point.name)}': one of {first}, one of {printable(point.value)}. "
                "Uninstall one of the packages, or rename its exporter."
            )
        found[point.name] = point
    return found


def find_exporter(name: str, extra: Iterable[EntryPoint] | None = None) -> Exporter:
    """The exporter called ``name``.

    Raises:
        ExportError: if there is none (the nearest is named), or its package fails.
    """
    from bitwright.export.exporter import Exporter

    sources = _sources(extra)
    if name not in sources:
        near = get_close_matches(name, sources, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise ExportError(
            f"There is no export format '{printable(name, 60)}'.{hint} The formats are {', '.join(sorted(sources))}."
        )
    source = sources[name]
    if isinstance(source, str):
        module, _, attribute = source.partition(":")
        found = getattr(import_module(module), attribute)
    else:
        try:
            found = source.load()
        except Exception as error:  # the package is not ours: whatever it raises, its name must be in the message
            raise ExportError(
                f"The exporter '{printable(name)}' comes from {printable(source.value)}, which failed with "
                f"{type(error).__name__}: {printable(error, 300)}. Fix or uninstall it."
            ) from error
    if not isinstance(found, Exporter) or found.name != name:
        raise ExportError(f"What is registered as exporter '{printable(name)}' is no Exporter of that name.")
    return found
