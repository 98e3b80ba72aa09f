"""A session that shows the values inside a network at the least cost."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bitwright.network.running import _inline_bytes as inline_bytes
from bitwright.network.running import serialize

if TYPE_CHECKING:
    import onnxruntime

    from bitwright.network.network import Network

# Above this a second copy on disk costs more than it saves.
_LARGEST = 256 << 20
# Every block that ONNX Runtime lays channels out in (8 or 16) divides this.
_BLOCK = 16


def exposing_session(
    net: Network, tensors: Sequence[str], *, in_order: Collection[str] = (), threads: int = 1
) -> tuple[onnxruntime.InferenceSession, dict[str, str]]:
    """A session for the values of ``tensors``, and under which output name it gives each.

    On processors with wide vectors ONNX Runtime computes convolutions on blocks of channels, and turns a tensor back
    to the order of the file where somebody looks at it: for a network all of whose tensors are looked at, a quarter of
    the run.  So the optimized network is written out, and outputs are taken before they are turned back: the shape is
    the same and so are the values, in another order.  Channels are padded where their number is no multiple of the
    block; such tensors are left alone.

    Args:
        net: The network.
        tensors: Tensors that nodes compute.
        in_order: Those of them whose elements must be where the shape says.
        threads: Threads inside an operator.

    Raises:
        ModelError: if ONNX Runtime refuses the network.
    """
    free = {t for t in tensors if t not in in_order and len(shape := net.shape(t)) > 1 and shape[1] % _BLOCK == 0}
    if free and inline_bytes(net.model) <= _LARGEST:
        try:
            return _blocked(net, tensors, free, threads)
        except Exception:  # whatever ONNX Runtime or onnx dislike, the plain way works or says what is wrong
            pass
    return net.session(tensors, threads=threads), {t: t for t in tensors}


def _blocked(
    net: Network, tensors: Sequence[str], free: set[str], threads: int
) -> tuple[onnxruntime.InferenceSession, dict[str, str]]:
    import onnx
    import onnxruntime as ort

    def options() -> ort.SessionOptions:
        result = ort.SessionOptions()
        result.log_severity_level = 3
        result.intra_op_num_threads = threads
        return result

    providers = ["CPUExecutionProvider"]
    with tempfile.TemporaryDirectory(prefix="bitwright-") as folder:
        path = Path(folder) / "optimized.onnx"
        once = options()
        once.optimized_model_filepath = str(path)
        once.add_session_config_entry("session.disable_prepacking", "1")
        ort.InferenceSession(serialize(net, tensors), once, providers=providers)
        model = onnx.load(path)
    turned = {
        node.output[0]: node.input[0]
        for node in model.graph.node
        if node.op_type == "ReorderOutput"
        and node.output[0] in free
        and all(a.i == 0 for a in node.attribute if a.name == "channels_last")
    }
    # Two tensors of one value would become one output twice.
    before = list(turned.values())
    turned = {after: name for after, name in turned.items() if before.count(name) == 1}
    outputs = {o.name for o in model.graph.output}
    turned = {after: name for after, name in turned.items() if after in outputs and name not in outputs}
    read = {name for node in model.graph.node for name in node.input}
    kept = [node for node in model.graph.node if not (set(node.output) & turned.keys() and node.output[0] not in read)]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    for output in model.graph.output:
        output.name = turned.get(output.name, output.name)
    final = options()
    final.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), final, providers=providers)
    return session, {t: turned.get(t, t) for t in tensors}
