"""``onnx-int``: the program itself as an ONNX file of standard operators, with its integers bit for bit."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import printable
from bitwright.export.exporter import Exporter
from bitwright.export.onnx_emit import StandardEmitter
from bitwright.export.onnx_graph import Declared, ExportGraph
from bitwright.export.onnx_rounding import quantized_bytes, quantized_floats
from bitwright.export.report import ExportReport, Reading, compare_codes, merge, write_bytes
from bitwright.export.running import Codes, file_session, run_in_batches, runtime_name
from bitwright.number.format import Format
from bitwright.program.forms import Island
from bitwright.program.program import Program
from bitwright.simulate.emit import EXACT32, F32, F64
from bitwright.simulate.probe import int8_convolution_is_exact

if TYPE_CHECKING:
    from bitwright.quantized import Quantized

I64 = np.dtype(np.int64)


def export_onnx_int(
    q: Quantized, path: str | os.PathLike[str], *, raw: bool = False, portable: bool | None = None
) -> ExportReport:
    """Write the program as one ONNX file of standard operators.

    Inputs and outputs have the network's names.  With optimizations of the runtime on or off the integers are the
    program's.

    Args:
        q: The quantized network.
        path: The ``.onnx`` file.
        raw: Inputs and outputs are the integers themselves; otherwise real numbers, quantized and dequantized inside.
        portable: Use float convolutions of integers, which are exact on every machine.  Otherwise ``QLinearConv``,
            several times faster, and exact wherever products of unsigned and signed bytes are summed without
            saturation: x86 with VNNI, Arm.  By default whichever this machine computes exactly.

    Raises:
        ExportError: if a layer has no exact form in ONNX operators.
    """
    fast = int8_convolution_is_exact() if portable is None else not portable
    model, ways = onnx_int_model(q.program, q.input_tensors, q.output_tensors, raw=raw, int8=fast)
    file = write_bytes(Path(path), model)
    return ExportReport(
        format="onnx-int",
        files=(file,),
        promise="bit-exact",
        notes=_notes(q.program, ways),
        facts={"raw": raw, "portable": not fast, "ways": _counted(ways)},
    )


def _counted(ways: Mapping[str, str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for way in ways.values():
        found[way] = found.get(way, 0) + 1
    return found


def _notes(program: Program, ways: Mapping[str, str]) -> tuple[str, ...]:
    notes = []
    if "onnx-int8" in ways.values():
        notes.append(
            "Convolutions are QLinearConv with unsigned inputs and signed weights: exact on x86 with VNNI and on Arm. "
            "On older x86 processors ONNX Runtime saturates inside such sums unless the session option "
            "session.x64quantprecision is 1; --portable writes float convolutions that are exact everywhere."
        )
    islands = [step.layer for step in program.steps if isinstance(step.form, Island)]
    if islands:
        shown = ", ".join(f"'{printable(name, 40)}'" for name in islands[:3])
        notes.append(
            f"{len(islands)} pieces stay in float ({shown}{' …' if len(islands) > 3 else ''}): what follows them is "
            "exact only as far as the runtime computes these as ONNX Runtime does."
        )
    return tuple(notes)


def onnx_int_model(
    program: Program, inputs: tuple[str, ...], outputs: tuple[str, ...], *, raw: bool, int8: bool
) -> tuple[bytes, dict[str, str]]:
    """The serialized model, and step name → the way it is computed.

    Args:
        program: The program.
        inputs: Names for its inputs.
        outputs: Names for its outputs.
        raw: Integers outside.
        int8: Use ``QLinearConv``.
    """
    # An output that is an input, or is given twice, still needs a name of its own.
    graph = ExportGraph((*inputs, *outputs))
    emitter = StandardEmitter(program, graph, int8=int8)
    declared = []
    for name, tensor in zip(program.inputs, inputs, strict=True):
        declared.append(_declared(program, name, tensor, raw=raw))
        _feed(emitter, name, tensor, raw=raw)
    graph.name_nodes("input")
    ways = {}
    for step in program.steps:
        ways[step.name] = emitter.step(step)
        graph.name_nodes(step.layer)
    results = []
    for name, tensor in zip(program.outputs, outputs, strict=True):
        results.append(_declared(program, name, tensor, raw=raw))
        _fetch(emitter, name, tensor, raw=raw)
    graph.name_nodes("output")
    metadata = {
        "bitwright.target": program.target,
        "bitwright.raw": json.dumps(raw),
        "bitwright.formats": json.dumps(
            {
                tensor: {
                    "bits": format.bits,
                    "signed": format.signed,
                    "scale": float(format.scale),
                    "zero_point": int(format.zero_point),
                }
                for names, tensors in ((program.inputs, inputs), (program.outputs, outputs))
                for tensor, format in zip(tensors, (program.buffers[n].format for n in names), strict=True)
            }
        ),
    }
    return graph.finished(declared, results, name=program.name or "network", metadata=metadata), ways


def is_index(format: Format) -> bool:
    """Whether a tensor holds integers (class numbers, tokens) in the float network already."""
    return format.bits > 16 and float(format.scale) == 1.0 and not int(format.zero_point)


def _declared(program: Program, name: str, tensor: str, *, raw: bool) -> Declared:
    buffer = program.buffers[name]
    shape: list[int | str] = list(buffer.shape)
    if program.batchable and shape:
        shape[0] = "N"
    dtype = I64 if is_index(buffer.format) else buffer.format.dtype if raw else F32
    return tensor, dtype, shape


def _feed(emitter: StandardEmitter, name: str, tensor: str, *, raw: bool) -> None:
    """Declare what buffer ``name`` is, given the graph input ``tensor``."""
    graph, format, kind = emitter.graph, emitter.buffer(name).format, emitter.kind(name)
    if raw or is_index(format):
        value = graph.node("Cast", tensor, to=kind)
        if is_index(format):
            value = graph.node("Clip", value, emitter.number(format.lo, kind), emitter.number(format.hi, kind))
        emitter.set_real(name, value, kind)
        return
    rounding = emitter.program.input_rounding
    if emitter.narrow(name):
        emitter.set_raw(name, quantized_bytes(graph, tensor, format, rounding))
    else:
        emitter.set_real(name, quantized_floats(graph, tensor, format, rounding), F64)


def _fetch(emitter: StandardEmitter, name: str, tensor: str, *, raw: bool) -> None:
    """Make graph output ``tensor`` from buffer ``name``."""
    graph, format, kind = emitter.graph, emitter.buffer(name).format, emitter.kind(name)
    if is_index(format):
        graph.node("Cast", emitter.real(name, kind), outputs=[tensor], to=I64)
        return
    if raw:
        graph.node("Cast", emitter.real(name, kind), outputs=[tensor], to=format.dtype)
        return
    zero = int(format.zero_point)
    exact = format.exponent is not None and kind == F32 and format.hi - format.lo < EXACT32
    work = F32 if exact else F64
    value = emitter.real(name, work)
    value = graph.node("Sub", value, emitter.number(zero, work)) if zero else value
    scale = emitter.number(float(format.scale), work)
    if work == F32:
        graph.node("Mul", value, scale, outputs=[tensor])
    else:
        graph.node("Cast", graph.node("Mul", value, scale), outputs=[tensor], to=F32)


# ---------------------------------------------------------------- reading back


def read_onnx_int(q: Quantized, report: ExportReport, codes: Codes | None) -> Reading:
    """Run the file in ONNX Runtime, with its optimizations on and off, and compare every output integer.

    Args:
        q: The quantized network.
        report: What was written.
        codes: The samples: integers and reals of the inputs, and the reference's output integers.
    """
    assert codes is not None  # this format runs
    raw = bool(report.facts["raw"])
    readings = []
    for optimize in (True, False):
        session = file_session(report.files[0], optimize=optimize)
        feeds = codes.integers if raw else codes.reals
        named = dict(zip(q.input_tensors, feeds, strict=True))
        got = run_in_batches(session, named, list(q.output_tensors), batchable=q.program.batchable)
        integers = [
            values if raw else back_to_codes(values, q.program.buffers[b].format)
            for values, b in zip(got, q.program.outputs, strict=True)
        ]
        way = "on" if optimize else "off"
        readings.append(compare_codes(f"{runtime_name()}, optimizations {way}", codes.expected, integers))
    return merge(readings)


def back_to_codes(values: NDArray[Any], format: Format) -> NDArray[np.int64]:
    """The integers behind dequantized float32 values."""
    if values.dtype.kind in "iub":
        return values.astype(np.int64)
    codes = np.rint(values.astype(np.float64) / float(format.scale)) + int(format.zero_point)
    return np.asarray(np.clip(codes, format.lo - 1, format.hi + 1), np.int64)


EXPORTER = Exporter(
    name="onnx-int",
    summary="The deploy model: the program itself in standard ONNX operators, bit for bit.",
    promise="bit-exact",
    path="file",
    suffix=".onnx",
    write=export_onnx_int,
    read=read_onnx_int,
    runs=True,
)
