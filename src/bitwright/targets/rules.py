"""The vocabulary of target files: what can be said about an operator, and when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Literal, TypedDict, Unpack

import numpy as np

from bitwright.number.format import Format, Rounding

DEFAULT_OP = "*"
"""The key of the rule for operators that a target file does not name."""

POOLS = ("AveragePool", "GlobalAveragePool", "ReduceMean")

METHODS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        **dict.fromkeys(POOLS, frozenset({"exact", "dpu", "truncate", "away", "mean"})),
        **dict.fromkeys(("Add", "Sub", "Mul"), frozenset({"shift", "common-shift", "tflite"})),
        "Softmax": frozenset({"integer", "q7", "gemmlowp"}),
        **dict.fromkeys(("Gemm", "MatMul"), frozenset({"plain", "single"})),
        "LeakyRelu": frozenset({"table", "dpu"}),
        **dict.fromkeys(("Sigmoid", "Tanh", "HardSigmoid", "HardSwish"), frozenset({"table"})),
    }
)
"""Operator → the ways of computing it that a target file may ask for."""

METHOD_MEANING: Mapping[str, str] = MappingProxyType(
    {
        "exact": "sum times a fixed-point 1/count, rounded once",
        "dpu": "sum, or negative input, times the DPU's k/2^n, rounded once",
        "truncate": "sum divided by the count toward zero",
        "mean": "TensorFlow Lite's MEAN: sum times a Q31 multiplier into which the count was divided in integers",
        "away": "sum divided by the count, half away from zero",
        "shift": "operands aligned by shifts, exact sum or product, rounded once",
        "common-shift": "operands weighted by fixed-point multipliers, exact sum or product, rounded once",
        "tflite": "TensorFlow Lite's: operands shifted left by 20 and requantized each, the sum requantized again; "
        "a product requantized once",
        "integer": "exact table of exponentials, integer sum, one rounded division",
        "gemmlowp": "TensorFlow Lite's and CMSIS-NN's: exponentials in Q0.31, reciprocal of their sum by Newton's method",
        "plain": "exact sum, requantized as the target requantizes",
        "single": "requantized by an integer multiplier with one rounding, half up, whatever the target's requantizer",
        "q7": "powers of two instead of exponentials, as arm_softmax_q7",
        "table": "exact table with one entry per input integer",
    }
)
"""Method → what it does, in words."""

# fmt: off
OPERATORS = frozenset(
    {
        "Conv", "ConvTranspose", "Gemm", "MatMul",
        "Add", "Sub", "Mul", "Sum", "Div", "Neg", "Abs", "Pow", "Sqrt", "Reciprocal", "Exp", "Log", "Erf", "Min", "Max", "Where", "Equal", "Greater", "Less",
        "Concat", "Split", "Slice", "Pad", "Gather", "Tile", "Expand",
        "MaxPool", "GlobalMaxPool", "AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin",
        "Relu", "Clip", "LeakyRelu", "PRelu", "ThresholdedRelu",
        "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Swish", "SiLU", "Gelu", "Elu", "Selu", "Celu", "Mish", "Softplus", "Softsign",
        "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh", "Floor", "Ceil", "Round", "Sign", "Shrink", "Mod",
        "Softmax", "LogSoftmax", "LRN", "InstanceNormalization", "LayerNormalization", "GroupNormalization", "BatchNormalization",
        "Resize", "Upsample", "DepthToSpace", "SpaceToDepth",
        "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Cast",
        "ArgMax", "ArgMin", "TopK", "NonMaxSuppression",
    }
)
# fmt: on
"""Operators that a target file may name, so that a misspelt one is found."""


@dataclass(frozen=True, kw_only=True)
class FixedFormat:
    """A format that the device prescribes; either ``exponent`` or ``scale`` is given."""

    bits: int = 8
    signed: bool = True
    exponent: int | None = None
    scale: float | None = None
    zero_point: int = 0

    def __post_init__(self) -> None:
        if (self.exponent is None) == (self.scale is None):
            raise ValueError("a fixed format has either an exponent or a scale")
        if self.exponent is not None and self.zero_point:
            raise ValueError("a fixed format with an exponent has zero_point 0")
        if self.exponent is not None and not -128 <= self.exponent <= 127:
            raise ValueError(f"exponent must lie in -128..127, not {self.exponent}")
        self.format()

    def format(self) -> Format:
        """The format itself."""
        if self.exponent is not None:
            return Format.power_of_two(self.bits, self.exponent, signed=self.signed)
        return Format(self.bits, self.signed, np.float64(self.scale), np.int64(self.zero_point))  # type: ignore[arg-type]

    def __str__(self) -> str:
        return str(self.format())


@dataclass(frozen=True, kw_only=True)
class OpRule:
    """What a target says about one operator.

    Attributes:
        supported: False makes the operator a float island (and an error with ``--strict``).
        inputs: ``"own"``: every input keeps its format and the operator aligns them.  ``"shared"``: all inputs must
            have one format, which goes back to their producers.  ``"requantize"``: an input whose format is not the
            output's is requantized at the operator.  ``"best"``: shared or requantized, whichever measures better.
        output: ``"own"``: a format from the output's own statistics.  ``"shared"``: the format of the inputs.  Or the
            format that the device prescribes.
        shared_from: Who decides a shared format: the ``"output"``'s statistics, the (first) ``"input"``'s, or the
            ``"coarsest"`` of all the tensors that share it.
        method: How it is computed, one of ``METHODS``; None where there is only one way.
        rounding: The operator's own rounding; None for that of the target's arithmetic.
        input_exponent: Lowest and highest exponent of the input's format that the device can take.
        output_exponent: Lowest and highest exponent of the output's format.
        exponent_drop: Lowest and highest value of input exponent minus output exponent.
        note: What a person should know, one sentence.
    """

    supported: bool = True
    inputs: Literal["own", "shared", "requantize", "best"] = "own"
    output: Literal["own", "shared"] | FixedFormat = "own"
    shared_from: Literal["output", "input", "coarsest"] = "input"
    method: str | None = None
    rounding: Rounding | None = None
    input_exponent: tuple[int, int] | None = None
    output_exponent: tuple[int, int] | None = None
    exponent_drop: tuple[int, int] | None = None
    note: str = ""

    def __post_init__(self) -> None:
        for name in ("input_exponent", "output_exponent", "exponent_drop"):
            limits = getattr(self, name)
            if limits is not None and limits[0] > limits[1]:
                raise ValueError(f"{name} must be [lowest, highest], not {list(limits)}")


class Facts(TypedDict, total=False):
    """What is known of a layer when a target's rules are asked."""

    kernel: Sequence[int]
    stride: Sequence[int]
    dilation: Sequence[int]
    group: int
    depthwise: bool
    layer: str
    first: bool
    last: bool


