"""The float network with a place to add an error to each of chosen tensors: what one error costs at the outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import ModelError, printable

if TYPE_CHECKING:
    import onnxruntime

    from bitwright.network.network import Network

Arrays = Mapping[str, NDArray[Any]]
NO_ERROR = np.zeros((), np.float32)


@dataclass(frozen=True, eq=False)
class Injected:
    """The network with errors added inside.

    Attributes:
        session: Runs it.
        outputs: The network's outputs.
        places: Tensor → the session input that is added to it.
    """

    session: onnxruntime.InferenceSession
    outputs: tuple[str, ...]
    places: Mapping[str, str]

    def run(self, feeds: Arrays, errors: Arrays) -> list[NDArray[np.float64]]:
        """The outputs where ``errors`` (tensor → what is added to it, of its shape) are in the network."""
        added = {place: np.asarray(errors.get(t, NO_ERROR), np.float32) for t, place in self.places.items()}
        found = self.session.run(list(self.outputs), {**feeds, **added})
        return [np.asarray(x, np.float64) for x in found]


def injected(net: Network, tensors: Sequence[str], *, threads: int | None = None) -> Injected:
    """A session that adds an error to each of ``tensors``, inputs and outputs of the network included.

    Args:
        net: The float network.
        tensors: Tensors of floating-point numbers.
        threads: Threads inside an operator; None leaves it to ONNX Runtime.

    Raises:
        ModelError: if the network is too large to be changed in memory, or ONNX Runtime refuses it.
    """
    import onnx
    import onnxruntime as ort
    from onnx import TensorProto, helper

    model = onnx.load_from_string(net.serialize())
    graph = model.graph
    taken = {name for node in graph.node for name in (*node.input, *node.output)} | {v.name for v in graph.initializer}
    inputs = {value.name for value in graph.input}
    places: dict[str, str] = {}
    renamed: dict[str, str] = {}
    added = []
    for i, tensor in enumerate(dict.fromkeys(tensors)):
        place, other = _unused(f"error_{i}", taken), _unused(f"plain_{i}", taken)
        places[tensor], renamed[tensor] = place, other
        plain, changed = (tensor, other) if tensor in inputs else (other, tensor)
        added.append((tensor, helper.make_node("Add", [plain, place], [changed], name=place)))
        graph.input.append(helper.make_tensor_value_info(place, TensorProto.FLOAT, None))
    nodes = []
    waiting = dict(added)
    for tensor in [t for t in waiting if t in inputs]:
        nodes.append(waiting.pop(tensor))
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name in renamed and name in inputs:
                node.input[i] = renamed[name]
        nodes.append(node)
        for i, name in enumerate(node.output):
            if name in waiting:
                node.output[i] = renamed[name]
                nodes.append(waiting.pop(name))
    if waiting:
        raise ModelError(f"{printable(net.name)} computes no tensor '{printable(next(iter(waiting)))}'.")
    del graph.node[:]
    graph.node.extend(nodes)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        text = printable(str(error).strip().splitlines()[0], 300)
        raise ModelError(f"ONNX Runtime cannot run {printable(net.name)} with errors added: {text}.") from error
    return Injected(session, tuple(net.outputs), places)


def _unused(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name
