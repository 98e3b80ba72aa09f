"""Known faults, planted in a good network: the digits that come with bitwright.

Each fault keeps what the float network computes (or says why not), so that only integers, data or preparation suffer.
``FAULTS`` maps a name to a function that plants it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

import bitwright
from bitwright.explain.finding import Cause
from bitwright.model import Model, load
from bitwright.targets.target import Target, load_target

DIGITS = Path(bitwright.__file__).parent / "demo"
RULES = {
    "input": {"name": "image", "layout": "NCHW", "color": "gray", "mean": [0.0], "std": [255.0]},
    "output": {"name": "logits", "task": "classification"},
}


DEMO = {2: 64.0, 1: 16.0, 0: 7.0}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A network with something wrong.

    Attributes:
        cause: What explaining it must name first.
        model: The network.
        target: Its target.
        calibration: Samples to calibrate with.
        options: Further arguments of ``quantize``.
        layer: Where, if it is in one place.
        channel: Which channel, if it is one.
        probabilities: The outputs are to be compared, not only the answers.
    """

    cause: Cause
    model: Model
    target: Target
    calibration: tuple[NDArray[Any], NDArray[Any]]
    options: Mapping[str, Any] = field(default_factory=dict)
    layer: str = ""
    channel: int | None = None
    probabilities: bool = False


