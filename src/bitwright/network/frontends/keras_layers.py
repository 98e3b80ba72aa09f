"""Keras's layers in ONNX, one function per kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import ModelError
from bitwright.network.frontends.channels_last import Held, Weights
from bitwright.network.frontends.keras_graph import Layer

ACTIVATIONS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "elu": ("Elu", {}),
    "exponential": ("Exp", {}),
    "gelu": ("Gelu", {}),
    "hard_sigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    "hard_silu": ("HardSwish", {}),
    "hard_swish": ("HardSwish", {}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.2}),
    "linear": ("Identity", {}),
    "mish": ("Mish", {}),
    "relu": ("Relu", {}),
    "selu": ("Selu", {}),
    "sigmoid": ("Sigmoid", {}),
    "softplus": ("Softplus", {}),
    "softsign": ("Softsign", {}),
    "tanh": ("Tanh", {}),
}
"""Functions of one element: name → ONNX operator and attributes."""


def unwrapped(layer: Mapping[str, Any]) -> Mapping[str, Any]:
    """A function of Keras 2's functional style under the name of the layer that does the same."""
    if layer["class_name"] != "TFOpLambda":
        return layer
    function = str(layer["config"].get("function", ""))
    names = {
        "__operators__.add": "Add", "math.add": "Add", "math.subtract": "Subtract", "__operators__.subtract": "Subtract",
        "math.multiply": "Multiply", "__operators__.multiply": "Multiply", "math.truediv": "Divide", "math.divide": "Divide",
        "math.maximum": "Maximum", "math.minimum": "Minimum", "nn.relu": "Relu", "nn.relu6": "Relu6",
        "nn.sigmoid": "Sigmoid", "math.sigmoid": "Sigmoid", "nn.silu": "Silu", "nn.swish": "Silu", "nn.tanh": "Tanh",
        "math.tanh": "Tanh", "nn.softmax": "Softmax", "concat": "Concatenate",
    }  # fmt: skip
    return {**layer, "class_name": names.get(function, f"TFOpLambda {function}"), "module": "keras.ops"}


def activated(layer: Layer, held: Held) -> Held:
    """The activation of the layer's configuration, under the layer's name."""
    name = _activation(layer)
    if name in {"linear", None}:
        return held
    return _function(layer, str(name), held, f"{layer.name}/{name}", layer.name)


def inner(layer: Layer) -> str | None:
    """Name of what the layer makes before its activation: the layer's own name is for the end."""
    return None if _activation(layer) in {"linear", None} else f"{layer.name}/linear"


def _activation(layer: Layer) -> str | None:
    given = layer.config.get("activation")
    if isinstance(given, Mapping):
        given = given.get("config") if isinstance(given.get("config"), str) else given.get("class_name")
    name = None if given is None else str(given)
    plain = (
        None
        if name is None
        else {"swish": "silu", "ReLU": "relu", "Softmax": "softmax", "LeakyReLU": "leaky_relu"}.get(name, name)
    )
    if plain is not None and plain not in {*ACTIVATIONS, "silu", "relu6", "softmax", "log_softmax"}:
        raise layer.refuse(f"has the activation '{plain[:60]}', which is not read")
    return plain


def _function(layer: Layer, kind: str, x: Held, name: str, tensor: str | None = None) -> Held:
    build = layer.build
    if kind in {"softmax", "log_softmax"}:
        return build.along("Softmax" if kind == "softmax" else "LogSoftmax", x, -1, name=name, tensor=tensor)
    if kind == "relu6":
        return build.unary("Clip", x, name=name, tensor=tensor, more=[np.float32(0), np.float32(6)])
    if kind == "silu":
        gate = build.unary("Sigmoid", x, name=f"{name}/sigmoid")
        return build.elementwise("Mul", [x, gate], name=name, tensor=tensor)
    op, attributes = ACTIVATIONS[kind]
    if op == "HardSigmoid" and not str(layer.config.get("keras_version", "3")).startswith("3"):
        attributes = {"alpha": 0.2, "beta": 0.5}
    return build.unary(op, x, attributes, name=name, tensor=tensor)


