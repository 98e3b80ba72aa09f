"""What the writers of C functions share: where things are, and how values get their C names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bitwright.export.c.constants import Constants
from bitwright.export.c.layout import Layout
from bitwright.export.c.names import c_int, type_of
from bitwright.export.c.storage import View, axis_strides
from bitwright.number.expr import Expr, Op
from bitwright.number.render import c_type
from bitwright.program.program import Buffer, Program, Step


@dataclass(frozen=True)
class Function:
    """A C function ``(inputs..., output)`` without its name.

    Attributes:
        parameters: Parameter list.
        body: Lines.
    """

    parameters: str
    body: tuple[str, ...]

    def text(self, name: str) -> str:
        """The definition."""
        return "\n".join([f"static void {name}({self.parameters})", "{", *self.body, "}"])


@dataclass(frozen=True)
class Scene:
    """What the writers of functions look things up in.

    Attributes:
        program: The program.
        layouts: Storage order of each buffer.
        views: Memory of each buffer.
        constants: Where constant arrays go.
    """

    program: Program
    layouts: Mapping[str, Layout]
    views: Mapping[str, View]
    constants: Constants

    def buffer(self, name: str) -> Buffer:
        """A buffer of the program."""
        return self.program.buffers[name]

    def c_type(self, name: str) -> str:
        """The C type of a buffer's elements."""
        return type_of(self.buffer(name).format.dtype)

    def strides(self, name: str) -> tuple[int, ...] | None:
        """Elements from one index to the next along each axis of a buffer, in its memory."""
        return axis_strides(self.layouts[name], self.views[name])


def parameters(scene: Scene, step: Step) -> str:
    """``const int8_t *x0, const int8_t *x1, int8_t *y``."""
    parts = [f"const {scene.c_type(name)} *x{i}" for i, name in enumerate(step.inputs)]
    return ", ".join([*parts, f"{scene.c_type(step.outputs[0])} *y"])


def value_names(expr: Expr, given: Mapping[str, str]) -> tuple[list[str], Callable[[str], str]]:
    """Declarations that load every variable of ``expr`` once, and the names they get.

    Args:
        expr: The expression.
        given: Variable → C expression for it.
    """
    loads, table = [], {}
    nodes = {node.name: node for node in expr.walk() if node.op is Op.VAR}
    for i, (name, node) in enumerate(nodes.items()):
        if given[name].lstrip("-").isdigit():
            table[name] = given[name]
            continue
        table[name] = f"v{i}"
        kind = c_type(node.lo, node.hi)
        loads.append(f"const {kind} v{i} = ({kind}){given[name]};")
    return loads, table.__getitem__


def parameter_source(
    scene: Scene, step: Step, tensor: str, dims: Sequence[int], order: Sequence[int]
) -> tuple[str, tuple[int, ...]]:
    """A constant that broadcasts against the output: its C array and stride along each output axis.

    Args:
        scene: For the constants.
        step: Whose constant.
        tensor: Its name.
        dims: Shape of the output.
        order: Storage order of the output, which the constant is put in too.
    """
    values = scene.program.tensors[tensor]
    if values.size == 1:
        return c_int(int(values.ravel()[0])), (0,) * len(dims)
    padded = values.reshape((1,) * (len(dims) - values.ndim) + values.shape)
    stored = np.ascontiguousarray(padded.transpose(order))
    strides, gap = [0] * len(dims), 1
    for axis in reversed(order):
        strides[axis] = gap if padded.shape[axis] > 1 else 0
        gap *= padded.shape[axis]
    return scene.constants.add(step.layer, "requantization", tensor, stored), tuple(strides)


def channel_parameter(scene: Scene, step: Step, tensor: str, channel: str) -> str:
    """A constant of an epilogue as C: a number, or an array at the channel."""
    values = scene.program.tensors[tensor]
    if values.size == 1:
        return c_int(int(values.ravel()[0]))
    return f"{scene.constants.add(step.layer, 'requantization', tensor, values)}[{channel}]"
