"""``nnom``: a ``weights.h`` with the macros that NNoM's own scripts write.

Names and meaning of the macros: majianjia/nnom ``scripts/nnom.py`` (``generate_model``) and, for ``dialect="old"``,
``scripts/nnom_utils.py``.  The order of interleaved dense weights: CMSIS-NN 3, ``arm_fully_connected_q7_opt``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bitwright.calibrate.foreign import read_header
from bitwright.errors import ExportError, printable
from bitwright.export.demands import demand_powers
from bitwright.export.exporter import Exporter
from bitwright.export.report import ExportReport, Reading, write_bytes
from bitwright.number.format import Format
from bitwright.program.builder import identifier
from bitwright.program.forms import Contract, Map, Move, Reshape
from bitwright.program.program import Program, Step

if TYPE_CHECKING:
    from bitwright.export.running import Codes
    from bitwright.quantized import Quantized

DIALECTS = ("new", "old")
SUMS, PRODUCTS = ("Add", "Sub"), ("Mul",)
# Where the element of row r (of four) and column c (of four) goes, in arm_fully_connected_q7_opt's blocks of 16.
BLOCK = ((0, 0), (1, 0), (0, 2), (1, 2), (2, 0), (3, 0), (2, 2), (3, 2), (0, 1), (1, 1), (0, 3), (1, 3), (2, 1), (3, 1), (2, 3), (3, 3))  # fmt: skip


def export_nnom(
    q: Quantized, path: str | os.PathLike[str], *, dialect: str = "new", interleave: bool = True
) -> ExportReport:
    """Write weights, biases, formats and shifts as C macros.

    Weights are in NNoM's order: ``[out][height][width][in]``, depthwise ``[height][width][channel]``, dense
    ``[out][in]`` with the inputs in the order height, width, channel where a feature map is flattened.

    Args:
        q: Quantized for target ``mcu-q7``.
        path: The header.
        dialect: ``new``: ``LAYER_OUTPUT_DEC`` and ``TENSOR_LAYER_KERNEL_0_DEC_BITS``, as ``nnom.py`` writes;
            ``old``: ``LAYER_OUTPUT_SHIFT`` and ``LAYER_KERNEL_0_SHIFT``, as ``nnom_utils.py`` did.
        interleave: Dense weights in the order of CMSIS-NN's optimized kernel, which NNoM uses.

    Raises:
        ExportError: if a format or a shift is none that NNoM has, or a layer's weights cannot be put in its order.
    """
    if dialect not in DIALECTS:
        raise ExportError(f"There is no NNoM dialect '{printable(dialect, 40)}': {' or '.join(DIALECTS)}.")
    formats = demand_powers(q, "NNoM", "mcu-q7")
    writer = _Header(q.program, dialect, interleave)
    lines = writer.text(formats)
    return ExportReport(
        format="nnom",
        files=(write_bytes(Path(path), ("\n".join(lines) + "\n").encode("utf-8")),),
        promise="tables",
        notes=(
            (
                "The header holds what NNoM's scripts compute, not the function that builds the model: that is in your "
                "sources, or in --to c, which needs no NNoM."
            ),
            *writer.notes,
        ),
        facts={"dialect": dialect, "interleave": interleave, "layers": writer.layers},
    )


def decimal_bits(format: Format) -> int:
    """Fractional bits of a power-of-two format."""
    exponent = format.exponent
    if exponent is None or exponent.ndim:
        raise ExportError(f"NNoM has no format {format}. Quantize for --target mcu-q7.")
    return -int(exponent)


def interleaved(weights: NDArray[np.int64]) -> NDArray[np.int64]:
    """``[out, in]`` flattened in the order of ``arm_fully_connected_q7_opt``.

    Four rows at a time: their columns in blocks of four as ``BLOCK`` says, then the columns left over, each with its
    four rows.  Rows left over follow one after the other.
    """
    rows, columns = weights.shape
    order: list[NDArray[np.int64]] = []
    for first in range(0, rows - rows % 4, 4):
        four = weights[first : first + 4]
        for start in range(0, columns - columns % 4, 4):
            order.append(np.array([four[r, start + c] for r, c in BLOCK], np.int64))
        order.append(four[:, columns - columns % 4 :].T.reshape(-1))
    order.append(weights[rows - rows % 4 :].reshape(-1))
    return np.concatenate(order)


def nnom_weights(program: Program, step: Step, form: Contract) -> NDArray[np.int64]:
    """The weights of a contraction in NNoM's order of axes.

    Raises:
        ExportError: if it is grouped but not depthwise, or reads a feature map in an order that cannot be followed.
    """
    weights = program.tensors[form.weight].astype(np.int64)
    if form.axes:
        spatial = weights[:, :, None, :] if len(form.axes) == 1 else weights
        if form.groups == 1:
            return spatial.transpose(0, 2, 3, 1)
        if spatial.shape[1] == 1 and form.groups == len(spatial):
            return spatial[:, 0].transpose(1, 2, 0)
        raise ExportError(
            f"Layer '{printable(step.layer)}' is a convolution in {form.groups} groups; NNoM knows plain and depthwise "
            "ones."
        )
    shape = flattened_map(program, step)
    if shape is None:
        return weights
    return weights.reshape(len(weights), shape[0], -1).swapaxes(1, 2).reshape(len(weights), -1)


def flattened_map(program: Program, step: Step) -> tuple[int, ...] | None:
    """The shape ``(channels, height, width)`` of the feature map that a dense layer reads flattened, or None."""
    name = step.inputs[0]
    while (made := program.producer(name)) is not None and isinstance(made.form, Move) and len(made.inputs) == 1:
        before = program.buffers[made.inputs[0]].shape
        if len(before) > 2 and any(n > 1 for n in before[2:]):
            if all(isinstance(m, Reshape) for m in made.form.motions):
                return before[1:]
            raise ExportError(
                f"Layer '{printable(step.layer)}' reads a feature map whose elements were moved about; NNoM's order of "
                "its weights does not follow."
            )
        name = made.inputs[0]
    return None


class _Header:
    """Collects the lines of the header."""

    def __init__(self, program: Program, dialect: str, interleave: bool) -> None:
        self.program, self.dialect, self.interleave = program, dialect, interleave
        self.names: dict[str, str] = {}
        self.layers = 0
        self.notes: list[str] = []

    def name(self, layer: str) -> str:
        """A macro name for a layer, its own."""
        if layer not in self.names:
            stem = name = identifier(layer).upper()
            number = 1
            while name in self.names.values():
                number += 1
                name = f"{stem}_{number}"
            self.names[layer] = name
        return self.names[layer]

    def format(self, buffer: str) -> Format:
        return self.program.buffers[buffer].format

    def text(self, formats: dict[str, Format]) -> list[str]:
        """All lines."""
        lines = ['#include "nnom.h"', "", "/* Weights, bias and Q format */"]
        own = {x.layer: x.format for x in self.program.learnables if x.parameter == "Bias"}
        for step, form in self.program.contracts():
            lines += self.contraction(step, form, own.get(step.layer))
        lines += ["", "/* output q format for each layer */"]
        for name in self.program.inputs:
            lines += self.output("INPUT" if len(self.program.inputs) == 1 else name, self.format(name))
        done = set()
        for step in self.program.steps:
            last = step.outputs[0]
            tensor = self.program.buffers[last].tensor
            if step.layer not in done and tensor in formats:
                done.add(step.layer)
                lines += self.output(step.layer, self.format(last))
        lines += ["", "/* output shift of layers without weights */"]
        for step in self.program.steps:
            lines += self.elementwise(step)
        return lines

    def output(self, layer: str, format: Format) -> list[str]:
        name, bits = self.name(layer), decimal_bits(format)
        if self.dialect == "old":
            return [f"#define {name}_OUTPUT_SHIFT ({bits})"]
        return [f"#define {name}_OUTPUT_DEC ({bits})", f"#define {name}_OUTPUT_OFFSET (0)"]

    def contraction(self, step: Step, form: Contract, bias: Format | None) -> list[str]:
        """Weights, bias and shifts of a layer.

        Raises:
            ExportError: if a shift is negative.
        """
        stored = next(x.format for x in self.program.learnables if x.tensor == form.weight)
        source, result = (decimal_bits(self.format(n)) for n in (step.inputs[0], step.outputs[0]))
        kernel = decimal_bits(stored)
        weights = nnom_weights(self.program, step, form)
        values = interleaved(weights) if not form.axes and self.interleave else weights.reshape(-1)
        name = self.name(step.layer)
        shift = source + kernel - result
        left = 0
        lines = [""]
        lines += self.tensor(f"{name}_KERNEL_0", values, kernel)
        if form.bias is not None:
            codes = self.program.tensors[form.bias].astype(np.int64)
            bits = source + kernel if bias is None or bias.bits > 8 else decimal_bits(bias)
            left = source + kernel - bits
            if left < 0:
                raise ExportError(
                    f"The bias of '{printable(step.layer)}' is finer than its accumulator; NNoM shifts biases to the "
                    "left only. Quantize for --target mcu-q7."
                )
            biases = codes >> left
            if (biases << left != codes).any() or (np.abs(biases) > 128).any():
                raise ExportError(
                    f"The bias of '{printable(step.layer)}' does not fit 8 bits; quantize for --target mcu-q7."
                )
            lines += self.tensor(f"{name}_BIAS_0", biases, bits)
        if shift < 0:
            raise ExportError(
                f"'{printable(step.layer)}' would need an output shift of {shift}; NNoM shifts to the right only."
            )
        brace = ("{", "}") if self.dialect == "new" else ("(", ")")
        lines += [
            f"#define {name}_BIAS_LSHIFT {brace[0]}{left}{brace[1]}",
            f"#define {name}_OUTPUT_RSHIFT {brace[0]}{shift}{brace[1]}",
        ]
        self.layers += 1
        return lines

    def tensor(self, name: str, values: NDArray[np.int64], bits: int) -> list[str]:
        """A constant and its fractional bits."""
        listed = ", ".join(str(v) for v in values.tolist())
        if self.dialect == "old":
            return [f"#define {name} {{{listed}}}", f"#define {name}_SHIFT ({bits})"]
        return [f"#define TENSOR_{name} {{{listed}}}", f"#define TENSOR_{name}_DEC_BITS {{{bits}}}"]

    def elementwise(self, step: Step) -> list[str]:
        """The shift of a sum or product of two tensors, with NNoM's own guard."""
        if not isinstance(step.form, Map) or step.op not in {*SUMS, *PRODUCTS} or len(step.inputs) != 2:
            return []
        left, right = (decimal_bits(self.format(n)) for n in step.inputs)
        if left != right:
            self.notes.append(f"'{printable(step.layer)}' has inputs of different formats, which NNoM has not.")
            return []
        shift = left * (2 if step.op in PRODUCTS else 1) - decimal_bits(self.format(step.outputs[0]))
        name = f"{self.name(step.layer)}_OUTPUT_RSHIFT"
        guard = [f"#if {name} < 0", f"#error {name} must be bigger than 0", "#endif"]
        return [f"#define {name} ({shift})", *guard]


