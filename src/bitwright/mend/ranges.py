"""Formats chosen by what they do to the integer output, not to their own tensor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from bitwright.calibrate.assign import INDEX, Formats
from bitwright.mend.bench import Bench
from bitwright.mend.repair import Clock
from bitwright.mend.solution import Solution

ACTIVATION, WEIGHT = "activation", "weight"


@dataclass(frozen=True, kw_only=True)
class LearnRanges:
    """Move one format after the other to where the integer outputs are best, under all rules of the target.

    Steps of powers of two move by one exponent, others by the factors given.  Tensors that share a format move
    together.  Where a layer's input and output, or its output and weights, are tied by limits of the shift, they are
    moved as a pair as well.

    Attributes:
        rounds: How often to go through all formats; it ends early when none moves.
        weights: Whether formats of weights are moved too (those already rounded with compensation are not).
        factors: For steps that need not be powers of two.
        margin: dB that a move must gain.
        part: Share of the time left that may be used.
    """

    name: ClassVar[str] = "learn-ranges"
    summary: ClassVar[str] = "Choose each format by the error of the integer outputs (coordinate descent)."

    rounds: int = 2
    weights: bool = True
    factors: tuple[float, ...] = (0.8, 0.9, 1.15, 1.3)
    margin: float = 0.02
    part: float = 1.0

    def apply(self, solution: Solution, bench: Bench, clock: Clock) -> tuple[Solution, str]:
        """See :class:`bitwright.mend.repair.Repair`."""
        clock = clock.share(self.part)
        start = height = bench.trial(solution)
        tried = moved = 0
        for round_ in range(self.rounds):
            before = moved
            for kind, name in _formats(solution, weights=self.weights):
                if clock.over:
                    break
                clock.tell(f"round {round_ + 1}, {name}: {height:.2f} dB")
                for formats in self._moves(solution, kind, name):
                    trial = solution.with_formats(formats, bench.target)
                    if _same(trial.formats, solution.formats):
                        continue
                    tried += 1
                    score = bench.trial(trial)
                    if score > height + self.margin:
                        solution, height, moved = trial, score, moved + 1
                        break
            if moved == before or clock.over:
                break
        text = f"{moved} of {tried} moves kept, {height - start:+.2f} dB on the samples to learn from"
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
        if kind == ACTIVATION and old.exponent is not None:
            # A finer output may need finer weights, a coarser one allows them.
            layer = solution.spec.producer(name)
            if layer is not None and layer.name in formats.weights and layer.name not in solution.constants.weights:
                weight = formats.weights[layer.name]
                moved = formats.with_activation(name, replace(old, scale=old.scale * 0.5))
                yield moved.with_weight(layer.name, replace(weight, scale=weight.scale * 0.5))


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


def _same(a: Formats, b: Formats) -> bool:
    return a.activations == b.activations and a.weights == b.weights
