"""A network that came quantized, in the integers of its own file: nothing is calibrated and nothing is chosen."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from bitwright.errors import ModelError, printable
from bitwright.model import Model, load
from bitwright.program.file import Artefact

if TYPE_CHECKING:
    from bitwright.targets.target import Target

QDQ_TARGET = "cpu"
"""Whose arithmetic a file is read in that does not belong to a device: that of ONNX Runtime, which most are made for."""


def own_target(model: Model) -> str:
    """The target whose arithmetic a quantized network is made for."""
    stated = model.network.stated
    return stated.target if stated is not None and stated.target is not None else QDQ_TARGET


def take(model: Any, target: str | os.PathLike[str] | Target | None = None, *, strict: bool = False) -> Artefact:
    """The integer program of a quantized network, with the formats and integers of its file.

    Args:
        model: What :func:`bitwright.load` takes or gives.
        target: Whose arithmetic rounds; by default the one that the file is made for.
        strict: Refuse layers that would stay in float.

    Raises:
        ModelError: if the network states no formats.
        UnsupportedOp: with ``strict``, if a layer has no integer form.
    """
    from bitwright import __version__
    from bitwright.calibrate.spec import read_layers
    from bitwright.calibrate.stated import take_formats
    from bitwright.layer_rows import layer_rows
    from bitwright.lower import Constants, lower
    from bitwright.targets.target import Target, load_target

    loaded = load(model)
    net = loaded.network
    if net.stated is None:
        raise ModelError(
            f"'{printable(loaded.name)}' is a float network: its file states no formats. Quantize it with data: "
            "bitwright quantize MODEL --data D --target T."
        )
    chosen = target if target is not None else own_target(loaded)
    chosen = chosen if isinstance(chosen, Target) else load_target(chosen)
    spec = read_layers(net, chosen)
    taken = take_formats(net, spec, net.stated)
    program = lower(net, spec, taken.formats, chosen, constants=Constants(biases=taken.biases), strict=strict)
    network, network_file = None, None
    try:
        network = net.serialize()
    except ModelError:
        network_file = {"path": str(loaded.path), "fingerprint": net.fingerprint}
    formats = taken.formats
    provenance = {
        "bitwright": __version__,
        "fingerprint": net.fingerprint,
        "network_file": network_file,
        "data": [],
        "calibration_samples": 0,
        "target": chosen.to_dict(),
        "learnable_float_bytes": program.learnable_float_bytes,
        "schemes": dict.fromkeys(("input", "activation", "weight", "bias"), "the file's own"),
        # What would choose formats where the file has none, or to quantize parts of it anew.
        "schemes_used": {role: getattr(chosen.schemes, role) for role in ("input", "activation", "weight", "bias")},
        "scheme_trials": [],
        "seed": None,
        "repairs": [],
        "formats": {
            "activations": {t: str(f) for t, f in formats.activations.items()},
            "weights": {t: str(f) for t, f in formats.weights.items()},
            "biases": {},
            "groups": dict(formats.group),
            "notes": list(formats.notes),
            "given": {},
        },
        "layers": [row.to_json() for row in layer_rows(spec, program)],
        "folds": [fold.to_json() for fold in loaded.folds],
        "norms": [],
        "notes": [*loaded.notes, *formats.notes, *program.notes],
    }
    return Artefact(program=program, provenance=provenance, contract=loaded.contract.to_dict(), network=network)