# ---------------------------------------------------------------- reading back


def deinterleaved(values: Iterable[int], rows: int, columns: int) -> NDArray[np.int64]:
    """``[out, in]`` from the order of ``arm_fully_connected_q7_opt``, read as its kernel reads it.

    The kernel unpacks 16-bit pairs: of four values at ``p``, those at even places meet columns ``c`` and ``c + 2``.
    """
    stream = iter(values)
    out = np.zeros((rows, columns), np.int64)
    for row in range(0, rows // 4 * 4, 4):
        for column in range(0, columns // 4 * 4, 4):
            for odd in (0, 1):
                for pair in (0, 2):
                    for even in (0, 2):
                        out[row + pair, column + even + odd] = next(stream)
                        out[row + pair + 1, column + even + odd] = next(stream)
        for column in range(columns // 4 * 4, columns):
            for lane in range(4):
                out[row + lane, column] = next(stream)
    for row in range(rows // 4 * 4, rows):
        for column in range(columns):
            out[row, column] = next(stream)
    return out


def read_nnom(q: Quantized, report: ExportReport, codes: Codes | None) -> Reading:
    """Compare every number of the header with the program: weights, biases, formats, shifts."""
    assert codes is None  # a header does not run
    text = report.files[0].read_text("utf-8")
    macros = read_header(text)
    new = report.facts["dialect"] == "new"
    prefix, suffix = ("TENSOR_", "_DEC_BITS") if new else ("", "_SHIFT")
    names = _Header(q.program, str(report.facts["dialect"]), interleave=False)
    compared = differing = 0

    def check(got: NDArray[np.int64], want: NDArray[np.int64]) -> None:
        nonlocal compared, differing
        compared += want.size
        differing += want.size if got.shape != want.shape else int(np.count_nonzero(got != want))

    for step, form in q.program.contracts():
        name = names.name(step.layer)
        want = nnom_weights(q.program, step, form)
        got = np.asarray(macros[f"{prefix}{name}_KERNEL_0"], np.int64)
        if not form.axes and report.facts["interleave"]:
            got = deinterleaved(got.tolist(), *want.shape)
        check(got.reshape(want.shape) if got.size == want.size else got, want)
        (right,), (left,) = macros[f"{name}_OUTPUT_RSHIFT"], macros[f"{name}_BIAS_LSHIFT"]
        (bits,) = macros[f"{prefix}{name}_KERNEL_0{suffix}"]
        steps = [float(q.program.buffers[n].format.scale) for n in (step.inputs[0], step.outputs[0])]
        # 2^-shift is the ratio of the accumulator's step to the output's.
        check(np.asarray([2.0**-right]), np.asarray([steps[0] * 2.0**-bits / steps[1]]))
        if form.bias is not None:
            biases = np.asarray(macros[f"{prefix}{name}_BIAS_0"], np.int64) << left
            check(biases, q.program.tensors[form.bias].astype(np.int64))
    return Reading(
        reader="a reader of C macros",
        compared=compared,
        differing=differing,
        result=text.encode("utf-8"),
        notes=("NNoM itself was not run.",),
    )


EXPORTER = Exporter(
    name="nnom",
    summary="weights.h with NNoM's macros: weights, biases, fractional bits and shifts.",
    promise="tables",
    path="file",
    suffix=".h",
    write=export_nnom,
    read=read_nnom,
    runs=False,
)
