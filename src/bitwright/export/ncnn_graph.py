"""The layers of a network as ncnn's: convolutions and dense layers in int8, everything else in float.

Source: Tencent/ncnn a4d2ea1, ``src/layer/*.cpp`` (parameters, and what each layer loads).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import ExportError, printable
from bitwright.export.ncnn_file import NcnnGraph, Value, dims
from bitwright.export.qdq import contract_of, layer_specs, weight_format
from bitwright.ops.linear import explicit_pads
from bitwright.program.forms import Contract

if TYPE_CHECKING:
    from bitwright.calibrate.spec import LayerSpec
    from bitwright.quantized import Quantized

RELU, CLIP = 1, 3
INT8_PER_CHANNEL = 2
INT8_PER_GROUP = 1

BINARY = {"Add": 0, "Sum": 0, "Sub": 1, "Mul": 2, "Div": 3, "Max": 4, "Min": 5}
REVERSED = {"Sub": 7, "Div": 8}
UNARY = {"Abs": 0, "Neg": 1, "Floor": 2, "Ceil": 3, "Sqrt": 5, "Exp": 7, "Log": 8, "Sin": 9, "Cos": 10, "Tan": 11,
         "Reciprocal": 15}  # fmt: skip
PLAIN = {"Sigmoid": "Sigmoid", "Tanh": "TanH", "SiLU": "Swish", "Mish": "Mish", "Erf": "Erf", "Softplus": "Softplus"}
PERMUTED = {(0, 1, 2, 3): 0, (0, 1, 3, 2): 1, (0, 2, 1, 3): 2, (0, 2, 3, 1): 3, (0, 3, 1, 2): 4, (0, 3, 2, 1): 5}
RESHAPES = {"Reshape", "Flatten", "Squeeze", "Unsqueeze"}
REDUCTIONS = {"ReduceSum": 0, "ReduceMean": 3, "ReduceMax": 4}


def build(q: Quantized) -> NcnnGraph:
    """All layers of a quantized network.

    Raises:
        ExportError: naming the first layer that has no form in ncnn.
    """
    return _Builder(q).built()


class _Builder:
    def __init__(self, q: Quantized) -> None:
        self.q, self.graph = q, NcnnGraph()
        self.forms = contract_of(q)
        self.shapes = {b.tensor: b.shape for b in q.program.buffers.values() if b.tensor is not None}

    def built(self) -> NcnnGraph:
        for name in self.q.input_tensors:
            self.graph.layer("Input", name, [], [self.graph.blob(name)], **dims(self.shape(name)[1:], (0, 1, 11, 2)))
        for spec in layer_specs(self.q):
            self.emit(spec)
        return self.graph

    def shape(self, tensor: str) -> tuple[int, ...]:
        found = self.shapes.get(tensor)
        return self.q.network.shape(tensor) if found is None else found

    def refuse(self, spec: LayerSpec, why: str) -> ExportError:
        return ExportError(
            f"Layer '{printable(spec.name)}' ({printable(spec.op)}) has no form in ncnn that bitwright writes: {why}. "
            "--option table_only=yes writes the calibration table alone, for a model that you have converted yourself."
        )

    def emit(self, spec: LayerSpec) -> None:
        """One layer of the network, its fused activation with it."""
        out = spec.outputs[0]
        made = self.graph.blob(out)
        clamp = spec.clamp
        if spec.op in {"Conv", "Gemm", "MatMul", "ConvTranspose"} and spec.is_linear:
            self.linear(spec, made)
            return
        if spec.op in {"Relu", "Clip", "Identity"}:
            self.activation(spec.name, self.graph.blob(spec.tensors[0]), made, clamp)
            return
        if clamp is None:
            self.plain(spec, made)
            return
        inner = self.graph.name(f"{made}_unlimited")
        self.plain(spec, inner)
        self.activation(f"{spec.name}_limits", inner, made, clamp)

    def activation(self, name: str, source: str, made: str, clamp: tuple[float, float] | None) -> None:
        if clamp is None:
            self.graph.layer("Noop", name, [source], [made])
        elif clamp == (0.0, np.inf):
            self.graph.layer("ReLU", name, [source], [made], p0=0.0)
        else:
            low, high = (float(np.clip(v, -3.4e38, 3.4e38)) for v in clamp)
            self.graph.layer("Clip", name, [source], [made], p0=low, p1=high)

    # ---------------------------------------------------------------- layers with weights

    def linear(self, spec: LayerSpec, made: str) -> None:
        form, stored = self.forms.get(spec.name), weight_format(self.q.program, spec.name)
        if form is None or stored is None:
            raise self.refuse(spec, "it has no integer weights")
        fused: dict[str, Value] = {}
        if spec.clamp == (0.0, np.inf):
            fused = {"p9": RELU}
        elif spec.clamp is not None:
            fused = {"p9": CLIP, "p10": [float(np.clip(v, -3.4e38, 3.4e38)) for v in spec.clamp]}
        codes = self.q.program.tensors[form.weight].astype(np.int64)
        steps = np.broadcast_to(np.asarray(stored.scale, np.float64), (len(codes),))
        source = self.graph.blob(spec.tensors[0])
        if spec.op == "ConvTranspose":
            self.transposed(spec, form, codes, steps, source, made, fused)
        elif spec.op == "Conv":
            if len(form.axes) != 2:
                raise self.refuse(spec, f"it slides along {len(form.axes)} axes, and ncnn's int8 has two")
            self.convolution(spec, form, codes, steps, source, made, fused)
        else:
            flat = len(self.shape(spec.tensors[0])) == 2
            if not flat and spec.op == "Gemm":
                raise self.refuse(spec, "its input is no vector")
            scale = self.input_scale(spec)
            size = int(codes.size)
            self.graph.layer(
                "InnerProduct", spec.name, [source], [made], p0=len(codes), p1=1, p2=size, p8=INT8_PER_CHANNEL, **fused
            )
            self.numbers(spec, form, codes, steps, 1 / steps, scale)

    def convolution(
        self,
        spec: LayerSpec,
        form: Contract,
        codes: NDArray[np.int64],
        steps: NDArray[np.float64],
        source: str,
        made: str,
        fused: Mapping[str, Value],
    ) -> None:
        tall, wide = form.axes
        scales = 1 / steps
        grouped = form.groups > 1
        if grouped:
            # ncnn keeps one scale for a group: the coarsest step of its channels holds them all.
            scales = scales.reshape(form.groups, -1).min(1)
            finest = np.repeat(scales, len(codes) // form.groups)
            real = codes * (steps * finest).reshape(-1, 1, 1, 1)
            codes = np.clip(np.sign(real) * np.floor(np.abs(real) + 0.5), -127, 127).astype(np.int64)
        parameters: dict[str, Value] = {
            "p0": len(codes), "p1": wide.taps, "p11": tall.taps, "p2": wide.dilation, "p12": tall.dilation,
            "p3": wide.stride, "p13": tall.stride, "p4": wide.before, "p15": wide.after, "p14": tall.before,
            "p16": tall.after, "p5": 1, "p6": int(codes.size),
            "p8": INT8_PER_GROUP if grouped else INT8_PER_CHANNEL,
        }  # fmt: skip
        if grouped:
            parameters["p7"] = form.groups
        kind = "ConvolutionDepthWise" if grouped else "Convolution"
        self.graph.layer(kind, spec.name, [source], [made], **parameters, **fused)
        self.numbers(spec, form, codes, steps, scales, self.input_scale(spec))

    def numbers(
        self,
        spec: LayerSpec,
        form: Contract,
        codes: NDArray[np.int64],
        steps: NDArray[np.float64],
        scales: NDArray[np.float64],
        input_scale: float,
    ) -> None:
        self.graph.bytes8(codes)
        self.graph.floats(self.bias(spec, form, steps))
        self.graph.floats(scales)
        self.graph.floats(np.asarray([input_scale]))
        self.graph.int8.append(spec.name)

    def bias(self, spec: LayerSpec, form: Contract, steps: NDArray[np.float64]) -> NDArray[np.float64]:
        """The program's bias in real units."""
        if form.bias is None:
            return np.zeros(len(steps))
        size = float(self.q.program.buffers[self.buffer_of(spec)].format.scale)
        return np.asarray(self.q.program.tensors[form.bias].astype(np.float64) * size * steps)

    def buffer_of(self, spec: LayerSpec) -> str:
        return next(step.inputs[0] for step, _ in self.q.program.contracts() if step.layer == spec.name)

    def input_scale(self, spec: LayerSpec) -> float:
        return 1 / float(self.q.program.buffers[self.buffer_of(spec)].format.scale)

    def transposed(
        self,
        spec: LayerSpec,
        form: Contract,
        codes: NDArray[np.int64],
        steps: NDArray[np.float64],
        source: str,
        made: str,
        fused: Mapping[str, Value],
    ) -> None:
        """Deconvolution, which ncnn computes in float: the weights are the program's, in real units."""
        if len(form.axes) != 2:
            raise self.refuse(spec, "it slides along one axis")
        tall, wide = form.axes
        real = np.flip(codes * steps.reshape(-1, 1, 1, 1), axis=(2, 3))
        pads = [axis.dilation * (axis.taps - 1) - axis.before for axis in form.axes]
        ends = [axis.dilation * (axis.taps - 1) - axis.after for axis in form.axes]
        extra = [max(0, -e) for e in ends]
        parameters: dict[str, Value] = {
            "p0": len(codes), "p1": wide.taps, "p11": tall.taps, "p2": wide.dilation, "p12": tall.dilation,
            "p3": wide.spread, "p13": tall.spread, "p4": pads[1], "p15": max(0, ends[1]), "p14": pads[0],
            "p16": max(0, ends[0]), "p18": extra[1], "p19": extra[0], "p5": 1, "p6": int(codes.size),
        }  # fmt: skip
        if min(pads) < 0:
            raise self.refuse(spec, "its padding lies inside its input")
        if form.groups > 1:
            parameters["p7"] = form.groups
        kind = "DeconvolutionDepthWise" if form.groups > 1 else "Deconvolution"
        self.graph.layer(kind, spec.name, [source], [made], **parameters, **fused)
        self.graph.floats(real, tagged=True)
        self.graph.floats(self.bias(spec, form, steps))

    # ---------------------------------------------------------------- everything else, in float

    def plain(self, spec: LayerSpec, made: str) -> None:
        graph, op, attributes = self.graph, spec.op, spec.attributes
        tensors = [graph.blob(name) for name in spec.tensors]
        shape = self.shape(spec.tensors[0]) if spec.tensors else ()
        result = self.shape(spec.outputs[0])
        rank = len(shape)
        if op in BINARY:
            self.binary(spec, made, tensors, result)
        elif op in PLAIN:
            graph.layer(PLAIN[op], spec.name, tensors, [made])
        elif op in UNARY:
            graph.layer("UnaryOp", spec.name, tensors, [made], p0=UNARY[op])
        elif op == "LeakyRelu":
            graph.layer("ReLU", spec.name, tensors, [made], p0=float(attributes.get("alpha", 0.01)))
        elif op in {"HardSigmoid", "HardSwish"}:
            swish = op == "HardSwish"
            slope = 1 / 6 if swish else float(attributes.get("alpha", 0.2))
            offset = 0.5 if swish else float(attributes.get("beta", 0.5))
            graph.layer(op, spec.name, tensors, [made], p0=slope, p1=offset)
        elif op == "Elu":
            graph.layer("ELU", spec.name, tensors, [made], p0=float(attributes.get("alpha", 1.0)))
        elif op == "Gelu":
            how = attributes.get("approximate") or "none"
            graph.layer(
                "GELU", spec.name, tensors, [made], p0=int((how.decode() if isinstance(how, bytes) else how) == "tanh")
            )
        elif op == "PRelu":
            slopes = np.ravel(np.asarray(spec.inputs[1], np.float64))
            if slopes.size not in {1, shape[1]}:
                raise self.refuse(spec, "its slopes are not one per channel")
            graph.layer("PReLU", spec.name, tensors, [made], p0=int(slopes.size))
            graph.floats(slopes)
        elif op in {"MaxPool", "AveragePool"} and rank == 4 and len(spec.outputs) == 1:
            self.pool(spec, made, tensors, shape, result)
        elif op in {"GlobalAveragePool", "GlobalMaxPool"} and rank == 4:
            inner = graph.name(f"{made}_vector")
            graph.layer("Pooling", spec.name, tensors, [inner], p0=int(op == "GlobalAveragePool"), p4=1)
            graph.layer("Reshape", f"{spec.name}_shape", [inner], [made], p0=1, p1=1, p2=shape[1])
        elif op in REDUCTIONS:
            axes = self.axes(spec, rank)
            keep = int(attributes.get("keepdims", 1))
            graph.layer("Reduction", spec.name, tensors, [made], p0=REDUCTIONS[op], p1=0, p3=axes, p4=keep, p5=1)
        elif op == "Concat" and len(tensors) == len(spec.inputs):
            graph.layer("Concat", spec.name, tensors, [made], p0=int(attributes["axis"]) % rank - 1)
        elif op == "Split":
            axis = int(attributes.get("axis", 0)) % rank
            sizes = [self.shape(t)[axis] for t in spec.outputs]
            graph.layer("Slice", spec.name, tensors, [graph.blob(t) for t in spec.outputs], p0=sizes, p1=axis - 1)
        elif op == "Slice":
            self.slice(spec, made, tensors, shape)
        elif op == "Pad":
            self.pad(spec, made, tensors, shape)
        elif op in RESHAPES and 2 <= len(result) <= 4:
            graph.layer("Reshape", spec.name, tensors, [made], **dims(result[1:], (0, 1, 11, 2)))
        elif op == "Transpose" and rank in {3, 4}:
            perm = tuple(int(i) for i in attributes.get("perm") or reversed(range(rank)))
            padded = perm if rank == 4 else (0, 1, 3, 2) if perm == (0, 2, 1) else (0, 1, 2, 3)
            if padded not in PERMUTED or perm[0] != 0:
                raise self.refuse(spec, f"it turns the axes to {list(perm)}")
            graph.layer("Permute", spec.name, tensors, [made], p0=PERMUTED[padded])
        elif op == "Softmax":
            axis = int(attributes.get("axis", -1)) % rank
            graph.layer("Softmax", spec.name, tensors, [made], p0=axis - 1, p1=1)
        elif op in {"Resize", "Upsample"} and rank == 4:
            self.resize(spec, made, tensors, result)
        elif op == "DepthToSpace":
            mode = attributes.get("mode") or "DCR"
            crd = (mode.decode() if isinstance(mode, bytes) else mode) == "CRD"
            graph.layer("PixelShuffle", spec.name, tensors, [made], p0=int(attributes["blocksize"]), p1=int(not crd))
        elif op == "LRN":
            size, bias = int(attributes["size"]), float(attributes.get("bias", 1.0))
            alpha, beta = float(attributes.get("alpha", 1e-4)), float(attributes.get("beta", 0.75))
            graph.layer("LRN", spec.name, tensors, [made], p0=0, p1=size, p2=alpha, p3=beta, p4=bias)
        else:
            raise self.refuse(spec, "there is no such layer")

    def binary(self, spec: LayerSpec, made: str, tensors: list[str], result: tuple[int, ...]) -> None:
        if len(spec.inputs) != 2:
            raise self.refuse(spec, f"it has {len(spec.inputs)} operands")
        graph, code = self.graph, BINARY[spec.op]
        if len(tensors) == 2:
            graph.layer("BinaryOp", spec.name, tensors, [made], p0=code)
            return
        place = next(i for i, value in enumerate(spec.inputs) if not isinstance(value, str))
        values = np.asarray(spec.inputs[place], np.float64)
        if values.size == 1:
            turned = REVERSED.get(spec.op, code) if place == 0 else code
            number = float(values.reshape(-1)[0])
            graph.layer("BinaryOp", spec.name, tensors, [made], p0=turned, p1=1, p2=number)
            return
        rank = len(result)
        shape = ((1,) * (rank - values.ndim) + values.shape)[1:]
        constant = graph.name(f"{spec.name}_constant")
        graph.layer("MemoryData", constant, [], [constant], **dims(shape, (0, 1, 11, 2)))
        graph.floats(values)
        operands = [constant, tensors[0]] if place == 0 else [tensors[0], constant]
        graph.layer("BinaryOp", spec.name, operands, [made], p0=code)

    def axes(self, spec: LayerSpec, rank: int) -> list[int]:
        given = spec.attributes.get("axes")
        if given is None and len(spec.inputs) > 1 and spec.inputs[1] is not None:
            given = np.ravel(np.asarray(spec.inputs[1])).tolist()
        found = sorted(int(a) % rank for a in given) if given else list(range(1, rank))
        if 0 in found:
            raise self.refuse(spec, "it reduces over the batch")
        return [a - 1 for a in found]

    def pool(
        self, spec: LayerSpec, made: str, tensors: list[str], shape: tuple[int, ...], result: tuple[int, ...]
    ) -> None:
        attributes = spec.attributes
        taps = [int(k) for k in attributes["kernel_shape"]]
        strides = [int(s) for s in attributes.get("strides") or [1, 1]]
        dilations = [int(d) for d in attributes.get("dilations") or [1, 1]]
        if dilations != [1, 1]:
            raise self.refuse(spec, "its window has gaps")
        pads = explicit_pads(attributes, taps, strides, dilations, shape[2:])
        (top, bottom), (left, right) = pads
        # Rounding the size up is padding at the end, as much as the result's size needs.
        bottom = max(bottom, (result[2] - 1) * strides[0] + taps[0] - shape[2] - top)
        right = max(right, (result[3] - 1) * strides[1] + taps[1] - shape[3] - left)
        self.graph.layer(
            "Pooling", spec.name, tensors, [made], p0=int(spec.op == "AveragePool"), p1=taps[1], p11=taps[0],
            p2=strides[1], p12=strides[0], p3=left, p14=right, p13=top, p15=bottom, p5=1,
            p6=int(attributes.get("count_include_pad") or 0),
        )  # fmt: skip

    def slice(self, spec: LayerSpec, made: str, tensors: list[str], shape: tuple[int, ...]) -> None:
        values = [None if v is None else np.ravel(np.asarray(v)).tolist() for v in spec.inputs[1:]]
        starts, ends = values[0], values[1]
        assert starts is not None
        assert ends is not None
        axes = values[2] if len(values) > 2 and values[2] is not None else list(range(len(starts)))
        steps = values[3] if len(values) > 3 and values[3] is not None else [1] * len(starts)
        found = [
            slice(int(b), int(e), int(s)).indices(shape[int(a)])
            for b, e, a, s in zip(starts, ends, axes, steps, strict=True)
        ]
        places = [int(a) % len(shape) for a in axes]
        strides = dict(zip(places, (s for _, _, s in found), strict=True))
        if any(s < 1 or (s > 1 and (a < 2 or len(shape) != 4)) for a, s in strides.items()):
            raise self.refuse(spec, "it turns around, or leaves out channels in between")
        if 0 in places:
            raise self.refuse(spec, "it cuts the batch")
        thinned = any(s > 1 for s in strides.values())
        whole = all((b, e) == (0, shape[a]) for a, (b, e, _) in zip(places, found, strict=True))
        if not (thinned and whole):
            part = self.graph.name(f"{made}_part") if thinned else made
            name = f"{spec.name}_part" if thinned else spec.name
            self.graph.layer(
                "Crop", name, tensors, [part], p9=[b for b, _, _ in found], p10=[e for _, e, _ in found],
                p11=[a - 1 for a in places],
            )  # fmt: skip
            tensors = [part]
        if thinned:
            # Every other element: a maximum over one.
            self.graph.layer(
                "Pooling",
                spec.name,
                tensors,
                [made],
                p0=0,
                p1=1,
                p11=1,
                p2=strides.get(3, 1),
                p12=strides.get(2, 1),
                p5=1,
            )

    def pad(self, spec: LayerSpec, made: str, tensors: list[str], shape: tuple[int, ...]) -> None:
        mode = spec.attributes.get("mode") or "constant"
        mode = mode.decode() if isinstance(mode, bytes) else str(mode)
        given = spec.attributes.get("pads")
        pads = [int(p) for p in (given if given is not None else np.ravel(np.asarray(spec.inputs[1])))]
        value = spec.inputs[2] if len(spec.inputs) > 2 else None
        chosen = spec.inputs[3] if len(spec.inputs) > 3 else None
        axes = (
            list(range(len(shape))) if chosen is None else [int(a) % len(shape) for a in np.ravel(np.asarray(chosen))]
        )
        both = {axis: (pads[i], pads[i + len(axes)]) for i, axis in enumerate(axes)}
        kind = {"constant": 0, "edge": 1, "reflect": 2}.get(mode)
        if (
            kind is None
            or len(shape) != 4
            or any(n < 0 for pair in both.values() for n in pair)
            or any(both.get(0, (0, 0)))
        ):
            raise self.refuse(spec, f"its padding ({mode}) is of another kind")
        front, behind = both.get(1, (0, 0))
        if (front or behind) and kind:
            raise self.refuse(spec, "it mirrors channels")
        top, bottom = both.get(2, (0, 0))
        left, right = both.get(3, (0, 0))
        real = float(np.ravel(np.asarray(value))[0]) if value is not None and not isinstance(value, str) else 0.0
        self.graph.layer(
            "Padding",
            spec.name,
            tensors,
            [made],
            p0=top,
            p1=bottom,
            p2=left,
            p3=right,
            p4=kind,
            p5=real,
            p7=front,
            p8=behind,
        )

    def resize(self, spec: LayerSpec, made: str, tensors: list[str], result: tuple[int, ...]) -> None:
        texts = {}
        for key, default in (
            ("mode", "nearest"),
            ("coordinate_transformation_mode", "half_pixel"),
            ("nearest_mode", "round_prefer_floor"),
        ):
            value = spec.attributes.get(key) or default
            texts[key] = value.decode() if isinstance(value, bytes) else str(value)
        where = texts["coordinate_transformation_mode"]
        nearest = texts["mode"] == "nearest"
        whole = all(w % n == 0 for w, n in zip(result[2:], self.shape(spec.tensors[0])[2:], strict=True))
        fits = (
            (where == "asymmetric" and texts["nearest_mode"] == "floor") or (whole and where == "half_pixel")
            if nearest
            else texts["mode"] == "linear" and where in {"half_pixel", "pytorch_half_pixel", "align_corners"}
        )
        if not fits:
            raise self.refuse(spec, f"it resizes by {texts['mode']} at {where}")
        self.graph.layer(
            "Interp", spec.name, tensors, [made], p0=1 if nearest else 2, p3=result[2], p4=result[3],
            p6=int(where == "align_corners"),
        )  # fmt: skip
