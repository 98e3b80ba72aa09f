"""A pass over the float network as a repair: observed again, formats chosen anew."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from bitwright.calibrate.assign import Formats, assign
from bitwright.calibrate.spec import read_layers
from bitwright.lower import Constants
from bitwright.mend.bench import Bench
from bitwright.mend.biases import CorrectBias
from bitwright.mend.repair import Clock
from bitwright.mend.schemes import TrySchemes
from bitwright.mend.solution import Solution
from bitwright.passes._pass import Needs, Pass, run
from bitwright.passes.dead_channels import DeadChannels
from bitwright.passes.equalize import Equalize
from bitwright.passes.observed import Observed, collect


@dataclass(frozen=True, kw_only=True)
class EqualizeChannels:
    """Cross-layer equalization, clips included, weighed for the target; see :class:`bitwright.passes.equalize.Equalize`.

    Channels that are always zero are cleared first (see :class:`bitwright.passes.dead_channels.DeadChannels`), because
    their weights would set factors.  Other ranges may want another scheme, so the usual ones are tried, and biases are
    corrected: the network is judged by its integers, and clipped or shifted values would hide what was gained.

    Attributes:
        steps: Iterations of the search for factors.
        dead: Whether dead channels are cleared first.
        settle: Whether schemes are tried and biases corrected.
        seed: Of the places that are looked at for that.
    """

    name: ClassVar[str] = "equalize"
    summary: ClassVar[str] = Equalize.summary

    steps: int = 300
    dead: bool = True
    settle: bool = True
    seed: int = 0

    def apply(self, solution: Solution, bench: Bench, clock: Clock) -> tuple[Solution, str]:
        """See :class:`bitwright.mend.repair.Repair`."""
        clock.tell("observing channels")
        changes: list[Pass] = [DeadChannels()] if self.dead else []
        found, text = rewritten(solution, bench, *changes, Equalize(steps=self.steps))
        if found is solution or not self.settle:
            return found, text
        found, chosen = TrySchemes().apply(found, bench, clock)
        found, shifted = CorrectBias(seed=self.seed).apply(found, bench, clock)
        return found, f"{text}; {chosen}; {shifted}"


def settled(solution: Solution, bench: Bench, clock: Clock, *changes: Pass, settle: bool) -> tuple[Solution, str]:
    """:func:`rewritten`, and biases corrected for the new network."""
    found, text = rewritten(solution, bench, *changes)
    if found is solution or not settle:
        return found, text
    found, shifted = CorrectBias().apply(found, bench, clock)
    return found, f"{text}; {shifted}"


def rewritten(solution: Solution, bench: Bench, *changes: Pass) -> tuple[Solution, str]:
    """``solution`` with its network changed by passes; weights and biases of earlier repairs are given up."""
    net = solution.network
    needs = sum((change.needs(net) for change in changes), Needs())
    observed = Observed()
    if needs != Needs():
        observed = collect(net, needs, bench.batches(), count=bench.fitted)
    network, done = run(net, changes, observed, bench.target)
    told = [one.notes[0].text for one in done if one.notes and (one.modified or one is done[-1])]
    text = "; ".join(told) or "nothing to do"
    if not any(one.modified for one in done):
        return solution, text
    statistics = bench.observe(network)
    spec = read_layers(network, bench.target)
    formats = assign(spec, statistics, bench.target, solution.schemes)
    made = Solution(network=network, spec=spec, statistics=statistics, schemes=solution.schemes, formats=formats)
    return made, text


def kept_around(found: Solution, before: Solution, bench: Bench) -> Solution:
    """``found`` with the formats, weights and biases that ``before`` has for what a pass has left as it was.

    Tensors keep their format if the same tensors share it still, and layers what was found for their weights if the
    network's own weights are the same.
    """
    old, new = before.formats, found.formats
    groups = [_groups(one) for one in (old, new)]
    activations = {
        tensor: old.activations[tensor] if groups[0].get(tensor) == members else new.activations[tensor]
        for tensor, members in groups[1].items()
    }
    known = {spec.name: spec for spec in before.spec.layers if spec.is_linear}
    same = {
        spec.name
        for spec in found.spec.layers
        if spec.is_linear and spec.name in known and np.array_equal(spec.weights(), known[spec.name].weights())
    }
    weights = {name: old.weights[name] if name in same else format for name, format in new.weights.items()}
    constants = Constants(
        weights={name: values for name, values in before.constants.weights.items() if name in same},
        biases={name: values for name, values in before.constants.biases.items() if name in same},
    )
    made = replace(
        found,
        formats=replace(new, activations={**new.activations, **activations}, weights=weights),
        constants=constants,
    )
    return made.with_formats(made.formats, bench.target)


def _groups(formats: Formats) -> dict[str, frozenset[str]]:
    """Tensor → all tensors that have its format together."""
    members: dict[str, set[str]] = {}
    for tensor in formats.activations:
        members.setdefault(formats.group.get(tensor, tensor), set()).add(tensor)
    return {tensor: frozenset(members[formats.group.get(tensor, tensor)]) for tensor in formats.activations}
