"""What every peer's script does around its tool: read arrays, take the time, write answers.

These scripts run in the tools' own environments, so they know nothing of bitwright: a float ONNX model and arrays of samples
come in, the answers of the quantized network and a line of JSON go out.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
Answer = Callable[[Samples], Any]
"""The quantized network for a batch."""


def main(package: str, quantize: Callable[[str, str, Samples, str], Answer], batch: int = 16) -> None:
    """Quantize and answer.

    Args:
        package: Whose version is reported.
        quantize: Called with the path of the model, the name of its input, the samples to calibrate with ``[n, ...]``
            and the way to go; gives the quantized network.
        batch: Samples that the quantized network takes at once.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("model", help="ONNX file; the tool may overwrite it")
    parser.add_argument("input", help="name of its input")
    parser.add_argument("calib", help=".npy with the samples to calibrate with")
    parser.add_argument("held", help=".npy with the samples to answer")
    parser.add_argument("answers", help=".npy that is written")
    parser.add_argument("way", help="how to quantize")
    args = parser.parse_args()
    calib, held = np.load(args.calib, mmap_mode="r"), np.load(args.held, mmap_mode="r")
    start, busy = time.perf_counter(), time.process_time()
    answer = quantize(args.model, args.input, np.array(calib), args.way)
    took = {"seconds": time.perf_counter() - start, "processor_seconds": time.process_time() - busy}
    parts = [np.asarray(answer(np.array(held[i : i + batch]))) for i in range(0, len(held), batch)]
    np.save(args.answers, np.concatenate(parts).astype(np.float32))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    version = f"{package} {importlib.metadata.version(package)}"
    print(json.dumps({"tool": version, "peak_megabytes": memory, **took}), flush=True)


def batches(samples: Samples, size: int = 16) -> list[Samples]:
    """``samples`` piece by piece."""
    return [samples[i : i + size] for i in range(0, len(samples), size)]
