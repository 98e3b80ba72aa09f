"""What is explained: everything that a ``.bw`` file says about one quantized network, put together again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bitwright.calibrate.assign import Formats, RoleSchemes, assign
from bitwright.calibrate.scheme import load as load_scheme
from bitwright.calibrate.spec import NetworkSpec, read_layers
from bitwright.calibrate.statistics import Statistics
from bitwright.errors import CalibrationError, printable
from bitwright.lower import Constants
from bitwright.mend.solution import Solution
from bitwright.program.program import Program

if TYPE_CHECKING:
    from bitwright.network.network import Network
    from bitwright.number.format import Floats, Format
    from bitwright.quantized import Quantized
    from bitwright.targets.target import Target


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A quantized network and what it was made from.

    Attributes:
        quantized: The file.
        network: The float network that the integers were written from: the prepared one, or as repairs rewrote it.
        target: Its target.
        spec: The layers of ``network`` for it.
        statistics: Of its activations, from calibration.
        schemes: How ranges became formats.
        formats: The format of every tensor, as the program has it.
        program: The program that is explained, with every channel in place.
        biases: Layer → the bias that the program holds, real ``[out]``.
        notes: What could not be put together, in sentences.
    """

    quantized: Quantized
    network: Network
    target: Target
    spec: NetworkSpec
    statistics: Statistics
    schemes: RoleSchemes
    formats: Formats
    program: Program
    biases: Mapping[str, Floats]
    notes: tuple[str, ...] = ()

    @property
    def solution(self) -> Solution:
        """As repairs take it, to be changed."""
        return Solution(
            network=self.network,
            spec=self.spec,
            statistics=self.statistics,
            schemes=self.schemes,
            formats=self.formats,
            constants=self._constants,
        )

    @property
    def _constants(self) -> Constants:
        weights = {
            item.layer: np.asarray(self.program.tensors[item.tensor], np.int64)
            for item in self.program.learnables
            if item.parameter == "Weights"
        }
        plain = {layer.name: layer for layer in self.spec.layers if layer.is_linear}
        changed = {
            name: stored
            for name, stored in weights.items()
            if name in plain and not np.array_equal(stored, self._nearest(plain[name]))
        }
        biases = {}
        for name, bias in self.biases.items():
            own = plain[name].bias() if name in plain else None
            step = _accumulator_steps(self.program).get(name)
            if own is None or step is None or np.abs(bias - own).max(initial=0) > 0.51 * float(np.max(step)):
                biases[name] = bias
        return Constants(weights=changed, biases=biases if self.target.bias_source == "accumulator" else {})

    def _nearest(self, layer: Any) -> Any:
        format = self.formats.weights[layer.name]
        rounding = self.target.weight_rule(layer.op, **layer.facts).rounding
        return np.asarray(format.quantize(layer.weights(), rounding), np.int64)


def subject_of(quantized: Quantized, measured: Callable[[], Statistics] | None = None) -> Subject:
    """Put a quantized network's parts together.

    Args:
        quantized: The network.
        measured: Gives statistics for a network that came quantized and carries none.

    Raises:
        CalibrationError: if the file carries no calibration.
        ModelError: if the float network is neither in the file nor where it was.
    """
    target = quantized.target
    network, statistics = quantized.lowered_network, quantized.lowered_statistics
    if statistics is None and measured is not None:
        statistics = measured()
    if statistics is None:
        raise CalibrationError(
            f"'{printable(quantized.name)}' carries no calibration, so nothing is known of its ranges. Quantize again."
        )
    spec = read_layers(network, target)
    written = quantized.provenance.get("schemes_used") or quantized.provenance.get("schemes") or {}
    names = {str(role): str(text) for role, text in dict(written).items()}
    own = target.schemes
    texts = {role: names.get(role, getattr(own, role)) for role in ("input", "activation", "weight", "bias")}
    schemes = RoleSchemes(**{role: load_scheme(text) for role, text in texts.items()})
    formats = _formats(assign(spec, statistics, target, schemes), quantized)
    program, notes = quantized.program, list[str]()
    subject = Subject(
        quantized=quantized,
        network=network,
        target=target,
        spec=spec,
        statistics=statistics,
        schemes=schemes,
        formats=formats,
        program=program,
        biases=stored_biases(program),
    )
    if _pruned(program, spec):
        # Taking out constant channels changes no output integer, so the program from before stands for it.
        subject = replace(subject, program=Solution.program(_without_constants(subject), target))
        subject = replace(subject, biases=stored_biases(subject.program))
        notes.append("Channels that were taken out are explained as if they were still there; integers are the same.")
    return replace(subject, notes=tuple(notes))


def _without_constants(subject: Subject) -> Solution:
    return Solution(
        network=subject.network,
        spec=subject.spec,
        statistics=subject.statistics,
        schemes=subject.schemes,
        formats=subject.formats,
    )


def _pruned(program: Program, spec: NetworkSpec) -> bool:
    shapes = {item.layer: item.shape for item in program.learnables if item.parameter == "Weights"}
    linear = {layer.name: layer.weights().shape for layer in spec.layers if layer.is_linear and layer.name in shapes}
    return any(tuple(shapes[name]) != shape for name, shape in linear.items())


def _formats(made: Formats, quantized: Quantized) -> Formats:
    """What the program holds; tensors that it does not (inside float islands) as they would be chosen again."""
    program = quantized.program
    activations: dict[str, Format] = dict(made.activations)
    for buffer in program.buffers.values():
        if buffer.tensor is not None and buffer.tensor in activations:
            activations[buffer.tensor] = buffer.format
    weights, biases = dict(made.weights), dict(made.biases)
    for item in program.learnables:
        if item.parameter == "Weights" and item.layer in weights and _fits(item.format, weights[item.layer]):
            weights[item.layer] = item.format
        elif item.parameter == "Bias" and item.layer in biases:
            biases[item.layer] = item.format
    written = dict(quantized.provenance.get("formats") or {})
    group = {**made.group, **{str(k): str(v) for k, v in dict(written.get("groups") or {}).items() if k in activations}}
    notes = tuple(str(note) for note in written.get("notes") or ())
    return Formats(activations=activations, weights=weights, biases=biases, group=group, notes=notes)


def _fits(stored: Format, chosen: Format) -> bool:
    return np.shape(stored.scale) == np.shape(chosen.scale) or not np.shape(stored.scale)


def stored_biases(program: Program) -> dict[str, Floats]:
    """Layer → the real bias ``[out]`` that its accumulator starts from, as the program holds it."""
    steps = _accumulator_steps(program)
    found: dict[str, Floats] = {}
    for step, form in program.contracts():
        if form.bias is not None and step.layer in steps:
            found[step.layer] = np.asarray(program.tensors[form.bias], np.float64) * steps[step.layer]
    return found


def _accumulator_steps(program: Program) -> dict[str, Floats]:
    formats = {item.tensor: item.format for item in program.learnables if item.parameter == "Weights"}
    return {
        step.layer: np.asarray(program.buffers[step.inputs[0]].format.scale * formats[form.weight].scale)
        for step, form in program.contracts()
        if form.weight in formats
    }


__all__ = ["Subject", "stored_biases", "subject_of"]