@dataclass(frozen=True, kw_only=True)
class Match:
    """The condition of a rule: all that is given must hold.  A fact that nobody knows does not hold.

    Attributes:
        op: One operator or several.
        kernel: Extents of the kernel or pooling window, exactly.
        stride: Strides, exactly.
        dilation: Dilations, exactly.
        group: Number of groups.
        depthwise: Every group has one input channel, and there is more than one group.
        layer: Glob pattern for the layer's name, case-sensitive.
        first: The first layer with weights.
        last: The last layer with weights.
    """

    op: tuple[str, ...] = ()
    kernel: tuple[int, ...] | None = None
    stride: tuple[int, ...] | None = None
    dilation: tuple[int, ...] | None = None
    group: int | None = None
    depthwise: bool | None = None
    layer: str | None = None
    first: bool | None = None
    last: bool | None = None

    def holds(self, op_type: str, **facts: Unpack[Facts]) -> bool:
        """Whether the rule applies to an operator of type ``op_type`` of which ``facts`` are known."""
        unknown = facts.keys() - Facts.__annotations__.keys()
        if unknown:
            raise TypeError(f"a rule cannot ask for {', '.join(sorted(unknown))}")
        if self.op and op_type not in self.op:
            return False
        for name in ("kernel", "stride", "dilation"):
            wanted, got = getattr(self, name), facts.get(name)
            if wanted is not None and (got is None or tuple(got) != wanted):  # type: ignore[arg-type]
                return False
        for name in ("group", "depthwise", "first", "last"):
            wanted = getattr(self, name)
            if wanted is not None and facts.get(name) != wanted:
                return False
        return self.layer is None or fnmatchcase(facts.get("layer") or "", self.layer)


Overrides = tuple[tuple[str, object], ...]
"""Field names and values that replace those of a rule, as pairs so that they cannot be changed."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A condition and what it changes; the last rule that holds has the last word.

    Attributes:
        match: The condition.
        weight: Fields of the weight's ``FormatRule``.
        activation: Fields of the output's ``FormatRule``.
        bias: Fields of the bias's ``FormatRule``.
        op: Fields of the ``OpRule``; in a file they stand beside ``match``.
    """

    match: Match
    weight: Overrides = ()
    activation: Overrides = ()
    bias: Overrides = ()
    op: Overrides = ()
