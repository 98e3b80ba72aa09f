"""Networks whose tensors have their channels last (TensorFlow's), written in ONNX, whose tensors have them second.

A tensor is held with its channels second from the first convolution on and turned back only where an operator needs the
order of its elements; a dense layer that reads a flattened feature map gets its weights in another order instead.  No
number changes, and names and shapes stay the user's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import ModelError, UnknownShape, printable
from bitwright.network.marks import SOURCES

if TYPE_CHECKING:
    import onnx_ir as ir

OPSET = 20
Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Held:
    """A tensor of the user's and the ONNX tensor that holds it.

    Attributes:
        value: The ONNX tensor.
        shape: The user's shape, batch 1.
        first: ``value`` has the channels second, ``shape`` has them last.
        flat: The user's shape before the tensor was flattened, if ``value`` is not flattened yet; None otherwise.
    """

    value: ir.Value
    shape: Sizes
    first: bool = False
    flat: Sizes | None = None

    @property
    def rank(self) -> int:
        """Axes, batch included."""
        return len(self.shape)


@dataclass(frozen=True)
class Weights:
    """A constant of the user's: real numbers, or integers with the step that they count.

    Attributes:
        array: The numbers.
        scale: Step, 0-d or one per index of ``axis``; None for real numbers.
        zero_point: The integer that means 0, of the shape of ``scale``.
        axis: The axis along which the step varies, or None.
    """

    array: NDArray[Any]
    scale: NDArray[np.float32] | None = None
    zero_point: NDArray[np.int64] | None = None
    axis: int | None = None

    def turned(self, order: Sequence[int]) -> Weights:
        """With its axes in another order."""
        axis = None if self.axis is None else list(order).index(self.axis)
        return replace(self, array=np.ascontiguousarray(self.array.transpose(order)), axis=axis)

    def shaped(self, shape: Sequence[int]) -> Weights:
        """With another shape; the axis of the steps, if any, stays where it is."""
        return replace(self, array=self.array.reshape(shape))

    def taken(self, index: NDArray[np.int64], axis: int) -> Weights:
        """With the elements along ``axis`` in another order; the steps must not vary along it."""
        return replace(self, array=np.ascontiguousarray(np.take(self.array, index, axis)))


def channels_first(shape: Sequence[int]) -> Sizes:
    """``(n, ..., c)`` as ``(n, c, ...)``."""
    return (shape[0], shape[-1], *shape[1:-1])


class ChannelsLast:
    """Builds the ONNX network node by node; every method takes and gives tensors in the user's terms."""

    def __init__(self, name: str) -> None:
        import onnx_ir as ir

        self.graph = ir.Graph([], [], nodes=[], opset_imports={"": OPSET}, name=name)
        self.last: set[str] = set()
        self._tensors: dict[str, int] = {}
        self._turned: dict[tuple[int, bool], ir.Value] = {}

    # ---------------------------------------------------------------- the small parts

    def fresh(self, name: str) -> str:
        """``name``, or with a number where it is taken."""
        count = self._tensors.get(name, 0)
        self._tensors[name] = count + 1
        return name if not count else self.fresh(f"{name}_{count + 1}")

    def node(
        self,
        op: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, Any] | None = None,
        *,
        name: str,
        tensor: str | None = None,
        own: bool = True,
    ) -> ir.Value:
        """A node with one output.

        Args:
            op: ONNX operator.
            inputs: Its inputs.
            attributes: Its attributes.
            name: The user's name of the layer.
            tensor: The user's name of the output; by default the layer's.
            own: False for a node that the user's network does not have.
        """
        import onnx_ir as ir

        node = ir.node(op, inputs, attributes or {}, name=name)
        node.outputs[0].name = self.fresh(tensor or name)
        if not own:
            node.metadata_props[SOURCES] = "[]"
        self.graph.append(node)
        return node.outputs[0]

    def constant(self, name: str, given: Weights | NDArray[Any]) -> ir.Value:
        """A stored constant; one with a step stays in integers, behind a DequantizeLinear."""
        import onnx_ir as ir

        weights = given if isinstance(given, Weights) else Weights(given)
        value = self._stored(name, weights.array)
        if weights.scale is None:
            return value
        zero = weights.zero_point if weights.zero_point is not None else np.zeros(np.shape(weights.scale), np.int64)
        inputs = [value, self._stored(f"{name}.scale", weights.scale)]
        if weights.array.dtype != np.int32 or zero.any():
            inputs.append(self._stored(f"{name}.zero_point", zero.astype(weights.array.dtype)))
        node = ir.node("DequantizeLinear", inputs, {} if weights.axis is None else {"axis": weights.axis})
        node.outputs[0].name = self.fresh(f"{name}.real")
        node.name = f"{name}.real"
        node.metadata_props[SOURCES] = "[]"
        self.graph.append(node)
        return node.outputs[0]

    def _stored(self, name: str, array: NDArray[Any]) -> ir.Value:
        from bitwright.network.values import stored

        return stored(self.graph, self.fresh(name), array)

    def held(self, value: ir.Value, shape: Sequence[int], *, first: bool = False) -> Held:
        """A tensor that is finished; remembers that the user sees its channels last."""
        if first and len(shape) > 2:
            self.last.add(str(value.name))
        return Held(value, tuple(shape), first=first and len(shape) > 2)

    def input(self, name: str, shape: Sequence[int | None], dtype: str = "FLOAT") -> Held:
        """A graph input of the user's shape; the batch is free.

        Raises:
            UnknownShape: if another axis is.
        """
        import onnx_ir as ir

        unknown = [i for i, n in enumerate(shape) if i and (n is None or n < 1)]
        if unknown:
            example = ",".join("1" if not i else str(n or "SIZE") for i, n in enumerate(shape))
            raise UnknownShape(
                f"Axis {unknown[0]} of input '{printable(name)}' has no fixed size. Fix it: --shape "
                f"{printable(name)}={example} (or load(..., shapes={{'{printable(name)}': ({example})}})).",
                tensor=name,
            )
        sizes: list[int | str] = ["batch", *(int(n or 0) for n in shape[1:])]
        self._tensors[name] = 1
        value = ir.Value(name=name, type=ir.TensorType(ir.DataType[dtype]), shape=ir.Shape(sizes))
        self.graph.inputs.append(value)
        return Held(value, (1, *(int(n or 0) for n in shape[1:])))

    def output(self, x: Held, name: str) -> None:
        """Make ``x`` an output called ``name``, in the user's layout."""
        import onnx_ir as ir

        plain = self.as_last(x)
        if plain.value.name != name or plain.value.is_graph_output() or plain.value.is_graph_input():
            value = self.node("Identity", [plain.value], name=f"{name}.output", tensor=self.free(name), own=False)
        else:
            value = plain.value
        value.type = value.type or ir.TensorType(ir.DataType.FLOAT)
        self.graph.outputs.append(value)

    def free(self, name: str) -> str:
        """Take ``name`` from the inner tensor that has it, so that an output may."""
        for node in self.graph:
            for value in node.outputs:
                if value.name == name and not value.is_graph_output():
                    value.name = self.fresh(f"{name}.inner")
                    if name in self.last:
                        self.last.remove(name)
                        self.last.add(str(value.name))
                    self._tensors[name] = 0
        return name

    # ---------------------------------------------------------------- layout

    def as_first(self, x: Held) -> Held:
        """``x`` held with its channels second (tensors of 3 axes and more)."""
        x = self.whole(x)
        if x.first or x.rank < 3:
            return x
        order = (0, x.rank - 1, *range(1, x.rank - 1))
        return self.held(self._turn(x, order, "first"), x.shape, first=True)

    def as_last(self, x: Held) -> Held:
        """``x`` held as the user has it."""
        x = self.whole(x)
        if not x.first:
            return x
        order = (0, *range(2, x.rank), 1)
        return self.held(self._turn(x, order, "last"), x.shape)

    def _turn(self, x: Held, order: Sequence[int], side: str) -> ir.Value:
        key = (id(x.value), side == "first")
        if key not in self._turned:
            name = f"{x.value.name}.channels_{side}"
            self._turned[key] = self.node("Transpose", [x.value], {"perm": list(order)}, name=name, own=False)
        return self._turned[key]

    def whole(self, x: Held) -> Held:
        """``x`` with a delayed flattening carried out, in the user's order of elements."""
        if x.flat is None:
            return x
        before = self.as_last(replace(x, shape=x.flat, flat=None))
        return self.held(self._reshape(before.value, x.shape, f"{x.value.name}.flat"), x.shape)

    def _reshape(self, value: ir.Value, shape: Sequence[int], name: str, *, own: bool = False) -> ir.Value:
        target = np.asarray([0 if i == 0 and n == 1 else n for i, n in enumerate(shape)], np.int64)
        return self.node("Reshape", [value, self._stored(f"{name}.shape", target)], name=name, own=own)

    # ---------------------------------------------------------------- layers

    def window(
        self,
        op: str,
        x: Held,
        inputs: Callable[[], Sequence[ir.Value | None]],
        *,
        taps: Sequence[int],
        strides: Sequence[int],
        padding: str,
        channels: int,
        name: str,
        tensor: str | None = None,
        dilations: Sequence[int] | None = None,
        **attributes: Any,
    ) -> Held:
        """A convolution or a pool: ``padding`` is SAME or VALID, as TensorFlow means them."""
        x = self.as_first(x)
        if x.rank != len(taps) + 2:
            raise ModelError(
                f"Layer '{printable(name)}' works on {len(taps)} axes and its input has the shape {list(x.shape)}."
            )
        dilations = list(dilations or [1] * len(taps))
        pads, sizes = _pads(x.shape[1:-1], taps, strides, dilations, padding)
        if min(sizes, default=1) < 1:
            raise ModelError(f"Layer '{printable(name)}' has a window larger than its input {list(x.shape)}.")
        fixed: dict[str, Any] = {"kernel_shape": list(taps), "strides": list(strides), "pads": pads, **attributes}
        if op == "Conv" or any(d != 1 for d in dilations):
            fixed["dilations"] = dilations
        value = self.node(op, [x.value, *inputs()], fixed, name=name, tensor=tensor)
        return self.held(value, (x.shape[0], *sizes, channels), first=True)

    def dense(
        self, x: Held, weights: Weights, bias: Weights | None, *, name: str, tensor: str | None = None, hint: str
    ) -> Held:
        """A dense layer along the last axis.

        Args:
            x: Its input ``[n, ..., in]``.
            weights: ``[out, in]``.
            bias: ``[out]`` or None.
            name: The user's name of the layer.
            tensor: Of its output.
            hint: Name of the weights.
        """
        outputs, depth = weights.array.shape
        if x.shape[-1] != depth:
            raise ModelError(
                f"Layer '{printable(name)}' has weights for {depth} inputs and reads {x.shape[-1]}: the file is damaged."
            )
        if x.flat is not None and x.rank == 2:
            sizes = x.flat[1:]
            if prod(sizes[:-1]) > 1 and sizes[-1] > 1:
                index = np.arange(depth).reshape(sizes)
                weights = weights.taken(np.moveaxis(index, -1, 0).reshape(-1), 1)
            value = self._reshape(x.value, x.shape, f"{x.value.name}.flat")
            x = self.held(value, x.shape)
        x = self.as_last(x)
        if x.rank == 2:
            inputs = [x.value, self.constant(hint, weights)]
            if bias is not None:
                inputs.append(self.constant(f"{name}/bias", bias))
            value = self.node("Gemm", inputs, {"transB": 1}, name=name, tensor=tensor)
        else:
            inner = self.constant(hint, weights.turned((1, 0)))
            value = self.node("MatMul", [x.value, inner], name=name, tensor=None if bias is not None else tensor)
            if bias is not None:
                inputs = [value, self.constant(f"{name}/bias", bias)]
                value = self.node("Add", inputs, name=f"{name}/BiasAdd", tensor=tensor)
        return self.held(value, (*x.shape[:-1], outputs))

    def unary(
        self,
        op: str,
        x: Held,
        attributes: Mapping[str, Any] | None = None,
        *,
        name: str,
        tensor: str | None = None,
        more: Sequence[NDArray[Any] | np.generic | None] = (),
    ) -> Held:
        """An operator on each element; ``more`` are further inputs that hold one number."""
        extra = [None if v is None else self._stored(f"{name}.{i}", np.asarray(v)) for i, v in enumerate(more)]
        x = self.whole(x)
        value = self.node(op, [x.value, *extra], attributes, name=name, tensor=tensor)
        return self.held(value, x.shape, first=x.first)

    def elementwise(
        self,
        op: str,
        parts: Sequence[Held | Weights | NDArray[Any] | np.generic],
        *,
        name: str,
        tensor: str | None = None,
    ) -> Held:
        """An operator on elements of several tensors and constants, which broadcast as NumPy's do."""
        held = [self.whole(p) for p in parts if isinstance(p, Held)]
        constants = [p if isinstance(p, Weights) else Weights(np.asarray(p)) for p in parts if not isinstance(p, Held)]
        shape = np.broadcast_shapes(*(h.shape for h in held), *(c.array.shape for c in constants))
        first = any(h.first for h in held) and all(h.rank == len(shape) for h in held)
        tensors, inputs = iter(held), []
        for part in parts:
            if isinstance(part, Held):
                x = next(tensors)
                inputs.append((self.as_first(x) if first else self.as_last(x)).value)
                continue
            weights = part if isinstance(part, Weights) else Weights(np.asarray(part))
            if first and weights.array.ndim and weights.array.size > 1:
                weights = _constant_first(weights, len(shape), name)
            inputs.append(self.constant(f"{name}.constant", weights))
        return self.held(self.node(op, inputs, name=name, tensor=tensor), shape, first=first)

    def concat(self, parts: Sequence[Held], axis: int, *, name: str, tensor: str | None = None) -> Held:
        """Concatenation along an axis of the user's."""
        whole = [self.whole(p) for p in parts]
        first = any(p.first for p in whole)
        rank = whole[0].rank
        axis %= rank
        inputs = [(self.as_first(p) if first else self.as_last(p)).value for p in whole]
        value = self.node(
            "Concat", inputs, {"axis": self.axis(axis, rank) if first else axis}, name=name, tensor=tensor
        )
        shape = list(whole[0].shape)
        shape[axis] = sum(p.shape[axis] for p in whole)
        return self.held(value, shape, first=first)

    @staticmethod
    def axis(axis: int, rank: int) -> int:
        """Where a tensor with its channels second has the user's ``axis``."""
        axis %= rank
        return axis if axis == 0 or rank < 3 else 1 if axis == rank - 1 else axis + 1

    def along(
        self, op: str, x: Held, axis: int, *, name: str, tensor: str | None = None, attributes: Any = None
    ) -> Held:
        """An operator with an ``axis`` that leaves the shape alone (softmax)."""
        x = self.whole(x)
        own = self.axis(axis, x.rank) if x.first else axis % x.rank
        value = self.node(op, [x.value], {"axis": own, **(attributes or {})}, name=name, tensor=tensor)
        return self.held(value, x.shape, first=x.first)

    def reduce(
        self, op: str, x: Held, axes: Sequence[int], *, keep: bool, name: str, tensor: str | None = None
    ) -> Held:
        """A reduction over axes of the user's."""
        x = self.whole(x)
        gone = {a % x.rank for a in axes}
        # What is left has its channels second again only if nothing but the places between was taken out.
        if x.first and not keep and gone != set(range(1, x.rank - 1)):
            x = self.as_last(x)
        own = sorted(self.axis(a, x.rank) if x.first else a for a in gone)
        inputs = [x.value, self._stored(f"{name}.axes", np.asarray(own, np.int64))]
        value = self.node(op, inputs, {"keepdims": int(keep)}, name=name, tensor=tensor)
        shape = [1 if i in gone else n for i, n in enumerate(x.shape) if keep or i not in gone]
        return self.held(value, shape, first=x.first)

    def reshape(self, x: Held, shape: Sequence[int], *, name: str, tensor: str | None = None) -> Held:
        """Elements in the user's order, in another shape; flattening is delayed until somebody needs the order."""
        shape = tuple(int(n) for n in shape)
        if x.flat is None and x.first and len(shape) == 2 and shape[0] == x.shape[0] and prod(shape) == prod(x.shape):
            return Held(x.value, shape, first=True, flat=x.shape)
        x = self.as_last(x)
        if prod(shape) != prod(x.shape):
            raise ModelError(
                f"Layer '{printable(name)}' turns {list(x.shape)} into {list(shape)}: the file is damaged."
            )
        if shape == x.shape:
            return x
        value = self._reshape(x.value, shape, name, own=True)
        if tensor is not None and tensor != value.name:
            value.name = self.fresh(tensor)
        return self.held(value, shape)

    def transpose(self, x: Held, order: Sequence[int], *, name: str, tensor: str | None = None) -> Held:
        """The user's axes in another order."""
        x = self.as_last(x)
        value = self.node("Transpose", [x.value], {"perm": list(order)}, name=name, tensor=tensor)
        return self.held(value, [x.shape[i] for i in order])

    def pad(
        self,
        x: Held,
        pads: Sequence[Sequence[int]],
        *,
        name: str,
        tensor: str | None = None,
        mode: str = "constant",
        fill: float = 0.0,
    ) -> Held:
        """Padding of the user's axes: (before, after) each."""
        x = self.whole(x)
        order = (0, x.rank - 1, *range(1, x.rank - 1)) if x.first else range(x.rank)
        amounts = np.asarray([pads[i][0] for i in order] + [pads[i][1] for i in order], np.int64)
        inputs: list[ir.Value | None] = [x.value, self._stored(f"{name}.pads", amounts)]
        if mode == "constant":
            inputs.append(self._stored(f"{name}.fill", np.asarray(fill, np.float32)))
        value = self.node("Pad", inputs, {"mode": mode}, name=name, tensor=tensor)
        return self.held(value, [b + n + a for n, (b, a) in zip(x.shape, pads, strict=True)], first=x.first)

    def slice(
        self,
        x: Held,
        begin: Sequence[int],
        end: Sequence[int],
        step: Sequence[int],
        *,
        name: str,
        tensor: str | None = None,
    ) -> Held:
        """``x[begin:end:step]`` along every axis of the user's but the batch; the numbers are within the tensor."""
        x = self.whole(x)
        axes = [i for i in range(1, x.rank) if (begin[i], end[i], step[i]) != (0, x.shape[i], 1)]
        own = [self.axis(i, x.rank) if x.first else i for i in axes]
        texts = ("starts", "ends", "axes", "steps")
        lists = ([begin[i] for i in axes], [end[i] for i in axes], own, [step[i] for i in axes])
        inputs = [self._stored(f"{name}.{t}", np.asarray(v, np.int64)) for t, v in zip(texts, lists, strict=True)]
        value = self.node("Slice", [x.value, *inputs], name=name, tensor=tensor)
        shape = [len(range(begin[i], end[i], step[i])) if i in axes else n for i, n in enumerate(x.shape)]
        return self.held(value, shape, first=x.first)

    def resize(
        self, x: Held, sizes: Sequence[int], attributes: Mapping[str, Any], *, name: str, tensor: str | None = None
    ) -> Held:
        """Resizing of the places between batch and channels."""
        x = self.as_first(x)
        scales = [1.0, 1.0, *(new / old for new, old in zip(sizes, x.shape[1:-1], strict=True))]
        exact = all(int(old * s) == new for s, new, old in zip(scales[2:], sizes, x.shape[1:-1], strict=True))
        if exact:
            inputs: list[ir.Value | None] = [
                x.value,
                None,
                self._stored(f"{name}.scales", np.asarray(scales, np.float32)),
            ]
        else:
            whole = np.asarray([1, x.shape[-1], *sizes], np.int64)
            inputs = [x.value, None, None, self._stored(f"{name}.sizes", whole)]
        value = self.node("Resize", inputs, attributes, name=name, tensor=tensor)
        return self.held(value, (x.shape[0], *sizes, x.shape[-1]), first=True)

    # ---------------------------------------------------------------- the end

    def quantized(self, x: Held, scale: float, zero_point: int, dtype: type[np.integer[Any]], *, tensor: str) -> Held:
        """``x`` rounded to a format and back: QuantizeLinear and DequantizeLinear."""
        x = self.whole(x)
        step, zero = (
            self._stored(f"{tensor}.scale", np.asarray(scale, np.float32)),
            self._stored(f"{tensor}.zero_point", np.asarray(zero_point, dtype)),
        )
        codes = self.node("QuantizeLinear", [x.value, step, zero], name=f"{tensor}.codes", own=False)
        real = self.node("DequantizeLinear", [codes, step, zero], name=f"{tensor}.real", own=False)
        return self.held(real, x.shape, first=x.first)

    def model(self) -> ir.Model:
        """The network."""
        import onnx_ir as ir

        return ir.Model(self.graph, ir_version=10, producer_name="bitwright")


def _constant_first(weights: Weights, rank: int, name: str) -> Weights:
    """A constant of the user's to go with tensors whose channels are second."""
    shape = (1,) * (rank - weights.array.ndim) + weights.array.shape
    if weights.axis is not None:
        raise ModelError(f"Layer '{printable(name)}' has a constant with a step per channel, which is not read.")
    return Weights(
        np.ascontiguousarray(np.moveaxis(weights.array.reshape(shape), -1, 1)), weights.scale, weights.zero_point
    )


def _pads(
    size: Sequence[int], taps: Sequence[int], strides: Sequence[int], dilations: Sequence[int], padding: str
) -> tuple[list[int], list[int]]:
    """ONNX pads and output sizes of a window; TensorFlow's SAME puts an odd element after."""
    before, after, sizes = [], [], []
    for n, k, s, d in zip(size, taps, strides, dilations, strict=True):
        reach = (k - 1) * d + 1
        total = max(0, (-(-n // s) - 1) * s + reach - n) if padding == "SAME" else 0
        before.append(total // 2)
        after.append(total - total // 2)
        sizes.append((n + total - reach) // s + 1)
    return [*before, *after], sizes
