"""Which axis is the batch: shapes with the batch fixed to 1, and whether the batch may have any other size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bitwright.errors import ModelError, UnknownShape, printable
from bitwright.network.shapes import Shape, Shapes
from bitwright.network.values import stored

if TYPE_CHECKING:
    import onnx_ir as ir

# Operators that combine elements along their axis: the batch must not be that axis.  Value: the default axis.
_MIXING_AXIS = {
    "Softmax": -1, "LogSoftmax": -1, "Hardmax": -1, "CumSum": 0, "TopK": -1, "LpNormalization": -1,
    "LayerNormalization": -1, "RMSNormalization": -1, "Gather": 0, "GatherElements": 0, "ScatterElements": 0,
    "ArgMax": 0, "ArgMin": 0, "Concat": 0, "Split": 0, "Compress": 0, "ReverseSequence": 1,
}  # fmt: skip
_MIXING_ALWAYS = frozenset({"Unique", "NonZero", "NonMaxSuppression", "ScatterND"})
_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})


def bind_inputs(
    model: ir.Model, shapes: Mapping[str, int | Sequence[int]] | None, where: str
) -> tuple[dict[str, Shape], int | None]:
    """Shapes of the graph inputs with the batch at 1.

    Args:
        model: Its graph inputs are all real inputs.
        shapes: What the user fixed: input name → shape, or the name of a free dimension → its size.
        where: The model's name, for messages.

    Returns:
        Shape of each input, and the batch size that the file fixes (None if it leaves the batch free).

    Raises:
        UnknownShape: if a dimension other than the batch is free, naming it.
        ModelError: if ``shapes`` names nothing in the model, or contradicts it.
    """
    given = dict(shapes or {})
    names = {str(v.name) for v in model.graph.inputs}
    symbols = {str(d.value) for v in model.graph.inputs for d in v.shape or () if not isinstance(d, int) and d.value}
    if unknown := [name for name in given if name not in names | symbols]:
        raise ModelError(
            f"{printable(where)} has no input or free dimension '{printable(unknown[0])}'. "
            f"Inputs: {', '.join(map(printable, sorted(names)))}; "
            f"free dimensions: {', '.join(map(printable, sorted(symbols))) or 'none'}."
        )
    batch_names = {
        str(v.shape[0].value)
        for v in model.graph.inputs
        if v.shape is not None and len(v.shape) and not isinstance(v.shape[0], int)
    }
    found = {str(v.name): _bind(v, given, batch_names, where) for v in model.graph.inputs}
    first = [v.shape[0] for v in model.graph.inputs if v.shape is not None and len(v.shape)]
    fixed = {d for d in first if isinstance(d, int)}
    return found, (
        fixed.pop() if len(fixed) == 1 and len(first) == len(names) and all(isinstance(d, int) for d in first) else None
    )


def _bind(value: ir.Value, given: Mapping[str, int | Sequence[int]], batch: set[str], where: str) -> Shape:
    name = str(value.name)
    wanted = given.get(name)
    if value.shape is None:
        if wanted is None or isinstance(wanted, int):
            raise UnknownShape(
                f"Input '{printable(name)}' of {printable(where)} has no shape. "
                f"Give it: --shape {printable(name)}=1,3,224,224 (or load(..., shapes={{'{printable(name)}': (1, ...)}})).",
                tensor=name,
            )
        return tuple(int(d) for d in wanted)
    dims = list(value.shape)
    if wanted is not None and not isinstance(wanted, int):
        sizes = [int(d) for d in wanted]
        clash = len(sizes) != len(dims) or any(isinstance(d, int) and d != s for d, s in zip(dims, sizes, strict=True))
        if clash or any(s < 1 for s in sizes):
            written = ",".join(str(d) if isinstance(d, int) else str(d.value or "?") for d in dims)
            raise ModelError(
                f"Input '{printable(name)}' of {printable(where)} has shape [{printable(written)}]; "
                f"{sizes} does not fit. Give one positive size per dimension and keep the fixed ones."
            )
        return (1, *sizes[1:]) if dims and not isinstance(dims[0], int) else tuple(sizes)
    result = []
    for axis, dim in enumerate(dims):
        symbol = None if isinstance(dim, int) else str(dim.value)
        if isinstance(dim, int):
            if dim < 1:
                raise UnknownShape(
                    f"Input '{printable(name)}' of {printable(where)} has an empty axis {axis}. Export it with a "
                    "positive or a free size.",
                    tensor=name,
                )
            result.append(dim)
        elif axis == 0:
            result.append(1)
        elif dim.value is not None and isinstance(size := given.get(str(symbol)), int):
            result.append(size)
        elif dim.value is not None and symbol in batch:
            result.append(1)
        else:
            example = ",".join("1" if i == 0 else str(d) if isinstance(d, int) else "SIZE" for i, d in enumerate(dims))
            raise UnknownShape(
                f"Axis {axis} of input '{printable(name)}' of {printable(where)} has no fixed size"
                f"{f' (it is called {printable(symbol)})' if dim.value is not None else ''}. Fix it: "
                f"--shape {printable(name)}={example} (or load(..., shapes={{'{printable(name)}': ({example})}})).",
                tensor=name,
            )
    return tuple(result)


def with_batch(inputs: Mapping[str, Shape], batch: int) -> dict[str, Shape]:
    """The same shapes with axis 0 set to ``batch``; scalars stay scalars."""
    return {name: (batch, *shape[1:]) if shape else shape for name, shape in inputs.items()}


def free_batch(model: ir.Model, found: Shapes, fixed: int) -> int:
    """Let Reshape copy the batch from its input where the file wrote the number; gives how many were changed.

    Exporters that trace with one image write ``[1, 24, 2, 484]``.  Only for files that fix the batch: where it is
    free, a 1 in front means 1.
    """
    changed = 0
    for node in list(model.graph):
        if node.op_type != "Reshape" or len(node.inputs) < 2 or node.inputs[0] is None or node.inputs[1] is None:
            continue
        shape, target = found.shapes.get(str(node.inputs[0].name)), found.values.get(str(node.inputs[1].name))
        allowzero = node.attributes["allowzero"].as_int() if "allowzero" in node.attributes else 0
        if not shape or target is None or target.size < 1 or (allowzero and not target.all()):
            continue
        if shape[0] != fixed or int(target[0]) != fixed:
            continue
        node.attributes.pop("allowzero", None)  # PyTorch's exporter sets it everywhere, with no zero to allow
        array = np.array(target, np.int64)
        array[0] = 0
        base = name = f"{node.name}.shape"
        while name in model.graph.initializers or name in found.shapes:
            changed += 1
            name = f"{base}_{changed}"
        node.replace_input_with(1, stored(model.graph, name, array))
        changed += 1
    return changed


def is_batchable(model: ir.Model, one: Shapes, two: Shapes) -> bool:
    """Whether axis 0 of every activation is the batch and nothing combines samples.

    Args:
        model: The network.
        one: Shapes for batch 1.
        two: Shapes for batch 2.
    """
    if not two.consistent:
        return False
    active = {str(v.name) for v in model.graph.inputs}

    def follows(name: str) -> bool:
        a, b = one.shapes.get(name), two.shapes.get(name)
        return bool(a) and bool(b) and a is not None and b is not None and (a[0], b[0]) == (1, 2) and a[1:] == b[1:]

    if not active or not all(follows(name) for name in active):
        return False
    for node in model.graph:
        if node.op_type in {"Shape", "Size"}:
            continue
        inputs = [str(v.name) for v in node.inputs if v is not None]
        if not any(name in active for name in inputs):
            continue
        outputs = [str(v.name) for v in node.outputs if v.name]
        if all(name in one.values for name in outputs):
            continue
        active.update(outputs)
        if not all(follows(name) for name in outputs) or _mixes(node, one, active):
            return False
    return True


def _mixes(node: ir.Node, found: Shapes, active: set[str]) -> bool:
    """Whether ``node`` combines elements of axis 0, although its output has the right shape."""
    if node.op_type in _MIXING_ALWAYS:
        return True
    if node.op_type in _RECURRENT:
        return not ("layout" in node.attributes and node.attributes["layout"].as_int() == 1)
    first = node.inputs[0]
    shape = found.shapes.get(str(first.name)) if first is not None else None
    if node.op_type not in _MIXING_AXIS or shape is None:
        return False
    if node.op_type == "Gather" and (first is None or first.name not in active):
        return False  # a table of constants, looked up by the data
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else _MIXING_AXIS[node.op_type]
    if node.op_type == "CumSum" and len(node.inputs) > 1 and node.inputs[1] is not None:
        value = found.values.get(str(node.inputs[1].name))
        axis = 0 if value is None else int(value.reshape(-1)[0])
    return axis % max(len(shape), 1) == 0
