"""What an explanation says: findings with remedies, a row for each layer, totals.  Plain values, nothing is computed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from bitwright.shown import Shown


class Cause(StrEnum):
    """Why integers differ from the float network."""

    WEIGHT_ROUNDING = "weight-rounding"
    WEIGHT_RANGE = "weight-range"
    FOLD = "fold"
    BIAS_RESOLUTION = "bias-resolution"
    ACTIVATION_CLIPPING = "activation-clipping"
    ACTIVATION_ROUNDING = "activation-rounding"
    SHARED_FORMAT = "shared-format"
    SHIFT_LIMITS = "shift-limits"
    POOLING_RULE = "pooling-rule"
    TABLE_RULE = "table-rule"
    ARITHMETIC = "arithmetic"
    ACCUMULATOR = "accumulator"
    FLOAT_ISLAND = "float-island"
    PREPROCESSING = "preprocessing"
    CALIBRATION_DATA = "calibration-data"

    @property
    def meaning(self) -> str:
        """In a few words."""
        return MEANINGS[self]


MEANINGS: Mapping[Cause, str] = MappingProxyType(
    {
        Cause.WEIGHT_ROUNDING: "weights rounded to the steps of a format for their own channel",
        Cause.WEIGHT_RANGE: "weights rounded to the wider steps that other channels of the tensor need",
        Cause.FOLD: "the same, where a folded batch normalization made a channel large",
        Cause.BIAS_RESOLUTION: "biases rounded or cut off",
        Cause.ACTIVATION_CLIPPING: "values beyond the range of their format",
        Cause.ACTIVATION_ROUNDING: "values rounded to the steps of their format, small ones to zero",
        Cause.SHARED_FORMAT: "a format that other tensors force on this one",
        Cause.SHIFT_LIMITS: "a format moved because the hardware cannot shift as far",
        Cause.POOLING_RULE: "how the target pools and averages",
        Cause.TABLE_RULE: "how the target computes a function of one value",
        Cause.ARITHMETIC: "how the target rounds between accumulator and output",
        Cause.ACCUMULATOR: "sums that may leave the accumulator",
        Cause.FLOAT_ISLAND: "layers that the target does not compute in integers",
        Cause.PREPROCESSING: "inputs that are not what the network was trained on",
        Cause.CALIBRATION_DATA: "calibration samples too few or unlike these",
    }
)


@dataclass(frozen=True, kw_only=True)
class Gain:
    """What a remedy was measured to bring, on samples that it did not learn from.

    Attributes:
        before_db: Output signal to quantization noise without it.
        after_db: With it.
        metric: Of the two figures that follow: ``agreement`` with the float network's answers, or ``top1`` where the
            float network itself was wrong; empty where outputs have no classes.
        before: In 0..1; None where there is no metric.
        after: The same with the remedy.
        top1_before: Share of right answers in 0..1; None without labels.
        top1_after: The same with the remedy.
        samples: Measured on so many.
        seconds: What the trial took.
    """

    before_db: float | None
    after_db: float | None
    metric: str = ""
    before: float | None = None
    after: float | None = None
    top1_before: float | None = None
    top1_after: float | None = None
    samples: int = 0
    seconds: float = 0.0

    @property
    def decibels(self) -> float | None:
        """By how much the outputs get closer to the float network's."""
        if self.before_db is None or self.after_db is None:
            return None
        return self.after_db - self.before_db

    @property
    def points(self) -> float | None:
        """By how many points of a hundred the metric rises."""
        if self.before is None or self.after is None:
            return None
        return 100 * (self.after - self.before)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, the gains included."""
        return {
            "decibels": number(self.decibels),
            "points": number(self.points),
            "metric": self.metric or None,
            "before": number(self.before),
            "after": number(self.after),
            "before_db": number(self.before_db),
            "after_db": number(self.after_db),
            "top1_before": number(self.top1_before),
            "top1_after": number(self.top1_after),
            "samples": self.samples,
            "seconds": round(self.seconds, 2),
        }


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """What to do about a finding.

    Attributes:
        sentence: In words.
        mend: The repair, as ``--mend`` and ``quantize(mend=)`` take it; empty where it is something else.
        options: Arguments of ``quantize`` that differ from those that were used (``mend``, ``scheme``, ``target``).
        command: What to type.
        target_file: Where the target's rules have to change, the target file to use instead.
        input_contract: Where preprocessing is wrong, the input contract to use instead, as its TOML file has it.
        gain: The measured effect; None where it was not tried.
        how: How the effect was measured, or why it was not.
    """

    sentence: str
    mend: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    target_file: str = ""
    input_contract: str = ""
    gain: Gain | None = None
    how: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "sentence": self.sentence,
            "mend": self.mend or None,
            "options": dict(self.options),
            "command": self.command or None,
            "target_file": self.target_file or None,
            "input_contract": self.input_contract or None,
            "predicted_gain": None if self.gain is None else self.gain.to_dict(),
            "how": self.how,
        }


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One reason why accuracy is lost.

    Attributes:
        rank: 1 is the worst.
        cause: What it is.
        severity: ``"severe"`` (answers are lost), ``"notable"`` or ``"minor"`` (as always with these bits).
        layer: Where; empty where it is the whole network.
        tensor: The tensor in question, or empty.
        channel: The channel in question, or None.
        sentence: All of it in words with numbers.
        numbers: The numbers by name.
        remedy: What to do, the best that was tried; None where nothing is needed or known.
        others: Remedies that are worse.
    """

    rank: int
    cause: Cause
    severity: str
    layer: str = ""
    tensor: str = ""
    channel: int | None = None
    sentence: str
    numbers: Mapping[str, Any] = field(default_factory=dict)
    remedy: Remedy | None = None
    others: tuple[Remedy, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "rank": self.rank,
            "cause": str(self.cause),
            "severity": self.severity,
            "layer": self.layer or None,
            "tensor": self.tensor or None,
            "channel": self.channel,
            "sentence": self.sentence,
            "numbers": {name: number(value) for name, value in self.numbers.items()},
            "remedy": None if self.remedy is None else self.remedy.to_dict(),
            "others": [one.to_dict() for one in self.others],
        }


