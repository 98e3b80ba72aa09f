"""A writer of ONNX files that people read: node names by layer, tensor names of the network, nothing left over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.simulate.graph import OPSET, GraphWriter

Declared = tuple[str, np.dtype[Any], Sequence[int | str]]


class ExportGraph(GraphWriter):
    """A graph under construction.

    Args:
        taken: Tensor names that the caller uses itself.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        super().__init__()
        self._taken = set(taken)
        self.opset = OPSET
        self._named = 0

    def fresh(self, hint: str = "v") -> str:
        """A tensor name that nothing else has."""
        while True:
            name = super().fresh(hint)
            if name not in self._taken:
                self._taken.add(name)
                return name

    def name_nodes(self, layer: str) -> None:
        """Name the nodes added since the last call after ``layer``."""
        for i, node in enumerate(self.nodes[self._named :], self._named):
            node.name = f"{layer}/{node.op_type}_{i}"
        self._named = len(self.nodes)

    def finished(
        self, inputs: Sequence[Declared], outputs: Sequence[Declared], *, name: str, metadata: Mapping[str, str]
    ) -> bytes:
        """The model without nodes and constants that no output needs, checked and serialized.

        Args:
            inputs: (name, element type, shape) of each graph input.
            outputs: The same of each graph output.
            name: Name of the graph.
            metadata: Texts to keep in the file.
        """
        import onnx
        from onnx import helper

        def info(item: Declared) -> Any:
            tensor, dtype, shape = item
            return helper.make_tensor_value_info(tensor, helper.np_dtype_to_tensor_dtype(dtype), list(shape))

        self._drop_unused([o[0] for o in outputs])
        graph = helper.make_graph(
            self.nodes, name, [info(i) for i in inputs], [info(o) for o in outputs], initializer=self.initializers
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=10, producer_name="bitwright"
        )
        helper.set_model_props(model, dict(metadata))
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString(deterministic=True))

    def _drop_unused(self, outputs: Sequence[str]) -> None:
        wanted = set(outputs)
        kept = []
        for node in reversed(self.nodes):
            if wanted.intersection(node.output):
                wanted.update(names_read(node))
                kept.append(node)
        self.nodes = kept[::-1]
        self.initializers = [t for t in self.initializers if t.name in wanted]


def names_read(node: Any) -> set[str]:
    """Every tensor name that a node or its subgraphs read."""
    names = {name for name in node.input if name}
    for attribute in node.attribute:
        for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            names |= {name for inner in graph.node for name in names_read(inner)}
            names |= {output.name for output in graph.output}
    return names


def scalar(graph: GraphWriter, value: float, dtype: np.dtype[Any]) -> str:
    """A 0-d constant."""
    array: NDArray[Any] = np.asarray(value, dtype)
    return graph.constant(array)
