"""One small network per operator, with attributes and shapes drawn at random, and how exact its integers must be.

``CASES`` maps every operator type that has an integer form to a function that draws a :class:`Case`; a contract test
fails for an operator without one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Floats = NDArray[np.float32]
Random = random.Random


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network of one layer (or pattern) and what its integers may differ by.

    Attributes:
        model: The network.
        feeds: Input → two samples.
        slack: Largest error in steps of the output beyond the one rounding (half a step) that every operator has.
        exact: Nothing is computed, so nothing may differ.
        pattern: The layer is several nodes, which passes group.
        island: Why it has no integer form on any target; empty if it must have one on ``generic``.
    """

    model: onnx.ModelProto
    feeds: Mapping[str, Floats]
    slack: float = 0.01
    exact: bool = False
    pattern: bool = False
    island: str = ""


@dataclass
class Net:
    """A network under construction."""

    rng: Random
    opset: int = 18
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    feeds: dict[str, Floats] = field(default_factory=dict)

    @property
    def numpy(self) -> np.random.Generator:
        return np.random.default_rng(self.rng.randrange(1 << 32))

    def input(self, shape: Sequence[int], low: float = -3.0, high: float = 2.5, *, dyadic: bool = False) -> str:
        """An input of ``[n, *shape]``; ``dyadic`` values make any target choose a step of 1/32 or so."""
        name = f"x{len(self.inputs)}"
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, *shape]))
        if dyadic:
            values = self.numpy.integers(-128, 128, (2, *shape)) / 32
            values.flat[0], values.flat[-1] = -4.0, 127 / 32
        else:
            values = self.numpy.uniform(low, high, (2, *shape))
        self.feeds[name] = values.astype(np.float32)
        return name

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def ints(self, *values: int) -> str:
        return self.constant(values, np.int64)

    def weights(self, *shape: int) -> str:
        """Weights that every scheme stores exactly: whole multiples of 2^-7, ±127 of them in every channel."""
        codes = self.numpy.integers(-127, 128, shape)
        if len(shape) > 2:
            codes[..., 0] = 127
        else:
            codes[:, 0] = codes[0] = 127
        return self.constant(codes / 128.0)

    def bias(self, size: int) -> str:
        codes = self.numpy.integers(-127, 128, size)
        codes[0] = 127
        return self.constant(codes / 128.0)

    def node(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        names = [f"{op.lower()}{len(self.nodes)}_{i}" for i in range(outputs)]
        given = {k: v for k, v in attributes.items() if v is not None}
        self.nodes.append(helper.make_node(op, list(inputs), names, name=f"{op}{len(self.nodes)}", **given))
        return names[0] if outputs == 1 else names

    def case(self, *outputs: str, kind: int = TensorProto.FLOAT, **options: Any) -> Case:
        graph = helper.make_graph(
            self.nodes,
            "case",
            self.inputs,
            [helper.make_tensor_value_info(name, kind, None) for name in outputs],
            initializer=self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=10)
        return Case(model=model, feeds=self.feeds, **options)


def maybe(rng: Random, value: Any) -> Any:
    """The value, or None so that the attribute is left out."""
    return value if rng.random() < 0.7 else None


def conv(rng: Random) -> Case:
    net = Net(rng)
    rank = rng.choice([1, 2, 2, 2, 3])
    groups = rng.choice([1, 1, 2, 3])
    depthwise = rng.random() < 0.3
    inputs = groups if depthwise else groups * rng.randint(1, 2)
    outputs = groups * rng.randint(1, 3)
    taps = [rng.randint(1, 3) for _ in range(rank)]
    dilations = [rng.choice([1, 1, 2]) for _ in range(rank)]
    auto = rng.choice(["NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"])
    if auto.startswith("SAME"):  # ONNX Runtime refuses both at once
        dilations = [1] * rank
    pads = [rng.randint(0, 2) for _ in range(2 * rank)] if auto == "NOTSET" else None
    x = net.input([inputs, *(rng.randint(5, 7) for _ in range(rank))])
    y = net.node(
        "Conv", x, net.weights(outputs, inputs // groups, *taps), *([net.bias(outputs)] if rng.random() < 0.7 else []),
        kernel_shape=maybe(rng, taps), strides=[rng.randint(1, 3) for _ in range(rank)], dilations=dilations,
        pads=pads, auto_pad=maybe(rng, auto) if auto == "NOTSET" else auto, group=groups,
    )  # fmt: skip
    return net.case(y, slack=0.02)


def conv_transpose(rng: Random) -> Case:
    net = Net(rng)
    rank = rng.choice([1, 2, 2])
    groups = rng.choice([1, 1, 2])
    inputs, outputs = groups * rng.randint(1, 2), rng.randint(1, 2)
    taps = [rng.randint(1, 4) for _ in range(rank)]
    strides = [rng.randint(1, 3) for _ in range(rank)]
    dilations = [rng.choice([1, 1, 2]) for _ in range(rank)]
    auto = rng.choice(["NOTSET", "NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"])
    extra = [rng.randint(0, s - 1) for s in strides]
    size = [rng.randint(3, 5) for _ in range(rank)]
    pads = None
    if auto == "NOTSET":
        pads = [rng.randint(0, min(2, (k - 1) * d + 1)) for k, d in zip(taps, dilations, strict=True)] * 2
        grown = [(n - 1) * s + (k - 1) * d + 1 for n, s, k, d in zip(size, strides, taps, dilations, strict=True)]
        if any(g <= p + q for g, p, q in zip(grown, pads[:rank], pads[rank:], strict=True)):
            pads = [0] * (2 * rank)
    else:
        extra, dilations = [0] * rank, [1] * rank
        taps = [max(k, s) for k, s in zip(taps, strides, strict=True)]
    x = net.input([inputs, *size])
    y = net.node(
        "ConvTranspose", x, net.weights(inputs, outputs, *taps),
        *([net.bias(groups * outputs)] if rng.random() < 0.7 else []),
        strides=strides, dilations=dilations, pads=pads, output_padding=maybe(rng, extra), group=groups,
        auto_pad=None if auto == "NOTSET" else auto,
    )  # fmt: skip
    return net.case(y, slack=0.02)


def gemm(rng: Random) -> Case:
    net = Net(rng)
    depth, outputs = rng.randint(1, 9), rng.randint(1, 6)
    turned = rng.random() < 0.5
    x = net.input([depth])
    w = net.weights(*((outputs, depth) if turned else (depth, outputs)))
    bias = rng.choice([None, net.bias(outputs), net.constant([[0.5] * outputs]), net.constant(0.25)])
    y = net.node(
        "Gemm", x, w, *([bias] if bias else []), transB=int(turned), alpha=maybe(rng, 0.5), beta=maybe(rng, 2.0)
    )
    return net.case(y, slack=0.02)


def matmul(rng: Random) -> Case:
    net = Net(rng)
    outer = [rng.randint(1, 3) for _ in range(rng.randint(0, 2))]
    depth = rng.randint(1, 6)
    return net.case(net.node("MatMul", net.input([*outer, depth]), net.weights(depth, rng.randint(1, 5))), slack=0.02)


def pool_attributes(rng: Random, size: Sequence[int], *, dilated: bool) -> dict[str, Any]:
    rank = len(size)
    taps = [rng.randint(1, 4) for _ in range(rank)]
    auto = rng.choice(["NOTSET", "NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"])
    pads = None
    if auto == "NOTSET":
        pads = [rng.randint(0, k - 1) for k in taps] + [rng.randint(0, k - 1) for k in taps]
    dilations = [rng.choice([1, 2]) for _ in range(rank)] if dilated and auto == "NOTSET" else None
    strides = [rng.randint(1, 3) for _ in range(rank)]
    ceil_mode = rng.randint(0, 1) if auto == "NOTSET" else None
    if pads and ceil_mode:
        # ONNX counts a window that starts in the padding at the end, ONNX Runtime and PyTorch do not: leave those out.
        for n, k, s, d, b, a in zip(
            size, taps, strides, dilations or [1] * rank, pads[:rank], pads[rank:], strict=True
        ):
            last = -(-(n + b + a - (k - 1) * d - 1) // s) * s
            if last >= n + b:
                ceil_mode = 0
    return {
        "kernel_shape": taps,
        "strides": strides if any(s != 1 for s in strides) else maybe(rng, strides),
        "pads": pads,
        "dilations": dilations,
        "auto_pad": None if auto == "NOTSET" else auto,
        "ceil_mode": ceil_mode,
    }


def max_pool(rng: Random) -> Case:
    net = Net(rng)
    rank = rng.choice([1, 2, 2, 3])
    size = [rng.randint(7, 9) for _ in range(rank)]
    x = net.input([rng.randint(1, 3), *size])
    return net.case(net.node("MaxPool", x, **pool_attributes(rng, size, dilated=True)), exact=True)


def average_pool(rng: Random) -> Case:
    net = Net(rng, opset=rng.choice([11, 18, 19]))
    rank = rng.choice([1, 2, 2, 3])
    size = [rng.randint(7, 9) for _ in range(rank)]
    x = net.input([rng.randint(1, 3), *size])
    attributes = pool_attributes(rng, size, dilated=net.opset >= 19)
    attributes["count_include_pad"] = maybe(rng, rng.randint(0, 1))
    return net.case(net.node("AveragePool", x, **attributes))


def whole(op: str, *, exact: bool = False) -> Callable[[Random], Case]:
    def draw(rng: Random) -> Case:
        net = Net(rng)
        shape = [rng.randint(1, 3), *(rng.randint(1, 7) for _ in range(rng.choice([1, 2, 2, 3])))]
        return net.case(net.node(op, net.input(shape)), exact=exact)

    return draw


def reduce(op: str, *, exact: bool = False) -> Callable[[Random], Case]:
    def draw(rng: Random) -> Case:
        net = Net(rng)
        rank = rng.randint(2, 4)
        axes = sorted(rng.sample(range(1, rank), rng.randint(1, rank - 1)))
        axes = [a - rank if rng.random() < 0.5 else a for a in axes]
        x = net.input([rng.randint(1, 5) for _ in range(rank - 1)])
        return net.case(net.node(op, x, net.ints(*axes), keepdims=maybe(rng, rng.randint(0, 1))), exact=exact)

    return draw


def arg_max(rng: Random) -> Case:
    net = Net(rng)
    rank = rng.randint(2, 4)
    axis = rng.randint(1, rank - 1)
    x = net.input([rng.randint(1, 6) for _ in range(rank - 1)])
    y = net.node("ArgMax", x, axis=rng.choice([axis, axis - rank]), keepdims=maybe(rng, rng.randint(0, 1)))
    return net.case(y, kind=TensorProto.INT64, exact=True)


def broadcast(rng: Random, shape: Sequence[int]) -> list[int]:
    """A shape of the same rank that broadcasts to ``shape``."""
    return [n if rng.random() < 0.7 else 1 for n in shape]


def operand(net: Net, shape: Sequence[int], low: float, high: float) -> str:
    """A constant that broadcasts to ``[n, *shape]``: a scalar, per channel, or of fewer axes."""
    rng = net.rng
    chosen: list[int] = rng.choice([[], [1], broadcast(rng, shape), [1, *broadcast(rng, shape)], list(shape[-1:])])
    return net.constant(net.numpy.uniform(low, high, chosen))


def elementwise(op: str, *, most: int = 2, constants: bool = True) -> Callable[[Random], Case]:
    def draw(rng: Random) -> Case:
        net = Net(rng)
        shape = [rng.randint(1, 4) for _ in range(rng.randint(1, 3))]
        kind = rng.choice(["tensors", "tensors", "constant", "same"] if constants else ["tensors"])
        x = net.input(shape, rng.uniform(-4, 0), rng.uniform(0.5, 3))
        if kind == "constant":
            inputs = [x, operand(net, shape, -2, 2)]
            if rng.random() < 0.5:
                inputs.reverse()
        elif kind == "same":
            inputs = [x, x]
        else:
            others = [broadcast(rng, shape) for _ in range(rng.randint(1, most - 1))]
            inputs = [x, *(net.input(s, rng.uniform(-9, 0), rng.uniform(0.1, 5)) for s in others)]
        return net.case(net.node(op, *inputs), slack=0.02)

    return draw


def div(rng: Random) -> Case:
    net = Net(rng)
    shape = [rng.randint(1, 4) for _ in range(rng.randint(1, 3))]
    sign = rng.choice([-1, 1])
    return net.case(
        net.node("Div", net.input(shape), operand(net, shape, *sorted([0.5 * sign, 3.0 * sign]))), slack=0.02
    )


def clip(rng: Random) -> Case:
    net = Net(rng)
    low, high = sorted(rng.uniform(-2, 2) for _ in range(2))
    bounds = [rng.choice(["", net.constant(low)]), rng.choice(["", net.constant(high)])]
    return net.case(net.node("Clip", net.input([5, 4]), *bounds))


def prelu(rng: Random) -> Case:
    net = Net(rng)
    shape = [rng.randint(1, 4) for _ in range(rng.randint(1, 3))]
    chosen = rng.choice([[1], [shape[0], *([1] * (len(shape) - 1))], list(shape)])
    slopes = net.constant(net.numpy.uniform(-0.5, 1.2, chosen))
    return net.case(net.node("PRelu", net.input(shape), slopes), slack=0.02)


def softmax(op: str, slack: float) -> Callable[[Random], Case]:
    def draw(rng: Random) -> Case:
        net = Net(rng, opset=rng.choice([11, 18]))
        rank = rng.randint(2, 4)
        axis = rng.randint(1, rank - 1)
        wide = rng.choice([0.1, 1, 4, 12])
        x = net.input([rng.randint(1, 12) for _ in range(rank - 1)], -wide, wide)
        return net.case(net.node(op, x, axis=rng.choice([axis, axis - rank])), slack=slack)

    return draw


def lrn(rng: Random) -> Case:
    net = Net(rng)
    x = net.input([rng.randint(1, 7), rng.randint(1, 3), rng.randint(1, 3)], -8, 8)
    y = net.node(
        "LRN", x, size=rng.choice([1, 3, 5]), alpha=maybe(rng, rng.uniform(1e-4, 0.02)),
        beta=maybe(rng, rng.uniform(0.5, 0.8)), bias=maybe(rng, rng.uniform(1, 2)),
    )  # fmt: skip
    return net.case(y, slack=0.35)


def reshape(rng: Random) -> Case:
    net = Net(rng)
    return net.case(net.node("Reshape", net.input([2, 6, 2]), net.ints(0, rng.choice([2, 3, 4, 12]), -1)), exact=True)


def flatten(rng: Random) -> Case:
    net = Net(rng)
    return net.case(net.node("Flatten", net.input([2, 3, 2]), axis=1), exact=True)


def squeeze(rng: Random) -> Case:
    net = Net(rng)
    return net.case(
        net.node("Squeeze", net.input([1, 3, 1]), net.ints(*rng.choice([(1,), (3,), (1, 3), (-1,)]))), exact=True
    )


def unsqueeze(rng: Random) -> Case:
    net = Net(rng)
    return net.case(
        net.node("Unsqueeze", net.input([2, 3]), net.ints(*rng.choice([(1,), (3,), (1, 4), (-1,)]))), exact=True
    )


def plain_move(op: str, **attributes: Any) -> Callable[[Random], Case]:
    def draw(rng: Random) -> Case:
        net = Net(rng)
        return net.case(net.node(op, net.input([3, 2]), **attributes), exact=True)

    return draw


def transpose(rng: Random) -> Case:
    net = Net(rng)
    order = [1, 2, 3]
    rng.shuffle(order)
    return net.case(net.node("Transpose", net.input([2, 3, 4]), perm=[0, *order]), exact=True)


def concat(rng: Random) -> Case:
    net = Net(rng)
    axis = rng.randint(1, 2)
    shapes = [[3, 4] for _ in range(rng.randint(1, 3))]
    for shape in shapes:
        shape[axis - 1] = rng.randint(1, 4)
    wide = rng.choice([1.0, 1.0, 3.0])
    xs = [net.input(shape, -1 * wide**i, 0.9 * wide**i) for i, shape in enumerate(shapes)]
    return net.case(net.node("Concat", *xs, axis=rng.choice([axis, axis - 3])))


def split(rng: Random) -> Case:
    net = Net(rng)
    sizes = [rng.randint(1, 3) for _ in range(rng.randint(2, 3))]
    x = net.input([sum(sizes), 2])
    return net.case(*net.node("Split", x, net.ints(*sizes), axis=rng.choice([1, -2]), outputs=len(sizes)), exact=True)


def slice_(rng: Random) -> Case:
    net = Net(rng)
    shape = [7, 6, 5]
    starts, ends, axes, steps = [], [], [], []
    for axis in sorted(rng.sample([1, 2, 3], rng.randint(1, 3))):
        n = shape[axis - 1]
        step = rng.choice([1, 1, 2, 3, -1, -2])
        start, end = (rng.randint(0, 2), rng.choice([n, n - 1, -1, 1 << 40]))
        if step < 0:
            start, end = rng.choice([n - 1, -1, 1 << 40, n]), rng.choice([0, 1, -n - 1, -(1 << 40), -n])
        axes.append(rng.choice([axis, axis - 4]))
        starts.append(start)
        ends.append(end)
        steps.append(step)
    return net.case(
        net.node("Slice", net.input(shape), net.ints(*starts), net.ints(*ends), net.ints(*axes), net.ints(*steps)),
        exact=True,
    )


def gather(rng: Random) -> Case:
    net = Net(rng)
    axis = rng.randint(1, 2)
    n = (5, 4)[axis - 1]
    indices: Any = rng.choice([rng.randint(-n, n - 1), [rng.randint(-n, n - 1) for _ in range(3)], [[0, 1], [-1, 2]]])
    y = net.node("Gather", net.input([5, 4]), net.constant(indices, np.int64), axis=rng.choice([axis, axis - 3]))
    return net.case(y, exact=True)


def expand(rng: Random) -> Case:
    net = Net(rng)
    shape = rng.choice([(1, 3, 4), (1, 3, 1), (1, 1, 4), (1, 5, 3, 4)])
    x = net.input([1, 4] if len(shape) == 3 else [1, 3, 4])
    return net.case(net.node("Expand", x, net.ints(*shape)), exact=True)


def tile(rng: Random) -> Case:
    net = Net(rng)
    return net.case(net.node("Tile", net.input([2, 3]), net.ints(1, rng.randint(1, 3), rng.randint(1, 3))), exact=True)


def pad(rng: Random) -> Case:
    net = Net(rng, opset=rng.choice([13, 18, 19]))
    mode = rng.choice(["constant", "reflect", "edge"] + (["wrap"] if net.opset >= 19 else []))
    shape = [5, 6]
    low = -2 if mode == "constant" or rng.random() < 0.3 else 0
    pads = [0, *(rng.randint(low, 2) for _ in shape), 0, *(rng.randint(low, 2) for _ in shape)]
    x = net.input(shape, -2, 2)
    inputs = [x, net.ints(*pads)]
    if mode == "constant" and rng.random() < 0.7:
        inputs.append(net.constant(rng.choice([0.0, 1.0, -1e9])))
    if net.opset >= 18 and rng.random() < 0.4:
        inputs += [""] * (3 - len(inputs))
        inputs[1] = net.ints(pads[1], pads[2], pads[4], pads[5])
        inputs.append(net.ints(*rng.choice([(1, 2), (-2, -1)])))
    return net.case(net.node("Pad", *inputs, mode=mode), exact=mode != "constant")


def depth_to_space(rng: Random) -> Case:
    net = Net(rng)
    b = rng.choice([2, 3])
    x = net.input([b * b * rng.randint(1, 2), rng.randint(1, 3), 2])
    return net.case(net.node("DepthToSpace", x, blocksize=b, mode=maybe(rng, rng.choice(["DCR", "CRD"]))), exact=True)


def space_to_depth(rng: Random) -> Case:
    net = Net(rng)
    b = rng.choice([2, 3])
    x = net.input([rng.randint(1, 2), b * rng.randint(1, 2), b * rng.randint(1, 2)])
    return net.case(net.node("SpaceToDepth", x, blocksize=b), exact=True)


COORDINATES = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric"]
NEAREST = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]


def resize(rng: Random) -> Case:
    net = Net(rng, opset=rng.choice([11, 18, 19]))
    mode = rng.choice(["nearest", "linear"])
    coordinates = rng.choice(COORDINATES[: 4 if net.opset < 19 else 5])
    size = [rng.randint(2, 6), rng.randint(2, 6)]
    x = net.input([rng.randint(1, 2), *size])
    absent = net.constant([]) if net.opset < 13 else ""
    if rng.random() < 0.5:
        # Dyadic scales: others put positions on ties by the rounding of float32, which is no law.
        scales = [rng.choice([0.5, 1.0, 1.5, 2.0, 4.0]) for _ in size]
        inputs = [x, absent, net.constant([1.0, 1.0, *scales])]
    else:
        wanted = [n * rng.randint(1, 3) for n in size]
        inputs = [x, absent, absent, net.ints(1, x_channels(net), *wanted)]
    y = net.node(
        "Resize", *inputs, mode=mode, coordinate_transformation_mode=maybe(rng, coordinates),
        nearest_mode=maybe(rng, rng.choice(NEAREST)) if mode == "nearest" else None,
    )  # fmt: skip
    # A neighbor's weight is a whole number of 1/256, per axis.
    return net.case(y, exact=mode == "nearest", slack=1.1)


def x_channels(net: Net) -> int:
    return int(net.feeds["x0"].shape[1])


def upsample(rng: Random) -> Case:
    net = Net(rng, opset=9)
    mode = rng.choice(["nearest", "linear"])
    x = net.input([2, rng.randint(2, 4), rng.randint(2, 4)])
    scales = net.constant([1.0, 1.0, rng.choice([1.0, 2.0, 3.0]), rng.choice([2.0, 4.0])])
    return net.case(net.node("Upsample", x, scales, mode=mode), exact=mode == "nearest", slack=1.1)


def function(
    op: str, low: float = -4.0, high: float = 4.0, *, jumps: bool = False, opset: int = 18, **choices: Sequence[Any]
) -> Callable[[Random], Case]:
    """A function of one element; ``jumps`` are met at whole codes only, so that float32 and float64 agree on the side."""

    def draw(rng: Random) -> Case:
        net = Net(rng, opset=opset)
        x = net.input([6, 5], low, high, dyadic=jumps)
        attributes = {name: maybe(rng, rng.choice(values)) for name, values in choices.items()}
        return net.case(net.node(op, x, **attributes))

    return draw


def leaky_relu(rng: Random) -> Case:
    net = Net(rng)
    return net.case(net.node("LeakyRelu", net.input([6, 5]), alpha=rng.choice([0.1, 0.1, 0.01, 0.3])))


def silu(rng: Random) -> Case:
    net = Net(rng)
    x = net.input([6, 5], -6, 6)
    return net.case(net.node("Mul", x, net.node("Sigmoid", x)), pattern=True)


def power(rng: Random) -> Case:
    net = Net(rng)
    exponent = rng.choice([2.0, 3.0, 0.5, -1.0])
    low = 0.5 if exponent in (0.5, -1.0) else -2.0
    return net.case(net.node("Pow", net.input([6, 5], low, 2.0), net.constant(exponent)))


def mod(rng: Random) -> Case:
    net = Net(rng)
    return net.case(net.node("Mod", net.input([6, 5], dyadic=True), net.constant(rng.choice([1.5, -0.75])), fmod=1))


CASES: Mapping[str, Callable[[Random], Case]] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Gemm": gemm,
    "MatMul": matmul,
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "GlobalAveragePool": whole("GlobalAveragePool"),
    "GlobalMaxPool": whole("GlobalMaxPool", exact=True),
    "ReduceMean": reduce("ReduceMean"),
    "ReduceMax": reduce("ReduceMax", exact=True),
    "ReduceSum": reduce("ReduceSum"),
    "ArgMax": arg_max,
    "Add": elementwise("Add"),
    "Sum": elementwise("Sum", most=4),
    "Sub": elementwise("Sub"),
    "Mul": elementwise("Mul"),
    "Div": div,
    "Relu": function("Relu"),
    "Clip": clip,
    "Identity": function("Identity"),
    "PRelu": prelu,
    "Min": elementwise("Min", most=3),
    "Max": elementwise("Max", most=3),
    "Abs": function("Abs"),
    "Acos": function("Acos", -1, 1),
    "Acosh": function("Acosh", 1, 9),
    "Asin": function("Asin", -1, 1),
    "Asinh": function("Asinh"),
    "Atan": function("Atan"),
    "Atanh": function("Atanh", -0.9, 0.9),
    "Ceil": function("Ceil", jumps=True),
    "Celu": function("Celu", alpha=[0.5, 2.0]),
    "Cos": function("Cos"),
    "Cosh": function("Cosh"),
    "Elu": function("Elu", alpha=[0.5, 2.0]),
    "Erf": function("Erf"),
    "Exp": function("Exp"),
    "Floor": function("Floor", jumps=True),
    "Gelu": function("Gelu", opset=20, approximate=["none", "tanh"]),
    "HardSigmoid": function("HardSigmoid", alpha=[0.1, 0.3], beta=[0.2, 0.6]),
    "HardSwish": function("HardSwish"),
    "LeakyRelu": leaky_relu,
    "Log": function("Log", 0.2, 6),
    "Mish": function("Mish"),
    "Neg": function("Neg"),
    "Reciprocal": function("Reciprocal", 0.3, 4),
    "Round": function("Round", jumps=True),
    "Selu": function("Selu", alpha=[1.0, 2.0], gamma=[1.5]),
    "Shrink": function("Shrink", jumps=True, bias=[0.25], lambd=[0.5, 1.0]),
    "SiLU": silu,
    "Sigmoid": function("Sigmoid", -8, 8),
    "Sign": function("Sign", jumps=True),
    "Sin": function("Sin"),
    "Sinh": function("Sinh"),
    "Softplus": function("Softplus"),
    "Softsign": function("Softsign"),
    "Sqrt": function("Sqrt", 0, 9),
    "Swish": function("Swish", opset=24, alpha=[0.5, 1.5]),
    "Tan": function("Tan", -1.2, 1.2),
    "Tanh": function("Tanh"),
    "ThresholdedRelu": function("ThresholdedRelu", jumps=True, alpha=[0.5, 1.5]),
    "Pow": power,
    "Mod": mod,
    "Softmax": softmax("Softmax", 0.1),
    "LogSoftmax": softmax("LogSoftmax", 0.2),
    "LRN": lrn,
    "Reshape": reshape,
    "Flatten": flatten,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Dropout": plain_move("Dropout"),
    "Cast": plain_move("Cast", to=TensorProto.FLOAT),
    "Transpose": transpose,
    "Concat": concat,
    "Split": split,
    "Slice": slice_,
    "Gather": gather,
    "Expand": expand,
    "Tile": tile,
    "Pad": pad,
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
    "Resize": resize,
    "Upsample": upsample,
}
