"""The way back: weights that were learned in PyTorch as a quantized network with the same formats."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bitwright.calibrate.assign import Formats
from bitwright.calibrate.spec import NetworkSpec, read_layers
from bitwright.errors import BadModelFile, ModelError, NonFinite, printable
from bitwright.export.qdq import contract_of, tensor_formats, weight_format
from bitwright.export.report import sha256_file
from bitwright.export.torch_qat.source import LearnedLayer, module_source
from bitwright.export.verify import program_sha256
from bitwright.lower import Constants, lower
from bitwright.program.codec import program_to_dict
from bitwright.program.program import Program

if TYPE_CHECKING:
    from bitwright.quantized import Quantized


def learned(q: Quantized, weights: str | os.PathLike[str]) -> Quantized:
    """The network of ``q`` with the weights and biases of a file that its PyTorch module saved.

    Formats, and with them every scale and multiplier, are those of ``q``; weights are rounded as the module rounds them,
    so the result computes the module's integers.

    Args:
        q: The network that was exported with ``torch``.
        weights: The ``.safetensors`` file.

    Raises:
        BadModelFile: if the file is none, or belongs to another network.
        NonFinite: if training left numbers that are none.
        ModelError: if the program of ``q`` is not what its network gives (channels taken out, repairs of the network).
    """
    path = Path(weights)
    tensors = read_tensors(path, program_sha256(q))
    layers = {layer.layer: layer for layer in module_source(q)[1].layers}
    spec = read_layers(q.network, q.target)
    formats = formats_of(q)
    check_repeatable(q, spec, formats)
    constants = constants_of(q, spec, layers, tensors)
    program = lower(q.network, spec, formats, q.target, constants=constants)
    changed, total = moved_weights(q.program, program)
    note = f"Weights were learned in PyTorch: {changed} of {total} integers changed."
    provenance = {
        **q.provenance,
        "learned": {"file": path.name, "sha256": sha256_file(path), "from_program": program_sha256(q)},
        "notes": [*q.provenance.get("notes", ()), note],
    }
    return type(q)(replace(q.artefact, program=program, provenance=provenance))


def read_tensors(path: Path, program: str) -> dict[str, NDArray[Any]]:
    """The tensors of a file that was saved for ``program``."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as stream:
            metadata = stream.metadata() or {}
            found = {name: np.asarray(stream.get_tensor(name)) for name in stream.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, TypeError, ValueError) as error:
        raise BadModelFile(
            f"{printable(path)} is no .safetensors file: {printable(error, 200)}. model.save(net, FILE) writes one."
        ) from error
    if metadata.get("program_sha256") != program:
        raise BadModelFile(
            f"{printable(path)} was not saved by the module of this network: the hash of the program in it is another one. "
            "Give the .bw file that was exported, and the file that model.save wrote."
        )
    return found


def formats_of(q: Quantized) -> Formats:
    """The formats of a program, as they were chosen."""
    program = q.program
    specs = read_layers(q.network, q.target).layers
    weights = {spec.name: weight_format(program, spec.name) for spec in specs}
    biases: Mapping[str, Any] = {}
    if q.target.bias_source == "own":
        biases = {x.layer: x.format for x in program.learnables if x.parameter == "Bias"}
    return Formats(
        activations=tensor_formats(program),
        weights={name: format for name, format in weights.items() if format is not None},
        biases=biases,
    )


def check_repeatable(q: Quantized, spec: NetworkSpec, formats: Formats) -> None:
    """That lowering the network with its own weights gives the program; else the way back would change more than weights.

    Raises:
        ModelError: if it does not.
    """
    own = {}
    for layer, form in contract_of(q).items():
        own[layer] = q.program.tensors[form.weight].astype(np.int64)
    biases = {
        layer.layer: np.asarray(layer.bias, np.float64)
        for layer in module_source(q)[1].layers
        if layer.bias is not None
    }
    try:
        again = lower(q.network, spec, formats, q.target, constants=Constants(weights=own, biases=biases))
        same = program_to_dict(again)["steps"] == program_to_dict(q.program)["steps"]
    except (KeyError, ValueError):
        same = False
    if not same:
        raise ModelError(
            f"The program of '{printable(q.name)}' is not what its float network gives: channels were taken out, or a repair "
            "changed the network itself. Quantize without --prune and without repairs of that kind before training."
        )


def constants_of(
    q: Quantized, spec: NetworkSpec, layers: Mapping[str, LearnedLayer], tensors: Mapping[str, NDArray[Any]]
) -> Constants:
    """Weights as integers and biases as real numbers."""
    weights, biases = {}, {}
    for one in spec.layers:
        layer = layers.get(one.name)
        if layer is None:
            continue
        stored = weight_format(q.program, one.name)
        assert stored is not None  # it has parameters
        real = wanted(tensors, f"{layer.attribute}.weight", layer.weight.shape)
        rounding = q.target.weight_rule(one.op, **one.facts).rounding
        weights[one.name] = stored.quantize(real, rounding).astype(np.int64)
        if layer.bias is not None:
            biases[one.name] = np.asarray(wanted(tensors, f"{layer.attribute}.bias", layer.bias.shape), np.float64)
    return Constants(weights=weights, biases=biases)


def wanted(tensors: Mapping[str, NDArray[Any]], name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """A tensor of the file, of the right shape and finite."""
    found = tensors.get(name)
    if found is None or found.shape != shape:
        have = "is missing" if found is None else f"has the shape {found.shape}"
        raise BadModelFile(f"Parameter '{printable(name)}' {have}; {shape} is wanted.")
    if not np.isfinite(found).all():
        raise NonFinite(
            f"Parameter '{printable(name)}' holds NaN or infinity: training diverged. Take a smaller learning rate.",
            tensor=name,
        )
    return found


def moved_weights(before: Program, after: Program) -> tuple[int, int]:
    """Integers of weights that differ, and how many there are."""
    old = {step.layer: before.tensors[form.weight] for step, form in before.contracts()}
    new = {step.layer: after.tensors[form.weight] for step, form in after.contracts()}
    changed = sum(int(np.count_nonzero(old[layer].astype(np.int64) != new[layer])) for layer in old)
    return changed, sum(x.size for x in old.values())
