"""The float network with every format written in: ``QuantizeLinear`` and ``DequantizeLinear`` on each edge.

Runtimes read such files and choose integer kernels themselves.  What they compute between the integers is float, so the
result is close to the program's, not equal to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import ExportError, printable
from bitwright.export.onnx_int import is_index
from bitwright.number.arithmetic import DPU_LEAKY_SLOPE, dpu_pool_factor
from bitwright.number.format import Format
from bitwright.program.forms import Contract
from bitwright.program.program import Program

if TYPE_CHECKING:
    from bitwright.calibrate.spec import LayerSpec
    from bitwright.quantized import Quantized

WIDE_OPSET = 21
"""From here on 4-bit and 16-bit integers may be quantized to."""

OWN_WAYS = frozenset({"dpu", "q7", "truncate"})
"""Methods of targets that are not the operator's rounded result: other factors, powers of two, cut-off quotients."""


@dataclass(frozen=True, kw_only=True)
class Style:
    """What a consumer wants.

    Attributes:
        unsigned: Activations as unsigned bytes; signed formats are moved by 128, which changes no number.
        signed_around: Operators whose data input and output stay signed nevertheless.
        four_bits: Weights of at most 4 bits as int4.
        bias: ``int32`` in steps of input scale × weight scale; ``own``: in the target's own format where it has one;
            ``float``: real numbers.
        limits: Cut off in float where a format is narrower than the stored type.
    """

    unsigned: bool = False
    signed_around: frozenset[str] = frozenset()
    four_bits: bool = False
    bias: Literal["int32", "own", "float"] = "int32"
    limits: bool = True


@dataclass
class Tally:
    """What was written.

    Attributes:
        edges: Tensors with a format.
        floats: Tensors that layers exchange and that have none.
        weights: Layers whose weights are integers.
        own_ways: Layers that the target computes in a way of its own, which the float operator in the file is not.
    """

    edges: list[str] = field(default_factory=list)
    floats: list[str] = field(default_factory=list)
    weights: list[str] = field(default_factory=list)
    own_ways: list[str] = field(default_factory=list)


def tensor_formats(program: Program) -> dict[str, Format]:
    """Tensor of the network → the format it has in the program; indices and tokens have none."""
    found: dict[str, Format] = {}
    for buffer in program.buffers.values():
        if buffer.tensor is not None and not is_index(buffer.format):
            found.setdefault(buffer.tensor, buffer.format)
    return found


def contract_of(q: Quantized) -> dict[str, Contract]:
    """Layer → its contraction."""
    return {step.layer: form for step, form in q.program.contracts()}


def layer_specs(q: Quantized) -> tuple[LayerSpec, ...]:
    """The layers of the network, as lowering saw them."""
    from bitwright.calibrate.spec import read_layers

    return read_layers(q.network, q.target).layers


def weight_format(program: Program, layer: str, parameter: str = "Weights") -> Format | None:
    """How a layer's weights (or bias) are stored, or None."""
    return next((x.format for x in program.learnables if x.layer == layer and x.parameter == parameter), None)


def qdq_model(q: Quantized, style: Style) -> tuple[bytes, Tally]:
    """The network with its formats, serialized.

    Raises:
        ExportError: if the program's weights are not those of the network's shapes (it was pruned).
    """
    import onnx

    writer = _Writer(q, style)
    writer.layers()
    writer.activations()
    model = writer.finished()
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True)), writer.tally


