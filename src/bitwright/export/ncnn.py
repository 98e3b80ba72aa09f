"""``ncnn``: an int8 model as ``.param`` and ``.bin``, and the calibration table, with the 6-bit rule of 3×3 convolutions."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bitwright.calibrate.foreign import read_table
from bitwright.errors import ExportError, Mismatch, printable
from bitwright.export.demands import demand_symmetric
from bitwright.export.exporter import Exporter
from bitwright.export.qdq import contract_of, layer_specs, weight_format
from bitwright.export.report import ExportReport, Reading, write_bytes
from bitwright.number.format import Format
from bitwright.program.forms import Contract

if TYPE_CHECKING:
    from bitwright.calibrate.spec import LayerSpec
    from bitwright.export.running import Codes
    from bitwright.quantized import Quantized

WINOGRAD_LARGEST = 31
NOT_EXACT = (
    "ncnn rounds only the inputs of convolutions and dense layers to integers; between these, and in all other layers, it "
    "computes in float, so single outputs differ from the program's integers (--verify counts them)."
)


def export_ncnn(q: Quantized, path: str | os.PathLike[str], *, table_only: bool = False) -> ExportReport:
    """Write ``PATH.param`` and ``PATH.bin``, a model with int8 convolutions and dense layers, and the table ``PATH.table``.

    A scale is what a number is multiplied with: 127/absmax, and 31/absmax for the weights of 3×3 convolutions of stride
    1, which ncnn computes by Winograd's transform.  Lines of the table are named after the nodes of the network, as
    ``onnx2ncnn`` names its layers.

    Args:
        q: Quantized for target ``ncnn``.
        path: The ``.param`` file; the others are named after it.  With ``table_only``, the table.
        table_only: Write the table alone, for ``ncnn2int8 IN.param IN.bin OUT.param OUT.bin TABLE``.

    Raises:
        ExportError: if a format is none that ncnn has, or a layer has no form there.
    """
    from bitwright.export.ncnn_graph import build

    formats = demand_symmetric(q, "ncnn", "ncnn")
    rows, left_out = table_rows(q, formats)
    if not rows:
        raise ExportError(
            f"ncnn computes all of '{printable(q.name)}' in float: it has no convolution over two axes and no dense layer "
            "with constant weights, so there is nothing to put in a table."
        )
    lines = [f"{name}_param_0 {numbers(scales)}" for name, scales, _ in rows]
    lines += [f"{name} {numbers(np.atleast_1d(scale))}" for name, _, scale in rows]
    table = ("\n".join(lines) + "\n").encode("utf-8")
    notes = []
    base = Path(path)
    if table_only:
        notes.append("pnnx gives layers other names than the ONNX nodes': rename the lines, or convert with onnx2ncnn.")
        files: tuple[Path, ...] = (write_bytes(base, table),)
    else:
        graph = build(q)
        notes.append(NOT_EXACT)
        files = (
            write_bytes(base, graph.param().encode("utf-8")),
            write_bytes(base.with_suffix(".bin"), b"".join(graph.chunks)),
            write_bytes(base.with_suffix(".table"), table),
        )
    if left_out:
        shown = ", ".join(f"'{printable(name, 40)}'" for name in left_out[:3])
        notes.append(f"{len(left_out)} layers have no int8 form in ncnn and are not in the table: {shown}.")
    blobs: dict[str, str] = {} if table_only else dict(graph.names)
    return ExportReport(
        format="ncnn",
        files=files,
        promise="close",
        notes=tuple(notes),
        facts={
            "layers": len(rows),
            "table_only": table_only,
            "blobs": {t: blobs[t] for t in (*q.input_tensors, *q.output_tensors) if t in blobs},
        },
    )


def numbers(values: NDArray[np.float64]) -> str:
    """float32 values with all their digits."""
    return " ".join(repr(float(np.float32(v))) for v in values)


def table_rows(
    q: Quantized, formats: dict[str, Format]
) -> tuple[list[tuple[str, NDArray[np.float64], float]], list[str]]:
    """(layer, weight scales, input scale) of each layer, and the layers that ncnn computes in float.

    Raises:
        ExportError: if a name or a width cannot be written.
    """
    rows, left_out = [], []
    forms = contract_of(q)
    for spec in layer_specs(q):
        form, stored = forms.get(spec.name), weight_format(q.program, spec.name)
        if form is None or stored is None:
            continue
        if spec.op not in {"Conv", "Gemm"} or (spec.op == "Conv" and len(form.axes) != 2):
            left_out.append(spec.name)
            continue
        if not spec.name or any(c.isspace() for c in spec.name) or spec.name.startswith("#"):
            raise ExportError(
                f"Layer '{printable(spec.name)}' cannot be named in an ncnn table, whose lines are split at spaces and "
                "whose comments start with #. Rename the node."
            )
        rows.append((spec.name, weight_scales(q, spec, form, stored), 1 / float(formats[spec.tensors[0]].scale)))
    return rows, left_out


def weight_scales(q: Quantized, spec: LayerSpec, form: Contract, stored: Format) -> NDArray[np.float64]:
    """One scale per output channel, or per group of a grouped convolution, which is how ncnn keeps them."""
    codes = q.program.tensors[form.weight]
    largest = int(np.abs(codes.astype(np.int64)).max(initial=0))
    winograd = form.groups == 1 and [(a.taps, a.stride, a.dilation) for a in form.axes] == [(3, 1, 1)] * 2
    limit = WINOGRAD_LARGEST if winograd else 127
    if largest > limit:
        raise ExportError(
            f"The weights of '{printable(spec.name)}' reach {largest}; ncnn holds at most {limit} there. Quantize for "
            "--target ncnn."
        )
    scales = 1 / np.broadcast_to(stored.scale, (len(codes),))
    if form.groups > 1:
        # The coarsest step of a group's channels holds them all.
        scales = scales.reshape(form.groups, -1).min(1)
    return np.asarray(scales, np.float64)


def read_ncnn(q: Quantized, report: ExportReport, codes: Codes | None) -> Reading:
    """Run the model in ncnn and compare every output; compare every scale of the table with the program's formats.

    Raises:
        ToolMissing: if ncnn is not installed.
        Mismatch: if the table holds other scales.
    """
    from bitwright.export.ncnn_run import run_ncnn

    table = read_scales(q, report.files[-1].read_text("utf-8"))
    if report.facts["table_only"]:
        return Reading(**{**table.__dict__, "notes": (*table.notes, "ncnn itself was not run.")})
    if table.differing:
        raise Mismatch(
            f"{table.differing} scales of {printable(report.files[-1])} are not the program's. This is a bug in bitwright: "
            "please report it."
        )
    assert codes is not None  # this format runs
    found = run_ncnn(q, report, codes)
    return Reading(
        **{**found.__dict__, "notes": (*found.notes, f"{table.compared} scales of the table read back, 0 differ.")}
    )


def read_scales(q: Quantized, text: str) -> Reading:
    """Compare every scale with the program's formats, and re-quantize the float weights as ``ncnn2int8`` does."""
    table = read_table(text)
    compared = differing = weights = moved = 0
    forms = contract_of(q)
    for spec in layer_specs(q):
        form, stored = forms.get(spec.name), weight_format(q.program, spec.name)
        if form is None or stored is None or f"{spec.name}_param_0" not in table:
            continue
        scales = np.asarray(table[f"{spec.name}_param_0"])
        steps = np.broadcast_to(stored.scale, (len(spec.weights()),)).reshape(len(scales), -1).max(1)
        source = float(q.program.buffers[_source(q, spec.name)].format.scale)
        found = np.asarray([*scales, *table[spec.name]], np.float32)
        differing += int(np.count_nonzero(found != (1 / np.asarray([*steps, source])).astype(np.float32)))
        compared += len(found)
        each = np.repeat(scales, len(spec.weights()) // len(scales))
        real = spec.weights() * each.reshape((-1,) + (1,) * (spec.weights().ndim - 1))
        rounded = np.clip(np.sign(real) * np.floor(np.abs(real) + 0.5), -127, 127).astype(np.int64)
        weights += rounded.size
        moved += int(np.count_nonzero(rounded != q.program.tensors[form.weight].reshape(rounded.shape)))
    return Reading(
        reader="a reader of ncnn tables",
        compared=compared,
        differing=differing,
        result="\n".join(f"{name} {values}" for name, values in table.items()).encode("utf-8"),
        notes=(f"ncnn2int8 would round {moved} of {weights} weights to other integers than the program's.",),
    )


def _source(q: Quantized, layer: str) -> str:
    return next(step.inputs[0] for step, _ in q.program.contracts() if step.layer == layer)


EXPORTER = Exporter(
    name="ncnn",
    summary="An int8 model for ncnn (.param, .bin) and its calibration table.",
    promise="close",
    path="file",
    suffix=".param",
    write=export_ncnn,
    read=read_ncnn,
    runs=True,
)
