"""From bytes that we did not write to an ``onnx_ir.Model``, or to one clear error."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bitwright.errors import BadModelFile, ModelError, printable

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

OLDEST_OPSET = 7
_CHUNK_BYTES = 8 << 20


def read_file(path: str | os.PathLike[str]) -> ir.Model:
    """The model in the file ``path``; external weights stay on disk until somebody asks for them.

    Raises:
        BadModelFile: if the file is missing, empty, damaged, no ONNX, or its external data is missing, too short or
            outside the model's folder.
    """
    file = Path(path)
    if file.is_dir():
        raise BadModelFile(
            f"{printable(file)} is a folder, not a model. Give the path of an .onnx file.", path=str(file)
        )
    try:
        data = file.read_bytes()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise BadModelFile(
            f"{printable(file)} cannot be read: {reason}. Give the path of an .onnx file.", path=str(file)
        ) from error
    return read_bytes(data, folder=file.resolve().parent, where=str(file))


def read_bytes(data: bytes, *, folder: Path | None = None, where: str = "the given bytes") -> ir.Model:
    """The model serialized in ``data``; ``folder`` is where its external data lies."""
    import onnx

    if not data:
        raise BadModelFile(f"{printable(where)} is empty. Export or download the model again.", path=where)
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except Exception as error:  # protobuf's DecodeError; its package ships no types
        raise BadModelFile(
            f"{printable(where)} is not an ONNX model or is cut off: {len(data)} bytes that do not parse. "
            "Export or download it again.",
            path=where,
        ) from error
    return read_proto(proto, folder=folder, where=where)


def read_proto(proto: onnx.ModelProto, *, folder: Path | None = None, where: str = "the given model") -> ir.Model:
    """The same for a model that is already parsed."""
    import onnx_ir as ir

    if not proto.graph.node and not proto.graph.output:
        raise BadModelFile(
            f"{printable(where)} holds no network (no nodes, no outputs). Is it an ONNX file at all?", path=where
        )
    _check_text(proto, where)
    _check_opset(proto, where)
    _check_dimensions(proto, where)
    _check_nodes(proto, where)
    _check_wires(proto, where)
    try:
        model = ir.from_proto(proto)
        if folder is not None:
            ir.external_data.set_base_dir(model.graph, str(folder))
        model.graph.sort()
    except Exception as error:
        raise BadModelFile(
            f"{printable(where)} parses as ONNX but its graph is damaged: {printable(error)}. Export it again.",
            path=where,
        ) from error
    _check_weights(model, where)
    check_external(model, folder, where)
    return model


def _check_text(proto: onnx.ModelProto, where: str) -> None:
    """Names and string attributes must be UTF-8; protobuf gives bytes where a name is not."""
    import onnx

    graph = proto.graph
    names: list[object] = [v.name for v in (*graph.input, *graph.output, *graph.initializer)]
    names += [entry.domain for entry in proto.opset_import]
    for node in graph.node:
        names += [node.name, node.op_type, node.domain, *node.input, *node.output]
        for attribute in node.attribute:
            names.append(attribute.name)
            if attribute.type == onnx.AttributeProto.STRING:
                names.append("" if _is_utf8(attribute.s) else attribute.s)
    if any(not isinstance(name, str) for name in names):
        raise BadModelFile(
            f"{printable(where)} holds a text that is no UTF-8: it is damaged. Export or download it again.", path=where
        )


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _check_opset(proto: onnx.ModelProto, where: str) -> None:
    versions = [entry.version for entry in proto.opset_import if entry.domain in {"", "ai.onnx"}]
    if not versions:
        raise BadModelFile(f"{printable(where)} does not say which ONNX opset it uses. Export it again.", path=where)
    if max(versions) < OLDEST_OPSET:
        raise BadModelFile(
            f"{printable(where)} uses ONNX opset {max(versions)}; {OLDEST_OPSET} is the oldest that can be read. "
            "Convert it with onnx.version_converter or export it again.",
            path=where,
        )
    import onnx

    newest = onnx.defs.onnx_opset_version()
    if max(versions) > newest:
        raise BadModelFile(
            f"{printable(where)} uses ONNX opset {max(versions)}; the installed onnx package knows up to {newest}. "
            "Update it with: pip install -U onnx onnxruntime",
            path=where,
        )


def _check_dimensions(proto: onnx.ModelProto, where: str) -> None:
    """A tensor must hold as much as its shape says, or reading it later fails far from here."""
    for tensor in proto.graph.initializer:
        if any(d < 0 for d in tensor.dims):
            raise BadModelFile(
                f"{printable(where)}: tensor '{printable(tensor.name)}' has a negative dimension. Export it again.",
                path=where,
            )


def _check_nodes(proto: onnx.ModelProto, where: str) -> None:
    """Every node has the attributes and as many inputs as ONNX asks for; subgraphs are checked when they are inlined."""
    import onnx

    context = onnx.checker.DEFAULT_CONTEXT.__class__()
    context.ir_version = min(max(proto.ir_version, 3), onnx.IR_VERSION)
    # In a file of the first kind opset "ai.onnx" was written out; the checker wants "".
    context.opset_imports = {"" if e.domain == "ai.onnx" else e.domain: e.version for e in proto.opset_import}
    local = {(function.domain, function.name) for function in proto.functions}
    kinds = {onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS}
    for node in proto.graph.node:
        standard = node.domain in {"", "ai.onnx"} and (node.domain, node.op_type) not in local
        if not standard or any(attribute.type in kinds for attribute in node.attribute):
            continue
        try:
            onnx.checker.check_node(node, context)
        except onnx.checker.ValidationError as error:
            reason = str(error).split("\n", maxsplit=1)[0].rstrip(". ")
            raise BadModelFile(
                f"{printable(where)}: node '{printable(node.name)}' ({printable(node.op_type)}) is no valid ONNX: "
                f"{printable(reason, 300)}. Export the model again.",
                path=where,
            ) from error


def _check_wires(proto: onnx.ModelProto, where: str) -> None:
    """Every tensor is made once and every tensor used is made."""
    graph = proto.graph
    made = {v.name for v in graph.input} | {v.name for v in graph.initializer}
    made |= {v.values.name for v in graph.sparse_initializer}
    for node in graph.node:
        for name in node.output:
            if name and name in made:
                raise BadModelFile(
                    f"{printable(where)}: tensor '{printable(name)}' is produced twice. Export the model again.",
                    path=where,
                )
            made.add(name)
    for name in [*(name for node in graph.node for name in node.input if name), *(v.name for v in graph.output)]:
        if name not in made:
            raise BadModelFile(
                f"{printable(where)}: tensor '{printable(name)}' is used but nothing produces it. Export the model again.",
                path=where,
            )


def _check_weights(model: ir.Model, where: str) -> None:
    """Every stored tensor is as long as its shape says."""
    for name, value in model.graph.initializers.items():
        try:
            _check_stored(value.const_value)
        except Exception as error:
            raise BadModelFile(
                f"{printable(where)}: tensor '{printable(name)}' does not hold what its shape says: {printable(error)}. "
                "Export or download the model again.",
                path=where,
            ) from error


def _check_stored(tensor: Any) -> None:
    import onnx_ir as ir

    if tensor is None:
        raise ValueError("it has no data")
    if isinstance(tensor, ir.ExternalTensor):
        return
    raw: Any = getattr(tensor, "raw", None)
    if tensor.dtype == ir.DataType.STRING:
        return
    wanted = tensor.nbytes
    if hasattr(raw, "HasField") and raw.HasField("raw_data"):
        if len(raw.raw_data) != wanted:
            raise ValueError(f"{len(raw.raw_data)} bytes instead of {wanted}")
    else:
        tensor.numpy()


def check_external(model: ir.Model, folder: Path | None, where: str) -> None:
    """External data must lie in the model's folder and be complete, before anything opens it."""
    import onnx_ir as ir

    for tensor in all_tensors(model):
        if not isinstance(tensor, ir.ExternalTensor):
            continue
        name, location = printable(tensor.name), printable(tensor.location)
        if folder is None:
            raise BadModelFile(
                f"{printable(where)}: tensor '{name}' lies in the file '{location}', but the model was not given "
                "as a path. Give bitwright the path of the .onnx file.",
                path=where,
            )
        root = folder.resolve()
        target = Path(os.path.normpath(root / str(tensor.location)))
        try:
            inside = target.is_relative_to(root) and target.resolve().is_relative_to(root)
        except (OSError, ValueError, RuntimeError):
            inside = False
        if not inside:
            raise BadModelFile(
                f"{printable(where)}: tensor '{name}' points to '{location}', outside the model's folder. "
                "It was not opened. Put the data beside the model if you trust it.",
                path=where,
            )
        try:
            size = target.stat().st_size if target.is_file() else -1
        except (OSError, ValueError):
            size = -1
        if size < 0:
            raise BadModelFile(
                f"{printable(where)}: the weights of '{name}' should be in '{location}' beside the model, but there is "
                "no such file. Copy it there.",
                path=where,
            )
        length = tensor.length if tensor.length is not None else tensor.nbytes
        offset = tensor.offset or 0
        if offset < 0 or length != tensor.nbytes or offset + length > size:
            raise BadModelFile(
                f"{printable(where)}: '{location}' is too short or does not fit tensor '{name}' "
                f"({tensor.nbytes} bytes at {offset}, file of {size}). Copy or export it again.",
                path=where,
            )


