"""Loading: any ONNX file of opset 7 or later, and what the front ends turn into ONNX, becomes a :class:`Network`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitwright.errors import BadModelFile, BitwrightError, ModelError, printable
from bitwright.network.batch import bind_inputs, free_batch, is_batchable, with_batch
from bitwright.network.branches import inline_branches
from bitwright.network.floats import check_finite, to_float32
from bitwright.network.frontends.registry import Found, read_other
from bitwright.network.marks import check_metadata, restored
from bitwright.network.names import name_nodes
from bitwright.network.network import Network
from bitwright.network.normalize import explicit_casts, normalize
from bitwright.network.padding import explicit_pads, resize_by_scales
from bitwright.network.qoperator import is_qoperator, write_pairs
from bitwright.network.reading import check_external, read_bytes, read_file, read_proto
from bitwright.network.shapes import Shape, Shapes, infer_shapes
from bitwright.network.stated import has_pairs, take_constants

if TYPE_CHECKING:
    import onnx_ir as ir


def load(
    model: Any,
    *,
    name: str | None = None,
    shapes: Mapping[str, int | Sequence[int]] | None = None,
    example: Any = None,
) -> Network:
    """Read a network; nothing in it is executed and no more memory is used than its graph needs.

    The network has opset 18 or later, explicit pads, float32 numbers and unique node names; the batch is 1 for shapes
    and stays free for running where the graph allows it.  Nodes are not folded: see
    :func:`bitwright.passes.prepare`.

    Args:
        model: A path (of ONNX, whose external data beside it is memory-mapped, or a file or folder of another
            framework: see :mod:`bitwright.network.frontends.registry`), ONNX bytes, a ``ModelProto``, an
            ``onnx_ir.Model``, a PyTorch module or exported program, or a Keras model; the given object is not changed.
        name: A name for reports; by default the file's name without extension.
        shapes: Sizes for free dimensions: input name → shape, or dimension name → size.
        example: An example input, which a PyTorch module needs.

    Raises:
        BadModelFile: if the file is missing, damaged or of another kind, or external data is missing or out of bounds.
        ToolMissing: if the package that reads it is not installed.
        UnknownShape: if a dimension other than the batch is free and not in ``shapes``.
        ModelError: if the network has control flow that does not vanish, or nodes without a modern equal.
        NonFinite: if a weight is NaN or infinite.
    """
    import onnx_ir as ir

    path = Path(model) if isinstance(model, (str, os.PathLike)) else None
    found = _other(model, example)
    if found is not None:
        where = str(path) if path is not None else name or f"the given {type(model).__name__}"
        read = found.model
    elif path is not None:
        where = str(path)
        read = read_file(path)
    elif isinstance(model, (bytes, bytearray, memoryview)):
        where = name or "the given bytes"
        read = read_bytes(bytes(model), where=where)
    elif isinstance(model, ir.Model):
        where = name or "the given model"
        read = model.clone()
        _check_tensors(read, where)
    elif hasattr(model, "SerializeToString") and hasattr(model, "graph"):
        where = name or "the given model"
        read = read_proto(model, where=where)
    else:
        raise ModelError(
            "A model must be a path, ONNX bytes, an onnx.ModelProto, an onnx_ir.Model, a PyTorch module or a Keras model, "
            f"not {type(model).__name__}."
        )
    own = found.name if found is not None else read.graph.name
    label = name or (path.stem if path is not None else own or "network")
    try:
        return _load(read, label, path, where, shapes, found)
    except BitwrightError:
        raise
    except Exception as error:
        # Files are written by many programs, some broken: what nobody foresaw is still an error about the file.
        raise BadModelFile(
            f"{printable(where)} cannot be understood: {type(error).__name__}: {printable(error, 300)}. Export it again; if other "
            "programs read it, please report it with the file.",
            path=where,
        ) from error


def _other(model: Any, example: Any) -> Found | None:
    """What a front end other than ONNX's makes of ``model``; what nobody foresaw is an error about the file."""
    try:
        return read_other(model, example)
    except BitwrightError:
        raise
    except Exception as error:
        raise BadModelFile(
            f"{printable(model)} cannot be understood: {type(error).__name__}: {printable(error, 300)}. Save it again; if "
            "other programs read it, please report it with the file.",
            path=str(model) if isinstance(model, (str, os.PathLike)) else "",
        ) from error


