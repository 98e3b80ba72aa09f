"""``If`` nodes whose condition is known before anything runs become the branch that they would take."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from bitwright.network.names import fresh, name_nodes

if TYPE_CHECKING:
    import onnx_ir as ir

    from bitwright.network.shapes import Shapes

_ROUNDS = 16


def inline_branches(model: ir.Model, found: Shapes, infer: Callable[[], Shapes]) -> Shapes:
    """Replace each decided ``If`` by its branch, in place, until none is left; gives the shapes afterwards.

    Exporters write such nodes for questions about shapes ("is this axis 1?"), which are answered once the input
    shape is known.  Conditions are looked up in ``found.values``.
    """
    for round_ in range(_ROUNDS + 1):
        decided = [n for n in model.graph if n.op_type == "If" and n.inputs[0] is not None]
        decided = [n for n in decided if str(n.inputs[0].name) in found.values]  # type: ignore[union-attr]
        if not decided or round_ == _ROUNDS:
            return found if round_ == 0 else infer()
        for node in decided:
            condition = node.inputs[0]
            assert condition is not None
            taken = bool(found.values[str(condition.name)].reshape(-1)[0])
            _inline(model, node, node.attributes["then_branch" if taken else "else_branch"].as_graph())
        name_nodes(model)
        _drop_unused(model)
        found = infer()
    return found


def _inline(model: ir.Model, node: ir.Node, branch: ir.Graph) -> None:
    graph = model.graph
    names = {str(v.name) for n in graph for v in n.outputs} | set(graph.initializers)
    names |= {str(v.name) for v in graph.inputs}
    outputs = list(branch.outputs)
    for value in list(branch.initializers.values()):
        branch.initializers.pop(str(value.name))
        value.name = fresh(str(value.name), names)
        names.add(value.name)
        graph.register_initializer(value)
    inner = list(branch)
    branch.outputs.clear()
    branch.remove(inner)
    for one in inner:
        for value in one.outputs:
            if value.name:
                value.name = fresh(str(value.name), names)
                names.add(value.name)
        graph.insert_before(node, one)
    import onnx_ir as ir

    for old, new in zip(node.outputs, outputs, strict=True):
        name = old.name
        if old.is_graph_output():
            # An Identity keeps the output's name, whatever made the value.
            keep = ir.node("Identity", [new], name=f"{node.name}.out")
            graph.insert_before(node, keep)
            old.replace_all_uses_with(keep.outputs[0], replace_graph_outputs=True)
            old.name, keep.outputs[0].name = fresh(f"{name}.if", names), name
            keep.outputs[0].type = old.type
        else:
            old.replace_all_uses_with(new)
    graph.remove(node, safe=True)


def _drop_unused(model: ir.Model) -> None:
    for node in reversed(list(model.graph)):
        if not any(v.uses() or v.is_graph_output() for v in node.outputs) and node.op_type in {"Shape", "Equal"}:
            model.graph.remove(node, safe=True)