class _Writer:
    """Edits a copy of the network, node by node."""

    def __init__(self, q: Quantized, style: Style) -> None:
        import onnx

        self.q, self.style, self.program = q, style, q.program
        self.model = onnx.load_model_from_string(q.network.serialize())
        self.graph = self.model.graph
        self.formats = tensor_formats(q.program)
        self.tally = Tally()
        self.nodes = list(self.graph.node)
        self.made_by = {name: i for i, node in enumerate(self.nodes) for name in node.output}
        self.before: dict[int, list[Any]] = {}  # place of a node → nodes to put before it
        self.after: dict[int, list[Any]] = {}
        self.scaled: dict[str, Any] = {}  # tensor → the node behind its own node that makes it
        around = [node for node in self.nodes if node.op_type in style.signed_around]
        self.signed = {name for node in around for name in (node.input[0], *node.output)}
        self.wide = False
        self.taken = {n for node in self.graph.node for n in (*node.input, *node.output)}
        self.taken |= {t.name for t in (*self.graph.input, *self.graph.initializer)}

    # ---------------------------------------------------------------- pieces

    def fresh(self, stem: str) -> str:
        name, number = stem, 1
        while name in self.taken:
            number += 1
            name = f"{stem}_{number}"
        self.taken.add(name)
        return name

    def constant(self, stem: str, value: NDArray[Any]) -> str:
        from onnx import numpy_helper

        name = self.fresh(stem)
        self.graph.initializer.append(numpy_helper.from_array(np.array(value, order="C"), name))
        return name

    def integers(self, stem: str, codes: NDArray[np.int64], format: Format) -> tuple[str, str]:
        """Constant integers and a zero point of their type."""
        from onnx import TensorProto, helper

        zeros = np.zeros(format.scale.shape, np.int64)
        if format.bits <= 4 and self.style.four_bits:
            self.wide = True
            names = []
            for part, values in ((stem, codes), (f"{stem}_zero_point", zeros)):
                kind = TensorProto.INT4 if format.signed else TensorProto.UINT4
                names.append(self.fresh(part))
                flat = values.reshape(-1).tolist()
                self.graph.initializer.append(helper.make_tensor(names[-1], kind, values.shape, flat))
            return names[0], names[1]
        dtype = (
            np.dtype(np.int8) if format.bits <= 8 else np.dtype(np.int16) if format.bits <= 16 else np.dtype(np.int32)
        )
        self.wide |= 8 < format.bits <= 16
        return self.constant(stem, codes.astype(dtype)), self.constant(f"{stem}_zero_point", zeros.astype(dtype))

    def dequantized(self, stem: str, codes: NDArray[np.int64], format: Format, axis: int | None) -> tuple[str, Any]:
        """The node that dequantizes constant integers, and its output."""
        from onnx import helper

        stored, zero = self.integers(f"{stem}_quantized", codes, format)
        scale = self.constant(f"{stem}_scale", format.scale.astype(np.float32))
        out = self.fresh(f"{stem}_dequantized")
        extra: dict[str, Any] = {} if axis is None or not format.scale.ndim else {"axis": axis}
        return out, helper.make_node("DequantizeLinear", [stored, scale, zero], [out], name=out, **extra)

    def as_dpu(self, spec: LayerSpec) -> bool:
        """Let a layer compute what the DPU does, as far as its operator can: the slope, and the factor of a mean."""
        from onnx import helper

        if spec.rule.method != "dpu" or not spec.layer.nodes:
            return False
        place = self.made_by[str(spec.layer.main.outputs[0].name)]
        node = self.nodes[place]
        if spec.op == "LeakyRelu":
            set_attributes(node, alpha=DPU_LEAKY_SLOPE[0] / 2.0 ** DPU_LEAKY_SLOPE[1])
            return True
        kernel = spec.facts.get("kernel")
        padded = any(list(spec.attributes.get("pads") or []))
        if not kernel or padded or len(spec.layer.nodes) > 1:
            return False
        factor, shift = dpu_pool_factor(kernel)
        real = self.fresh(f"{node.output[0]}_mean")
        constant = self.constant(f"{node.output[0]}_factor", np.asarray(factor * prod(kernel) / 2.0**shift, np.float32))
        made = helper.make_node("Mul", [real, constant], [node.output[0]], name=self.fresh(f"{spec.name}_factor"))
        self.scaled[node.output[0]] = made
        node.output[0] = real
        self.after.setdefault(place, []).append(made)
        return True

    # ---------------------------------------------------------------- weights

    def layers(self) -> None:
        """Give every linear layer of the program its integer weights and bias."""
        forms = contract_of(self.q)
        for spec in layer_specs(self.q):
            if not spec.reason and spec.rule.method in OWN_WAYS and not self.as_dpu(spec):
                self.tally.own_ways.append(spec.name)
            form = forms.get(spec.name)
            if form is None or not spec.is_linear:
                continue
            place = self.made_by[str(spec.layer.main.outputs[0].name)]
            node = self.nodes[place]
            stored = weight_format(self.program, spec.name)
            codes = self.program.tensors[form.weight].astype(np.int64)
            if stored is None or codes.size != np.asarray(spec.inputs[1]).size:
                raise ExportError(
                    f"The weights of layer '{printable(spec.name)}' are not those of the network: the program was "
                    "changed after it was lowered (channels taken out?). Export the network as it was quantized."
                )
            nodes = self.weights(spec, node, codes, stored)
            nodes += self.bias(spec, node, form, stored)
            self.before.setdefault(place, []).extend(nodes)
            self.tally.weights.append(spec.name)

    def weights(self, spec: LayerSpec, node: Any, codes: NDArray[np.int64], stored: Format) -> list[Any]:
        """Replace the second input of ``node`` and return the nodes that make it."""
        shape = np.asarray(spec.inputs[1]).shape
        stem = str(node.input[1])
        match spec.op:
            case "Conv":
                out, made = self.dequantized(stem, codes.reshape(shape), stored, 0)
            case "MatMul":
                out, made = self.dequantized(stem, codes.reshape(codes.shape[0], -1).T, stored, 1)
            case "Gemm":
                out, made = self.dequantized(stem, codes.reshape(codes.shape[0], -1), stored, 0)
                set_attributes(node, transB=1, alpha=1.0, beta=1.0)
            case "ConvTranspose":
                return self.turned_weights(spec, node, codes, stored)
            case _:
                raise ExportError(
                    f"Layer '{printable(spec.name)}' is a {printable(spec.op)}: its weights have no place."
                )
        node.input[1] = out
        return [made]

    def turned_weights(self, spec: LayerSpec, node: Any, codes: NDArray[np.int64], stored: Format) -> list[Any]:
        """``[out, in/groups, *flipped]`` back to ``[in, out/groups, *taps]``; groups with scales of their own by nodes."""
        from onnx import helper

        groups = int(spec.attributes.get("group") or 1)
        flipped = np.flip(codes, axis=tuple(range(2, codes.ndim)))
        outputs, inner, *taps = flipped.shape
        split = flipped.reshape(groups, outputs // groups, inner, *taps)
        stem = str(node.input[1])
        if groups == 1 or not stored.scale.ndim:
            turned = np.swapaxes(split, 1, 2).reshape(groups * inner, outputs // groups, *taps)
            node.input[1], made = self.dequantized(stem, turned, stored, 1)
            return [made]
        out, made = self.dequantized(stem, flipped, stored, 0)
        nodes = [made]
        for op, argument in (
            ("Reshape", split.shape),
            ("Transpose", None),
            ("Reshape", np.asarray(spec.inputs[1]).shape),
        ):
            name = self.fresh(f"{stem}_{op.lower()}")
            if argument is None:
                order = [0, 2, 1, *range(3, split.ndim)]
                nodes.append(helper.make_node(op, [out], [name], name=name, perm=order))
            else:
                shape = self.constant(f"{name}_shape", np.asarray(argument, np.int64))
                nodes.append(helper.make_node(op, [out, shape], [name], name=name))
            out = name
        node.input[1] = out
        return nodes

    def bias(self, spec: LayerSpec, node: Any, form: Contract, stored: Format) -> list[Any]:
        """Replace (or add) the third input of ``node`` and return the nodes that make it."""
        if form.bias is None or spec.op == "MatMul":
            return []
        codes = self.program.tensors[form.bias].astype(np.int64)
        step = np.asarray(self.formats[spec.tensors[0]].scale * stored.scale, np.float64)
        while len(node.input) < 3:
            node.input.append("")
        stem = str(node.input[2]) or f"{spec.name}_bias"
        fits = bool((np.abs(codes) < 1 << 31).all())
        own = weight_format(self.program, spec.name, "Bias")
        if self.style.bias == "own" and own is not None and own.bits <= 8:
            exact = np.rint(codes * np.broadcast_to(step / own.scale, codes.shape))
            node.input[2], made = self.dequantized(stem, np.clip(exact, own.lo, own.hi).astype(np.int64), own, None)
            return [made]
        if self.style.bias == "float" or not fits:
            node.input[2] = self.constant(stem, (codes * step).astype(np.float32))
            return []
        format = Format(32, True, step, axis=0 if step.ndim else None)
        node.input[2], made = self.dequantized(stem, codes, format, 0)
        return [made]

    # ---------------------------------------------------------------- activations

    def activations(self) -> None:
        """Quantize and dequantize every tensor that has a format, where it is made."""
        inputs = {value.name for value in self.graph.input}
        renamed: dict[str, str] = {}
        for tensor, format in self.formats.items():
            kind = self.stored(tensor, format)
            if kind is None or (tensor not in inputs and tensor not in self.made_by):
                self.tally.floats.append(tensor)
                continue
            self.tally.edges.append(tensor)
            if tensor in inputs:
                out = renamed[tensor] = self.fresh(f"{tensor}_dequantized")
                self.before.setdefault(0, [])[:0] = self.quantizer(tensor, tensor, out, format, kind)
                continue
            # The tensor keeps its name after dequantizing, so readers and graph outputs stay as they are.
            place = self.made_by[tensor]
            node = self.scaled.get(tensor, self.nodes[place])
            real = self.fresh(f"{tensor}_real")
            node.output[:] = [real if name == tensor else name for name in node.output]
            self.after.setdefault(place, []).extend(self.quantizer(tensor, real, tensor, format, kind))
        for node in self.nodes:
            rename_inputs(node, renamed)

    def stored(self, tensor: str, format: Format) -> np.dtype[Any] | None:
        """The integer type of an activation, or None if ONNX has none."""
        if format.bits > 16:
            return None
        self.wide |= format.bits > 8
        width = 8 if format.bits <= 8 else 16
        signed = format.signed and not (self.style.unsigned and width == 8 and tensor not in self.signed)
        return np.dtype(f"{'int' if signed else 'uint'}{width}")

    def quantizer(self, tensor: str, source: str, out: str, format: Format, kind: np.dtype[Any]) -> list[Any]:
        """Clip where needed, quantize, dequantize."""
        from onnx import helper

        info = np.iinfo(kind)
        scale = float(np.float32(float(format.scale)))
        moved = int(info.min) - (-(1 << (info.bits - 1)) if format.signed else 0)
        zero = int(format.zero_point) + moved
        nodes = []
        lo, hi = format.lo + moved, format.hi + moved
        if self.style.limits and (lo, hi) != (int(info.min), int(info.max)):
            bounds = [
                self.constant(f"{tensor}_{name}", np.asarray((v - zero) * scale, np.float32))
                for name, v in (("lowest", lo), ("highest", hi))
            ]
            cut = self.fresh(f"{tensor}_clipped")
            nodes.append(helper.make_node("Clip", [source, *bounds], [cut], name=cut))
            source = cut
        constants = [
            self.constant(f"{tensor}_scale", np.asarray(scale, np.float32)),
            self.constant(f"{tensor}_zero_point", np.asarray(zero, kind)),
        ]
        codes = self.fresh(f"{tensor}_quantized")
        name = self.fresh(f"{tensor}_dequantize")
        nodes.append(helper.make_node("QuantizeLinear", [source, *constants], [codes], name=codes))
        nodes.append(helper.make_node("DequantizeLinear", [codes, *constants], [out], name=name))
        return nodes

    def finished(self) -> Any:
        """The edited model, in the lowest opset that has what it uses."""
        from onnx import helper

        ordered: list[Any] = []
        for place, node in enumerate(self.nodes):
            ordered += [*self.before.get(place, []), node, *self.after.get(place, [])]
        used = {name for node in ordered for name in names_of(node)} | {o.name for o in self.graph.output}
        kept = [t for t in self.graph.initializer if t.name in used]
        copies = [copy_of(node) for node in ordered]
        del self.graph.node[:]
        self.graph.node.extend(copies)
        initializers = [copy_of(t) for t in kept]
        del self.graph.initializer[:]
        self.graph.initializer.extend(initializers)
        del self.graph.value_info[:]
        opset = next(o.version for o in self.model.opset_import if o.domain in {"", "ai.onnx"})
        model = self.model
        if self.wide and opset < WIDE_OPSET:
            for entry in model.opset_import:
                if entry.domain in {"", "ai.onnx"}:
                    entry.version = WIDE_OPSET
            model.ir_version = max(model.ir_version, 10)
            changed = changed_meaning({n.op_type for n in model.graph.node}, opset)
            if changed:
                raise ExportError(
                    f"4-bit and 16-bit formats need opset {WIDE_OPSET}, where {', '.join(changed)} mean something else "
                    f"than in opset {opset}. Convert the network to opset {WIDE_OPSET} and quantize it again."
                )
        model.producer_name = "bitwright"
        helper.set_model_props(model, {"bitwright.target": self.program.target})
        return model


def changed_meaning(ops: set[str], opset: int) -> list[str]:
    """Operators whose meaning, not only their types and defaults, changed between ``opset`` and ``WIDE_OPSET``."""
    return sorted(op for op in ops if opset < {"GridSample": 20, "GroupNormalization": 21}.get(op, 0))


def set_attributes(node: Any, **values: Any) -> None:
    """Set attributes of a node, replacing those that are there."""
    from onnx import helper

    kept = [a for a in node.attribute if a.name not in values]
    kept += [helper.make_attribute(name, value) for name, value in values.items()]
    copies = [copy_of(a) for a in kept]
    del node.attribute[:]
    node.attribute.extend(copies)


def copy_of(message: Any) -> Any:
    """A protobuf message of its own."""
    copied = type(message)()
    copied.CopyFrom(message)
    return copied


def names_of(node: Any) -> set[str]:
    """Names that a node and its subgraphs read."""
    from bitwright.export.onnx_graph import names_read

    return names_read(node)


def rename_inputs(node: Any, names: Mapping[str, str]) -> None:
    """Let a node and its subgraphs read other tensors."""
    node.input[:] = [names.get(name, name) for name in node.input]
    for attribute in node.attribute:
        for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            for inner in graph.node:
                rename_inputs(inner, names)
