"""A unique, stable name for every node, whatever the file calls them."""

from __future__ import annotations

import ast
import json
from typing import TYPE_CHECKING

from bitwright.network.marks import SOURCES

if TYPE_CHECKING:
    import onnx_ir as ir

# What exporters write around a layer to compute shapes and types.
_HELPERS = frozenset(
    {
        "Shape", "Size", "Constant", "ConstantOfShape", "Gather", "Cast", "CastLike", "Expand", "Concat", "Unsqueeze",
        "Squeeze", "Slice", "Reshape", "Identity", "Transpose",
    }
)  # fmt: skip
_SCOPES = "pkg.torch.onnx.name_scopes"


def name_nodes(model: ir.Model) -> None:
    """Give every node of the main graph a unique name, and remember the file's own name as its source.

    Unnamed nodes become ``Conv_3`` (operator and position in the file's order); the second of two equal names gets
    ``_2``; a PyTorch export's nodes get the name of their module.  Names are data here: nothing is done with them but compare, so ``../../x`` stays as it is.
    """
    nodes = list(model.graph)
    _take_module_names(nodes)
    taken = {node.name for node in nodes if node.name}
    seen: set[str] = set()
    counts: dict[str, int] = {}
    for position, node in enumerate(nodes):
        original = node.name or ""
        name = original or fresh(f"{node.op_type}_{position}", taken, counts)
        if name in seen:
            name = fresh(name, taken, counts)
        taken.add(name)
        seen.add(name)
        node.name = name
        if SOURCES not in node.metadata_props:
            node.metadata_props[SOURCES] = json.dumps([name])


def _take_module_names(nodes: list[ir.Node]) -> None:
    """Each module's name goes to its first node that computes something; its others are called ``module.Shape``."""
    modules: dict[str, list[ir.Node]] = {}
    for node in nodes:
        module = _module(node)
        if module is not None:
            modules.setdefault(module, []).append(node)
    for module, members in modules.items():
        main = next((node for node in members if node.op_type not in _HELPERS), members[0])
        for node in members:
            node.name = module if node is main else f"{module}.{node.op_type}"


def _module(node: ir.Node) -> str | None:
    """The module that a PyTorch export says a node comes from: ``stem.conv`` of ``['', 'stem', 'stem.conv', 'conv2d']``.

    It is what the user called the layer, while the node's own name is ``node_conv2d_3``.
    """
    text = node.metadata_props.get(_SCOPES)
    if text is None or SOURCES in node.metadata_props:
        return None
    try:
        scopes = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    if not isinstance(scopes, list) or len(scopes) < 2 or not isinstance(scopes[-2], str):
        return None
    return scopes[-2] or None


def fresh(name: str, taken: set[str], counts: dict[str, int] | None = None) -> str:
    """``name``, or ``name_2``, ``name_3`` ... if it is taken; ``counts`` remembers where to go on, so that thirty
    thousand nodes of one name do not take a minute.
    """
    if name not in taken:
        return name
    counts = {} if counts is None else counts
    number = counts.get(name, 1) + 1
    while f"{name}_{number}" in taken:
        number += 1
    counts[name] = number
    return f"{name}_{number}"
