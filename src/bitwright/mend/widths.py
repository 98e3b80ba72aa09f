"""Which tensors are worth other widths: what each costs or gains by itself, and what combinations are worth having."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from bitwright.calibrate.assign import INDEX
from bitwright.calibrate.sharing import sources_of_group
from bitwright.calibrate.tensor_stats import TensorStats
from bitwright.mend.bench import Bench, surely_better
from bitwright.mend.repair import Clock
from bitwright.mend.solution import Solution

if TYPE_CHECKING:
    from bitwright.targets.target import Target

Role = Literal["weights", "activation"]


@dataclass(frozen=True, kw_only=True)
class Width:
    """One tensor at another width than the target's.

    Attributes:
        name: The layer whose weights it is, or the tensor (with all that share its format).
        role: Which of the two.
        layer: The layer that a target's rule names for it.
        bits: The width.
        gain: dB that the integer outputs gain, the mean over samples; negative for a loss.
        error: Its standard error.
        bytes: Change of the bytes of all weights, or of all stored activations of one sample.
        work: Change of the multiply-accumulates, each counted as the product of its two widths over 64: what a machine
            with splittable 8-bit multipliers needs in cycles, times its multipliers.
    """

    name: str
    role: Role
    layer: str
    bits: int
    gain: float
    error: float
    bytes: float
    work: float

    @property
    def rule(self) -> str:
        """The rule of a target file that says the same."""
        return (
            f'[[rule]]\nmatch = {{ layer = "{self.layer}" }}\n{self.role.removesuffix("s")} = {{ bits = {self.bits} }}'
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return dict(vars(self))


@dataclass(frozen=True, kw_only=True)
class Point:
    """Some tensors at other widths, measured together.

    Attributes:
        widths: Which.
        gain: dB against the network with the target's own widths, the mean over samples.
        bytes: All weights and all stored activations of one sample.
        work: See :class:`Width`; of the whole network.
    """

    widths: tuple[Width, ...]
    gain: float
    bytes: float
    work: float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**vars(self), "widths": [one.to_json() for one in self.widths]}


def with_width(solution: Solution, target: Target, role: Role, name: str, bits: int) -> Solution:
    """``solution`` with one tensor at another width: the same range for activations, the least error for weights."""
    formats = solution.formats
    if role == "activation":
        old = formats.activations[name]
        new = replace(old, bits=bits, scale=old.scale * 2.0 ** (old.bits - bits))
        return solution.with_formats(formats.with_activation(name, new), target)
    spec = next(layer for layer in solution.spec.layers if layer.name == name)
    rule = replace(target.weight_rule(spec.op, **spec.facts), bits=bits)
    values, axis = spec.weights(), 0 if rule.per_channel else None
    new = solution.schemes.weight.choose(TensorStats.of(values, axis), rule, values=values, axis=axis)
    return solution.with_formats(formats.with_weight(name, new), target)


def sizes(solution: Solution) -> tuple[float, float]:
    """Bytes of weights and stored activations of one sample, and the work of all linear layers."""
    formats, spec = solution.formats, solution.spec
    total = sum(
        int(np.prod(spec.shapes[t][1:])) * f.bits / 8
        for t, f in formats.activations.items()
        if t in spec.shapes and f != INDEX
    )
    work = 0.0
    for layer in spec.layers:
        weight = formats.weights.get(layer.name)
        if weight is None:
            continue
        total += layer.weights().size * weight.bits / 8
        work += layer.macs * weight.bits * formats.activations[layer.tensors[0]].bits / 64
    return float(total), work


def candidates(
    solution: Solution, bench: Bench, clock: Clock, *, weights: Sequence[int], activations: Sequence[int]
) -> list[Width]:
    """What each tensor at each of the widths costs or gains by itself, best first.

    Those that gain stand first, by what they gain for each byte; then those that lose, by the bytes saved for each dB.
    """
    base, heights = sizes(solution), bench.heights(solution)
    found = []
    for role, name, bits in _tensors(solution, weights, activations):
        if clock.over:
            break
        clock.tell(f"{name}: {bits} bits")
        trial = with_width(solution, bench.target, role, name, bits)
        gains = bench.heights(trial) - heights
        now = sizes(trial)
        found.append(
            Width(
                name=name,
                role=role,
                layer=_layer_of(solution, role, name),
                bits=bits,
                gain=float(gains.mean()),
                error=float(gains.std(ddof=1) / np.sqrt(len(gains))) if len(gains) > 1 else 0.0,
                bytes=now[0] - base[0],
                work=now[1] - base[1],
            )
        )
    return sorted(found, key=_rank, reverse=True)


def _rank(width: Width) -> tuple[bool, float]:
    if width.bytes > 0:
        return True, width.gain / width.bytes
    return False, -width.bytes / max(-width.gain, 1e-3)


def _layer_of(solution: Solution, role: Role, name: str) -> str:
    """The layer whose rule decides on a tensor: for tensors that share a format, the first that computes one of them."""
    if role == "weights":
        return name
    members = [t for t, root in solution.formats.group.items() if root == name]
    for tensor in sources_of_group(solution.spec, members or [name]):
        producer = solution.spec.producer(tensor)
        if producer is not None:
            return producer.name
    return name


def _tensors(solution: Solution, weights: Sequence[int], activations: Sequence[int]) -> Iterator[tuple[Role, str, int]]:
    formats, spec = solution.formats, solution.spec
    for layer in spec.layers:
        if layer.name in formats.weights:
            yield from (("weights", layer.name, bits) for bits in weights if bits != formats.weights[layer.name].bits)
    outside = {formats.group.get(t, t) for t in (*spec.inputs, *spec.outputs)}
    for name, format in formats.activations.items():
        inner = formats.group.get(name, name) == name and name not in outside
        if inner and format != INDEX:
            yield from (("activation", name, bits) for bits in activations if bits != format.bits)


def front(points: Iterable[Point]) -> list[Point]:
    """The points that no other beats in all of gain, bytes and work; most gain first."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda p: (-p.gain, p.bytes, p.work)):
        if all(point.bytes < other.bytes or point.work < other.work for other in kept):
            kept.append(point)
    return kept


