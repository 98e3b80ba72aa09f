"""A program as Python source for PyTorch: a module with a parameter per weight, and what ``forward`` computes."""

from __future__ import annotations

import keyword
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import ExportError, printable
from bitwright.export.onnx_int import is_index
from bitwright.export.qdq import layer_specs
from bitwright.export.verify import program_sha256
from bitwright.number.expr import Expr, Op, evaluate, saturate, var
from bitwright.number.format import Format, Rounding
from bitwright.number.requantize import rescale
from bitwright.ops.operator import code_bounds
from bitwright.program.builder import identifier
from bitwright.program.forms import (
    Axis,
    Contract,
    Fill,
    Island,
    Join,
    Map,
    Motion,
    Move,
    Reduce,
    Reshape,
    Table,
    Take,
    Transpose,
)
from bitwright.program.program import Learnable, Step

if TYPE_CHECKING:
    from bitwright.calibrate.spec import LayerSpec
    from bitwright.quantized import Quantized

NAMES: Mapping[Op, str] = {
    Op.ADD: "add",
    Op.SUB: "sub",
    Op.MUL: "mul",
    Op.SHL: "shl",
    Op.SHR: "shr",
    Op.DIV: "div",
    Op.MIN: "minimum",
    Op.MAX: "maximum",
    Op.SCALE32_EVEN: "scale32_even",
    Op.SCALE32_AWAY: "scale32_away",
}
ACCUMULATOR = 1 << 31
LARGEST_FLOAT64 = 1 << 53


@dataclass(frozen=True, kw_only=True)
class LearnedLayer:
    """A layer with parameters.

    Attributes:
        layer: Its name in the network.
        attribute: Its name in the module.
        weight: Real weights that round to the program's integers, float32.
        bias: Real bias likewise, float32 where that holds it, or None.
        kept: Weights that are the network's own; the others are the program's integers, which something repaired.
    """

    layer: str
    attribute: str
    weight: NDArray[Any]
    bias: NDArray[Any] | None
    kept: int


@dataclass
class Source:
    """The text of a module, and the numbers that it needs."""

    layers: list[LearnedLayer] = field(default_factory=list)
    constants: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    functions: list[str] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    body: list[str] = field(default_factory=list)


def module_source(q: Quantized) -> tuple[str, Source]:
    """The text of ``model.py``, and what goes into ``weights.safetensors``.

    Raises:
        ExportError: naming the first layer that stays in float.
    """
    return _Writer(q).written()


