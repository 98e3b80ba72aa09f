"""``tflite``: an int8 flatbuffer for TensorFlow Lite, its microcontroller runtime, and what else reads it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import ExportError, ToolMissing, printable
from bitwright.export.exporter import Exporter
from bitwright.export.report import ExportReport, Reading, compare_codes, merge, write_bytes

if TYPE_CHECKING:
    from bitwright.export.running import Codes
    from bitwright.export.tflite.canvas import Canvas
    from bitwright.number.format import Format
    from bitwright.quantized import Quantized

OTHER_ROUNDING = (
    "The target's requantizer is not that of TFLite (a Q31 multiplier and two roundings), so single integers differ by a "
    "step; --target litert computes as TFLite's reference kernels do."
)
RESOLVERS = {
    "reference kernels": "BUILTIN_REF",
    "optimized kernels": "BUILTIN_WITHOUT_DEFAULT_DELEGATES",
    "XNNPACK": "AUTO",
}


def export_tflite(
    q: Quantized, path: str | os.PathLike[str], *, float_io: bool = False, lookups: bool = False
) -> ExportReport:
    """Write the program as an int8 ``.tflite`` file: batch 1, pictures with channels last.

    Formats are those of TensorFlow Lite's 8-bit specification: activations signed bytes with a zero point, weights in
    -127..127 per output channel or tensor, biases int32 in steps of input scale × weight scale.  Unsigned bytes become
    signed ones moved by 128, which are the same numbers.

    Args:
        q: The quantized network.
        path: The ``.tflite`` file.
        float_io: Inputs and outputs are real numbers, quantized and dequantized inside; by default they are the integers.
        lookups: Write every function of one element as a look-up (CAST, ADD, GATHER), which gives the program's integers
            in every runtime; by default Sigmoid, Tanh, HardSwish and LeakyRelu are the runtime's own kernels.

    Raises:
        ExportError: if a layer has no int8 form in TFLite.
        ToolMissing: if the schema's package is not installed.
    """
    from bitwright.export.tflite.flat import schema
    from bitwright.export.tflite.walk import build

    schema()
    canvas = build(q, lookups=lookups)
    inputs, outputs = interface(q, canvas, float_io=float_io)
    notes = list(canvas.notes)
    if q.target.arithmetic.requantize != "multiplier-double":
        notes.append(OTHER_ROUNDING)
    data = canvas.graph.packed(inputs, outputs, f"Written by bitwright for target {q.program.target}.")
    return ExportReport(
        format="tflite",
        files=(write_bytes(Path(path), data),),
        promise="close",
        notes=tuple(notes),
        facts={
            "float_io": float_io,
            "lookups": lookups,
            "operators": len(canvas.graph.operations),
            "bytes": len(data),
        },
    )


def interface(q: Quantized, canvas: Canvas, *, float_io: bool) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """Names and tensors of inputs and outputs; with real numbers outside, quantizing is put first and last."""
    from bitwright.export.onnx_int import is_index
    from bitwright.export.tflite.walk import interface_order

    graph = canvas.graph
    inputs: list[tuple[str, int]] = []
    outputs: list[tuple[str, int]] = []
    for tensor, name in zip(q.output_tensors, q.program.outputs, strict=True):
        buffer = canvas.buffer(name)
        place = canvas.get(name, interface_order(buffer.shape))
        made = {t for operation in graph.operations for t in operation.outputs}
        if place not in made or place in {i for _, i in outputs}:
            # An input handed through, or one tensor given twice: runtimes want a tensor of its own.
            place = graph.op("RESHAPE", [place, shape_of(canvas, place)], [canvas.like(place, canvas.shape(place), "_given")],
                             "ReshapeOptions", NewShape=canvas.shape(place))  # fmt: skip
        if float_io and not is_index(buffer.format):
            real = graph.tensor(f"{tensor}_real", canvas.shape(place), "float32")
            place = graph.op("DEQUANTIZE", [place], [real], "DequantizeOptions")
        outputs.append((tensor, place))
    first = []
    for tensor, name in zip(q.input_tensors, q.program.inputs, strict=True):
        place = next(i for i, t in enumerate(graph.tensors) if t.name == (canvas.buffer(name).tensor or name))
        if float_io:
            real = graph.tensor(f"{tensor}_real", canvas.shape(place), "float32")
            graph.op("QUANTIZE", [real], [place], "QuantizeOptions")
            first.append(graph.operations.pop())
            place = real
        inputs.append((tensor, place))
    graph.operations[:0] = first
    return inputs, outputs


def shape_of(canvas: Canvas, tensor: int) -> int:
    """The shape of a tensor as a constant."""
    return canvas.graph.constant("shape", np.asarray(canvas.shape(tensor), np.int32))


# ---------------------------------------------------------------- reading back


def litert() -> Any:
    """The interpreter of LiteRT.

    Raises:
        ToolMissing: if it is not installed.
    """
    try:
        return import_module("ai_edge_litert.interpreter")
    except ImportError as error:
        raise ToolMissing(
            "Running .tflite files needs LiteRT: pip install ai-edge-litert",
            tool="ai-edge-litert",
            install="pip install ai-edge-litert",
        ) from error


def run_tflite(path: Path, feeds: Sequence[NDArray[Any]], resolver: str) -> list[NDArray[Any]]:
    """The outputs ``[n, ...]`` of a ``.tflite`` file of batch 1 in LiteRT, sample by sample.

    Args:
        path: The file.
        feeds: One array ``[n, ...]`` per input, in the type and layout of the file.
        resolver: Which kernels: a name of LiteRT's ``OpResolverType``.

    Raises:
        ExportError: if LiteRT refuses the file.
    """
    module = litert()
    kind = getattr(module.OpResolverType, resolver)
    try:
        interpreter = module.Interpreter(model_path=str(path), experimental_op_resolver_type=kind, num_threads=1)
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise ExportError(
            f"LiteRT refuses {printable(path)}: {printable(error, 300)}. This is a bug in bitwright; please report it."
        ) from error
    places = [d["index"] for d in interpreter.get_input_details()]
    results: list[list[NDArray[Any]]] = []
    for i in range(len(feeds[0])):
        for place, feed in zip(places, feeds, strict=True):
            interpreter.set_tensor(place, feed[i : i + 1])
        interpreter.invoke()
        results.append([interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()])
    return [np.concatenate(column) for column in zip(*results, strict=True)]


def read_tflite(q: Quantized, report: ExportReport, codes: Codes | None) -> Reading:
    """Run the file in LiteRT, with its reference kernels, its optimized ones and XNNPACK, and compare every output.

    Raises:
        ToolMissing: if LiteRT is not installed.
    """
    assert codes is not None  # this format runs
    readings = list(readings_by_kernels(q, report, codes).values())
    both = merge(readings)
    return Reading(**{**both.__dict__, "notes": (*both.notes, *(r.sentence for r in readings))})


def readings_by_kernels(q: Quantized, report: ExportReport, codes: Codes) -> dict[str, Reading]:
    """What each set of kernels computes."""
    from bitwright.export.onnx_int import back_to_codes

    litert()
    version = version_of("ai-edge-litert")
    float_io = bool(report.facts["float_io"])
    program = q.program
    feeds = [
        to_file(real if float_io else whole, program.buffers[b].format, real=float_io)
        for real, whole, b in zip(codes.reals, codes.integers, program.inputs, strict=True)
    ]
    found = {}
    for name, resolver in RESOLVERS.items():
        got = run_tflite(report.files[0], feeds, resolver)
        integers = []
        for values, b in zip(got, program.outputs, strict=True):
            format = program.buffers[b].format
            turned = np.moveaxis(values, -1, 1) if values.ndim == 4 else values
            floating = values.dtype.kind == "f"
            integers.append(
                back_to_codes(turned, format) if floating else turned.astype(np.int64) + stored_less(format)
            )
        found[name] = compare_codes(f"LiteRT {version}, {name}", codes.expected, integers)
    return found


def stored_less(format: Format) -> int:
    """What the file's codes are less than the program's."""
    return 128 if format.bits == 8 and not format.signed else 0


def to_file(values: NDArray[Any], format: Format, *, real: bool) -> NDArray[Any]:
    """Samples in the type and layout of the file."""
    turned = np.moveaxis(values, 1, -1) if values.ndim == 4 else values
    if real:
        return np.ascontiguousarray(turned, np.float32)
    return np.ascontiguousarray((turned.astype(np.int64) - stored_less(format)).astype(np.int8))


def version_of(package: str) -> str:
    """Of an installed package."""
    from importlib.metadata import version

    return version(package)


EXPORTER = Exporter(
    name="tflite",
    summary="An int8 .tflite file in TensorFlow Lite's formats.",
    promise="close",
    path="file",
    suffix=".tflite",
    write=export_tflite,
    read=read_tflite,
    runs=True,
)
