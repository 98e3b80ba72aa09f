"""Which front end reads what: by the type of an object, by the name of a file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitwright.errors import BadModelFile, ModelError, printable

if TYPE_CHECKING:
    import onnx_ir as ir

SUFFIXES = {
    ".pt2": "torch", ".keras": "keras", ".h5": "keras", ".hdf5": "keras", ".tflite": "tflite", ".lite": "tflite",
}  # fmt: skip
"""File suffix → front end; every other file is read as ONNX, and a folder as a SavedModel."""

# Files that people try, and what they should do instead.
REFUSED = {
    ".th": "a PyTorch state dict: weights without a network",
    ".pth": "a PyTorch state dict: weights without a network",
    ".pt": "a PyTorch state dict or a pickled module",
    ".ckpt": "a checkpoint: weights without a network",
    ".safetensors": "weights without a network",
    ".pb": "a TensorFlow graph",
    ".caffemodel": "a Caffe network",
    ".prototxt": "a Caffe network",
    ".weights": "Darknet weights",
    ".cfg": "a Darknet network",
    ".bin": "weights without a network",
    ".param": "an ncnn network",
    ".mat": "a MATLAB file",
}

ADVICE = {
    ".th": "Build the module, put the weights in with load_state_dict(torch.load(FILE, weights_only=True)), and give the "
    "module: bitwright.load(module, example)",
    ".pb": "Give the folder of the SavedModel",
    ".mat": "Export the network to ONNX (exportONNXNetwork) and give that",
}
ADVICE |= dict.fromkeys((".pth", ".pt", ".ckpt"), ADVICE[".th"])


@dataclass(frozen=True)
class Found:
    """What a front end makes of a source.

    Attributes:
        model: The network in ONNX; quantized ones with their QuantizeLinear and DequantizeLinear nodes.
        name: What the source calls itself, or None.
        notes: What the user should know, in sentences.
        target: The target whose arithmetic a quantized network is made for; None where that is open.
        last: Tensors of the user's that are held with their channels second though the user has them last.
    """

    model: ir.Model
    name: str | None = None
    notes: tuple[str, ...] = ()
    target: str | None = None
    last: frozenset[str] = frozenset()


def read_other(model: Any, example: Any = None) -> Found | None:
    """Read ``model`` if it is of a kind other than ONNX; None if it is not.

    Args:
        model: Anything that :func:`bitwright.load` takes.
        example: An example input, for PyTorch modules.

    Raises:
        BadModelFile: if a file is damaged, or of a kind that is not read.
        ModelError: if the network cannot be used.
        ToolMissing: if the package that reads it is not installed.
    """
    if isinstance(model, (str, os.PathLike)):
        return _read_path(Path(model))
    kind = _kind(model)
    if kind == "torch":
        from bitwright.network.frontends.torch_module import read_module

        return read_module(model, example)
    if kind == "program":
        from bitwright.network.frontends.torch_module import read_program

        return read_program(model)
    if kind == "keras":
        from bitwright.network.frontends.keras_files import read_object

        return read_object(model)
    if example is not None:
        raise ModelError(
            f"An example input belongs to a PyTorch module; a {type(model).__name__} knows its inputs. Leave it out."
        )
    return None


def _read_path(path: Path) -> Found | None:
    suffix = path.suffix.lower()
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            from bitwright.network.frontends.saved_model import read_saved_model

            return read_saved_model(path)
        return None
    if suffix in REFUSED and (path.is_file() or suffix != ".bin"):
        advice = ADVICE.get(suffix, "Export the network to ONNX and give that")
        raise BadModelFile(f"{printable(path)} is {REFUSED[suffix]}, which is not read. {advice}.", path=str(path))
    match SUFFIXES.get(suffix):
        case "torch":
            from bitwright.network.frontends.torch_module import read_pt2

            return read_pt2(path)
        case "keras":
            from bitwright.network.frontends.keras_files import read_file

            return read_file(path)
        case "tflite":
            from bitwright.network.frontends.tflite_file import read_file as read_tflite

            return read_tflite(path)
    return None


def _kind(model: Any) -> str | None:
    """``torch``, ``program`` or ``keras`` by the names of an object's classes, so that nothing is imported for it."""
    for kind in type(model).__mro__:
        module, name = kind.__module__, kind.__qualname__
        if module.startswith("torch.") and name == "Module":
            return "torch"
        if module.startswith("torch.") and name == "ExportedProgram":
            return "program"
        if module.split(".")[0] in {"keras", "tf_keras", "tensorflow"} and name in {
            "Model",
            "Functional",
            "Sequential",
        }:
            return "keras"
    return None
