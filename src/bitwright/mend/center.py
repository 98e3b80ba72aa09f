"""The sign bit of activations that are never negative."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from bitwright.calibrate.spec import read_layers
from bitwright.lower import Constants
from bitwright.mend.bench import Bench, surely_better
from bitwright.mend.repair import Clock
from bitwright.mend.solution import Solution
from bitwright.number.format import Format
from bitwright.passes.offsets import OffsetSite, offset_sites, shift
from bitwright.program.forms import Contract


@dataclass(frozen=True, kw_only=True)
class Center:
    """Shift activations behind ReLU and ReLU6 so that all codes are used, the negative ones too.

    Where a target knows only formats that are symmetric around zero, a tensor without negative values uses half of its
    codes.  Half the step and an offset of all negative codes, ``x' = x + lo · step / 2``, cover the same range with
    twice as many: saturation takes the place of the activation.  The offset moves into the biases of the layers beside
    the tensor (exactly, for there must be no padding), so the target needs nothing that it has not.  Absorbing a constant
    into the next bias is the idea of high-bias absorption (Nagel et al. 2019, arXiv:1906.04721, section 4.1.3).

    Attributes:
        margin: dB that a tensor must gain to be shifted.
        sure: Standard errors that the gain of all together must be away from none.
    """

    name: ClassVar[str] = "center"
    summary: ClassVar[str] = (
        "Use the sign bit of activations that are never negative: half the step, the offset in the biases."
    )

    margin: float = 0.0
    sure: float = 0.0

    def apply(self, solution: Solution, bench: Bench, clock: Clock) -> tuple[Solution, str]:
        """See :class:`bitwright.mend.repair.Repair`."""
        names = [site.tensors[0] for site in offset_sites(solution.network)]
        given, first = solution, bench.heights(solution)
        every, count = self._all(solution, bench, names, clock)
        heights = bench.heights(every) if count else first
        if count and surely_better(heights - first, self.margin, self.sure):
            solution, shifted = every, count
        else:  # biases of few bits may lose more than steps gain: look at each tensor by itself
            heights, shifted = first, 0
            for name in names:
                if clock.over:
                    break
                clock.tell(name)
                trial = centered(solution, bench, name)
                if trial is None:
                    continue
                got = bench.heights(trial)
                if surely_better(got - heights, self.margin, 2.0):
                    solution, heights, shifted = trial, got, shifted + 1
        if not shifted:
            return given, f"no shift helps ({count} of {len(names)} tensors without padding could be shifted)"
        solution = replace(solution, statistics=bench.observe(solution.network))
        gain = float((heights - first).mean())
        return solution, f"{shifted} of {count} tensors shifted, {gain:+.2f} dB on the samples to learn from"

    def _all(self, solution: Solution, bench: Bench, names: list[str], clock: Clock) -> tuple[Solution, int]:
        count = 0
        for name in names:
            clock.tell(name)
            trial = centered(solution, bench, name)
            if trial is not None:
                solution, count = trial, count + 1
        return solution, count


def centered(solution: Solution, bench: Bench, tensor: str) -> Solution | None:
    """``solution`` with the site of ``tensor`` shifted; None where formats or limits of the target do not allow it."""
    network = solution.network.clone()
    site = next((s for s in offset_sites(network) if s.tensors[0] == tensor), None)
    if site is None:
        return None
    old = _format(solution, site)
    if old is None:
        return None
    new = replace(old, scale=np.asarray(old.scale) * 0.5)
    offset = np.asarray(-new.lo * float(new.scale))
    shift(network, site, offset, bounds=True)
    # The integers that weights are now multiply the offset, so that the integer network stays what it was but for the
    # finer steps: biases that earlier repairs have fitted to these weights stay right.
    program = solution.program(bench.target)
    stored = {step.layer: step.form.weight for step in program.steps if isinstance(step.form, Contract)}
    specs = {spec.name: spec for spec in solution.spec.layers}
    biases = dict(solution.constants.biases)
    for layer, sign in [
        *((network.layer_of(maker.linear), -1.0) for maker in site.makers),
        *((network.layer_of(reader), 1.0) for reader in site.readers),
    ]:
        if layer not in specs or layer not in stored:
            return None
        old_bias = biases.get(layer, specs[layer].bias())
        start = np.zeros(len(specs[layer].weights())) if old_bias is None else np.asarray(old_bias, np.float64)
        if sign > 0:
            codes = program.tensors[stored[layer]]
            total = codes.reshape(len(codes), -1).sum(axis=1, dtype=np.float64)
            biases[layer] = start + float(offset) * total * solution.formats.weights[layer].scale
        else:
            biases[layer] = start - float(offset)
    made = replace(
        solution,
        network=network,
        spec=read_layers(network, bench.target),
        constants=Constants(weights=solution.constants.weights, biases=biases),
    )
    made = made.with_formats(made.formats.with_activation(tensor, new), bench.target)
    kept = all(made.formats.activations[t] == new for t in site.tensors if t in made.formats.activations)
    return made if kept else None


def _format(solution: Solution, site: OffsetSite) -> Format | None:
    """The format of the tensors, if they have one, nobody else has it, and it wastes its sign."""
    formats = solution.formats
    stored = [t for t in site.tensors if t in formats.activations]
    roots = {formats.group.get(t, t) for t in stored}
    if len(roots) != 1:
        return None
    members = {t for t in formats.activations if formats.group.get(t, t) in roots}
    format = formats.activations[stored[0]]
    usable = format.signed and format.axis is None and not np.any(format.zero_point) and format.exponent is not None
    return format if usable and members <= set(site.tensors) else None
