"""The state of a search on disk: written whole after each repair, read back only by the same search."""

from __future__ import annotations

import contextlib
import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bitwright.calibrate.assign import Formats, RoleSchemes
from bitwright.calibrate.scheme import load as load_scheme
from bitwright.calibrate.spec import read_layers
from bitwright.errors import BitwrightError
from bitwright.lower import Constants
from bitwright.mend.bench import Bench, Score
from bitwright.mend.solution import Solution
from bitwright.program.codec import format_from_dict, format_to_dict

if TYPE_CHECKING:
    from bitwright.network.network import Network

VERSION = 1


def key(network: Network, bench: Bench, repairs: Sequence[str], seed: int) -> str:
    """What tells one search from another: network, target, samples, repairs, seed."""
    digest = hashlib.sha256(network.fingerprint.encode())
    text = json.dumps([VERSION, bench.target.to_dict(), list(repairs), seed], sort_keys=True, default=str)
    digest.update(text.encode())
    for arrays in (bench.fit, bench.held):
        for name in sorted(arrays):
            digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()


def scheme_text(scheme: Any) -> str:
    """A scheme as it is named on command lines."""
    options = ", ".join(f"{name}={'none' if value is None else value}" for name, value in vars(scheme).items())
    return f"{scheme.name}{{{options}}}" if options else str(scheme.name)


def score_to_dict(score: Score) -> dict[str, float | None]:
    """Plain values; None where there is no number."""
    return {name: None if np.isnan(value) else float(value) for name, value in vars(score).items()}


def score_from_dict(row: Mapping[str, Any]) -> Score:
    """The way back."""
    return Score(**{name: float("nan") if value is None else float(value) for name, value in row.items()})


def save(path: Path, own: str, solution: Solution, history: Sequence[Mapping[str, Any]]) -> None:
    """Write the state, whole or not at all."""
    formats = solution.formats
    state = {
        "key": own,
        "history": list(history),
        "activations": {t: format_to_dict(f) for t, f in formats.activations.items()},
        "weights": {t: format_to_dict(f) for t, f in formats.weights.items()},
        "biases": {t: format_to_dict(f) for t, f in formats.biases.items()},
        "group": dict(formats.group),
        "notes": list(formats.notes),
        "schemes": {role: scheme_text(scheme) for role, scheme in vars(solution.schemes).items()},
        "stored": list(solution.constants.weights),
        "real": list(solution.constants.biases),
    }
    part = path.with_name(f"{path.name}.part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("state.json", json.dumps(state))
        archive.writestr("network.onnx", solution.network.serialize())
        for kind, arrays in (("stored", solution.constants.weights), ("real", solution.constants.biases)):
            for i, values in enumerate(arrays.values()):
                buffer = BytesIO()
                np.save(buffer, np.asarray(values), allow_pickle=False)
                archive.writestr(f"{kind}/{i}.npy", buffer.getvalue())
    part.replace(path)


def load(path: Path, own: str, first: Solution, bench: Bench) -> tuple[Solution, list[dict[str, Any]]] | None:
    """The state that the same search left, or None: a damaged or foreign file costs time, no more."""
    from bitwright.network.load import load as load_network

    with contextlib.suppress(OSError, BitwrightError, ValueError, KeyError, zipfile.BadZipFile):
        with zipfile.ZipFile(path) as archive:
            state = json.loads(archive.read("state.json"))
            if state["key"] != own:
                return None
            network = load_network(archive.read("network.onnx"), name=first.network.name)
            arrays = {
                kind: [
                    np.load(BytesIO(archive.read(f"{kind}/{i}.npy")), allow_pickle=False)
                    for i in range(len(state[kind]))
                ]
                for kind in ("stored", "real")
            }
        if network.fingerprint == first.network.fingerprint:
            network, spec, statistics = first.network, first.spec, first.statistics
        else:
            spec, statistics = read_layers(network, bench.target), bench.observe(network)
        formats = Formats(
            **{
                role: {name: format_from_dict(f) for name, f in state[role].items()}
                for role in ("activations", "weights", "biases")
            },
            group=state["group"],
            notes=tuple(state["notes"]),
        )
        constants = Constants(
            weights=dict(zip(state["stored"], arrays["stored"], strict=True)),
            biases=dict(zip(state["real"], arrays["real"], strict=True)),
        )
        schemes = RoleSchemes(**{role: load_scheme(text) for role, text in state["schemes"].items()})
        solution = replace(
            first,
            schemes=schemes,
            network=network,
            spec=spec,
            statistics=statistics,
            formats=formats,
            constants=constants,
        )
        return solution, state["history"]
    return None
