"""Rounding down inside ONNX Runtime's own layout of channels.

On processors with wide vectors ONNX Runtime computes float convolutions on blocks of channels, and turns a tensor back
to the order of the file in front of every operator that it does not know there.  ``Floor`` is one: with a rounding after
each convolution, a third of the time would go into turning.  Yet a floor may be taken in any layout.  So a graph is
written without floors, a ``Clip`` with an upper bound of a whole number and a half standing for "then round down"; ONNX
Runtime optimizes it; and the floors are put into the result.

``floor(clip(y, lo, hi + 1/2)) = clip(floor(y), lo, hi)`` for whole ``lo`` and ``hi``, so the clip may be fused into the
convolution, and what is left of rounding is one pass over memory.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnxruntime

HALF = 0.5
LARGEST_BYTES = 256 << 20
"""Above this a second copy on disk costs more than it saves."""


def floored_session(model: bytes, floors: int, threads: int | None) -> onnxruntime.InferenceSession | None:
    """A session of a graph whose floors are left out.

    Args:
        model: The serialized graph.
        floors: How many were left out.
        threads: Threads of an operator; None leaves it to ONNX Runtime.

    Returns:
        The session, or None where not every place for a floor was found again: the graph means nothing then.
    """
    import onnx
    import onnxruntime as ort

    if len(model) > LARGEST_BYTES:
        return None
    providers = ["CPUExecutionProvider"]
    with tempfile.TemporaryDirectory(prefix="bitwright-") as folder:
        path = Path(folder) / "optimized.onnx"
        once = ort.SessionOptions()
        once.log_severity_level = 3
        once.optimized_model_filepath = str(path)
        once.add_session_config_entry("session.disable_prepacking", "1")
        try:
            ort.InferenceSession(model, once, providers=providers)
            optimized = onnx.load(path)
        except Exception:  # ONNX Runtime's exceptions share no base class; the plain graph says what is wrong
            return None
    if put_floors(optimized) != floors:
        return None
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if threads is not None:
        options.intra_op_num_threads = threads
    return ort.InferenceSession(optimized.SerializeToString(), options, providers=providers)


def put_floors(model: Any) -> int:
    """Add a ``Floor`` after each clip, fused or not, that asks for one, in place; gives how many."""
    from onnx import helper, numpy_helper

    numbers = {
        tensor.name: float(numpy_helper.to_array(tensor))
        for tensor in model.graph.initializer
        if not tensor.dims and tensor.data_type == tensor.FLOAT
    }
    nodes, found = [], 0
    for node in model.graph.node:
        nodes.append(node)
        highest = _upper_bound(node, numbers)
        if highest is not None and highest % 1 == HALF:
            found += 1
            name = node.output[0]
            node.output[0] = f"{name}_unrounded"
            nodes.append(helper.make_node("Floor", [node.output[0]], [name], name=f"{name}_floor"))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return found


def _upper_bound(node: Any, numbers: dict[str, float]) -> float | None:
    """Where a node's clip ends; None if it has none."""
    attributes = {a.name: a for a in node.attribute}
    if node.op_type == "Clip" and len(node.input) > 2:
        return numbers.get(node.input[2])
    if "activation" in attributes and attributes["activation"].s == b"Clip":
        return float(attributes["activation_params"].floats[1])
    return None
