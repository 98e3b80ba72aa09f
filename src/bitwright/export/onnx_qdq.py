"""``onnx-qdq``: the float network with a format on every edge, for runtimes that choose integer kernels themselves."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bitwright.errors import printable
from bitwright.export.exporter import Exporter
from bitwright.export.onnx_int import back_to_codes
from bitwright.export.qdq import Style, Tally, qdq_model
from bitwright.export.report import ExportReport, Reading, compare_codes, merge, write_bytes
from bitwright.export.running import Codes, file_session, run_in_batches, runtime_name

if TYPE_CHECKING:
    from bitwright.quantized import Quantized

UNSIGNED_LARGEST, LARGEST_16 = 255, (1 << 15) - 1

NOT_EXACT = (
    "Between QuantizeLinear and DequantizeLinear runtimes compute in float and round as they like, so single outputs "
    "differ from the program's integers (--verify counts them); onnx-int is the file that does not differ."
)


def export_onnx_qdq(q: Quantized, path: str | os.PathLike[str], *, signed: bool = False) -> ExportReport:
    """Write the network as QDQ ONNX: every tensor between layers, weights per channel, biases int32.

    Args:
        q: The quantized network.
        path: The ``.onnx`` file.
        signed: Keep signed activations signed.  By default they are stored as unsigned bytes moved by 128, which are
            the same numbers and what x86 kernels are fast at.

    Raises:
        ExportError: if the network cannot be written so.
    """
    style = Style(unsigned=not signed, four_bits=True)
    saturable = () if signed else saturable_layers(q)
    notes = (saturation_note(saturable),) if saturable else ()
    report = write_qdq(q, Path(path), style, "onnx-qdq", notes)
    return replace(report, facts={**report.facts, "saturable": len(saturable)})


def saturable_layers(q: Quantized) -> tuple[str, ...]:
    """Layers whose sums can saturate on x86 processors without VNNI.

    Their kernels add the products of two unsigned and two signed bytes in 16 bits.  Which two depends on the kernel, so a
    layer is named where any two weights of an output channel can pass the limit.
    """
    found = []
    for step, form in q.program.contracts():
        stored = q.program.buffers[step.inputs[0]].format
        weights = q.program.tensors[form.weight].astype(np.int64).reshape(len(q.program.tensors[form.weight]), -1)
        if stored.bits > 8 or weights.size == 0:
            continue
        ends = np.sort(weights, axis=1)
        pairs = np.concatenate([ends[:, -2:].clip(0).sum(1), -ends[:, :2].clip(None, 0).sum(1)])
        if UNSIGNED_LARGEST * int(pairs.max()) > LARGEST_16:
            found.append(step.layer)
    return tuple(found)


def saturation_note(layers: tuple[str, ...]) -> str:
    """What users of older processors must know."""
    return (
        f"{len(layers)} layers (first '{printable(layers[0], 40)}') have weights with which x86 processors without VNNI can "
        'saturate inside sums. There set the session option session.x64quantprecision to "1", or export with --option '
        "signed=yes; onnx-int --portable needs neither."
    )


def write_qdq(q: Quantized, path: Path, style: Style, name: str, notes: tuple[str, ...] = ()) -> ExportReport:
    """Write a QDQ file of one style and say what it holds."""
    model, tally = qdq_model(q, style)
    return ExportReport(
        format=name,
        files=(write_bytes(path, model),),
        promise="close",
        notes=(*notes, NOT_EXACT, *tally_notes(tally)),
        facts=tally_facts(tally),
    )


def tally_facts(tally: Tally) -> dict[str, Any]:
    """What was written, in numbers."""
    return {"edges": len(tally.edges), "float_edges": len(tally.floats), "weights": len(tally.weights)}


def tally_notes(tally: Tally) -> tuple[str, ...]:
    """What the file cannot say, in sentences."""
    notes = []
    if tally.floats:
        notes.append(
            f"{len(tally.floats)} tensors have formats wider than 16 bits, which ONNX cannot write; they stay float."
        )
    if tally.own_ways:
        shown = ", ".join(f"'{printable(name, 40)}'" for name in tally.own_ways[:3])
        notes.append(
            f"{len(tally.own_ways)} layers ({shown}{' …' if len(tally.own_ways) > 3 else ''}) are computed by the target "
            "in a way of its own (cut-off averages, other factors, powers of two in Softmax); here they are the float "
            "operator, which can differ by much more than a step."
        )
    return tuple(notes)


def read_qdq(q: Quantized, report: ExportReport, codes: Codes | None) -> Reading:
    """Run the file in ONNX Runtime, with its optimizations on and off, and compare every output with the program's."""
    assert codes is not None  # this format runs
    readings = []
    for optimize in (True, False):
        session = file_session(report.files[0], optimize=optimize)
        named = dict(zip(q.input_tensors, codes.reals, strict=True))
        got = run_in_batches(session, named, list(q.output_tensors), batchable=q.program.batchable)
        formats = [q.program.buffers[b].format for b in q.program.outputs]
        integers = [back_to_codes(values, format) for values, format in zip(got, formats, strict=True)]
        way = "on" if optimize else "off"
        readings.append(compare_codes(f"{runtime_name()}, optimizations {way}", codes.expected, integers))
    both = merge(readings)
    each = tuple(r.sentence for r in readings)
    return Reading(**{**both.__dict__, "notes": (*both.notes, *each)})


EXPORTER = Exporter(
    name="onnx-qdq",
    summary="The eval model: QuantizeLinear and DequantizeLinear on every edge.",
    promise="close",
    path="file",
    suffix=".onnx",
    write=export_onnx_qdq,
    read=read_qdq,
    runs=True,
)
