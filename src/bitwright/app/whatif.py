"""What would become of a tensor in another format, at once and without running anything.

Weights are stored in the format and compared number by number.  Activations are estimated from the histogram of the
calibration (:func:`bitwright.tensors.estimate`), so their figures carry a ``≈``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from bitwright.app.filling import activation_seen
from bitwright.calibrate.given import format_text, read_given
from bitwright.errors import BitwrightError, CalibrationError, printable
from bitwright.number.format import Format
from bitwright.view.seen import TensorSeen

if TYPE_CHECKING:
    from bitwright.calibrate.spec import LayerSpec, NetworkSpec
    from bitwright.quantized import Quantized

FURTHEST = 64


@dataclass(frozen=True, kw_only=True)
class Change:
    """How a format is to change.

    Attributes:
        shift: The step times ``2^shift``.
        bits: Another width; None keeps it.
        signed: Another sign; None keeps it.
        text: Another format altogether; the others are laid on it.
        scheme: What this scheme would choose; likewise.
    """

    shift: int = 0
    bits: int | None = None
    signed: bool | None = None
    text: str = ""
    scheme: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class WhatIf:
    """A tensor in a format that is tried.

    Attributes:
        before: As it is.
        after: As it would be.
        format: The format, in full, as text.
        exact: The figures are exact, not estimated.
        refusal: Why the target cannot have it; empty if it can.
        others: Tensors that would move with it.
    """

    before: TensorSeen
    after: TensorSeen
    format: str
    exact: bool
    refusal: str
    others: tuple[str, ...]


class Bench:
    """One quantized network, read once, for many tries."""

    def __init__(self, q: Quantized) -> None:
        self.q = q
        self._spec: NetworkSpec | None = None

    @property
    def spec(self) -> NetworkSpec:
        """The layers for the target."""
        from bitwright.calibrate.spec import read_layers

        if self._spec is None:
            self._spec = read_layers(self.q.lowered_network, self.q.target)
        return self._spec

    def format_of(self, tensor: TensorSeen) -> Format:
        """The format that a tensor has.

        Raises:
            CalibrationError: if the program holds it no more.
        """
        if tensor.kind == "Activations":
            for buffer in self.q.program.buffers.values():
                if buffer.tensor == tensor.name:
                    return buffer.format
        for item in self.q.program.learnables:
            if f"{item.layer}.{item.parameter}" == tensor.name:
                return item.format
        raise CalibrationError(f"There is no tensor '{printable(tensor.name)}' in the integer network.")

    def _layer(self, tensor: TensorSeen) -> LayerSpec:
        return next(s for s in self.spec.layers if s.name == tensor.layer)

    def changed(self, tensor: TensorSeen, change: Change) -> Format:
        """The format after a change.

        Raises:
            CalibrationError: if there is no such format.
        """
        from bitwright.calibrate.given import parse_format

        format = self.format_of(tensor)
        if change.scheme:
            format = self.chosen(tensor, change.scheme)
        if change.text:
            format = parse_format(change.text)
        shift = min(max(change.shift, -FURTHEST), FURTHEST)
        bits = format.bits if change.bits is None else change.bits
        signed = format.signed if change.signed is None else change.signed
        try:
            if (bits, signed) == (format.bits, format.signed):
                return replace(format, scale=format.scale * 2.0**shift)
            zero = format.zero_point if signed == format.signed else np.zeros_like(format.zero_point)
            return Format(
                bits, signed, format.scale * 2.0**shift, zero, axis=format.axis, narrow=format.narrow and signed
            )
        except ValueError as error:
            raise CalibrationError(f"There is no such format: {error}.") from error

    def chosen(self, tensor: TensorSeen, scheme: str) -> Format:
        """What a scheme would choose for a tensor alone.

        Raises:
            CalibrationError: if there is no such scheme, or no statistics.
        """
        from bitwright.calibrate.given import activation_rule
        from bitwright.calibrate.scheme import load
        from bitwright.calibrate.sharing import share_formats, sources_of_group
        from bitwright.calibrate.tensor_stats import TensorStats

        made, statistics, target = load(scheme), self.q.lowered_statistics, self.q.target
        if tensor.kind == "Activations":
            if statistics is None:
                raise CalibrationError("This network carries no calibration, so no scheme can choose.")
            groups = share_formats(self.spec)
            members = groups.members()[groups.find(tensor.name)]
            rule, _ = activation_rule(self.spec, target, members)
            parts = [statistics.activations[t].overall() for t in sources_of_group(self.spec, members)]
            return made.choose(sum(parts[1:], parts[0]), rule)
        layer = self._layer(tensor)
        weights = tensor.kind == "Weights"
        rule = (target.weight_rule if weights else target.bias_rule)(layer.op, **layer.facts)
        values = layer.weights() if weights else layer.bias()
        if values is None:
            raise CalibrationError(f"'{printable(tensor.name)}' holds nothing that a scheme could look at.")
        axis = 0 if weights and rule.per_channel else None
        return made.choose(TensorStats.of(values, axis), rule, values=np.asarray(values), axis=axis)

    def schemes_apply(self, tensor: TensorSeen) -> bool:
        """Whether a scheme chooses this tensor's format: a bias in steps of the accumulator has none."""
        return tensor.kind != "Bias" or self.q.target.bias_source == "own"

    def try_format(self, tensor: TensorSeen, change: Change) -> WhatIf:
        """A tensor in a changed format, its figures, and what the target says of it.

        Raises:
            CalibrationError: if there is no such format.
        """
        format = self.changed(tensor, change)
        refusal, others = "", tuple[str, ...]()
        if format != self.format_of(tensor):
            try:
                read_given(self.spec, self.q.target, {tensor.name: format})
            except BitwrightError as error:
                refusal = str(error)
        if tensor.kind == "Activations":
            groups = dict(dict(self.q.provenance.get("formats") or {}).get("groups") or {})
            root = groups.get(tensor.name, tensor.name)
            others = tuple(t for t, r in groups.items() if r == root and t != tensor.name)
        return WhatIf(
            before=tensor,
            after=self._seen(tensor, format),
            format=format_text(format),
            exact=tensor.kind != "Activations",
            refusal=refusal,
            others=others,
        )

    def _seen(self, tensor: TensorSeen, format: Format) -> TensorSeen:
        from bitwright.view.tensors import bits_of_values, type_seen

        if tensor.kind == "Activations":
            statistics = self.q.lowered_statistics
            stats = None if statistics is None else statistics.activations.get(tensor.name)
            if stats is None or not stats.finite:
                return replace(tensor, type=type_seen(format), bits=None, sqnr_db=None, overflow=None, underflow=None)
            return activation_seen(tensor.name, tensor.layer, stats, format, tensor.shape, tensor.shares)
        from bitwright.tensors import measure

        layer = self._layer(tensor)
        values = layer.weights() if tensor.kind == "Weights" else layer.bias()
        if values is None or (format.axis is not None and len(format.scale) != len(values)):
            return replace(tensor, type=type_seen(format), bits=None, sqnr_db=None, overflow=None, underflow=None)
        figures = measure(values, format.dequantize(format.quantize(values)), format)
        decibel = figures.get("sqnr_db")
        return replace(
            tensor,
            type=type_seen(format),
            overflow=figures.get("overflow"),
            underflow=figures.get("underflow"),
            sqnr_db=None if decibel is None or math.isinf(decibel) else decibel,
            lossless=decibel == math.inf,
            bits=bits_of_values(np.asarray(values), format),
        )
