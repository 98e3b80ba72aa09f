"""From a quantized network to the two graphs that are seen: the source network's nodes, and the layers as computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from bitwright.view.seen import BoxSeen, GraphSeen, State, TensorSeen

if TYPE_CHECKING:
    from bitwright.network.layer import Layer
    from bitwright.network.network import Network
    from bitwright.quantized import Quantized

FOLDED = "folded into"


def graphs_seen(
    q: Quantized, tensors: Iterable[TensorSeen], measured: Mapping[str, float | None]
) -> tuple[GraphSeen, GraphSeen]:
    """The layers as they are computed, and the source network.

    Args:
        q: The quantized network.
        tensors: Its tensors, for what each layer makes.
        measured: Layer → signal to noise at its output where that was measured; else the loss of its format alone is
            taken.
    """
    net = q.network
    layers = net.layers()
    made = list(tensors)
    rows = {str(row["layer"]): row for row in q.provenance.get("layers", ())}
    lost = _bits_lost(q)
    owned: dict[str, list[TensorSeen]] = {}
    for tensor in made:
        owned.setdefault(tensor.layer or tensor.name, []).append(tensor)
    boxes: list[BoxSeen] = []
    makers: dict[str, int] = {}
    for name in net.inputs:
        makers[name] = len(boxes)
        boxes.append(_input(net, name, owned.get(name, [])))
    edges: list[tuple[int, int]] = []
    for layer in layers:
        own = len(boxes)
        edges += sorted({(makers[t], own) for t in layer.inputs if t in makers})
        makers |= dict.fromkeys(layer.outputs, own)
        boxes.append(_layer(net, layer, rows.get(layer.name), owned.get(layer.name, []), measured, lost))
    optimized = GraphSeen(boxes=tuple(boxes), edges=tuple(edges), shared=_shared(made, makers))
    return optimized, _source_graph(net, layers, optimized, makers)


def _input(net: Network, name: str, tensors: list[TensorSeen]) -> BoxSeen:
    best = next((t for t in tensors if t.kind == "Activations"), None)
    return BoxSeen(
        name=name,
        op="Input",
        shape=_shape(net, name),
        state="input",
        sqnr_db=None if best is None else best.sqnr_db,
        layer=-1,
        tensors=tuple(t.name for t in tensors),
    )


def _layer(
    net: Network,
    layer: Layer,
    row: Mapping[str, Any] | None,
    tensors: list[TensorSeen],
    measured: Mapping[str, float | None],
    lost: Mapping[str, int],
) -> BoxSeen:
    states: dict[str, State] = {"integer": "integer", "table": "table", "float": "float", "unsupported": "float"}
    activations = [t.sqnr_db for t in tensors if t.kind == "Activations" and t.sqnr_db is not None]
    decibel = measured.get(layer.name, min(activations, default=None))
    return BoxSeen(
        name=layer.name,
        op=layer.op if row is None else str(row["op"]),
        shape=_shape(net, layer.outputs[-1]) if layer.outputs else "",
        state="integer" if row is None else states[str(row["becomes"])],
        reason="" if row is None else str(row["reason"]),
        sqnr_db=decibel,
        bits_lost=lost.get(layer.name),
        macs=0 if row is None else int(row["macs"]),
        sources=layer.sources,
        tensors=tuple(t.name for t in tensors),
    )


def _bits_lost(q: Quantized) -> dict[str, int]:
    """Layer → bits that folding cost its weights."""
    folds = [fold for fold in q.provenance.get("folds", ()) if fold["kind"] == "weights"]
    return {str(fold["layer"]): int(fold["bits_lost"]) for fold in folds}


def _shared(tensors: Iterable[TensorSeen], makers: Mapping[str, int]) -> tuple[tuple[int, ...], ...]:
    groups: dict[str, set[int]] = {}
    for tensor in tensors:
        if tensor.shares and tensor.name in makers:
            groups.setdefault(tensor.shares, {makers[tensor.shares]} if tensor.shares in makers else set()).add(
                makers[tensor.name]
            )
    return tuple(tuple(sorted(group)) for _, group in sorted(groups.items()) if len(group) > 1)


def _source_graph(net: Network, layers: Iterable[Layer], optimized: GraphSeen, makers: Mapping[str, int]) -> GraphSeen:
    """Every source node: a node that others were folded into stands after them in a row."""
    boxes = [_part(box, k) for k, box in enumerate(optimized.boxes) if box.state == "input"]
    made = {name: k for k, name in enumerate(net.inputs)}
    edges: list[tuple[int, int]] = []
    gone = _removed(net)
    _append_removed(boxes, edges, made, gone, net.inputs, makers)
    for layer in layers:
        at = makers[layer.outputs[0]] if layer.outputs else -1
        whole = optimized.boxes[at] if at >= 0 else None
        for node in layer.nodes:
            sources = net.sources(node)
            inputs = [v for v in node.inputs if v is not None and not v.is_initializer()]
            before = sorted({made[str(v.name)] for v in inputs if str(v.name) in made})
            name_of_node = str(node.name)
            main = name_of_node if name_of_node in sources else sources[0]
            for k, source in enumerate(sources):
                own = len(boxes)
                edges += [(b, own) for b in before]
                before = [own]
                boxes.append(
                    BoxSeen(
                        name=source,
                        op=node.op_type if source == main else FOLDED + f" {main}",
                        shape=_shape(net, str(node.outputs[0].name)) if k == len(sources) - 1 else "",
                        state="integer" if whole is None else whole.state,
                        reason="" if whole is None else whole.reason,
                        sqnr_db=None if whole is None else whole.sqnr_db,
                        bits_lost=None if whole is None else whole.bits_lost,
                        layer=at,
                        tensors=() if whole is None else whole.tensors,
                    )
                )
            if before:
                made |= {str(v.name): before[-1] for v in node.outputs if v.name}
            _append_removed(boxes, edges, made, gone, [str(v.name) for v in node.outputs], makers)
    return GraphSeen(boxes=tuple(boxes), edges=tuple(edges))


def _part(box: BoxSeen, k: int) -> BoxSeen:
    from dataclasses import replace

    return replace(box, layer=k)


def _removed(net: Network) -> dict[str, list[tuple[str, str]]]:
    """Tensor → the nodes that are gone and whose value it carries."""
    gone: dict[str, list[tuple[str, str]]] = {}
    for one in net.removed:
        if not one.constant and one.tensor:
            gone.setdefault(one.tensor, []).append((one.name, one.op))
    return gone


def _append_removed(
    boxes: list[BoxSeen],
    edges: list[tuple[int, int]],
    made: dict[str, int],
    gone: Mapping[str, list[tuple[str, str]]],
    tensors: Iterable[str],
    makers: Mapping[str, int],
) -> None:
    for tensor in tensors:
        for name, op in gone.get(tensor, ()):
            if tensor not in made:
                continue
            edges.append((made[tensor], len(boxes)))
            made[tensor] = len(boxes)
            boxes.append(
                BoxSeen(
                    name=name, op=op, state="removed", reason="changes nothing, taken out", layer=makers.get(tensor, -1)
                )
            )


def _shape(net: Network, tensor: str) -> str:
    if not net.has_shape(tensor):
        return ""
    return "×".join(str(n) for n in net.shape(tensor)[1:])
