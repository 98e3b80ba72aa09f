"""Formats chosen by what they do to the integer output, not to their own tensor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from bitwright.calibrate.assign import INDEX, Formats
from bitwright.mend.bench import Bench, quantized_inputs, surely_better
from bitwright.mend.repair import Clock
from bitwright.mend.solution import Solution
from bitwright.number.format import Format
from bitwright.simulate.engine import Engine

ACTIVATION, WEIGHT = "activation", "weight"
LOOKED_AT = 8
"""Samples that say how many codes a tensor uses."""


@dataclass(frozen=True, kw_only=True)
class LearnRanges:
    """Move one format after the other to where the integer outputs are best, under all rules of the target.

    Steps of powers of two move by one exponent, others by the factors given.  Tensors that share a format move
    together.  Where limits of the shift tie a layer's input, weights and output, a single move may be impossible or
    pointless, so neighbours are moved together as well.  A move is kept only if its gain, sample by sample, is more
    than chance explains: a search that takes every gain on a few dozen samples learns these samples.  Tensors that use
    the fewest codes come first, so that a search that is cut short has looked where steps cost most.

    Attributes:
        rounds: How often to go through all formats; it ends early when none moves.
        weights: Whether formats of weights are moved too (those already rounded with compensation are not).
        joint: Whether formats of neighbouring layers are moved together too.
        factors: For steps that need not be powers of two.
        margin: dB that a move must gain.
        sure: Standard errors that the gain must be away from none.
        most: Moves that are tried at most; 0 for as many as there are.
    """

    name: ClassVar[str] = "learn-ranges"
    summary: ClassVar[str] = "Choose each format by the error of the integer outputs (coordinate descent)."

    part: ClassVar[float] = 0.15
    """Of the time that is left: rounding, which comes later, is worth more where time is short."""

    rounds: int = 2
    weights: bool = True
    joint: bool = True
    factors: tuple[float, ...] = (0.8, 0.9, 1.15, 1.3)
    margin: float = 0.02
    sure: float = 2.0
    most: int = 0

    def apply(self, solution: Solution, bench: Bench, clock: Clock) -> tuple[Solution, str]:
        """See :class:`bitwright.mend.repair.Repair`."""
        first = heights = bench.heights(solution)
        tried = moved = 0
        for round_ in range(self.rounds):
            before = moved
            for kind, name in coarsest_first(solution, bench, _formats(solution, weights=self.weights)):
                clock.tell(f"round {round_ + 1}, {name}: {heights.mean():.2f} dB")
                seen: list[Formats] = []
                best, reached = solution, heights
                for formats in self._moves(solution, kind, name):
                    if clock.over or (self.most and tried >= self.most):
                        break
                    trial = solution.with_formats(formats, bench.target)
                    if any(_same(trial.formats, other) for other in (solution.formats, *seen)):
                        continue
                    seen.append(trial.formats)
                    tried += 1
                    got = bench.heights(trial)
                    if got.mean() > reached.mean() and surely_better(got - heights, self.margin, self.sure):
                        best, reached = trial, got
                if best is not solution:
                    solution, heights, moved = best, reached, moved + 1
            if moved == before or clock.over:
                break
        gain = float((heights - first).mean())
        text = f"{moved} of {tried} moves kept, {gain:+.2f} dB on the samples to learn from"
        return solution, text if not clock.over else f"{text}; stopped by the clock"

    def _moves(self, solution: Solution, kind: str, name: str) -> Iterator[Formats]:
        formats = solution.formats
        old = formats.weights[name] if kind == WEIGHT else formats.activations[name]
        for factor in (0.5, 2.0) if old.exponent is not None else self.factors:
            new = replace(old, scale=old.scale * factor)
            if kind == WEIGHT:
                yield formats.with_weight(name, new)
            else:
                yield formats.with_activation(name, new)
        if kind == ACTIVATION and self.joint and old.exponent is not None:
            yield from _together(solution, name, old)


def _together(solution: Solution, name: str, old: Format) -> Iterator[Formats]:
    """Moves of an activation with the weights that make it and those that read it, which keep or free shifts.

    With the exponents ``i`` of a layer's input, ``w`` of its weights and ``o`` of its output, the shift is
    ``o - i - w``: a finer output may need finer weights or a finer input, and a coarser one leaves room for coarser
    weights behind it.
    """
    formats = solution.formats
    producer = solution.spec.producer(name)
    makes = [producer.name] if producer is not None and _free(solution, producer.name) else []
    reads = [layer.name for layer in solution.spec.consumers.get(name, ()) if _free(solution, layer.name)]
    finer, coarser = (formats.with_activation(name, replace(old, scale=old.scale * f)) for f in (0.5, 2.0))
    if makes:
        yield _weights(finer, makes, 0.5)
        if producer is not None and producer.tensors and producer.tensors[0] in formats.activations:
            source = formats.activations[producer.tensors[0]]
            if source.exponent is not None and source != INDEX:
                before = finer.with_activation(producer.tensors[0], replace(source, scale=source.scale * 0.5))
                yield before.with_activation(name, replace(old, scale=old.scale * 0.5))
    if reads:
        yield _weights(finer, reads, 2.0)
        yield _weights(coarser, reads, 0.5)


def _free(solution: Solution, layer: str) -> bool:
    return layer in solution.formats.weights and layer not in solution.constants.weights


def _weights(formats: Formats, layers: list[str], factor: float) -> Formats:
    for layer in layers:
        weight = formats.weights[layer]
        formats = formats.with_weight(layer, replace(weight, scale=weight.scale * factor))
    return formats


def _formats(solution: Solution, *, weights: bool) -> list[tuple[str, str]]:
    """What can be moved: the representative of each group of activations, and weights, in order of execution."""
    found: list[tuple[str, str]] = []
    seen: set[str] = set()
    for name in (*solution.spec.inputs, *(t for layer in solution.spec.layers for t in (layer.name, *layer.outputs))):
        if name in solution.formats.activations:
            root = solution.formats.group.get(name, name)
            if root not in seen and solution.formats.activations[name] != INDEX:
                seen.add(root)
                found.append((ACTIVATION, name))
        elif weights and name in solution.formats.weights and name not in solution.constants.weights:
            found.append((WEIGHT, name))
    return found


def coarsest_first(solution: Solution, bench: Bench, names: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """``names`` by the mean square of their integers: the smaller it is, the louder is the noise of rounding to them."""
    program = solution.program(bench.target)
    named = {b.tensor: b.name for b in reversed(tuple(program.buffers.values())) if b.tensor is not None}
    wanted = [named[name] for kind, name in names if kind == ACTIVATION and name in named]
    some = {name: x[:LOOKED_AT] for name, x in bench.fit.items()}
    whole = replace(program, outputs=tuple(dict.fromkeys((*wanted, *program.outputs))))
    values = Engine(whole).run(quantized_inputs(whole, bench.network.inputs, some))
    weights = {one.layer: program.tensors[one.tensor] for one in program.learnables if one.parameter == "Weights"}

    def height(item: tuple[str, str]) -> float:
        kind, name = item
        codes = weights.get(name) if kind == WEIGHT else values.get(named.get(name, ""))
        if codes is None:
            return float("inf")
        format = solution.formats.weights[name] if kind == WEIGHT else solution.formats.activations[name]
        zero = format.zero_point if kind == ACTIVATION else 0
        return float(np.mean(np.square(codes.astype(np.float64) - zero)))

    return sorted(names, key=height)


def _same(a: Formats, b: Formats) -> bool:
    return a.activations == b.activations and a.weights == b.weights
