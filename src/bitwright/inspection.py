"""What would become of a network on a target, without data: every layer, its cost, and what folding did to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bitwright.api import target_of
from bitwright.errors import UnsupportedOp, printable
from bitwright.layer_rows import LayerRow, layer_rows
from bitwright.model import Model, PathLike, load
from bitwright.shown import Shown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bitwright.calibrate.spec import NetworkSpec
    from bitwright.calibrate.statistics import Statistics
    from bitwright.calibrate.tensor_stats import TensorStats
    from bitwright.data.contract import InputContract
    from bitwright.number.format import Floats, Format, FormatRule
    from bitwright.passes.fold import Fold
    from bitwright.program.program import Program
    from bitwright.targets.target import Target

# Without calibration every activation is taken to lie here; which layers have an integer form does not depend on it.
PLACEHOLDER = 4.0


@dataclass(frozen=True, kw_only=True)
class Inspection(Shown):
    """A network as a target sees it.

    Attributes:
        name: The network.
        target: The target's name.
        layers: A row per layer, in order of execution.
        inputs: Shape of each input, by name.
        outputs: Shape of each output, by name.
        integer_mac_share: Share of the multiply-accumulates in integers, 0 to 1.
        learnable_bytes: Bytes of weights and biases in float and in the target's integers.
        folds: What folding did to weights and biases.
        removed: Source nodes that change nothing and are gone, as (name, operator).
        notes: What the user should know, in sentences.
    """

    name: str
    target: str
    layers: tuple[LayerRow, ...]
    inputs: Mapping[str, tuple[int, ...]]
    outputs: Mapping[str, tuple[int, ...]]
    integer_mac_share: float
    learnable_bytes: tuple[int, int]
    folds: tuple[Fold, ...] = ()
    removed: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one sample."""
        return sum(row.macs for row in self.layers)

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return sum(row.parameters for row in self.layers)

    def count(self, becomes: str) -> int:
        """How many layers become so."""
        return sum(row.becomes == becomes for row in self.layers)

    @property
    def stuck(self) -> LayerRow | None:
        """The first layer without an integer form, or None."""
        return next((row for row in self.layers if row.becomes in {"float", "unsupported"}), None)

    def require_integers(self) -> None:
        """Refuse a network that would run in float in part.

        Raises:
            UnsupportedOp: naming the first layer and why.
        """
        row = self.stuck
        if row is not None:
            raise UnsupportedOp(
                f"Layer '{printable(row.layer)}' ({printable(row.op)}) has no integer form on target {self.target}: "
                f"{printable(row.reason, 300)}. Leave out --strict to run it as a float island, replace the layer, or "
                "choose another target.",
                op=row.op,
                layer=row.layer,
                target=self.target,
            )

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "network": self.name,
            "target": self.target,
            "inputs": {name: list(shape) for name, shape in self.inputs.items()},
            "outputs": {name: list(shape) for name, shape in self.outputs.items()},
            "layers": [row.to_json() for row in self.layers],
            "totals": {
                "layers": len(self.layers),
                "integer": self.count("integer"),
                "table": self.count("table"),
                "float": self.count("float"),
                "unsupported": self.count("unsupported"),
                "macs": self.macs,
                "integer_mac_share": self.integer_mac_share,
                "parameters": self.parameters,
                "learnable_bytes": {"float": self.learnable_bytes[0], "quantized": self.learnable_bytes[1]},
            },
            "folds": [fold.to_json() for fold in self.folds],
            "removed": [{"layer": name, "op": op} for name, op in self.removed],
            "notes": list(self.notes),
        }


