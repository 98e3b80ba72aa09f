"""A network as bytes, as a file, and as an ONNX Runtime session."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitwright.errors import ModelError, printable
from bitwright.network.marks import metadata

if TYPE_CHECKING:
    import onnx_ir as ir
    import onnxruntime

    from bitwright.network.network import Network

# Protobuf messages end at 2 GiB; the graph itself needs room too.
LARGEST_INLINE = 3 << 29


def _inline_bytes(model: ir.Model) -> int:
    import onnx_ir as ir

    tensors = (v.const_value for v in model.graph.initializers.values())
    return sum(t.nbytes for t in tensors if t is not None and not isinstance(t, ir.ExternalTensor))


def _prepared(net: Network, extra_outputs: Sequence[str]) -> ir.Model:
    """A copy with the extra outputs and with shapes that let the batch vary."""
    import onnx_ir as ir

    model = net.model.clone()
    graph = model.graph
    for key, text in metadata(net).items():
        model.metadata_props[key] = text
    values: dict[str, ir.Value] = {str(v.name): v for v in graph.inputs} | dict(graph.initializers)
    for node in graph:
        for value in node.outputs:
            # Shapes are for one batch size; a stale one would contradict a larger batch.
            value.shape = None
            values[str(value.name)] = value
    for value in graph.inputs:
        shape: list[int | str] = list(net.shape(str(value.name)))
        if net.batchable and shape:
            shape[0] = "N"
        value.shape = ir.Shape(shape)
    wanted = [*net.outputs, *(name for name in extra_outputs if name not in net.outputs)]
    for name in wanted:
        value = values[name]
        if value.dtype is None:
            value.type = ir.TensorType(ir.DataType.from_numpy(net.dtype(name)))
        if net.has_shape(name) and not value.is_initializer() and not value.is_graph_input():
            shape = list(net.shape(name))
            if net.batchable and shape:
                shape[0] = "N"
            value.shape = ir.Shape(shape)
        if name not in net.outputs:
            graph.outputs.append(value)
    return model


def serialize(net: Network, extra_outputs: Sequence[str] = ()) -> bytes:
    """See :meth:`Network.serialize`."""
    import onnx_ir as ir

    if _inline_bytes(net.model) > LARGEST_INLINE:
        raise ModelError(
            f"{printable(net.name)} holds more than 1.5 GB of weights in memory, too many for one ONNX message. "
            "Save it with Network.save, which writes them to a file of their own."
        )
    return bytes(ir.to_proto(_prepared(net, extra_outputs)).SerializeToString(deterministic=True))


def save(net: Network, path: Path) -> None:
    """See :meth:`Network.save`."""
    import onnx_ir as ir

    external = any(isinstance(v.const_value, ir.ExternalTensor) for v in net.model.graph.initializers.values())
    model = _prepared(net, ())
    if external or _inline_bytes(net.model) > LARGEST_INLINE:
        ir.save(model, path, external_data=f"{path.name}.data")
    else:
        path.write_bytes(ir.to_proto(model).SerializeToString(deterministic=True))


def session(net: Network, outputs: Sequence[str], threads: int | None, optimize: bool) -> onnxruntime.InferenceSession:
    """See :meth:`Network.session`."""
    import onnx_ir as ir
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    providers = ["CPUExecutionProvider"]
    folders = {
        str(v.const_value.base_dir)
        for v in net.model.graph.initializers.values()
        if isinstance(v.const_value, ir.ExternalTensor)
    }
    try:
        if _inline_bytes(net.model) <= LARGEST_INLINE and len(folders) <= 1:
            for folder in folders:
                options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
            return ort.InferenceSession(serialize(net, outputs), options, providers=providers)
        with tempfile.TemporaryDirectory(prefix="bitwright-") as folder:
            path = Path(folder) / "model.onnx"
            ir.save(_prepared(net, outputs), path, external_data="model.onnx.data")
            return ort.InferenceSession(path, options, providers=providers)
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise ModelError(f"ONNX Runtime cannot run {printable(net.name)}: {_first_line(error)}.") from error


def _first_line(error: Any) -> str:
    lines = str(error).strip().splitlines()
    return printable(lines[0].rstrip(".") if lines else type(error).__name__, 300)