def _check_tensors(model: ir.Model, where: str) -> None:
    """External data of a model that the caller built: its folder is the one that its tensors name."""
    import onnx_ir as ir

    from bitwright.network.reading import all_tensors

    folders = {str(t.base_dir) for t in all_tensors(model) if isinstance(t, ir.ExternalTensor)}
    for folder in folders:
        check_external(model, Path(folder or "."), where)


def _load(
    model: ir.Model,
    name: str,
    path: Path | None,
    where: str,
    shapes: Mapping[str, int | Sequence[int]] | None,
    other: Found | None,
) -> Network:
    from onnx_ir.passes import common

    if model.functions:
        model = common.InlinePass()(model).model
    check_metadata(model)
    if is_qoperator(model):
        write_pairs(model)
    stated = take_constants(model, other.target if other is not None else None) if has_pairs(model) else None
    name_nodes(model)
    _detach_initializers(model)
    notes = [*(other.notes if other is not None else ()), *to_float32(model)]
    check_finite(model)
    inputs, fixed = bind_inputs(model, shapes, where)
    found = _infer(model, inputs, where)
    normalize(model, found.shapes)
    model.ir_version = max(model.ir_version or 0, 10)
    found = inline_branches(model, found, lambda: _infer(model, inputs, where))
    _refuse_subgraphs(model, where)
    explicit_casts(model, found.types)
    explicit_pads(model, found)
    resize_by_scales(model, found)
    name_nodes(model)
    removed, old_notes, known, last = restored(model)
    one, batchable = _batch(model, inputs, fixed, found, notes, where)
    return Network(
        model,
        name=name,
        path=path,
        shapes=one.shapes,
        types=one.types,
        batchable=batchable and known is not False,
        removed=removed,
        notes=(*old_notes, *notes),
        stated=stated,
        channels_last=(*last, *(other.last if other is not None else ())),
    )


def _infer(model: ir.Model, inputs: Mapping[str, Shape], where: str) -> Shapes:
    try:
        return infer_shapes(model, inputs)
    except Exception as error:  # onnx raises several kinds for contradictory shapes
        raise ModelError(
            f"The shapes in {printable(where)} contradict each other: {printable(error, 300)}. Export the model again."
        ) from error


def _detach_initializers(model: ir.Model) -> None:
    """Old files list their weights as graph inputs too, as defaults that a caller may override; here nobody does."""
    graph = model.graph
    kept = [value for value in graph.inputs if str(value.name) not in graph.initializers]
    if len(kept) != len(graph.inputs):
        graph.inputs.clear()
        graph.inputs.extend(kept)


def _refuse_subgraphs(model: ir.Model, where: str) -> None:
    import onnx_ir as ir

    for node in model.graph:
        kinds = {attribute.type for attribute in node.attributes.values()}
        if kinds & {ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS}:
            raise ModelError(
                f"Layer '{printable(node.name)}' of {printable(where)} is a {printable(node.op_type)} with a subgraph, and "
                "which branch runs depends on the data. Export the model without control flow (torch: trace instead of "
                "script), or cut that part off."
            )


def _batch(
    model: ir.Model, inputs: dict[str, Shape], fixed: int | None, found: Shapes, notes: list[str], where: str
) -> tuple[Shapes, bool]:
    """Decide whether the batch may vary, freeing it where the file fixed it for no reason; gives the final shapes."""
    if fixed is None:
        one = _infer(model, inputs, where)
        batchable = is_batchable(model, one, _infer(model, with_batch(inputs, 2), where))
        if not batchable:
            notes.append("the graph combines samples of a batch, so it is run one sample at a time")
        return one, batchable
    if fixed != 1 and any(len(shape) != 4 for shape in inputs.values()):
        return _infer(model, inputs, where), False
    freed = model.clone()
    free_batch(freed, found, fixed)
    one = _infer(freed, with_batch(inputs, 1), where)
    if is_batchable(freed, one, _infer(freed, with_batch(inputs, 2), where)):
        free_batch(model, found, fixed)
        notes.append(f"the file fixes the batch to {fixed}; nothing depends on it, so it may vary")
        return one, True
    notes.append(f"the file fixes the batch to {fixed} and the graph depends on it")
    return _infer(model, inputs, where), False