class _Writer:
    def __init__(self, q: Quantized) -> None:
        self.q, self.program = q, q.program
        self.specs: dict[str, LayerSpec] = {spec.name: spec for spec in layer_specs(q)}
        self.source = Source()
        self.names: dict[str, str] = {}  # buffer → variable
        self.attributes: set[str] = {"forward", "training", "layers"}

    def written(self) -> tuple[str, Source]:
        for i, name in enumerate(self.program.inputs):
            self.input(i, name)
        for step in self.program.steps:
            self.step(step)
        results = [self.output(name) for name in self.program.outputs]
        self.source.body.append(f"return {', '.join(results)}")
        arguments = ", ".join(f"x{i}" for i in range(len(self.program.inputs)))
        return TEMPLATE.format(
            name=printable(self.q.name, 80).replace('"', "'").replace("\\", "/"),
            target=printable(self.program.target, 80),
            program=program_sha256(self.q),
            functions="\n\n\n".join(self.source.functions),
            made=indented(self.source.made) or "        pass",
            arguments=arguments,
            body=indented(self.source.body),
        ), self.source

    # ---------------------------------------------------------------- pieces

    def variable(self, buffer: str) -> str:
        if buffer not in self.names:
            self.names[buffer] = f"v{len(self.names)}"
        return self.names[buffer]

    def attribute(self, name: str) -> str:
        stem = identifier(name).strip("_") or "layer"
        stem = stem if stem[0].isalpha() and not keyword.iskeyword(stem) else f"layer_{stem}"
        found, number = stem, 1
        while found in self.attributes:
            number += 1
            found = f"{stem}_{number}"
        self.attributes.add(found)
        return found

    def constant(self, values: NDArray[Any]) -> str:
        name = f"k{len(self.source.constants)}"
        self.source.constants[name] = np.asarray(values, np.int64)
        return f"self.{name}"

    def constants(self, params: Mapping[str, str]) -> str:
        found = [f"{key!r}: {self.constant(self.program.tensors[tensor])}" for key, tensor in params.items()]
        return "{" + ", ".join(found) + "}"

    def function(self, expr: Expr) -> str:
        """An epilogue as a function over a table of operations."""
        name = f"e{len(self.source.functions)}"
        lines: list[str] = []

        def leaf(node: Expr) -> str:
            return str(node.value) if node.op is Op.CONST else node.name

        def combine(node: Expr, a: str, b: str) -> str:
            made = f"t{len(lines)}"
            lines.append(f"    {made} = m.{NAMES[node.op]}({a}, {b})")
            return made

        result = evaluate(expr, leaf, dict.fromkeys(NAMES, combine))
        given = "".join(f", {variable}" for variable in expr.variables())
        floors = not any(node.op in (Op.SCALE32_EVEN, Op.SCALE32_AWAY) for node in expr.walk())
        text = [f"def {name}(m{given}):", *lines, f"    return {result}", "", "", f"{name}.floors = {floors}"]
        self.source.functions.append("\n".join(text))
        return name

    def input(self, i: int, name: str) -> None:
        format = self.program.buffers[name].format
        if is_index(format):
            raise ExportError(
                f"Input '{printable(name)}' holds indices, which the steps of this program take in float; PyTorch modules "
                "are written for networks that are all integers."
            )
        self.source.body.append(
            f"{self.variable(name)} = quantize_input(x{i}, {float(format.scale)!r}, {int(format.zero_point)}, "
            f"{format.lo}, {format.hi}, {str(self.program.input_rounding)!r})"
        )

    def output(self, name: str) -> str:
        format = self.program.buffers[name].format
        if is_index(format):
            return self.variable(name)
        return f"dequantize({self.variable(name)}, {float(format.scale)!r}, {int(format.zero_point)})"

    # ---------------------------------------------------------------- steps

    def limits(self, step: Step) -> tuple[int, int]:
        """Codes that a step saturates at, whatever was proven for the weights that it has now."""
        out = self.program.buffers[step.outputs[0]]
        spec = self.specs.get(step.layer)
        clamp = spec.clamp if spec is not None and out.tensor in spec.outputs else None
        lo, hi = code_bounds(out.format, clamp)
        return max(lo, -LARGEST_FLOAT64), min(hi, LARGEST_FLOAT64)

    def step(self, step: Step) -> None:
        out = self.variable(step.outputs[0])
        inputs = [self.variable(name) for name in step.inputs]
        match step.form:
            case Contract():
                text = self.contract(step, step.form, inputs[0])
            case Reduce():
                form = {
                    "combine": step.form.combine,
                    "zero": step.form.input_zero,
                    "axes": [numbers(a) for a in step.form.axes],
                    "variables": step.form.epilogue.expr.variables(),
                }
                name = self.function(step.form.epilogue.expr)
                given = self.constants(step.form.epilogue.params)
                text = f"reduce({inputs[0]}, {form!r}, {self.limits(step)}, {name}, {given})"
            case Map():
                name = self.function(step.form.expr)
                given = self.constants(step.form.params)
                text = f"elementwise([{', '.join(inputs)}], {self.limits(step)}, {name}, {given})"
            case Table():
                lowest = self.program.buffers[step.inputs[0]].format.lo
                table = self.constant(self.program.tensors[step.form.table])
                text = f"looked_up({inputs[0]}, {table}, {lowest})"
            case Move():
                motions = [self.motion(m) for m in step.form.motions]
                text = f"moved([{', '.join(inputs)}], {motions!r})"
            case Island():
                raise ExportError(
                    f"Layer '{printable(step.layer)}' ({printable(step.op)}) stays in float ({printable(step.form.reason)}); "
                    "PyTorch modules are written for networks that are all integers. Quantize for --target generic, or "
                    "replace the layer."
                )
        self.source.body.append(f"{out} = {text}  # {printable(step.layer, 80)}")

    def motion(self, motion: Motion) -> tuple[Any, ...]:
        match motion:
            case Reshape():
                return ("reshape", motion.shape, self.program.batchable)
            case Transpose():
                return ("transpose", motion.order)
            case Take():
                return ("take", motion.axis, motion.indices)
            case Fill():
                return ("fill", motion.before, motion.after, motion.value)
            case Join():
                return ("join", motion.axis)

    def contract(self, step: Step, form: Contract, source: str) -> str:
        out = self.program.buffers[step.outputs[0]].format
        entering = self.program.buffers[step.inputs[0]].format
        stored = next(x for x in self.program.learnables if x.tensor == form.weight)
        own = next((x for x in self.program.learnables if x.layer == step.layer and x.parameter == "Bias"), None)
        spec = self.specs[step.layer]
        target = self.q.target
        step_size = np.asarray(entering.scale * stored.format.scale, np.float64)
        arithmetic = target.arithmetic
        lo, hi = self.limits(step)
        expr, params = form.epilogue.expr, {k: self.program.tensors[v] for k, v in form.epilogue.params.items()}
        try:  # for any weights, not only those that ranges were proven for
            wide = rescale(var("acc", -ACCUMULATOR, ACCUMULATOR - 1), step_size / float(out.scale), arithmetic)
            expr = saturate(wide.expr + int(out.zero_point), lo, hi)
            params = {k: v for k, v in wide.params.items() if k in expr.variables()}
        except OverflowError:
            pass
        weight_rounding = target.weight_rule(spec.op, **spec.facts).rounding
        rule = target.bias_rule(spec.op, **spec.facts)
        attribute = self.attribute(step.layer)
        learned = self.learned(spec, attribute, form, stored, own, step_size, weight_rounding, rule.rounding, rule.bits)
        self.source.layers.append(learned)
        own_format = None
        if own is not None and target.bias_source == "own":
            own_format = (float(own.format.scale), own.format.lo, own.format.hi)
        self.source.made.append(
            f"self.{attribute} = Linear(tensors.pop({attribute + '.weight'!r}), tensors.pop({attribute + '.bias'!r}, None), "
            f"torch.tensor({stored.format.scale.tolist()!r}, dtype=torch.float64), "
            f"({stored.format.lo}, {stored.format.hi}), {str(weight_rounding)!r}, "
            f"torch.tensor({step_size.tolist()!r}, dtype=torch.float64), {1 << (rule.bits - 1)}, {str(rule.rounding)!r}, "
            f"{own_format!r})"
        )
        plain = {
            "zero": form.input_zero,
            "groups": form.groups,
            "axes": [numbers(a) for a in form.axes],
            "limits": (lo, hi),
        }
        given = ", ".join(f"{key!r}: {self.constant(value)}" for key, value in params.items())
        return f"self.{attribute}({source}, {plain!r}, {self.function(expr)}, {{{given}}})"

    def learned(
        self,
        spec: LayerSpec,
        attribute: str,
        form: Contract,
        stored: Learnable,
        own: Learnable | None,
        step: NDArray[np.float64],
        weight_rounding: Rounding,
        bias_rounding: Rounding,
        bias_bits: int,
    ) -> LearnedLayer:
        """Real numbers that round to the program's integers: the network's own wherever they do."""
        codes = self.program.tensors[form.weight].astype(np.int64)
        centers = stored.format.dequantize(codes.astype(stored.format.dtype))
        original = spec.weights()
        if original.size == codes.size:
            original = original.reshape(codes.shape)  # a MatMul over places is a convolution of one tap
        else:
            raise ExportError(
                f"The weights of layer '{printable(spec.name)}' are not those of the network: the program was changed "
                "after it was lowered (channels taken out?). Export the network as it was quantized."
            )
        single = original.astype(np.float32)
        same = stored.format.quantize(single, weight_rounding) == codes
        weight = np.where(same, single, centers).astype(np.float32)
        bias: NDArray[Any] | None = None
        given = spec.bias()
        if given is not None or form.bias is not None:
            wanted = (
                np.zeros(len(codes), np.int64)
                if form.bias is None
                else self.program.tensors[form.bias].astype(np.int64)
            )
            candidates: list[NDArray[Any]] = (
                [] if given is None else [np.asarray(given, np.float32), np.asarray(given, np.float64)]
            )
            candidates += [(wanted * step).astype(np.float32), np.asarray(wanted * step, np.float64)]
            own_format = own.format if own is not None and self.q.target.bias_source == "own" else None
            bias = next(
                (c for c in candidates if (bias_codes(c, step, own_format, bias_rounding, bias_bits) == wanted).all()),
                None,
            )
            if bias is None:
                raise ExportError(
                    f"No real bias of layer '{printable(spec.name)}' gives the program's integers. This is a bug in "
                    "bitwright; please report it."
                )
        return LearnedLayer(layer=spec.name, attribute=attribute, weight=weight, bias=bias, kept=int(same.sum()))