def images(name: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Pictures and classes."""
    with np.load(DIGITS / f"digits-{name}.npz") as arrays:
        return arrays["x"], arrays["y"]


class Plot:
    """The network, to be changed."""

    def __init__(self, *, folded: bool) -> None:
        plain = load(DIGITS / "digits.onnx")
        self.proto = onnx.load_from_string(plain.network.serialize()) if folded else onnx.load(DIGITS / "digits.onnx")
        del self.proto.metadata_props[:]
        # The demo shows a fold that blows channels up; here the network has to be good until something is planted.
        for channel, factor in DEMO.items():
            if folded:
                self.scale_output("stem_conv", channel, factor)
            else:
                self.scale_norm("stem_norm", channel, factor)
            self.scale_input("depthwise_conv", channel, 1 / factor)

    def names(self, node: str) -> list[str]:
        """Inputs of a node."""
        return next(list(n.input) for n in self.proto.graph.node if n.name == node)

    def change(self, tensor: str, edit: Callable[[NDArray[Any]], Any]) -> None:
        """Edit a constant in place."""
        stored = next(t for t in self.proto.graph.initializer if t.name == tensor)
        array = numpy_helper.to_array(stored).copy()
        edit(array)
        stored.CopyFrom(numpy_helper.from_array(array, tensor))

    def scale_input(self, node: str, channel: int | slice, factor: float) -> None:
        """Multiply what a layer does with a channel of its input."""
        depthwise = node == "depthwise_conv"

        def edit(w: NDArray[Any]) -> None:
            w[channel if depthwise else (slice(None), channel)] *= np.float32(factor)

        self.change(self.names(node)[1], edit)

    def scale_output(self, node: str, channel: int | slice, factor: float) -> None:
        """Multiply a channel of what a folded layer gives."""
        for name in self.names(node)[1:3]:
            self.change(name, lambda w: w.__setitem__(channel, w[channel] * np.float32(factor)))

    def scale_norm(self, norm: str, channel: int | slice, factor: float) -> None:
        """Multiply a channel of what a batch normalization gives."""
        for name in (f"{norm}_gain", f"{norm}_shift"):
            self.change(name, lambda w: w.__setitem__(channel, w[channel] * np.float32(factor)))

    def behind(self, tensor: str, op: str, **attributes: Any) -> None:
        """Put an operator of one input behind a tensor."""
        made = f"{tensor}_{op.lower()}"
        at = next(i for i, n in enumerate(self.proto.graph.node) if tensor in n.output)
        for node in self.proto.graph.node:
            for i, name in enumerate(node.input):
                if name == tensor:
                    node.input[i] = made
        for output in self.proto.graph.output:
            if output.name == tensor:
                output.name = made
        self.proto.graph.node.insert(at + 1, helper.make_node(op, [tensor], [made], name=made, **attributes))

    def model(self, **contract: Any) -> Model:
        """The changed network, loaded."""
        rules = {"input": RULES["input"] | contract, "output": {"task": "classification"}}
        onnx.checker.check_model(self.proto)
        return load(self.proto.SerializeToString(), input_spec=rules, name="digits")


def other(target: str, **changes: Any) -> Target:
    """A target with some rules changed."""
    return load_target(target).with_overrides(changes)


def weight_range() -> Fault:
    """One channel 100 times the others: the others are left two bits.  The next layer divides by as much."""
    plot = Plot(folded=True)
    plot.scale_output("stem_conv", 3, 100.0)
    plot.scale_input("depthwise_conv", 3, 0.01)
    return Fault(
        cause=Cause.WEIGHT_RANGE,
        model=plot.model(),
        target=load_target("fpga"),
        calibration=images("calib"),
    )


def fold() -> Fault:
    """A batch normalization with a large γ in one channel, as a tiny variance would make it."""
    plot = Plot(folded=False)
    plot.scale_norm("stem_norm", 3, 100.0)
    plot.scale_input("depthwise_conv", 3, 0.01)
    return Fault(
        cause=Cause.FOLD,
        model=plot.model(),
        target=load_target("fpga"),
        calibration=images("calib"),
        layer="stem_conv",
        channel=3,
    )


def weight_rounding() -> Fault:
    """One layer in three bits."""
    rule = {"match": {"layer": "residual_conv"}, "weight": {"bits": 2}}
    return Fault(
        cause=Cause.WEIGHT_ROUNDING,
        model=Plot(folded=False).model(),
        target=other("fpga", weight={"per_channel": True}, rule=[rule]),
        calibration=images("calib"),
        layer="residual_conv",
    )


def bias_resolution() -> Fault:
    """A channel that is dead through a huge negative bias; in 8 bits for all biases the others are lost."""
    plot = Plot(folded=True)
    plot.change(plot.names("wide_conv")[2], lambda b: b.__setitem__(int(np.argmin(b)), np.float32(-3000)))
    return Fault(
        cause=Cause.BIAS_RESOLUTION,
        model=plot.model(),
        target=other("mcu-q7", schemes={"bias": "minmax", "activation": "minmax"}),
        calibration=images("calib"),
        layer="wide_conv",
    )


def activation_clipping() -> Fault:
    """Ranges cut off far too early."""
    return Fault(
        cause=Cause.ACTIVATION_CLIPPING,
        model=Plot(folded=False).model(),
        target=other("fpga", schemes={"activation": "percentile{p=85}"}),
        calibration=images("calib"),
    )


def activation_rounding() -> Fault:
    """One channel of activations 300 times the others; weights have bits enough."""
    plot = Plot(folded=True)
    plot.scale_output("stem_conv", 3, 300.0)
    plot.scale_input("depthwise_conv", 3, 1 / 300)
    return Fault(
        cause=Cause.ACTIVATION_ROUNDING,
        model=plot.model(),
        target=other("generic", weight={"bits": 16}, schemes={"activation": "minmax"}),
        calibration=images("calib"),
        layer="stem_conv",
    )


def shared_format() -> Fault:
    """Two branches of very different size in one concatenation, which knows one format."""
    plot = Plot(folded=True)
    plot.scale_output("narrow_conv", slice(None), 64.0)
    plot.scale_input("classify", slice(0, 24), 1 / 64)
    rules = [
        {"match": {"layer": "classify"}, "weight": {"bits": 16}},
        {"match": {"layer": "average"}, "activation": {"bits": 16}},
    ]
    return Fault(
        cause=Cause.SHARED_FORMAT,
        model=plot.model(),
        target=other(
            "fpga", op={"Concat": {"inputs": "shared", "output": "shared", "shared_from": "coarsest"}}, rule=rules
        ),
        calibration=images("calib"),
    )


def pooling_rule() -> Fault:
    """Averages that are cut off, not rounded, in a format that is coarse for what is averaged and far too coarse after."""
    rules = [{"match": {"layer": name}, "activation": {"bits": 5}} for name in ("narrow_conv", "wide_conv", "average")]
    return Fault(
        cause=Cause.POOLING_RULE,
        model=Plot(folded=False).model(),
        target=other("mcu-q7", rule=rules, schemes={"activation": "minmax"}),
        calibration=images("calib"),
        layer="average",
    )


def table_rule() -> Fault:
    """Probabilities by powers of two instead of e."""
    plot = Plot(folded=False)
    plot.behind("logits", "Softmax", axis=1)
    return Fault(
        cause=Cause.TABLE_RULE,
        model=plot.model(),
        target=other("fpga", op={"Softmax": {"method": "q7", "output": {"exponent": -7}}}),
        calibration=images("calib"),
        probabilities=True,
    )


def accumulator() -> Fault:
    """Accumulators of 16 bits."""
    return Fault(
        cause=Cause.ACCUMULATOR,
        model=Plot(folded=False).model(),
        target=other("fpga", arithmetic={"accumulator_bits": 15}),
        calibration=images("calib"),
    )


def float_island() -> Fault:
    """An operator that the target leaves to the processor, in the middle."""
    plot = Plot(folded=False)
    plot.behind("stem_relu_out", "Abs")
    return Fault(
        cause=Cause.FLOAT_ISLAND,
        model=plot.model(),
        target=load_target("dpu"),
        calibration=images("calib"),
    )


def preprocessing() -> Fault:
    """Normalized twice: the pixels are divided by 255, and divided again."""
    return Fault(
        cause=Cause.PREPROCESSING,
        model=Plot(folded=False).model(std=[255.0 * 255.0]),
        target=load_target("fpga"),
        calibration=images("calib"),
    )


def not_normalized() -> Fault:
    """The division by 255 is forgotten."""
    return Fault(
        cause=Cause.PREPROCESSING,
        model=Plot(folded=False).model(std=[1.0]),
        target=load_target("fpga"),
        calibration=images("calib"),
    )


def calibration_data() -> Fault:
    """Calibrated with pictures far too dark."""
    x, y = images("calib")
    return Fault(
        cause=Cause.CALIBRATION_DATA,
        model=Plot(folded=False).model(),
        target=load_target("fpga"),
        calibration=(x // 8, y),
    )


def shift_limits() -> Fault:
    """A shifter that reaches four places: weights get the steps that it allows."""
    return Fault(
        cause=Cause.SHIFT_LIMITS,
        model=Plot(folded=False).model(),
        target=other("fpga", arithmetic={"shift_bits": [0, 4]}),
        calibration=images("calib"),
    )


FAULTS: Mapping[str, Callable[[], Fault]] = {
    plant.__name__: plant
    for plant in (
        weight_rounding,
        weight_range,
        fold,
        bias_resolution,
        activation_clipping,
        activation_rounding,
        shared_format,
        shift_limits,
        pooling_rule,
        table_rule,
        accumulator,
        float_island,
        preprocessing,
        not_normalized,
        calibration_data,
    )
}
