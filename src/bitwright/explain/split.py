"""What each layer does wrong, taken apart by cause: exact differences of real tensors, one cause switched on after the other.

With the very integers that arrive at a layer (``x``), its real output is computed as the float network would, then
with one more number rounded at a time, and last as the program's integers have it::

    float layer on x → weights in steps of their own channel → weights as stored → bias as stored
                     → output cut to its own range → rounded → in the format that it has → the integers

Each step's difference is what that cause adds.  The differences add up to what the layer adds, exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bitwright.calibrate.assign import INDEX
from bitwright.calibrate.schemes.mse import Mse
from bitwright.calibrate.sharing import sources_of_group
from bitwright.calibrate.spec import LayerSpec
from bitwright.calibrate.tensor_stats import TensorStats
from bitwright.explain.finding import Cause
from bitwright.explain.subject import Subject
from bitwright.mend.walk import layers as layers_of
from bitwright.network.extract import extract
from bitwright.number.format import Format, Rounding
from bitwright.program.forms import Contract, Island, Move
from bitwright.program.program import Step
from bitwright.simulate.island import run_float
from bitwright.simulate.real import contract_real
from bitwright.simulate.reference import along_channels, run_move
from bitwright.targets.rules import POOLS, FixedFormat

if TYPE_CHECKING:
    from bitwright.calibrate.scheme import Scheme

Reals = NDArray[Any]
Values = Mapping[str, NDArray[Any]]
STRETCHED = 3.0
"""A channel so many times the median one stretches the tensor; below, channels are just not alike."""
ARITHMETIC = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Sub", "Mul", "Concat", "Sum", "Div"})


@dataclass(frozen=True, kw_only=True, eq=False)
class Piece:
    """The steps of one layer.

    Attributes:
        name: The layer.
        op: Its operator.
        steps: In order.
        spec: The layer in the network; None for a float island of several.
        tensor: The tensor of the network that it makes and that is looked at.
        buffer: The buffer that holds it.
    """

    name: str
    op: str
    steps: tuple[Step, ...]
    spec: LayerSpec | None
    tensor: str
    buffer: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """One layer on one batch.

    Attributes:
        piece: The layer.
        exact: Its output as the float layer makes it of what arrives.
        errors: Cause → what it adds to the output; zeros are left out.
        clipped: Values beyond the range of their format.
        vanished: Values that are not zero and become it.
        count: Values in all.
        tops: Largest magnitude of each channel (axis 1) of the output, or None where there are no channels.
    """

    piece: Piece
    exact: Reals
    errors: Mapping[Cause, Reals]
    clipped: int = 0
    vanished: int = 0
    count: int = 0
    tops: Reals | None = None

    @property
    def total(self) -> Reals:
        """What the layer adds: its integers less ``exact``."""
        return sum(self.errors.values(), np.zeros((), np.float32))


@dataclass(frozen=True, eq=False)
class Splitter:
    """Takes the layers of a quantized network apart.

    Attributes:
        subject: The network.
        narrow: Tensors whose range grew since calibration: what is cut off counts as an error of calibration.
        wide: Tensors whose range shrank: so does what is rounded off.
    """

    subject: Subject
    narrow: frozenset[str] = field(default=frozenset())
    wide: frozenset[str] = field(default=frozenset())

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """The layers that make a tensor of the network, in order; an output that is only an index is none."""
        specs = {spec.name: spec for spec in self.subject.spec.layers}
        program = self.subject.program
        found = []
        for name, steps in layers_of(program):
            made = [n for step in steps for n in step.outputs if program.buffers[n].tensor is not None]
            for buffer in made:
                tensor = program.buffers[buffer].tensor
                assert tensor is not None  # filtered above
                if program.buffers[buffer].format == INDEX or tensor in self.subject.spec.integer:
                    continue
                island = any(isinstance(step.form, Island) for step in steps)
                spec = None if island else specs.get(name)
                found.append(
                    Piece(name=name, op=steps[0].op, steps=tuple(steps), spec=spec, tensor=tensor, buffer=buffer)
                )
        return tuple(found)

    @property
    def tensors(self) -> tuple[str, ...]:
        """Every tensor that is looked at, inputs of the network first."""
        inputs = [t for t in self.subject.spec.inputs if t not in self.subject.spec.integer]
        return (*inputs, *dict.fromkeys(piece.tensor for piece in self.pieces))

    def inputs(self, feeds: Values) -> Iterator[Split]:
        """The inputs of the network as layers of their own: cut and rounded, nothing else."""
        program = self.subject.program
        for buffer, tensor in zip(program.inputs, self.subject.spec.inputs, strict=True):
            if tensor in self.subject.spec.integer:
                continue
            piece = Piece(name=tensor, op="Input", steps=(), spec=None, tensor=tensor, buffer=buffer)
            x = np.asarray(feeds[tensor], np.float64)
            format = program.buffers[buffer].format
            integers = format.quantize(x, program.input_rounding)
            yield self._finished(piece, x, x, [], format.dequantize(integers), program.input_rounding)

    def split(self, values: Values) -> Iterator[Split]:
        """Every layer, with the integers ``values`` of all buffers."""
        for piece in self.pieces:
            yield self._split(piece, values)

    def _split(self, piece: Piece, values: Values) -> Split:
        program = self.subject.program
        got = program.buffers[piece.buffer].format.dequantize(values[piece.buffer])
        contracts = [step for step in piece.steps if isinstance(step.form, Contract)]
        if len(contracts) == 1 and piece.spec is not None and piece.spec.name in self._weights:
            exact, made, parts = self._linear(piece, contracts[0], values)
        else:
            exact, parts = self._float(piece, values), []
            made = exact
        return self._finished(piece, exact, made, parts, got, self.subject.target.arithmetic.rounding)

    # ---------------------------------------------------------------- before the output's format

    def _linear(self, piece: Piece, step: Step, values: Values) -> tuple[Reals, Reals, list[tuple[Cause, Reals]]]:
        """The exact output, the output with weights and bias as stored, and what each of them adds."""
        assert isinstance(step.form, Contract)  # chosen so
        assert piece.spec is not None
        program, form = self.subject.program, step.form
        source = program.buffers[step.inputs[0]]
        x = source.format.dequantize(values[step.inputs[0]]).astype(np.float32)
        own, stored = self._weights[piece.spec.name]
        weights = piece.spec.weights()
        bias = piece.spec.bias()
        bias = np.zeros(len(weights)) if bias is None else np.asarray(bias)
        held = self.subject.biases.get(piece.spec.name, np.zeros(len(weights)))
        stages: list[tuple[Cause, Callable[[Reals], Reals]]] = [
            (Cause.WEIGHT_ROUNDING, lambda y: y + contract_real(form, x, own - weights)),
            (self._range_cause(piece.spec.name), lambda y: y + contract_real(form, x, stored - own)),
            (Cause.BIAS_RESOLUTION, lambda y: y + along_channels((held - bias).astype(np.float32), y.ndim)),
        ]
        needed = (np.any(own != weights), np.any(stored != own), np.any(held != bias))
        before = contract_real(form, x, weights, bias)
        clamp = piece.spec.clamp or (-np.inf, np.inf)
        moves = piece.steps[piece.steps.index(step) + 1 :]

        def shown(y: Reals) -> Reals:
            return self._moved(np.clip(y, *clamp), moves)

        exact = last = shown(before)
        parts: list[tuple[Cause, Reals]] = []
        for (cause, stage), wanted in zip(stages, needed, strict=True):
            if not wanted:
                continue
            before = stage(before)
            now = shown(before)
            parts.append((cause, now - last))
            last = now
        return exact, last, parts

    def _moved(self, y: Reals, moves: Sequence[Step]) -> Reals:
        for step in moves:
            if isinstance(step.form, Move):
                y = run_move(self.subject.program, step, step.form, [y])[0]
        return y

    @cached_property
    def _weights(self) -> Mapping[str, tuple[Reals, Reals]]:
        """Linear layer → its weights in steps of each channel alone, and as stored; both real, as contracted."""
        subject = self.subject
        stored = {
            item.layer: item.format.dequantize(subject.program.tensors[item.tensor])
            for item in subject.program.learnables
            if item.parameter == "Weights"
        }
        found = {}
        for spec in subject.spec.layers:
            if spec.name not in stored or not spec.is_linear or stored[spec.name].shape != spec.weights().shape:
                continue
            found[spec.name] = (own_weights(subject, spec, stored[spec.name]), stored[spec.name])
        return found

    def _range_cause(self, layer: str) -> Cause:
        if any(note.startswith(f"{layer}: weight step") for note in self.subject.formats.notes):
            return Cause.SHIFT_LIMITS
        return Cause.FOLD if layer in self._blown_up else Cause.WEIGHT_RANGE

    @cached_property
    def _blown_up(self) -> frozenset[str]:
        return frozenset(blown_up(self.subject))

    def _float(self, piece: Piece, values: Values) -> Reals:
        """The float layer on what arrives."""
        program = self.subject.program
        made = {name for step in piece.steps for name in step.outputs}
        real = {
            program.buffers[name].tensor or name: program.buffers[name].format.dequantize(values[name])
            for step in piece.steps
            for name in step.inputs
            if name not in made
        }
        island = next((step for step in piece.steps if isinstance(step.form, Island)), None)
        if island is not None:
            assert isinstance(island.form, Island)
            feeds = {
                feed: program.buffers[name].format.dequantize(values[name])
                for feed, name in zip(island.form.feeds, island.inputs, strict=True)
            }
            results = run_float(program.tensors[island.form.model].tobytes(), feeds, island.form.fetches)
            return np.asarray(results[island.form.fetches.index(piece.tensor)], np.float64)
        assert piece.spec is not None
        layer = piece.spec.layer
        model = self._models.get(piece.name)
        if model is None:
            model = extract(self.subject.network, layer.nodes, layer.inputs, layer.outputs)
            self._models[piece.name] = model
        results = run_float(model, {t: real[t] for t in layer.inputs}, layer.outputs)
        return np.asarray(results[layer.outputs.index(piece.tensor)], np.float64)

    @cached_property
    def _models(self) -> dict[str, bytes]:
        return {}

    # ---------------------------------------------------------------- the output's format

    def _finished(
        self,
        piece: Piece,
        exact: Reals,
        made: Reals,
        parts: list[tuple[Cause, Reals]],
        got: Reals,
        rounding: Rounding,
    ) -> Split:
        """Take the way from the real output ``made`` to the integers ``got`` apart."""
        format = self.subject.program.buffers[piece.buffer].format
        own, why = self._own(piece, format)
        clip = Cause.CALIBRATION_DATA if piece.tensor in self.narrow else Cause.ACTIVATION_CLIPPING
        rest = Cause.CALIBRATION_DATA if piece.tensor in self.wide else Cause.ACTIVATION_ROUNDING
        low, high = (float(v) for v in own.real_range)
        cut = np.clip(made, low, high)
        clipped = int(np.count_nonzero(np.abs(made - cut) > float(own.scale) / 2))
        quantized = own.dequantize(np.asarray(own.quantize(cut, rounding)))
        vanished = int(np.count_nonzero((quantized == 0) & (np.abs(made) > 1e-30)))
        parts = [*parts, (clip, cut - made), (rest, quantized - cut)]
        if own != format:
            other = format.dequantize(np.asarray(format.quantize(made, rounding)))
            parts.append((why, other - quantized))
            quantized = other
        parts.append((self._rule(piece), got - quantized))
        errors: dict[Cause, Reals] = {}
        for cause, part in parts:
            if np.any(part):
                errors[cause] = errors[cause] + part if cause in errors else part
        tops = np.abs(exact).max(axis=(0, *range(2, exact.ndim))) if exact.ndim > 1 and exact.size else None
        count = int(np.size(made))
        return Split(
            piece=piece, exact=exact, errors=errors, clipped=clipped, vanished=vanished, count=count, tops=tops
        )

    def _rule(self, piece: Piece) -> Cause:
        if piece.op in POOLS:
            return Cause.POOLING_RULE
        if piece.op == "Input" or piece.op in ARITHMETIC or piece.spec is None:
            return Cause.ARITHMETIC
        return Cause.TABLE_RULE

    def _own(self, piece: Piece, format: Format) -> tuple[Format, Cause]:
        """The format that the output would have for itself, and why it has another one."""
        found = self._alone.get(piece.tensor)
        if found is None or found[0] == format:
            return format, Cause.SHARED_FORMAT
        return found

    @cached_property
    def _alone(self) -> Mapping[str, tuple[Format, Cause]]:
        """Tensor → the format of its own, where something else than its own numbers decided."""
        return {tensor: (format, why) for tensor, (format, why) in own_formats(self.subject).items()}


def own_weights(subject: Subject, spec: LayerSpec, stored: Reals) -> Reals:
    """The weights as these bits hold them at best, with a step for each output channel that makes its squared error least.

    What is lost beyond that is the range: steps widened by other channels, and weights cut off.  Where each channel has
    a step already and nothing is cut off, it is nothing, and ``stored`` is the answer.
    """
    rule = subject.target.weight_rule(spec.op, **spec.facts)
    values = spec.weights()
    format = subject.formats.weights[spec.name]
    low, high = (format.along(v, values.ndim) for v in format.real_range)
    size = format.along(format.scale, values.ndim)
    cut_off = (values < low - size) | (values > high + size)
    if format.axis is not None and not cut_off.any():
        return stored
    best = Mse().choose(TensorStats.of(values, 0), replace(rule, per_channel=True), values=values, axis=0)
    return np.asarray(best.dequantize(best.quantize(values, rule.rounding)))


def blown_up(subject: Subject) -> dict[str, Mapping[str, Any]]:
    """Layer → its fold, where the channel that stretches the weights is one that a folded batch norm made large."""
    found: dict[str, Mapping[str, Any]] = {}
    specs = {spec.name: spec for spec in subject.spec.layers if spec.is_linear}
    for fold in subject.quantized.provenance.get("folds") or ():
        layer = str(fold.get("layer"))
        if fold.get("kind") != "weights" or layer not in specs or fold.get("worst_channel") is None:
            continue
        tops = channel_tops(specs[layer])
        lost = [int(b) for b in fold.get("channel_bits_lost") or ()]
        if len(lost) != len(tops) or not lost:
            continue
        # Most channels lose bits, and not the one that is largest now: folding stretched the tensor.
        stretched = float(tops.max()) >= STRETCHED * float(np.median(tops[tops > 0])) if tops.any() else False
        if stretched and float(np.median(lost)) >= 1 and lost[int(np.argmax(tops))] < float(np.median(lost)):
            found[layer] = fold
    return found


def channel_tops(spec: LayerSpec) -> NDArray[np.float64]:
    """Largest magnitude of each output channel's weights, ``[out]``."""
    weights = np.abs(spec.weights())
    return np.asarray(weights.reshape(len(weights), -1).max(axis=1))