def bias_codes(
    bias: NDArray[Any], step: NDArray[np.float64], own: Format | None, rounding: Rounding, bits: int
) -> NDArray[np.int64]:
    """A real bias in accumulator steps, as lowering computes it."""
    from bitwright.number.format import round_real

    real = np.asarray(bias, np.float64)
    if own is None:
        limit = 1 << (bits - 1)
        return np.clip(round_real(real / step, rounding), -limit, limit - 1).astype(np.int64)
    codes = own.quantize(real, rounding).astype(np.int64)
    ratio = np.broadcast_to(own.scale / step, codes.shape)
    shifted = np.where(ratio >= 1, codes * np.maximum(ratio, 1), round_real(codes * ratio, Rounding.HALF_UP))
    return shifted.astype(np.int64)


def numbers(axis: Axis) -> tuple[int, ...]:
    """An axis as plain numbers."""
    return (axis.taps, axis.stride, axis.dilation, axis.before, axis.after, axis.spread)


def indented(lines: list[str]) -> str:
    """Lines of a method."""
    return "\n".join(f"        {line}" for line in lines)


TEMPLATE = '''"""Network "{name}", quantized by bitwright for target {target}, as a PyTorch module for training.

    import model
    net = model.load()                  # weights.safetensors beside this file
    y = net(x)                          # the target's integers, as real numbers; gradients reach every weight
    model.save(net, "weights.safetensors")

``bitwright.learned("NAME.bw", "weights.safetensors")`` takes the learned weights back.  Formats stay as they are.
"""

from __future__ import annotations

import os

import torch
from fake_quant import (
    Linear, dequantize, elementwise, looked_up, moved, quantize_input, reduce,
)
from torch import nn

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAM_SHA256 = "{program}"


{functions}


class Net(nn.Module):
    """The network; parameters are real numbers that are rounded in every pass."""

    def __init__(self, tensors):
        super().__init__()
        tensors = dict(tensors)
{made}
        for name, value in tensors.items():
            self.register_buffer(name, value, persistent=True)

    def forward(self, {arguments}):
{body}


def load(path=os.path.join(HERE, "weights.safetensors")):
    """The network with the parameters of a file."""
    from safetensors.torch import load_file

    return Net(load_file(path))


def save(net, path):
    """Write the parameters, for training on and for bitwright."""
    from safetensors.torch import save_file

    tensors = {{name: value.detach().contiguous().cpu() for name, value in net.state_dict().items()}}
    save_file(tensors, path, {{"program_sha256": PROGRAM_SHA256}})
'''
