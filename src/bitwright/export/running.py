"""Samples for reading exports back, and ONNX Runtime as the reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import ExportError, printable
from bitwright.export.report import sha256
from bitwright.simulate.probe import int8_convolution_is_exact

if TYPE_CHECKING:
    import onnxruntime

    from bitwright.quantized import Quantized

SEED = 20240229
EXACT_SUMS = "session.x64quantprecision"
"""The option of ONNX Runtime under which x86 processors without VNNI do not saturate."""


@dataclass(frozen=True, kw_only=True)
class Codes:
    """Samples, and what the program computes from them.

    Attributes:
        reals: Real numbers (or tokens), one array ``[n, ...]`` per input.
        integers: The same as the program's integers.
        expected: The reference's output integers, one array per output.
        origin: Where the samples came from.
    """

    reals: tuple[NDArray[Any], ...]
    integers: tuple[NDArray[np.integer[Any]], ...]
    expected: tuple[NDArray[np.integer[Any]], ...]
    origin: str

    @property
    def samples(self) -> int:
        """How many."""
        return len(self.reals[0])

    @property
    def sha256(self) -> str:
        """Of the inputs."""
        return sha256(b"".join(np.ascontiguousarray(x).tobytes() for x in self.reals))


def make_codes(q: Quantized, arrays: Sequence[NDArray[Any]], origin: str) -> Codes:
    """Run samples through the reference.

    Args:
        q: The quantized network.
        arrays: One array ``[n, ...]`` per input of the network.
        origin: Where they came from.
    """
    from bitwright.simulate import reference

    integers = q.integers(dict(zip(q.input_tensors, arrays, strict=True)))
    if q.program.batchable:
        results = reference.run(q.program, integers)
    else:
        parts = [
            reference.run(q.program, {k: v[i : i + 1] for k, v in integers.items()}) for i in range(len(arrays[0]))
        ]
        results = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
    return Codes(
        reals=tuple(arrays),
        integers=tuple(integers[b] for b in q.program.inputs),
        expected=tuple(results[b] for b in q.program.outputs),
        origin=origin,
    )


def random_samples(q: Quantized, count: int, seed: int = SEED) -> list[NDArray[Any]]:
    """Inputs drawn evenly over the range of each input's format, a little beyond it for real numbers."""
    rng = np.random.default_rng(seed)
    found: list[NDArray[Any]] = []
    for name in q.program.inputs:
        buffer = q.program.buffers[name]
        shape = (count, *buffer.shape[1:])
        if buffer.format.bits > 16:
            dtype = q.network.dtype(buffer.tensor or name)
            found.append(rng.integers(max(0, buffer.lo), min(buffer.hi, 255) + 1, shape).astype(dtype))
            continue
        low, high = (float(v) for v in buffer.format.real_range)
        found.append(rng.uniform(low * 1.02, high * 1.02, shape).astype(np.float32))
    return found


def runtime_name() -> str:
    """ONNX Runtime with its version."""
    import onnxruntime

    return f"onnxruntime {onnxruntime.__version__}"


def file_session(path: Path, *, optimize: bool = True, threads: int | None = None) -> onnxruntime.InferenceSession:
    """A file in ONNX Runtime.

    Where the processor saturates inside sums of unsigned × signed bytes (x86 without VNNI), the session is told to compute
    them exactly, at some cost.

    Raises:
        ExportError: if it is refused.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if not int8_convolution_is_exact():
        options.add_session_config_entry(EXACT_SUMS, "1")
    if threads is not None:
        options.intra_op_num_threads = threads
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise ExportError(
            f"ONNX Runtime refuses {printable(path)}: {printable(error, 300)}. This is a bug in bitwright if the "
            "float network runs; please report it."
        ) from error


def run_in_batches(
    session: onnxruntime.InferenceSession,
    feeds: Mapping[str, NDArray[Any]],
    outputs: list[str],
    *,
    batchable: bool,
    size: int = 16,
) -> list[NDArray[Any]]:
    """The outputs for all samples, ``[n, ...]`` each."""
    count = len(next(iter(feeds.values())))
    step = size if batchable else 1
    parts = [
        session.run(outputs, {name: np.ascontiguousarray(x[i : i + step]) for name, x in feeds.items()})
        for i in range(0, count, step)
    ]
    return [np.concatenate(column) for column in zip(*parts, strict=True)]