@dataclass(frozen=True, kw_only=True)
class LayerLoss:
    """One layer.  All decibels are signal to noise; the signal is the float network's.

    Attributes:
        layer: Its name.
        op: Its operator.
        tensor: The output that is looked at.
        format: Of that output.
        injected_db: Noise that the layer alone adds, at its own output: integers against the float layer on the very
            values that arrive.
        arriving_db: Noise at its output of what arrives: the float layer on arriving values against the float network.
        cumulative_db: Both: its integers against the float network.
        output_db: Noise at the network's outputs where this layer alone computes in integers; None where not measured.
        output_share: Of the sum over all layers of that noise, in 0..1; None where not measured.
        causes: Cause → share of the injected noise; shares add up to 1, and one is negative where it takes others back.
        macs: Multiply-accumulates.
        integer: Whether it computes in integers.
    """

    layer: str
    op: str
    tensor: str
    format: str
    injected_db: float | None
    arriving_db: float | None
    cumulative_db: float | None
    output_db: float | None = None
    output_share: float | None = None
    causes: Mapping[Cause, float] = field(default_factory=dict)
    macs: int = 0
    integer: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Plain values; infinite decibels are None."""
        return {
            "layer": self.layer,
            "op": self.op,
            "tensor": self.tensor,
            "format": self.format,
            "injected_db": number(self.injected_db),
            "arriving_db": number(self.arriving_db),
            "cumulative_db": number(self.cumulative_db),
            "output_db": number(self.output_db),
            "output_share": number(self.output_share),
            "causes": {str(cause): number(share) for cause, share in self.causes.items()},
            "macs": self.macs,
            "integer": self.integer,
        }


@dataclass(frozen=True, kw_only=True)
class CauseLoss:
    """One cause over all layers.

    Attributes:
        cause: Which.
        alone_db: Output signal to noise with this cause alone switched on, in all layers.
        without_db: With all causes but this one.
        share: Of the sum over all causes of the noise alone, in 0..1.
    """

    cause: Cause
    alone_db: float | None
    without_db: float | None
    share: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "cause": str(self.cause),
            "meaning": self.cause.meaning,
            "alone_db": number(self.alone_db),
            "without_db": number(self.without_db),
            "share": number(self.share),
        }


@dataclass(frozen=True, kw_only=True)
class Totals:
    """The whole network.

    Attributes:
        samples: Layers and causes were measured on so many.
        output_db: Output signal to quantization noise of the integers.
        modeled_db: The same where all measured errors are put into the float network at once: how far the split into
            layers and causes adds up.
        agreement: Share of equal decisions, in 0..1; None where outputs have no classes.
        metric: What was asked for, or that of the task where labels are known, else empty.
        metric_unit: How its figures are printed, a ``Unit`` of ``bitwright.metrics.metric``.
        float_metric: Of the float network; None where the metric compares with it.
        quantized_metric: Of the integers.
        integer_mac_share: In 0..1.
        judged: Decisions were compared on so many samples.
    """

    samples: int
    output_db: float | None
    modeled_db: float | None = None
    agreement: float | None = None
    metric: str = ""
    metric_unit: str = "proportion"
    float_metric: float | None = None
    quantized_metric: float | None = None
    integer_mac_share: float = 1.0
    judged: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        texts = {"metric": self.metric or None, "metric_unit": self.metric_unit if self.metric else None}
        return {name: number(value) for name, value in vars(self).items() if name not in texts} | texts


@dataclass(frozen=True, kw_only=True)
class Explanation(Shown):
    """Where a quantized network loses accuracy, why, and what would bring it back.

    Attributes:
        network: Its name.
        target: Its target.
        findings: The worst first.
        layers: In order of execution.
        causes: The worst first.
        totals: The whole network.
        notes: What limits the explanation, in sentences.
        seconds: What it took.
    """

    network: str
    target: str
    findings: tuple[Finding, ...]
    layers: tuple[LayerLoss, ...]
    causes: tuple[CauseLoss, ...]
    totals: Totals
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def top(self) -> Finding | None:
        """The worst finding, or None where nothing was found."""
        return self.findings[0] if self.findings else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as ``bitwright explain --json`` prints them."""
        return {
            "network": self.network,
            "target": self.target,
            "totals": self.totals.to_dict(),
            "findings": [finding.to_dict() for finding in self.findings],
            "causes": [cause.to_dict() for cause in self.causes],
            "layers": [layer.to_dict() for layer in self.layers],
            "notes": list(self.notes),
            "seconds": round(self.seconds, 2),
        }

    to_json = to_dict


def number(value: Any) -> Any:
    """``value``; None for what JSON lacks (infinity, NaN), and numbers of NumPy as plain ones."""
    if isinstance(value, (str, bool)) or value is None:
        return value
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, (list, tuple)):
        return [number(v) for v in value]
    if isinstance(value, Mapping):
        return {str(k): number(v) for k, v in value.items()}
    return value