def inspect(
    model: Any,
    target: str | PathLike | Target = "generic",
    *,
    strict: bool = False,
    input_spec: PathLike | Mapping[str, Any] | InputContract | None = None,
    shapes: Mapping[str, int | Sequence[int]] | None = None,
) -> Inspection:
    """Read off what becomes of every layer on a target; needs no data.

    Args:
        model: What :func:`bitwright.load` takes or gives.
        target: A target, its name or its file.
        strict: Float is not allowed: layers without an integer form are called unsupported.
        input_spec: See :func:`bitwright.load`.
        shapes: See :func:`bitwright.load`.

    Raises:
        ModelError: if the network cannot be used.
        TargetError: if there is no such target.
    """
    loaded = load(model, input_spec=input_spec, shapes=shapes)
    chosen = target_of(target)
    spec = loaded.spec(chosen)
    program = placeholder_program(loaded, spec, chosen)
    rows = layer_rows(spec, program)
    if strict:
        rows = tuple(replace(row, becomes="unsupported") if row.becomes == "float" else row for row in rows)
    net = loaded.network
    return Inspection(
        name=net.name,
        target=chosen.name,
        layers=rows,
        inputs={name: net.shape(name) for name in net.inputs},
        outputs={name: net.shape(name) for name in net.outputs},
        integer_mac_share=program.integer_mac_share,
        learnable_bytes=(program.learnable_float_bytes, program.learnable_bytes),
        folds=loaded.folds,
        removed=tuple((gone.name, gone.op) for gone in net.removed),
        notes=(*loaded.notes, *other_notes(loaded)),
    )


def other_notes(model: Model) -> tuple[str, ...]:
    """What the folding passes left alone, and why."""
    return tuple(
        f"{note.layer}: {note.text}" if note.layer else note.text
        for change in model.changes
        if not change.modified
        for note in change.notes
    )


def placeholder_program(model: Model, spec: NetworkSpec, target: Target) -> Program:
    """The program for made-up ranges of activations: which layers have an integer form does not depend on them."""
    from bitwright.calibrate.assign import RoleSchemes, assign
    from bitwright.lower import Constants, lower

    scheme = _WholeRange()
    schemes = RoleSchemes(input=scheme, activation=scheme, weight=scheme, bias=scheme)
    weights, integers = {}, {}
    for layer in spec.layers:
        if layer.is_linear and not layer.reason:
            values = layer.weights()
            rule = target.weight_rule(layer.op, **layer.facts)
            weights[layer.name] = scheme.choose_weights(values, rule)
            integers[layer.name] = _rounded(values, weights[layer.name])
    formats = assign(spec, _made_up(spec, model), target, schemes, weights=weights)
    # A format that a rule moved afterwards does not change what the layer becomes.
    return lower(model.network, spec, formats, target, constants=Constants(weights=integers))


def _rounded(values: Floats, format: Format) -> NDArray[np.int64]:
    """The weights' integers, quickly: a tie more or less changes no proof."""
    import numpy as np

    scaled = np.asarray(values / format.along(format.scale, values.ndim), np.float64)
    np.rint(scaled, out=scaled)
    return np.asarray(np.clip(scaled, format.lo, format.hi), np.int64)


def _made_up(spec: NetworkSpec, model: Model) -> Statistics:
    from bitwright.calibrate.statistics import Statistics

    stats = {name: _stats(-PLACEHOLDER, PLACEHOLDER) for name in spec.inputs}
    for layer in spec.layers:
        rectified = layer.clamp is not None and layer.clamp[0] >= 0
        stats |= {name: _stats(0.0 if rectified else -PLACEHOLDER, PLACEHOLDER) for name in layer.outputs}
    return Statistics(model.network.fingerprint, (), 1, stats)


def _stats(lo: float, hi: float) -> TensorStats:
    """A range; nobody looks at its histogram."""
    from bitwright.calibrate.tensor_stats import TensorStats

    return TensorStats(count=2, lo=lo, hi=hi)


@dataclass(frozen=True)
class _WholeRange:
    """Min-max without the histograms that other schemes need."""

    def choose(
        self,
        stats: TensorStats,
        rule: FormatRule,
        *,
        values: NDArray[np.floating[Any]] | None = None,
        axis: int | None = None,
    ) -> Format:
        """As the min-max scheme, for a whole tensor."""
        from bitwright.calibrate.ranges import format_for_range, is_signed

        lo, hi = (stats.lo, stats.hi) if values is None else (float(values.min()), float(values.max()))
        return format_for_range(lo, hi, rule, signed=is_signed(rule, [lo]))

    def choose_weights(self, values: Floats, rule: FormatRule) -> Format:
        """As the min-max scheme, for weights ``[out, ...]``, all channels in one go."""
        from bitwright.calibrate.ranges import format_for_range, is_signed

        axis = 0 if rule.per_channel else None
        rest = tuple(range(0 if axis is None else 1, values.ndim))
        lo, hi = values.min(axis=rest), values.max(axis=rest)
        return format_for_range(lo, hi, rule, axis=axis, signed=is_signed(rule, lo))