def _pair(value: Any, rank: int) -> list[int]:
    return [int(v) for v in value] if isinstance(value, (list, tuple)) else [int(value)] * rank


def _padding(layer: Layer) -> str:
    kind = str(layer.config.get("padding", "valid")).lower()
    if kind not in {"same", "valid"}:
        raise layer.refuse(f"has the padding '{kind[:40]}', which is not read")
    return kind.upper()


def _window(
    layer: Layer,
    x: Held,
    kernel: NDArray[np.float32],
    bias: NDArray[np.float32] | None,
    strides: Sequence[int],
    dilations: Sequence[int],
    groups: int,
    name: str,
    tensor: str | None,
    padding: str,
) -> Held:
    """A convolution with ``kernel`` ``[out, in/groups, *taps]``."""
    build = layer.build
    if groups < 1 or kernel.shape[1] * groups != x.shape[-1]:
        raise ModelError(f"The weights of layer '{layer.name[:120]!r}' do not fit its input {list(x.shape)}.")

    def constants() -> list[Any]:
        more = [] if bias is None else [build.constant(f"{name}/bias", bias)]
        return [build.constant(f"{name}/kernel", np.ascontiguousarray(kernel)), *more]

    return build.window(
        "Conv", x, constants, taps=kernel.shape[2:], strides=strides, dilations=dilations, padding=padding,
        channels=kernel.shape[0], name=name, tensor=tensor, group=groups,
    )  # fmt: skip


