"""Quantized TensorFlow Lite files against LiteRT's reference interpreter: every integer of every output and tensor.

Without arguments the demo's network is written as int8 and read back.  Inputs are codes drawn at random, or ``--data``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import _measure
import numpy as np

import bitwright as bw


def interpreter(path: Path) -> Any:
    """LiteRT with its reference kernels, keeping all tensors."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    made = Interpreter(
        str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_REF, experimental_preserve_all_tensors=True
    )
    made.allocate_tensors()
    return made


def codes(path: Path | None, entry: dict[str, Any], count: int) -> np.ndarray:
    """``count`` inputs in the file's integers."""
    info, shape = np.iinfo(entry["dtype"]), tuple(entry["shape"][1:])
    scale, zero = entry["quantization"]
    if path is None:
        random = np.random.default_rng(0)
        return random.integers(info.min, info.max + 1, (count, *shape)).astype(entry["dtype"])
    real = np.load(path)["x"][:count].astype(np.float64).reshape(-1, *shape)
    return np.clip(np.rint(real / scale) + zero, info.min, info.max).astype(entry["dtype"])


def measured(path: Path, target: str, data: Path | None, count: int) -> dict[str, Any]:
    """How many integers differ, outputs and all tensors that both have by name."""
    runtime = interpreter(path)
    entry, result = runtime.get_input_details()[0], runtime.get_output_details()[0]
    given = codes(data, entry, count)
    scale, zero = entry["quantization"]
    q = bw.quantize(path, target=target)
    inputs = q.integers((given.astype(np.float64) - zero) * scale)
    values = q._keeping_engine.run(inputs)
    by_name = {b.tensor: b.name for b in q.program.buffers.values() if b.tensor and b.name not in q.program.inputs}
    found = {"outputs": 0, "outputs_differ": 0, "values": 0, "values_differ": 0}
    for i, one in enumerate(given):
        runtime.set_tensor(entry["index"], one[None])
        runtime.invoke()
        wanted = runtime.get_tensor(result["index"])[0]
        mine = values[q.program.outputs[0]][i]
        found["outputs"] += wanted.size
        found["outputs_differ"] += int((wanted.reshape(-1) != mine.reshape(-1)).sum())
        for tensor in runtime.get_tensor_details():
            buffer = by_name.get(tensor["name"])
            if buffer not in values:
                continue
            value = np.moveaxis(values[buffer][i], 0, -1)  # channels last, as the file has them
            theirs = runtime.get_tensor(tensor["index"])
            if theirs.size == value.size:
                found["values"] += value.size
                found["values_differ"] += int((theirs.reshape(-1) != value.reshape(-1)).sum())
    return {"file": path.name, "target": target, "samples": len(given), **found}


def main() -> None:
    """Measure, and print a line for each file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, help=".tflite files (default: the demo's network)")
    parser.add_argument("--target", default="litert")
    parser.add_argument("--data", type=Path, help="an .npz with x, real numbers as the float network wants them")
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = options.files
        if not files:
            demo = _measure.DEMO
            made = bw.quantize(demo / "digits.onnx", demo / "digits-calib.npz", target="mcu-cmsis-nn")
            made.export("tflite", Path(folder) / "digits.tflite", verify=False)
            files = [Path(folder) / "digits.tflite"]
        rows = [measured(file, options.target, options.data, options.samples) for file in files]
    for row in rows:
        if options.json:
            print(json.dumps(row))
        else:
            print(
                f"{row['file']} as {row['target']}, {row['samples']} samples: {row['outputs_differ']} of {row['outputs']} "
                f"outputs differ from LiteRT's reference, {row['values_differ']} of {row['values']} values of all tensors"
            )


if __name__ == "__main__":
    main()