def trade(
    solution: Solution,
    bench: Bench,
    clock: Clock,
    *,
    weights: Sequence[int] = (6, 4),
    activations: Sequence[int] = (16,),
    points: int = 8,
) -> tuple[list[Width], list[Point]]:
    """Widths ranked by themselves, and the combinations worth having, measured.

    Wider tensors are added in the order of the ranking, from the network as it is; so are narrower ones, alone and on
    top of the wider ones that gain for sure.  About ``points`` combinations of each kind are measured.
    """
    ranked = candidates(solution, bench, clock, weights=weights, activations=activations)
    wider = [w for w in ranked if w.bytes > 0 and w.gain > 0]
    narrower = _once(w for w in ranked if w.bytes < 0)
    sure = [w for w in wider if w.gain > 2 * w.error]
    heights = bench.heights(solution)
    found = [_point(solution, bench, heights, ())]
    for start, rest in (((), wider), ((), narrower), (tuple(sure), narrower)):
        for count in _some(len(rest), points):
            if clock.over:
                break
            clock.tell(f"{len(start) + count} tensors together")
            found.append(_point(solution, bench, heights, (*start, *rest[:count])))
    return ranked, front(found)


def _once(widths: Iterable[Width]) -> list[Width]:
    """Only the best-ranked width of each tensor."""
    found: dict[str, Width] = {}
    for width in widths:
        found.setdefault(width.name, width)
    return list(found.values())


def _some(count: int, points: int) -> list[int]:
    return sorted({round(x) for x in np.linspace(1, count, min(points, count))}) if count else []


def _point(solution: Solution, bench: Bench, heights: np.ndarray, widths: tuple[Width, ...]) -> Point:
    for one in widths:
        solution = with_width(solution, bench.target, one.role, one.name, one.bits)
    total, work = sizes(solution)
    gain = float((bench.heights(solution) - heights).mean()) if widths else 0.0
    return Point(widths=widths, gain=gain, bytes=total, work=work)


@dataclass(frozen=True, kw_only=True)
class WidenActivations:
    """Give the activations that lose most more bits, where the device has them.

    Each tensor is tried by itself at ``bits``; the best are widened one after the other as long as each gains more than
    chance explains.  Not part of ``auto``: it leaves the target's own widths.  ``bitwright widths`` ranks what
    each tensor is worth, and gives the rules for a target file.

    Attributes:
        bits: The width.
        most: Tensors that may be widened.
        margin: dB that each must gain.
    """

    name: ClassVar[str] = "widen"
    summary: ClassVar[str] = "Store the activations that lose most with more bits (mixed width)."

    bits: int = 16
    most: int = 4
    margin: float = 0.1

    def apply(self, solution: Solution, bench: Bench, clock: Clock) -> tuple[Solution, str]:
        """See :class:`bitwright.mend.repair.Repair`."""
        ranked = candidates(solution, bench, clock, weights=(), activations=(self.bits,))
        given, heights = solution, bench.heights(solution)
        first, taken = heights, list[Width]()
        for width in sorted(ranked, key=lambda w: -w.gain):
            if len(taken) == self.most or clock.over or width.gain < self.margin:
                break
            trial = with_width(solution, bench.target, width.role, width.name, width.bits)
            got = bench.heights(trial)
            if surely_better(got - heights, self.margin):
                solution, heights = trial, got
                taken.append(width)
        if not taken:
            return given, f"no activation gains from {self.bits} bits"
        gain, extra = float((heights - first).mean()), sum(w.bytes for w in taken)
        names = ", ".join(w.name for w in taken)
        return (
            solution,
            f"{self.bits} bits for {names}: {gain:+.2f} dB on the samples to learn from, {extra:.0f} bytes more",
        )


__all__ = ["Point", "WidenActivations", "Width", "candidates", "front", "sizes", "trade", "with_width"]
