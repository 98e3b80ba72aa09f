"""``torch``: a PyTorch module of the same integers, for training on them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bitwright.errors import ExportError, ToolMissing, printable
from bitwright.export.exporter import Exporter
from bitwright.export.report import ExportReport, Reading, compare_codes, write_bytes, write_json

if TYPE_CHECKING:
    from bitwright.export.running import Codes
    from bitwright.quantized import Quantized

RUNTIME = Path(__file__).parent / "torch_qat" / "fake_quant.py.in"
WEIGHTS, FORMATS = "weights.safetensors", "formats.json"
SECONDS = 600

# Runs in an interpreter of its own that knows nothing of bitwright: outputs, and whether gradients arrive.
PROBE = """
import json, sys
folder, given, made = sys.argv[1:4]
sys.path.insert(0, folder)
import torch
from safetensors.torch import load_file, save_file
import model
net = model.load()
feeds = load_file(given)
batches = json.loads(sys.argv[4])
parts = []
for first, last in batches:
    with torch.no_grad():
        found = net(*(feeds[f"x{i}"][first:last] for i in range(len(feeds))))
    parts.append(found if isinstance(found, tuple) else (found,))
results = {f"y{i}": torch.cat([p[i] for p in parts]).contiguous() for i in range(len(parts[0]))}
first, last = batches[0]
found = net(*(feeds[f"x{i}"][first:last] for i in range(len(feeds))))
found = found if isinstance(found, tuple) else (found,)
real = [y for y in found if y.is_floating_point()]
reached = total = 0
if real and real[0].requires_grad:
    sum((y * torch.linspace(0.5, 1.5, y.numel()).reshape(y.shape)).sum() for y in real).backward()
    for parameter in net.parameters():
        total += 1
        gradient = parameter.grad
        reached += gradient is not None and bool(torch.isfinite(gradient).all()) and bool(gradient.any())
results["gradients"] = torch.tensor([reached, total])
save_file(results, made)
print(torch.__version__)
"""


def export_torch(q: Quantized, path: str | os.PathLike[str]) -> ExportReport:
    """Write a folder: ``model.py`` and ``fake_quant.py`` (plain source), ``weights.safetensors``, ``formats.json``.

    The module's parameters are real weights and biases that are rounded in every pass, by straight-through estimators.
    Its outputs are the program's integers as real numbers, bit for bit.  Nothing in the folder is pickled.

    Args:
        q: The quantized network; all of it in integers.
        path: The folder.

    Raises:
        ExportError: if a layer stays in float.
    """
    from safetensors.numpy import save as save_tensors

    from bitwright.export.torch_qat.source import module_source
    from bitwright.export.verify import program_sha256

    text, source = module_source(q)
    folder = Path(path)
    tensors: dict[str, Any] = dict(source.constants)
    for layer in source.layers:
        tensors[f"{layer.attribute}.weight"] = np.ascontiguousarray(layer.weight)
        if layer.bias is not None:
            tensors[f"{layer.attribute}.bias"] = np.ascontiguousarray(layer.bias)
    total = sum(layer.weight.size for layer in source.layers)
    kept = sum(layer.kept for layer in source.layers)
    formats = {
        "bitwright": "torch",
        "program_sha256": program_sha256(q),
        "network": q.name,
        "target": q.program.target,
        "layers": {layer.layer: layer.attribute for layer in source.layers},
        "formats": {b.tensor: str(b.format) for b in q.program.buffers.values() if b.tensor is not None},
    }
    files = (
        write_bytes(folder / "model.py", text.encode("utf-8")),
        write_bytes(folder / "fake_quant.py", RUNTIME.read_bytes()),
        write_bytes(folder / WEIGHTS, save_tensors(tensors, {"program_sha256": formats["program_sha256"]})),  # type: ignore[dict-item]
        write_json(folder / FORMATS, formats),
    )
    notes = []
    if kept < total:
        notes.append(
            f"{total - kept} of {total} weights were repaired: training starts from the integers that they are, not from the "
            "network's own weights."
        )
    return ExportReport(
        format="torch", files=files, promise="bit-exact", notes=tuple(notes), facts={"layers": len(source.layers)}
    )


def read_torch(q: Quantized, report: ExportReport, codes: Codes | None) -> Reading:
    """Run the module in an interpreter of its own, compare every output, and see whether gradients reach the weights.

    Raises:
        ToolMissing: if PyTorch is not installed.
        ExportError: if the module does not run.
    """
    from safetensors.numpy import load_file, save_file

    from bitwright.export.onnx_int import back_to_codes

    assert codes is not None  # this format runs
    step = codes.samples if q.program.batchable else 1
    batches = [(i, min(i + step, codes.samples)) for i in range(0, codes.samples, step)]
    with tempfile.TemporaryDirectory() as scratch:
        feeds, results = Path(scratch) / "feeds.safetensors", Path(scratch) / "results.safetensors"
        save_file({f"x{i}": np.ascontiguousarray(x) for i, x in enumerate(codes.reals)}, feeds)
        arguments = [str(report.files[0].parent), str(feeds), str(results), json.dumps(batches)]
        done = subprocess.run(
            [sys.executable, "-c", PROBE, *arguments], capture_output=True, text=True, timeout=SECONDS, check=False
        )
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no message"
            if "No module named 'torch'" in last:
                raise ToolMissing(
                    "Running the module needs PyTorch: pip install 'bitwright[torch]'",
                    tool="torch",
                    install="pip install 'bitwright[torch]'",
                )
            raise ExportError(
                f"The module {printable(report.files[0])} does not run: {printable(last, 300)}. This is a bug in bitwright; "
                "please report it."
            )
        found = load_file(results)
    reached, parameters = (int(v) for v in found["gradients"])
    integers = [back_to_codes(found[f"y{i}"], q.program.buffers[b].format) for i, b in enumerate(q.program.outputs)]
    note = f"Gradients reach {reached} of {parameters} parameters."
    return compare_codes(f"PyTorch {done.stdout.strip()}", codes.expected, integers, notes=(note,))


EXPORTER = Exporter(
    name="torch",
    summary="A PyTorch module of the same integers, for training on them.",
    promise="bit-exact",
    path="folder",
    suffix="",
    write=export_torch,
    read=read_torch,
    runs=True,
)
