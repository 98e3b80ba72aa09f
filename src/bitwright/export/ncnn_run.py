"""ncnn as the reader of ncnn's files."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import ExportError, ToolMissing, printable
from bitwright.export.onnx_int import back_to_codes
from bitwright.export.report import ExportReport, Reading, compare_codes

if TYPE_CHECKING:
    from bitwright.export.running import Codes
    from bitwright.quantized import Quantized


def library() -> Any:
    """Ncnn's Python package.

    Raises:
        ToolMissing: if it is not installed.
    """
    try:
        return import_module("ncnn")
    except ImportError as error:
        raise ToolMissing(
            "Running ncnn models needs ncnn: pip install ncnn", tool="ncnn", install="pip install ncnn"
        ) from error


def run_ncnn(q: Quantized, report: ExportReport, codes: Codes) -> Reading:
    """Run the model sample by sample, without half precision, and compare every output integer.

    Raises:
        ToolMissing: if ncnn is not installed.
        ExportError: if ncnn refuses the model.
    """
    ncnn = library()
    net = ncnn.Net()
    for option in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
        setattr(net.opt, option, False)
    net.opt.num_threads = 1
    refused = net.load_param(str(report.files[0])) or net.load_model(str(report.files[1]))
    if refused:
        raise ExportError(
            f"ncnn refuses {printable(report.files[0])}. This is a bug in bitwright; please report it with the network."
        )
    blobs = report.facts["blobs"]
    shapes = [q.program.buffers[b].shape for b in q.program.outputs]
    parts: list[list[NDArray[Any]]] = []
    for i in range(codes.samples):
        with net.create_extractor() as extractor:
            extractor.set_light_mode(False)  # outputs that others read are kept
            mats = [ncnn.Mat(np.ascontiguousarray(x[i], np.float32)).clone() for x in codes.reals]
            for tensor, mat in zip(q.input_tensors, mats, strict=True):
                extractor.input(blobs[tensor], mat)
            row = []
            for tensor, shape in zip(q.output_tensors, shapes, strict=True):
                failed, mat = extractor.extract(blobs[tensor])
                values = np.array(mat, np.float32)
                if failed or values.size != int(np.prod(shape[1:])):
                    raise ExportError(
                        f"ncnn gives {values.shape} for output '{printable(tensor)}', and {shape[1:]} is wanted. This is a "
                        "bug in bitwright; please report it with the network."
                    )
                row.append(values.reshape(1, *shape[1:]))
            parts.append(row)
    got = [np.concatenate(column) for column in zip(*parts, strict=True)]
    formats = [q.program.buffers[b].format for b in q.program.outputs]
    integers = [back_to_codes(values, format) for values, format in zip(got, formats, strict=True)]
    return compare_codes(f"ncnn {getattr(ncnn, '__version__', '')}".strip(), codes.expected, integers)
