"""Ways to make a stored constant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    import onnx_ir as ir


def stored(graph: ir.Graph, name: str, array: ArrayLike) -> ir.Value:
    """A new initializer of ``graph``; the caller made sure that nobody has ``name``."""
    import onnx_ir as ir

    data = np.ascontiguousarray(array) if np.ndim(array) else np.asarray(array)
    tensor = ir.Tensor(data, name=name)
    shape = ir.Shape(data.shape)
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=shape, const_value=tensor)
    graph.register_initializer(value)
    return value


def transposed(graph: ir.Graph, name: str, source: ir.TensorProtocol) -> ir.Value:
    """A new initializer of ``graph`` with the matrix ``source`` transposed, which is computed each time it is read."""
    import onnx_ir as ir

    def turn() -> ir.Tensor[Any]:
        return ir.Tensor(np.ascontiguousarray(np.asarray(source.numpy()).T), name=name)

    rows, columns = (int(n) for n in source.shape.numpy())
    tensor = ir.LazyTensor(turn, dtype=source.dtype, shape=ir.Shape([columns, rows]), name=name, cache=False)
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)
    graph.register_initializer(value)
    return value