def _turned(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """``[*taps, in, out]`` as ``[out, in, *taps]``."""
    rank = kernel.ndim
    return kernel.transpose(rank - 1, rank - 2, *range(rank - 2))


def _with_bias(layer: Layer, names: Sequence[str]) -> tuple[list[NDArray[np.float32]], NDArray[np.float32] | None]:
    use = bool(layer.config.get("use_bias", True))
    found = layer.numbers([*names, *(["bias"] if use else [])])
    return found[: len(names)], found[-1] if use else None


def _conv(layer: Layer) -> Held:
    (kernel,), bias = _with_bias(layer, ["kernel"])
    rank = kernel.ndim - 2
    config, x = layer.config, layer.x
    strides, dilations = _pair(config["strides"], rank), _pair(config.get("dilation_rate", 1), rank)
    padding = str(config.get("padding", "valid")).lower()
    if padding == "causal" and rank == 1:
        before = (kernel.shape[0] - 1) * dilations[0]
        x = layer.build.pad(x, [(0, 0), (before, 0), (0, 0)], name=f"{layer.name}/causal")
        padding = "valid"
    elif padding == "causal":
        raise layer.refuse("has causal padding over several axes, which is not read")
    else:
        padding = _padding(layer).lower()
    groups = int(config.get("groups") or 1)
    held = _window(
        layer, x, _turned(kernel), bias, strides, dilations, groups, layer.name, inner(layer), padding.upper()
    )
    return activated(layer, held)


def _by_channel(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """A depthwise ``[*taps, in, multiplier]`` as ``[in · multiplier, 1, *taps]``."""
    rank = kernel.ndim
    turned = kernel.transpose(rank - 2, rank - 1, *range(rank - 2))
    return turned.reshape(-1, 1, *kernel.shape[:-2])


def _depthwise(layer: Layer) -> Held:
    old = isinstance(layer.arrays, Mapping) and "depthwise_kernel" in layer.arrays  # as Keras 2 calls it
    name = "depthwise_kernel" if old else "kernel"
    (kernel,), bias = _with_bias(layer, [name])
    rank = kernel.ndim - 2
    strides, dilations = _pair(layer.config["strides"], rank), _pair(layer.config.get("dilation_rate", 1), rank)
    held = _window(
        layer, layer.x, _by_channel(kernel), bias, strides, dilations, kernel.shape[-2], layer.name, inner(layer),
        _padding(layer),
    )  # fmt: skip
    return activated(layer, held)


def _separable(layer: Layer) -> Held:
    (deep, point), bias = _with_bias(layer, ["depthwise_kernel", "pointwise_kernel"])
    rank = deep.ndim - 2
    strides, dilations = _pair(layer.config["strides"], rank), _pair(layer.config.get("dilation_rate", 1), rank)
    name = f"{layer.name}/depthwise"
    first = _window(
        layer, layer.x, _by_channel(deep), None, strides, dilations, deep.shape[-2], name, None, _padding(layer)
    )
    ones = [1] * rank
    held = _window(layer, first, _turned(point), bias, ones, ones, 1, layer.name, inner(layer), "VALID")
    return activated(layer, held)


def _conv_transpose(layer: Layer) -> Held:
    (kernel,), bias = _with_bias(layer, ["kernel"])
    rank, build = kernel.ndim - 2, layer.build
    x = build.as_first(layer.x)
    strides, taps = _pair(layer.config["strides"], rank), kernel.shape[:-2]
    if any(d != 1 for d in _pair(layer.config.get("dilation_rate", 1), rank)) or layer.config.get("output_padding"):
        raise layer.refuse("is a transposed convolution with dilation or output padding, which is not read")
    same = _padding(layer) == "SAME"
    sizes = [n * s if same else n * s + max(k - s, 0) for n, s, k in zip(x.shape[1:-1], strides, taps, strict=True)]
    spare = [s * (n - 1) + k - out for n, s, k, out in zip(x.shape[1:-1], strides, taps, sizes, strict=True)]
    attributes = {
        "kernel_shape": list(taps),
        "strides": strides,
        "pads": [max(t, 0) // 2 for t in spare] + [max(t, 0) - max(t, 0) // 2 for t in spare],
        "output_padding": [max(-t, 0) for t in spare],
    }
    # [*taps, out, in] as ONNX's [in, out, *taps].
    inputs = [x.value, build.constant(f"{layer.name}/kernel", np.ascontiguousarray(_turned(kernel)))]
    if bias is not None:
        inputs.append(build.constant(f"{layer.name}/bias", bias))
    value = build.node("ConvTranspose", inputs, attributes, name=layer.name, tensor=inner(layer))
    held = build.held(value, (x.shape[0], *sizes, kernel.shape[-2]), first=True)
    return activated(layer, held)


def _dense(layer: Layer) -> Held:
    (kernel,), bias = _with_bias(layer, ["kernel"])
    if kernel.ndim != 2:
        raise ModelError(f"Layer '{layer.name[:120]!r}' has weights of {kernel.ndim} axes: the file is damaged.")
    weights = Weights(np.ascontiguousarray(kernel.T))
    held = layer.build.dense(
        layer.x, weights, None if bias is None else Weights(bias), name=layer.name, tensor=inner(layer),
        hint=f"{layer.name}/kernel",
    )  # fmt: skip
    return activated(layer, held)


def _batch_norm(layer: Layer) -> Held:
    config, build, x = layer.config, layer.build, layer.build.whole(layer.x)
    axis = config.get("axis", -1)
    axis = axis[0] if isinstance(axis, (list, tuple)) else axis
    if int(axis) % x.rank != x.rank - 1:
        raise layer.refuse(f"normalizes axis {axis} instead of the channels, which is not read")
    names = [n for n, key in (("gamma", "scale"), ("beta", "center")) if config.get(key, True)]
    found = dict(zip([*names, "moving_mean", "moving_variance"], layer.numbers([*names, "moving_mean", "moving_variance"]), strict=True))  # fmt: skip
    count = len(found["moving_mean"])
    order = (
        found.get("gamma", np.ones(count, np.float32)),
        found.get("beta", np.zeros(count, np.float32)),
        found["moving_mean"],
        found["moving_variance"],
    )
    x = build.as_first(x)
    titles = ("gamma", "beta", "moving_mean", "moving_variance")
    stored = [build.constant(f"{layer.name}/{t}", v) for t, v in zip(titles, order, strict=True)]
    epsilon = {"epsilon": float(config.get("epsilon", 1e-3))}
    value = build.node("BatchNormalization", [x.value, *stored], epsilon, name=layer.name)
    return build.held(value, x.shape, first=x.first)


def _layer_norm(layer: Layer) -> Held:
    config, build = layer.config, layer.build
    x = build.as_last(layer.x)
    axis = config.get("axis", -1)
    axis = axis[0] if isinstance(axis, (list, tuple)) and len(axis) == 1 else axis
    if not isinstance(axis, int) or axis % x.rank != x.rank - 1 or config.get("rms_scaling"):
        raise layer.refuse("normalizes in a way that is not read")
    names = [n for n, key in (("gamma", "scale"), ("beta", "center")) if config.get(key, True)]
    found = dict(zip(names, layer.numbers(names), strict=True))
    inputs = [x.value, build.constant(f"{layer.name}/gamma", found.get("gamma", np.ones(x.shape[-1], np.float32)))]
    if "beta" in found:
        inputs.append(build.constant(f"{layer.name}/beta", found["beta"]))
    attributes = {"axis": -1, "epsilon": float(config.get("epsilon", 1e-3))}
    return build.held(build.node("LayerNormalization", inputs, attributes, name=layer.name), x.shape)


def _pool(op: str) -> Callable[[Layer], Held]:
    def rule(layer: Layer) -> Held:
        x = layer.x
        rank = x.rank - 2
        taps = _pair(layer.config["pool_size"], rank)
        strides = _pair(layer.config.get("strides") or taps, rank)
        return layer.build.window(
            op, x, list, taps=taps, strides=strides, padding=_padding(layer), channels=x.shape[-1], name=layer.name
        )

    return rule


def _global(op: str) -> Callable[[Layer], Held]:
    def rule(layer: Layer) -> Held:
        build = layer.build
        x = build.as_first(layer.x)
        keep = bool(layer.config.get("keepdims", False))
        value = build.node(op, [x.value], name=layer.name, tensor=None if keep else f"{layer.name}/kept")
        shape = (x.shape[0], *([1] * (x.rank - 2)), x.shape[-1])
        held = build.held(value, shape, first=True)
        if keep:
            return held
        flat = build._reshape(value, (x.shape[0], x.shape[-1]), f"{layer.name}/flat")
        return build.held(flat, (x.shape[0], x.shape[-1]))

    return rule


def _identity(layer: Layer) -> Held:
    return layer.build.unary("Identity", layer.x, name=layer.name)


def _activation_layer(layer: Layer) -> Held:
    return _function(layer, str(_activation(layer) or "linear"), layer.x, layer.name)


def _named(kind: str) -> Callable[[Layer], Held]:
    return lambda layer: _function(layer, kind, layer.x, layer.name)


def _relu(layer: Layer) -> Held:
    config, build = layer.config, layer.build
    most, slope = config.get("max_value"), config.get("negative_slope") or 0.0
    slope = float(slope[0] if isinstance(slope, list) else slope)
    if float(config.get("threshold") or 0.0) or (most is not None and slope):
        raise layer.refuse("is a ReLU with a threshold, or with both a slope and a limit, which is not read")
    if slope:
        return build.unary("LeakyRelu", layer.x, {"alpha": slope}, name=layer.name)
    if most is not None:
        return build.unary("Clip", layer.x, name=layer.name, more=[np.float32(0), np.float32(most)])
    return build.unary("Relu", layer.x, name=layer.name)


def _leaky(layer: Layer) -> Held:
    alpha = layer.config.get("negative_slope", layer.config.get("alpha", 0.3))
    return layer.build.unary("LeakyRelu", layer.x, {"alpha": float(np.ravel(alpha)[0])}, name=layer.name)


def _elu(layer: Layer) -> Held:
    alpha = float(np.ravel(layer.config.get("alpha", 1.0))[0])
    return layer.build.unary("Elu", layer.x, {"alpha": alpha}, name=layer.name)


def _prelu(layer: Layer) -> Held:
    (slope,), build = layer.numbers(["alpha"]), layer.build
    x = build.whole(layer.x)
    array = np.moveaxis(slope, -1, 0) if x.first else slope
    constant = build.constant(f"{layer.name}/alpha", np.ascontiguousarray(array))
    value = build.node("PRelu", [x.value, constant], name=layer.name)
    return build.held(value, x.shape, first=x.first)


def _softmax(layer: Layer) -> Held:
    axis = layer.config.get("axis", -1)
    axis = axis[0] if isinstance(axis, (list, tuple)) and len(axis) == 1 else axis
    if not isinstance(axis, int):
        raise layer.refuse("normalizes over several axes, which is not read")
    return layer.build.along("Softmax", layer.x, axis, name=layer.name)


def _parts(layer: Layer) -> list[Any]:
    """The operands of a function: tensors and numbers, given by position or by name."""
    named = [layer.options[k] for k in ("x1", "x2", "y") if k in layer.options]
    found = [*layer.inputs, *named]
    return [p if isinstance(p, Held) else np.asarray(p, np.float32) for p in found if p is not None]


def _merge(op: str) -> Callable[[Layer], Held]:
    def rule(layer: Layer) -> Held:
        parts = _parts(layer)
        if len(parts) < 2:
            raise layer.refuse("reads fewer than two tensors")
        if len(parts) > 2 and op == "Mul":
            held = layer.build.elementwise(op, parts[:2], name=f"{layer.name}/0")
            for i, part in enumerate(parts[2:], 1):
                last = i == len(parts) - 2
                held = layer.build.elementwise(op, [held, part], name=layer.name if last else f"{layer.name}/{i}")
            return held
        return layer.build.elementwise(op if len(parts) == 2 or op != "Add" else "Sum", parts, name=layer.name)

    return rule


def _average(layer: Layer) -> Held:
    parts = _parts(layer)
    total = layer.build.elementwise("Add" if len(parts) == 2 else "Sum", parts, name=f"{layer.name}/sum")
    return layer.build.elementwise("Mul", [total, np.float32(1 / len(parts))], name=layer.name)


def _concat(layer: Layer) -> Held:
    parts = [p for p in layer.inputs if isinstance(p, Held)]
    axis = layer.options.get("axis", layer.config.get("axis", -1))
    return layer.build.concat(parts, int(axis), name=layer.name)


def _flatten(layer: Layer) -> Held:
    x = layer.x
    return layer.build.reshape(x, (x.shape[0], int(np.prod(x.shape[1:]))), name=layer.name)


def _reshape(layer: Layer) -> Held:
    target = [int(n) for n in layer.config.get("target_shape") or layer.config.get("newshape", ())]
    if not layer.config.get("target_shape"):
        target = target[1:]  # keras.ops.reshape counts the batch
    whole = int(np.prod(layer.x.shape[1:]))
    known = int(np.prod([n for n in target if n != -1]))
    sizes = [whole // max(known, 1) if n == -1 else n for n in target]
    return layer.build.reshape(layer.x, (layer.x.shape[0], *sizes), name=layer.name)


def _permute(layer: Layer) -> Held:
    return layer.build.transpose(layer.x, [0, *(int(d) for d in layer.config["dims"])], name=layer.name)


def _amounts(value: Any, rank: int) -> list[tuple[int, int]]:
    if isinstance(value, int):
        return [(value, value)] * rank
    if rank == 1 and all(isinstance(v, int) for v in value):
        return [(int(value[0]), int(value[1]))] if len(value) == 2 else [(int(value[0]),) * 2]
    return [(int(v), int(v)) if isinstance(v, int) else (int(v[0]), int(v[1])) for v in value]


def _zero_padding(layer: Layer) -> Held:
    amounts = _amounts(layer.config["padding"], layer.x.rank - 2)
    return layer.build.pad(layer.x, [(0, 0), *amounts, (0, 0)], name=layer.name)


def _cropping(layer: Layer) -> Held:
    amounts = [(0, 0), *_amounts(layer.config["cropping"], layer.x.rank - 2), (0, 0)]
    begin = [b for b, _ in amounts]
    end = [n - a for n, (_, a) in zip(layer.x.shape, amounts, strict=True)]
    return layer.build.slice(layer.x, begin, end, [1] * len(begin), name=layer.name)


def _upsampling(layer: Layer) -> Held:
    rank = layer.x.rank - 2
    factors = _pair(layer.config["size"], rank)
    kind = str(layer.config.get("interpolation", "nearest"))
    if kind == "nearest":
        attributes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    elif kind == "bilinear":
        attributes = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    else:
        raise layer.refuse(f"interpolates by '{kind[:40]}', which is not read")
    sizes = [n * f for n, f in zip(layer.x.shape[1:-1], factors, strict=True)]
    return layer.build.resize(layer.x, sizes, attributes, name=layer.name)


def _rescaling(layer: Layer) -> Held:
    scale = np.asarray(layer.config.get("scale", 1.0), np.float32)
    offset = np.asarray(layer.config.get("offset", 0.0), np.float32)
    held = layer.build.elementwise("Mul", [layer.x, scale], name=f"{layer.name}/scale" if offset.any() else layer.name)
    return layer.build.elementwise("Add", [held, offset], name=layer.name) if offset.any() else held


def _normalization(layer: Layer) -> Held:
    if layer.config.get("invert"):
        raise layer.refuse("is an inverted normalization, which is not read")
    mean, variance = layer.config.get("mean"), layer.config.get("variance")
    if mean is None or variance is None:
        mean, variance = layer.numbers(["mean", "variance"])
    scale = 1 / np.maximum(np.sqrt(np.asarray(variance, np.float32)), np.float32(1e-7))
    held = layer.build.elementwise("Sub", [layer.x, np.asarray(mean, np.float32)], name=f"{layer.name}/mean")
    return layer.build.elementwise("Mul", [held, np.asarray(scale, np.float32)], name=layer.name)


LAYERS: Mapping[str, Callable[[Layer], Any]] = {
    "Activation": _activation_layer,
    "ActivityRegularization": _identity,
    "Add": _merge("Add"),
    "AlphaDropout": _identity,
    "Average": _average,
    "AveragePooling1D": _pool("AveragePool"),
    "AveragePooling2D": _pool("AveragePool"),
    "AveragePooling3D": _pool("AveragePool"),
    "BatchNormalization": _batch_norm,
    "BatchNormalizationV1": _batch_norm,
    "Concatenate": _concat,
    "Conv1D": _conv,
    "Conv1DTranspose": _conv_transpose,
    "Conv2D": _conv,
    "Conv2DTranspose": _conv_transpose,
    "Conv3D": _conv,
    "Cropping1D": _cropping,
    "Cropping2D": _cropping,
    "Dense": _dense,
    "DepthwiseConv1D": _depthwise,
    "DepthwiseConv2D": _depthwise,
    "Divide": _merge("Div"),
    "Dropout": _identity,
    "ELU": _elu,
    "Flatten": _flatten,
    "GaussianDropout": _identity,
    "GaussianNoise": _identity,
    "GlobalAveragePooling1D": _global("GlobalAveragePool"),
    "GlobalAveragePooling2D": _global("GlobalAveragePool"),
    "GlobalMaxPooling1D": _global("GlobalMaxPool"),
    "GlobalMaxPooling2D": _global("GlobalMaxPool"),
    "HardSigmoid": _named("hard_sigmoid"),
    "HardSilu": _named("hard_silu"),
    "Identity": _identity,
    "LayerNormalization": _layer_norm,
    "LeakyReLU": _leaky,
    "MaxPooling1D": _pool("MaxPool"),
    "MaxPooling2D": _pool("MaxPool"),
    "MaxPooling3D": _pool("MaxPool"),
    "Maximum": _merge("Max"),
    "Minimum": _merge("Min"),
    "Multiply": _merge("Mul"),
    "Normalization": _normalization,
    "PReLU": _prelu,
    "Permute": _permute,
    "ReLU": _relu,
    "Relu": _relu,
    "Relu6": _named("relu6"),
    "Rescaling": _rescaling,
    "Reshape": _reshape,
    "SeparableConv1D": _separable,
    "SeparableConv2D": _separable,
    "Sigmoid": _named("sigmoid"),
    "Silu": _named("silu"),
    "Softmax": _softmax,
    "SpatialDropout1D": _identity,
    "SpatialDropout2D": _identity,
    "Subtract": _merge("Sub"),
    "SyncBatchNormalization": _batch_norm,
    "Tanh": _named("tanh"),
    "UpSampling1D": _upsampling,
    "UpSampling2D": _upsampling,
    "ZeroPadding1D": _zero_padding,
    "ZeroPadding2D": _zero_padding,
}
"""Class → what makes it."""
