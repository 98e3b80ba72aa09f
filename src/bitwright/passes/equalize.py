"""Channels are scaled so that one step for a whole tensor costs little."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bitwright.passes import moved
from bitwright.passes._pass import Change, Needs, Note
from bitwright.passes.alignment import Step, align
from bitwright.passes.equalization import (
    ClipCost,
    LinearNoise,
    TensorNoise,
    Term,
    clip_change,
    importance_before,
    noise,
    norm_over_taps,
    solve,
    step_norm,
)
from bitwright.passes.linear import Linear, read_linear, scale_inputs, scale_outputs, write_linear
from bitwright.passes.observed import Observed
from bitwright.passes.scale_classes import FIXED, ScaleClasses, channels_of, components, scale_classes

if TYPE_CHECKING:
    import onnx_ir as ir

    from bitwright.network.network import Network
    from bitwright.targets.target import Target

Reals = NDArray[np.float64]

SETTLED = 0.15
"""Less noise to gain than this share is not worth another network."""
GRID = np.linspace(-8.0, 8.0, 129)


@dataclass(frozen=True, kw_only=True)
class Equalize:
    """Scale channels so that one step for a whole tensor costs little, across any number of layers.

    ReLU, pooling, sums and concatenations let a factor through; linear layers take it into their weights.  A clip
    (ReLU6) does not: its channels are scaled only as far as the data says that it changes little, and that change is
    weighed against the rounding noise that it saves.  Without data, clipped channels are left alone.  For steps of
    powers of two, whole tensors (and the bounds of their clips) are scaled as well, so that ranges end where codes do.

    Attributes:
        bits: Bits of weights and activations that the noise is weighed for, where no target says.
        steps: Iterations of the search.
    """

    name: ClassVar[str] = "equalize"
    summary: ClassVar[str] = (
        "Scale channels so that one step for a whole tensor costs little (cross-layer equalization)."
    )
    changes_function: ClassVar[bool] = True

    bits: int = 8
    steps: int = 300

    def needs(self, net: Network) -> Needs:
        """Extremes and energy of every channel, and some values before clips."""
        classes = scale_classes(net)
        free = [t for t in classes.labels if channels_of(net, t) and classes.free(t).any()]
        linear = [_input(node) for node in net.nodes() if read_linear(net, node) is not None]
        seen = [t for t in dict.fromkeys((*free, *linear)) if t and net.has_shape(t) and len(net.shape(t)) > 1]
        return Needs(channels=tuple(seen), samples=tuple(_before_clip(net, t) for t in classes.clips))

    def apply(self, net: Network, got: Any = None, target: Any = None) -> Change:
        """Scale ``net`` in place; ``got`` is an :class:`Observed`, or None."""
        observed = got if isinstance(got, Observed) else None
        classes = scale_classes(net)
        if classes.count == 1:
            return Change(notes=(Note("nothing to equalize: no tensor between linear layers can be scaled"),))
        layers = {str(node.name): (node, layer) for node in net.nodes() if (layer := read_linear(net, node))}
        importance = importances(net, observed)
        terms = _terms(self, net, classes, layers, importance, observed, target)
        factors, before, after = solve(terms, classes.count, _frozen(net, classes, observed), steps=self.steps)
        whole = np.ones(classes.count)
        if target is not None and target.weight.scaling == target.activation.scaling == "power-of-two":
            if after > before * (1 - SETTLED):
                factors, after = np.ones(classes.count), before
            whole, before, after = _aligned(classes, terms, factors, target)
            factors = factors * whole
        gain = 10 * np.log10(before / after) if after > 0 and before > 0 else 0.0
        if before <= 0 or after > before * (1 - SETTLED):
            return Change(notes=(Note("equalized already: no factors make the rounding noise smaller"),))
        changed = _scale(net, classes, layers, factors)
        _move_clips(net, classes, whole)
        free = factors[1:]
        text = (
            f"{changed} layers scaled, factors {free.min():.3g} to {free.max():.3g}; the rounding noise that ranges "
            f"predict falls by {gain:.1f} dB"
        )
        return Change(True, (Note(text), *_clip_notes(net, classes, factors / whole, observed)))


def _input(node: ir.Node) -> str:
    value = node.inputs[0]
    return "" if value is None else str(value.name)


def _before_clip(net: Network, tensor: str) -> str:
    producer = net.value(tensor).producer()
    assert producer is not None  # a clip made it
    return _input(producer)


def _frozen(net: Network, classes: ScaleClasses, observed: Observed | None) -> NDArray[np.bool_]:
    frozen = np.zeros(classes.count, np.bool_)
    frozen[FIXED] = True
    for tensor in classes.clips:
        if observed is None or _before_clip(net, tensor) not in observed.samples:
            frozen[classes.labels[tensor]] = True
    return frozen


def importances(net: Network, observed: Observed | None) -> dict[str, Reals]:
    """How much noise in each channel of each tensor matters at the outputs: energies, carried backwards.

    Noise is taken as white: a linear layer adds energies up, a ReLU passes on the share of values it lets through.
    """
    found: dict[str, Reals] = {}
    for tensor in net.outputs:
        found[tensor] = np.ones(channels_of(net, tensor))
    for node in reversed(net.nodes()):
        output = str(node.outputs[0].name) if node.outputs else ""
        above = found.get(output)
        if above is None:
            continue
        sources = [str(v.name) for v in node.inputs if v is not None and not net.is_constant(str(v.name))]
        layer = read_linear(net, node)
        start = 0
        for source in sources:
            channels = channels_of(net, source)
            if layer is not None:
                part = importance_before(above, layer.weight, layer.groups) if layer.axis == 1 else np.ones(channels)
            elif node.op_type == "Concat" and channels_of(net, output) != channels:
                part = above[start : start + channels]
                start += channels
            else:
                part = _through(above, channels)
                if node.op_type in ("Relu", "Clip"):
                    part = part * _passing(net, node, source, observed)
            if channels and len(part) == channels:
                found[source] = found.get(source, np.zeros(channels)) + part
    return found


def _through(above: Reals, channels: int) -> Reals:
    if not channels or not len(above):
        return np.zeros(channels)
    if len(above) % channels == 0:
        return np.asarray(above.reshape(channels, -1).sum(axis=1))
    return np.full(channels, above.mean())


def _passing(net: Network, node: ir.Node, source: str, observed: Observed | None) -> Reals | float:
    """Share of the values of each channel that an activation lets through."""
    values = None if observed is None else observed.samples.get(source)
    if values is None:
        return 0.5
    high = np.inf
    if node.op_type == "Clip" and len(node.inputs) > 2 and node.inputs[2] is not None:
        bound = net.constant(str(node.inputs[2].name))
        high = np.inf if bound is None else float(np.ravel(bound)[0])
    return np.asarray(((values > 0) & (values < high)).mean(axis=0), np.float64)


def _terms(
    options: Equalize,
    net: Network,
    classes: ScaleClasses,
    layers: dict[str, tuple[ir.Node, Linear]],
    importance: dict[str, Reals],
    observed: Observed | None,
    target: Any,
) -> list[Term]:
    weight_bits = options.bits if target is None else target.weight.bits
    tensor_bits = options.bits if target is None else target.activation.bits
    per_channel = target is not None and target.weight.per_channel
    own_bias = target is not None and target.bias_source == "own"
    terms: list[Term] = []
    for node, layer in layers.values():
        source, output = _input(node), str(node.outputs[0].name)
        if layer.axis != 1 or source not in classes.labels or output not in importance:
            continue
        taps = int(np.prod(layer.weight.shape[2:]))
        power, reach = step_norm(weight_bits, layer.weight[0].size if per_channel else layer.weight.size)
        seen = None if observed is None else observed.channels.get(source)
        terms.append(
            LinearNoise(
                inputs=classes.labels[source],
                outputs=classes.labels[output],
                groups=layer.groups,
                largest=norm_over_taps(layer.weight, power),
                taps=taps,
                energy=(np.ones(layer.inputs) if seen is None else seen.energy) * taps,
                importance=importance[output],
                step=4.0**-weight_bits,
                per_channel=per_channel,
                bias=np.abs(layer.bias) if own_bias and layer.bias is not None else None,
                bias_step=0.0 if target is None else 4.0**-target.bias.bits,
                power=power,
                reach=reach,
            )
        )
    stored = dict.fromkeys(t for layer in net.layers() for t in layer.outputs)
    for tensor in stored:
        seen = None if observed is None else observed.channels.get(tensor)
        if seen is not None and tensor in importance and (classes.labels[tensor] != FIXED).any():
            # A step over a range without negative numbers is half as wide where the format has no sign.
            unsigned = seen.lo.min() >= 0 and target is not None and target.activation.signed is not True
            step = 4.0 ** -(tensor_bits + unsigned)
            terms.append(TensorNoise(classes.labels[tensor], seen.absmax, importance[tensor], step))
    for tensor, bound in classes.clips.items():
        source = _before_clip(net, tensor)
        if observed is not None and source in observed.samples and tensor in importance:
            cost = clip_change(observed.samples[source], bound, GRID)
            # Rounding to a step has a twelfth of its square as noise; steps are counted whole here.
            terms.append(ClipCost(classes.labels[tensor], GRID, cost * importance[tensor][:, None] * 12))
    return terms


def _aligned(classes: ScaleClasses, terms: list[Term], factors: Reals, target: Target) -> tuple[Reals, float, float]:
    """Factors of whole tensors ``[classes]`` for steps of powers of two, the noise of the network as it is, and then.

    Channels of one tensor are scaled alike, and so are tensors that share a channel's class.
    """
    tied = [labels for labels in classes.labels.values() if len(labels)]
    left = np.concatenate([np.full(len(labels), labels[0]) for labels in tied])
    group = components(classes.count, left, np.concatenate(tied))
    still = np.zeros(classes.count)
    steps, rest = _steps(terms, still, group, target)
    before = rest + sum(step.at(still) for step in steps)
    steps, rest = _steps(terms, np.log(factors), group, target)
    shifts = align(steps, group == group[FIXED])
    return np.exp2(shifts[group]), before, rest + sum(step.at(shifts) for step in steps)


def _steps(terms: list[Term], u: Reals, group: NDArray[np.int64], target: Target) -> tuple[list[Step], float]:
    """The steps of powers of two under logarithms ``u`` of factors, and the noise that no step causes."""
    steps, other = [], 0.0
    for term in terms:
        value, _ = noise([term], u)
        if isinstance(term, TensorNoise) and term.absmax.any():
            top = float(np.max(term.absmax * np.exp(u[term.labels]))) / (2.0 ** (target.activation.bits - 1) - 0.5)
            steps.append(Step(noise=value, height=float(np.log2(top)), up=int(group[term.labels[0]])))
        elif isinstance(term, LinearNoise) and term.largest.any():
            top = term.range(u) / (2.0 ** (target.weight.bits - 1) - 0.5)
            up, down = int(group[term.outputs[0]]), int(group[term.inputs[0]])
            steps.append(Step(noise=value, height=float(np.log2(top)), up=up, down=down))
        else:
            other += value
    return steps, other


def _move_clips(net: Network, classes: ScaleClasses, whole: Reals) -> None:
    """Scale the bounds of clips along with their tensors."""
    for tensor, bound in classes.clips.items():
        factor = float(whole[classes.labels[tensor][0]])
        node = net.value(tensor).producer()
        if factor != 1.0 and node is not None:
            old = node.inputs[2]
            stem = "clip" if old is None else str(old.name).split("~scaled", maxsplit=1)[0]
            net.set_input(node, 2, net.new_constant(f"{stem}~scaled", np.float32(bound * factor)))
    net.sweep()


def _scale(net: Network, classes: ScaleClasses, layers: dict[str, tuple[ir.Node, Linear]], factors: Reals) -> int:
    """Write the factors into the weights; gives the number of layers that changed."""
    changed = 0
    for node, layer in layers.values():
        if layer.axis != 1:
            continue
        scaled = layer
        inner = factors[classes.labels[_input(node)]] if _input(node) in classes.labels else np.ones(layer.inputs)
        outer = factors[classes.labels[str(node.outputs[0].name)]]
        if (inner != 1).any():
            scaled = scale_inputs(scaled, 1 / inner, np.zeros(layer.inputs))
        if (outer != 1).any():
            scaled = scale_outputs(scaled, outer, np.zeros(layer.outputs))
            moved.record(node, outer, np.zeros(layer.outputs))
        if scaled is not layer:
            write_linear(net, node, scaled)
            changed += 1
    net.sweep()
    return changed


def _clip_notes(net: Network, classes: ScaleClasses, factors: Reals, observed: Observed | None) -> list[Note]:
    notes = []
    for tensor, bound in classes.clips.items():
        source = _before_clip(net, tensor)
        if observed is None or source not in observed.samples:
            notes.append(
                Note(f"its clip at {bound:g} keeps its channels as they are: nothing was observed", layer=tensor)
            )
            continue
        own = factors[classes.labels[tensor]]
        values = observed.samples[source]
        fires = (values.max(axis=0) * np.maximum(own, 1.0) > bound) & (np.abs(own - 1) > 1e-6)
        if fires.any():
            clean = np.clip(values, 0, bound)
            cut = np.minimum(np.maximum(values, 0), bound / own)
            change, energy = float(np.mean((cut - clean) ** 2)), float(np.mean(np.square(clean, dtype=np.float64)))
            level = f"{10 * np.log10(change / energy):.0f} dB" if change > 0 < energy else "nothing"
            text = f"{int(fires.sum())} of {len(own)} channels scaled across a clip; its values change by {level}"
            notes.append(Note(text, layer=tensor))
    return notes
