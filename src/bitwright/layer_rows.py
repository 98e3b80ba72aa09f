"""What becomes of each layer of a network on a target: integers, a table, or float, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bitwright.program.forms import Island, Table

if TYPE_CHECKING:
    from bitwright.calibrate.spec import LayerSpec, NetworkSpec
    from bitwright.program.program import Program, Step

Becomes = Literal["integer", "table", "float", "unsupported"]


@dataclass(frozen=True, kw_only=True)
class LayerRow:
    """One layer.

    Attributes:
        layer: Its name.
        op: Its operator, or the function that its nodes form.
        becomes: What computes it on the target.
        reason: Why it is not integers; empty if it is.
        macs: Multiply-accumulates of one sample.
        parameters: Weights and biases.
        inputs: Shapes of its inputs with batch 1, in order.
        outputs: Shapes of its outputs.
        sources: The nodes of the source network that it stands for.
    """

    layer: str
    op: str
    becomes: Becomes
    reason: str
    macs: int
    parameters: int
    inputs: tuple[tuple[int, ...], ...]
    outputs: tuple[tuple[int, ...], ...]
    sources: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {
            "inputs": [list(shape) for shape in self.inputs],
            "outputs": [list(shape) for shape in self.outputs],
            "sources": list(self.sources),
        }


def layer_rows(spec: NetworkSpec, program: Program) -> tuple[LayerRow, ...]:
    """One row per layer, in order of execution.

    Args:
        spec: The layers, read for the program's target.
        program: Lowered from them; not pruned.
    """
    reasons = float_reasons(spec, program)
    tables = {step.layer for step in program.steps if isinstance(step.form, Table)}
    rows = ((layer, _row(layer, spec, reasons.get(layer.name), is_table=layer.name in tables)) for layer in spec.layers)
    # What a front end put in to turn a layout is none of the user's layers, as long as it costs no float.
    return tuple(row for layer, row in rows if layer.layer.sources or row.becomes != "integer")


def _row(layer: LayerSpec, spec: NetworkSpec, reason: str | None, *, is_table: bool) -> LayerRow:
    becomes: Becomes = "float" if reason is not None else "table" if is_table else "integer"
    return LayerRow(
        layer=layer.name,
        op=layer.op,
        becomes=becomes,
        reason=reason or "",
        macs=layer.macs,
        parameters=sum(x.size for x in layer.inputs[1:] if isinstance(x, np.ndarray)) if layer.is_linear else 0,
        inputs=tuple(spec.user_shape(t) for t in layer.tensors if t in spec.shapes),
        outputs=tuple(spec.user_shape(t) for t in layer.outputs if t in spec.shapes),
        sources=layer.layer.sources,
    )


def float_reasons(spec: NetworkSpec, program: Program) -> dict[str, str]:
    """The layers inside float islands, and why each is there."""
    found: dict[str, str] = {}
    for step in program.steps:
        if isinstance(step.form, Island):
            found |= _reasons(members(spec.layers, step), step.form.reason)
    return found


def members(layers: Sequence[LayerSpec], step: Step) -> list[str]:
    """The layers that an island is made of: those whose source nodes are all among the island's."""
    inside = set(step.sources)
    return [layer.name for layer in layers if layer.layer.sources and inside.issuperset(layer.layer.sources)]


def _reasons(names: Sequence[str], text: str) -> dict[str, str]:
    """Take an island's ``layer: why; layer: why`` apart; names may hold any characters, so they are looked for."""
    starts = []
    at = 0
    for name in names:
        found = text.find(f"{name}: ", at)
        if found < 0:
            continue
        starts.append((found, found + len(name) + 2, name))
        at = found + len(name) + 2
    ends = [start for start, _, _ in starts[1:]]
    reasons = {
        name: text[begin:end].removesuffix("; ")
        for (_, begin, name), end in zip(starts, [*ends, len(text)], strict=True)
    }
    return {name: reasons.get(name, text) for name in names}
