"""Which channels hold one value whatever the input, and what computing them costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bitwright.program.forms import Contract
from bitwright.program.program import Program, Step
from bitwright.program.ranges import Interval, prove


@dataclass(frozen=True, kw_only=True)
class LayerConstants:
    """The constant output channels of one contraction.

    Attributes:
        layer: Its layer.
        channels: Output channels.
        constant: Those that hold one value whatever the input.
        dead: Those of them whose value is the zero point: readers see nothing.
        macs: Multiply-accumulates of the contraction, per sample.
        constant_macs: Those whose result is known beforehand: of constant outputs, and of constant inputs.
    """

    layer: str
    channels: int
    constant: int
    dead: int
    macs: int
    constant_macs: int

    @property
    def sentence(self) -> str:
        """The row in words."""
        return (
            f"{self.layer}: {self.constant} of {self.channels} channels are constant, {self.dead} of them zero "
            f"({percent(self.constant_macs, self.macs)} of the layer's MACs have a result known beforehand)"
        )


def percent(part: int, whole: int) -> str:
    """A share for people."""
    return f"{100 * part / whole:.0f} %" if whole else "0 %"


def count_constants(program: Program, bounds: Mapping[str, Interval] | None = None) -> tuple[LayerConstants, ...]:
    """One row per contraction, in execution order.

    Args:
        program: A valid program.
        bounds: From ``ranges.prove``, if it has run.
    """
    known = prove(program) if bounds is None else bounds
    weights: dict[str, int] = {}
    for step, form in program.contracts():
        weights[step.layer] = weights.get(step.layer, 0) + _products(program, step, form)
    return tuple(_row(program, known, step, form, weights[step.layer]) for step, form in program.contracts())


def _products(program: Program, step: Step, form: Contract) -> int:
    places = int(np.prod(program.buffers[step.outputs[0]].shape[2:], dtype=np.int64))
    return places * program.tensors[form.weight].size


def _row(
    program: Program, bounds: Mapping[str, Interval], step: Step, form: Contract, layer_products: int
) -> LayerConstants:
    result = bounds[step.outputs[0]]
    zero = np.broadcast_to(program.buffers[step.outputs[0]].format.zero_point, result.lo.shape)
    out, known = result.constant, bounds[step.inputs[0]].constant
    per_group = len(out) // form.groups
    # [O, I/groups]: whether the product of this input and this output is known.
    pairs = out[:, None] | np.repeat(known.reshape(form.groups, -1), per_group, axis=0)
    products = _products(program, step, form)
    macs = program.macs.get(step.layer, layer_products) * products // layer_products
    return LayerConstants(
        layer=step.layer,
        channels=len(out),
        constant=int(out.sum()),
        dead=int((out & (result.lo == zero)).sum()),
        macs=macs,
        constant_macs=round(macs * float(pairs.mean())),
    )


def summary(rows: tuple[LayerConstants, ...]) -> str:
    """All rows in one sentence."""
    channels, constant = sum(r.channels for r in rows), sum(r.constant for r in rows)
    share = percent(sum(r.constant_macs for r in rows), sum(r.macs for r in rows))
    return (
        f"{constant} of {channels} channels are constant, {sum(r.dead for r in rows)} of them zero "
        f"({share} of the MACs have a result known beforehand)"
    )