def all_tensors(model: ir.Model) -> Iterator[Any]:
    """Every tensor of the model, in initializers and attributes, subgraphs included."""
    import onnx_ir as ir

    seen: list[ir.Graph] = [model.graph]
    for graph in seen:
        for value in graph.initializers.values():
            if value.const_value is not None:
                yield value.const_value
        for node in graph:
            for attribute in node.attributes.values():
                if attribute.type == ir.AttributeType.TENSOR:
                    yield attribute.value
                elif attribute.type == ir.AttributeType.TENSORS:
                    yield from attribute.value
                elif attribute.type == ir.AttributeType.GRAPH:
                    seen.append(attribute.value)
                elif attribute.type == ir.AttributeType.GRAPHS:
                    seen.extend(attribute.value)


def pieces(tensor: Any) -> Iterator[np.ndarray[Any, np.dtype[Any]]]:
    """The elements of ``tensor`` in order, a few megabytes at a time.

    External data is read with plain reads instead of through the memory map: pages of a map count as memory of this
    process, and a check of a 2 GB network must not look like 2 GB.
    """
    import onnx_ir as ir

    if isinstance(tensor, ir.ExternalTensor) and tensor.dtype.bitwidth >= 8 and tensor.nbytes > _CHUNK_BYTES:
        dtype = tensor.dtype.numpy()
        left = tensor.nbytes
        with Path(tensor.path).open("rb") as file:
            file.seek(tensor.offset or 0)
            while left:
                data = file.read(min(left, _CHUNK_BYTES))
                if not data:
                    raise ModelError(f"The file of tensor '{printable(tensor.name)}' became shorter while it was read.")
                left -= len(data)
                yield np.frombuffer(data, dtype)
    else:
        yield np.asarray(tensor.numpy()).reshape(-1)
