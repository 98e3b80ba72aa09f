"""A first glance at a quantized network: what its program says at once, before statistics and the float network are read.

For networks of thousands of layers, where reading everything takes longer than a reader waits.  The page has the same
parts as the whole one; what is not known yet is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitwright.view.look import fold_seen, settings_seen, side_seen, tiles_seen
from bitwright.view.seen import BoxSeen, GraphSeen, Kind, Page, State, TensorSeen
from bitwright.view.tensors import type_seen

if TYPE_CHECKING:
    from bitwright.quantized import Quantized

STATES: dict[str, State] = {"integer": "integer", "table": "table", "float": "float", "unsupported": "float"}


def glance(q: Quantized) -> Page:
    """Names, formats, layers and sizes; neither ranges nor strips nor signal to noise."""
    from bitwright import __version__
    from bitwright.detailing import float_rows

    tensors = _tensors(q)
    return Page(
        side=side_seen(q),
        tiles=tiles_seen(q, None),
        tensors=tensors,
        optimized=_graph(q, tensors),
        folds=tuple(fold_seen(fold) for fold in q.provenance.get("folds", ())),
        floats=tuple((row.layer, row.op, row.reason) for row in float_rows(q)),
        settings=settings_seen(q),
        version=__version__,
    )


def _tensors(q: Quantized) -> tuple[TensorSeen, ...]:
    makers = {name: step.layer for step in q.program.steps for name in step.outputs}
    found: dict[str, TensorSeen] = {}
    for item in q.program.learnables:
        name = f"{item.layer}.{item.parameter}"
        kind: Kind = "Weights" if item.parameter == "Weights" else "Bias"
        shape = "×".join(map(str, item.shape))
        found[name] = TensorSeen(name=name, layer=item.layer, kind=kind, type=type_seen(item.format), shape=shape)
    for buffer in q.program.buffers.values():
        if buffer.tensor is not None and buffer.tensor not in found:
            found[buffer.tensor] = TensorSeen(
                name=buffer.tensor,
                layer=makers.get(buffer.name, ""),
                kind="Activations",
                type=type_seen(buffer.format),
                shape="×".join(map(str, buffer.shape[1:])),
            )
    return tuple(found.values())


def _graph(q: Quantized, tensors: tuple[TensorSeen, ...]) -> GraphSeen:
    """The layers in the order of execution, joined by the buffers that their steps hand on."""
    program = q.program
    rows = {str(row["layer"]): row for row in q.provenance.get("layers", ())}
    owned: dict[str, list[str]] = {}
    for tensor in tensors:
        owned.setdefault(tensor.layer or tensor.name, []).append(tensor.name)
    boxes: list[BoxSeen] = []
    home: dict[str, int] = {}
    for name in program.inputs:
        home[name] = len(boxes)
        title = program.buffers[name].tensor or name
        shape = "×".join(map(str, program.buffers[name].shape[1:]))
        boxes.append(BoxSeen(name=title, op="Input", shape=shape, state="input", tensors=tuple(owned.get(title, ()))))
    layers: dict[str, int] = {}
    edges: set[tuple[int, int]] = set()
    for step in program.steps:
        if step.layer not in layers:
            layers[step.layer] = len(boxes)
            row = rows.get(step.layer)
            last = program.buffers[step.outputs[-1]]
            boxes.append(
                BoxSeen(
                    name=step.layer,
                    op=step.op if row is None else str(row["op"]),
                    shape="×".join(map(str, last.shape[1:])),
                    state="integer" if row is None else STATES[str(row["becomes"])],
                    reason="" if row is None else str(row["reason"]),
                    macs=program.macs.get(step.layer, 0),
                    sources=step.sources,
                    tensors=tuple(owned.get(step.layer, ())),
                )
            )
        own = layers[step.layer]
        edges |= {(home[name], own) for name in step.inputs if name in home and home[name] < own}
        home |= dict.fromkeys(step.outputs, own)
    return GraphSeen(boxes=tuple(boxes), edges=tuple(sorted(edges)))