def own_formats(subject: Subject) -> dict[str, tuple[Format, Cause]]:
    """Tensor → the format that its own numbers ask for and why it has another one, where it has."""
    spec, formats = subject.spec, subject.formats
    members: dict[str, list[str]] = {}
    for tensor, root in formats.group.items():
        members.setdefault(root, []).append(tensor)
    moved = {note.split(":", 1)[0] for note in formats.notes}
    found: dict[str, tuple[Format, Cause]] = {}
    for tensor, format in formats.activations.items():
        if tensor in spec.integer or format == INDEX:
            continue
        producer = spec.producer(tensor)
        if producer is not None and (producer.reason or isinstance(producer.rule.output, FixedFormat)):
            continue
        group = members.get(formats.group.get(tensor, tensor), [tensor])
        shared = len(sources_of_group(spec, group)) > 1
        averaged = producer is not None and producer.op in POOLS and producer.rule.output == "shared"
        why = (
            Cause.POOLING_RULE
            if averaged
            else Cause.SHARED_FORMAT
            if shared
            else Cause.SHIFT_LIMITS
            if {tensor, formats.group.get(tensor, tensor)} & moved
            else None
        )
        stats = subject.statistics.activations.get(tensor)
        if why is None or stats is None or not stats.finite:
            continue
        own = chosen(subject, tensor, stats)
        if own != format:
            found[tensor] = (own, why)
    return found


def chosen(subject: Subject, tensor: str, stats: TensorStats) -> Format:
    """The format that the target and the scheme give a tensor with these statistics, if it shares with none."""
    producer = subject.spec.producer(tensor)
    target = subject.target
    rule = target.input if producer is None else target.activation_rule(producer.op, **producer.facts)
    scheme: Scheme = subject.schemes.input if producer is None else subject.schemes.activation  # type: ignore[assignment]
    return scheme.choose(stats.overall(), rule)
