"""What we write into a file's metadata: where nodes came from, which belong together, what is gone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from bitwright.network.layer import Removed

if TYPE_CHECKING:
    import onnx_ir as ir

    from bitwright.network.network import Network

SOURCES = "bitwright.sources"
LAYER = "bitwright.layer"
OP = "bitwright.op"
ATTRIBUTES = "bitwright.attributes"
_REMOVED = "bitwright.removed"
_NOTES = "bitwright.notes"
_BATCHABLE = "bitwright.batchable"
_LAST = "bitwright.channels_last"


def metadata(net: Network) -> dict[str, str]:
    """What a saved file must remember besides the graph."""
    removed = [[r.name, r.op, r.tensor, r.constant] for r in net.removed]
    return {
        **({_LAST: json.dumps(sorted(net.channels_last))} if net.channels_last else {}),
        _REMOVED: json.dumps(removed),
        _NOTES: json.dumps(net.notes),
        _BATCHABLE: json.dumps(net.batchable),
    }


def check_metadata(model: ir.Model) -> None:
    """Drop what claims to be ours in a foreign file but is not: broken lists, layers without a main node."""
    names = {node.name for node in model.graph}
    for node in model.graph:
        marks = node.metadata_props
        if SOURCES in marks and not _is_json(marks[SOURCES], list):
            del marks[SOURCES]
        layer = marks.get(LAYER)
        patterned = OP in marks and ATTRIBUTES in marks and _is_json(marks[ATTRIBUTES], dict) and layer == node.name
        for key in (LAYER, OP, ATTRIBUTES):
            if key in marks and (layer not in names or (key != LAYER and not patterned)):
                del marks[key]
    # A main node belongs to its own layer, or it is nobody's main node.
    mains = {node.name for node in model.graph if node.metadata_props.get(LAYER) == node.name}
    for node in model.graph:
        if LAYER in node.metadata_props and node.metadata_props[LAYER] not in mains:
            del node.metadata_props[LAYER]


def _is_json(text: str, kind: type[list[object]] | type[dict[str, object]]) -> bool:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, kind) and all(isinstance(name, str) for name in value)


def restored(model: ir.Model) -> tuple[list[Removed], tuple[str, ...], bool | None, tuple[str, ...]]:
    """What :func:`metadata` wrote into ``model``; nothing if it is some other file, or was tampered with."""
    try:
        removed = [
            Removed(str(a), str(b), str(c), bool(d)) for a, b, c, d in json.loads(model.metadata_props[_REMOVED])
        ]
        notes = tuple(str(n) for n in json.loads(model.metadata_props[_NOTES]))
        last = tuple(str(n) for n in json.loads(model.metadata_props.get(_LAST, "[]")))
        return removed, notes, bool(json.loads(model.metadata_props[_BATCHABLE])), last
    except (KeyError, ValueError, TypeError):
        return [], (), None, ()
