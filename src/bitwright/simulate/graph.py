"""A small writer of ONNX graphs, for the engine and for exports that need standard operators only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

OPSET = 21


class GraphWriter:
    """Collects nodes and initializers.  Implements ``number.render.OnnxBuilder``; names are tensor names."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._count = 0

    def fresh(self, hint: str = "v") -> str:
        """A tensor name that is not in use."""
        self._count += 1
        return f"{hint}_{self._count}"

    def node(
        self, op: str, *inputs: str, outputs: Sequence[str] | None = None, domain: str = "", **attributes: Any
    ) -> str:
        """Add a node and return its first output.  Attribute values of type ``np.dtype`` become ONNX element types."""
        import onnx
        from onnx import helper

        plain: dict[str, Any] = {
            key: helper.np_dtype_to_tensor_dtype(value) if isinstance(value, np.dtype) else value
            for key, value in attributes.items()
        }
        names = list(outputs) if outputs else [self.fresh()]
        node: onnx.NodeProto = helper.make_node(op, list(inputs), names, domain=domain, **plain)
        self.nodes.append(node)
        return names[0]

    def constant(self, value: NDArray[Any]) -> str:
        """Add an initializer (equal ones are shared) and return its name."""
        from onnx import numpy_helper

        value = np.asarray(value)
        key = (value.dtype.str, value.shape, value.tobytes())
        if key not in self._constants:
            self._constants[key] = self.fresh("c")
            self.initializers.append(numpy_helper.from_array(np.array(value, order="C"), self._constants[key]))
        return self._constants[key]

    def model(
        self,
        inputs: Sequence[tuple[str, np.dtype[Any], Sequence[int | str]]],
        outputs: Sequence[tuple[str, np.dtype[Any], Sequence[int | str]]],
        *,
        name: str = "program",
        contrib: bool = False,
    ) -> bytes:
        """The finished model, serialized.

        Args:
            inputs: (name, element type, shape) of each graph input.
            outputs: The same of each graph output.
            name: Name of the graph.
            contrib: Whether operators of ``com.microsoft`` are used.
        """
        from onnx import helper

        def info(item: tuple[str, np.dtype[Any], Sequence[int | str]]) -> Any:
            tensor, dtype, shape = item
            return helper.make_tensor_value_info(tensor, helper.np_dtype_to_tensor_dtype(dtype), list(shape))

        graph = helper.make_graph(
            self.nodes, name, [info(i) for i in inputs], [info(o) for o in outputs], initializer=self.initializers
        )
        imports = [helper.make_opsetid("", OPSET)]
        if contrib:
            imports.append(helper.make_opsetid("com.microsoft", 1))
        model = helper.make_model(graph, opset_imports=imports, ir_version=10, producer_name="bitwright")
        return bytes(model.SerializeToString(deterministic=True))
