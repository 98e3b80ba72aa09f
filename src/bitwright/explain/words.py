"""Findings in words: for each cause what the evidence is, with the numbers that an expert would ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bitwright.calibrate.assign import INDEX
from bitwright.calibrate.sharing import sources_of_group
from bitwright.errors import printable
from bitwright.explain.drift import Drift, reach, step
from bitwright.explain.effects import Effects, Sums
from bitwright.explain.finding import Cause
from bitwright.explain.split import Splitter, blown_up, channel_tops, chosen
from bitwright.number.format import Format
from bitwright.targets.rules import METHOD_MEANING

CUT_OFF = 0.01
"""Share of a layer's weights beyond their range that is worth a sentence."""
OUTLIER = 8.0
"""A channel of activations that reaches so many times further than the median one is named."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What is known of one cause in one layer.

    Attributes:
        text: In words; begins with the layer.
        numbers: By name.
        channel: The channel in question, or None.
    """

    text: str
    numbers: Mapping[str, Any]
    channel: int | None = None


@dataclass(frozen=True, eq=False)
class Witness:
    """Says what is known of layers.

    Attributes:
        splitter: Of the network.
        effects: What was measured.
        drift: Of calibration.
    """

    splitter: Splitter
    effects: Effects
    drift: Drift

    def evidence(self, cause: Cause, tensor: str) -> Evidence:
        """What is known of ``cause`` at the output ``tensor`` of a layer."""
        sums = self.effects.sums[tensor]
        tellers: Mapping[Cause, Callable[[Sums], Evidence]] = {
            Cause.WEIGHT_ROUNDING: self._weights,
            Cause.WEIGHT_RANGE: self._range,
            Cause.FOLD: self._range,
            Cause.BIAS_RESOLUTION: self._bias,
            Cause.ACTIVATION_CLIPPING: self._clipping,
            Cause.ACTIVATION_ROUNDING: self._rounding,
            Cause.SHARED_FORMAT: self._shared,
            Cause.SHIFT_LIMITS: self._shifts,
            Cause.POOLING_RULE: self._rule,
            Cause.TABLE_RULE: self._rule,
            Cause.ARITHMETIC: self._rule,
            Cause.CALIBRATION_DATA: self._calibration,
        }
        return tellers[cause](sums)

    # ---------------------------------------------------------------- weights and biases

    def _weights(self, sums: Sums) -> Evidence:
        format = self._formats.weights[sums.piece.name]
        return Evidence(
            text=f"the weights of {layer(sums)} are rounded to {short(format)}",
            numbers={"bits": format.bits, "weight_step": step(format)},
        )

    def _range(self, sums: Sums) -> Evidence:
        subject = self.splitter.subject
        spec = sums.piece.spec
        assert spec is not None  # only linear layers have weights
        tops = channel_tops(spec)
        worst = int(np.argmax(tops))
        alive = tops[tops > 0]
        median = float(np.median(alive)) if alive.size else 0.0
        size = step(self._formats.weights[spec.name])
        width = self._formats.weights[spec.name].bits
        kept = max(0.0, float(np.log2(max(median / size, 1e-9))) + 1)
        format = self._formats.weights[spec.name]
        low, high = (format.along(v, spec.weights().ndim) for v in format.real_range)
        beyond = float(((spec.weights() < low - size / 2) | (spec.weights() > high + size / 2)).mean())
        if beyond >= CUT_OFF and format.axis is None:
            reaching = float(np.max(np.abs(format.real_range)))
            return Evidence(
                text=(
                    f"{percent(beyond)} of the weights of {layer(sums)} lie beyond the range of {short(format)} "
                    f"({reaching:.3g}; the largest is {tops[worst]:.3g}, in channel {worst})"
                ),
                numbers={"overflow": beyond, "reach": reaching, "largest_weight": float(tops[worst]), "bits": width},
                channel=worst,
            )
        text = (
            f"channel {worst} of {layer(sums)} has weights up to {tops[worst]:.3g}, {tops[worst] / max(median, 1e-30):.3g} "
            f"times the median channel's {median:.3g}, and the one step of {size:.3g} for all {len(tops)} channels leaves "
            f"the median channel {kept:.1f} of {width} bits"
        )
        numbers = {
            "channels": len(tops),
            "largest_weight": float(tops[worst]),
            "median_channel": median,
            "ratio": float(tops[worst]) / max(median, 1e-30),
            "weight_step": size,
            "bits": width,
            "median_channel_bits": kept,
        }
        fold = blown_up(subject).get(spec.name)
        if fold is not None:
            sources = ", ".join(f"'{printable(s, 40)}'" for s in list(fold.get("sources") or ())[:2])
            scale, channel = float(fold.get("worst_scale") or 1.0), int(fold.get("worst_channel") or 0)
            factor = float(fold.get("factor") or 1.0)
            text += (
                f"; folding {sources} did this: it multiplies channel {channel} by γ/√(σ²+ε) = {scale:.4g} and widened the "
                f"range {factor:.3g} times"
            )
            numbers |= {"fold_channel": channel, "fold_scale": scale, "fold_factor": factor}
        return Evidence(text=text, numbers=numbers, channel=worst)

    def _bias(self, sums: Sums) -> Evidence:
        subject = self.splitter.subject
        spec = sums.piece.spec
        assert spec is not None  # only linear layers have biases
        wanted, held = spec.bias(), subject.biases.get(spec.name)
        if wanted is None or held is None:
            return Evidence(text=f"the bias of {layer(sums)} is not what the float network has", numbers={})
        error = np.abs(held - wanted)
        worst = int(np.argmax(error))
        out = step(self._formats.activations[sums.piece.tensor])
        own = subject.formats.biases.get(spec.name)
        stored = f", stored as {short(own)}," if own is not None else ""
        return Evidence(
            text=(
                f"the bias of {layer(sums)}{stored} is off by up to {error[worst]:.3g} (channel {worst}: {held[worst]:.4g} "
                f"for {wanted[worst]:.4g}), {error[worst] / out:.3g} steps of the output"
            ),
            numbers={
                "largest_error": float(error[worst]),
                "wanted": float(wanted[worst]),
                "stored": float(held[worst]),
                "output_steps": float(error[worst]) / out,
                "bias_format": None if own is None else str(own),
            },
            channel=worst,
        )

    # ---------------------------------------------------------------- activations

    def _clipping(self, sums: Sums) -> Evidence:
        format = self._format(sums)
        stats = self.splitter.subject.statistics.activations.get(sums.piece.tensor)
        top = stats.absmax if stats is not None else float("nan")
        share = sums.clipped / max(1, sums.count)
        seen = f"calibration saw up to {top:.3g}"
        if top <= reach(format):
            seen = f"calibration saw no more than {top:.3g}: what arrives there is already wrong"
        return Evidence(
            text=(
                f"{percent(share)} of the values of {what(sums)} lie beyond what {short(format)} holds "
                f"({reach(format):.3g}; {seen})"
            ),
            numbers={"overflow": share, "reach": reach(format), "largest_seen": top},
        )

    def _rounding(self, sums: Sums) -> Evidence:
        format = self._format(sums)
        share = sums.vanished / max(1, sums.count)
        size = step(format)
        rms = float(np.sqrt(sums.signal / max(1, sums.count)))
        numbers: dict[str, Any] = {"underflow": share, "step": size, "rms": rms, "rms_in_steps": rms / size}
        outlier, channel, found = "", None, sums.stretching
        if found is not None and found[1] >= OUTLIER:
            channel, ratio = found
            outlier = f", because channel {channel} reaches {ratio:.3g} times as far as the median one"
            numbers |= {"channel_ratio": ratio}
        return Evidence(
            text=(
                f"{what(sums)} is rounded to steps of {size:.3g} ({short(format)}), {rms / size:.3g} of which make its "
                f"usual size; {percent(share)} of its values become zero{outlier}"
            ),
            numbers=numbers,
            channel=channel,
        )

    def _shared(self, sums: Sums) -> Evidence:
        subject, formats = self.splitter.subject, self._formats
        tensor = sums.piece.tensor
        root = formats.group.get(tensor, tensor)
        group = [t for t, r in formats.group.items() if r == root]
        own = self._own(tensor)
        sources = [t for t in sources_of_group(subject.spec, group) if t != tensor]
        asked = {t: step(self._own(t)) for t in sources if t in subject.statistics.activations}
        size = step(formats.activations[tensor])
        forcing = max(asked, key=lambda t: asked[t]) if asked else ""
        if asked and step(own) > size:
            forcing = min(asked, key=lambda t: asked[t])
        joined = next((s for s in subject.spec.layers if set(s.tensors) & set(group) and len(set(s.tensors)) > 1), None)
        where = f" at {joined.op} '{printable(joined.name, 40)}'" if joined is not None else ""
        who = f", which '{printable(forcing, 40)}' needs" if forcing else ""
        lost = float(np.log2(size / step(own)))
        effect = f"{bits(lost)} coarser than" if lost >= 0 else f"{bits(-lost)} too narrow for"
        return Evidence(
            text=(
                f"{what(sums)} must share the format {short(formats.activations[tensor])} of {len(group)} tensors"
                f"{where}{who}; it is {effect} its own {short(own)}"
            ),
            numbers={"bits_lost": lost, "forced_by": forcing, "shared_by": len(group), "own_format": str(own)},
        )

    def _shifts(self, sums: Sums) -> Evidence:
        tensor = sums.piece.tensor
        root = self._formats.group.get(tensor, tensor)
        notes = [n for n in self._formats.notes if n.split(":", 1)[0] in (tensor, root)]
        name = sums.piece.name
        raised = [n for n in self._formats.notes if n.startswith(f"{name}: weight step")]
        if raised:
            size = step(self._formats.weights[name])
            return Evidence(
                text=f"in {layer(sums)}, {printable(raised[-1].split(':', 1)[1].strip(), 240)}",
                numbers={"weight_step": size},
            )
        lost = float(np.log2(step(self._format(sums)) / step(self._own(tensor))))
        why = f": {printable(notes[-1].split(':', 1)[1].strip(), 200)}" if notes else ""
        return Evidence(
            text=f"the step of {what(sums)} is {bits(abs(lost))} {'coarser' if lost > 0 else 'finer'} than its own{why}",
            numbers={"bits_lost": lost, "own_format": str(self._own(tensor))},
        )

    # ---------------------------------------------------------------- rules

    def _rule(self, sums: Sums) -> Evidence:
        spec = sums.piece.spec
        method = spec.rule.method if spec is not None else None
        rule = f": {METHOD_MEANING[method]}" if method is not None and method in METHOD_MEANING else ""
        numbers: dict[str, Any] = {"method": method}
        if spec is not None and spec.rule.output == "shared":
            rule += ", in the format of its input"
            lost = float(np.log2(step(self._format(sums)) / step(self._own(sums.piece.tensor))))
            numbers["bits_lost"] = lost
            if lost > 0:
                rule += f", {bits(lost)} coarser than its own values need"
        target = self.splitter.subject.target.name
        return Evidence(
            text=f"{target} computes {layer(sums)} ({sums.piece.op}) by its own rule{rule}", numbers=numbers
        )

    def _calibration(self, sums: Sums) -> Evidence:
        tensor, drift = sums.piece.tensor, self.drift
        wide = tensor in drift.wide
        ratio = drift.wide.get(tensor) or drift.narrow.get(tensor, 1.0)
        return Evidence(
            text=(
                f"the format of {what(sums)} is {ratio:.3g} times too {'wide' if wide else 'narrow'} for these samples; "
                f"{percent(drift.beyond)} of all tensors leave the range that {drift.calibrated} calibration samples gave "
                f"them, chance explains {percent(drift.expected)}"
            ),
            numbers={**drift.numbers(), "overflow": sums.clipped / max(1, sums.count)},
        )

    # ---------------------------------------------------------------- formats

    @property
    def _formats(self) -> Any:
        return self.splitter.subject.formats

    def _format(self, sums: Sums) -> Format:
        return self.splitter.subject.program.buffers[sums.piece.buffer].format

    def _own(self, tensor: str) -> Format:
        subject = self.splitter.subject
        stats = subject.statistics.activations.get(tensor)
        if stats is None or not stats.finite or tensor in subject.spec.integer:
            return subject.formats.activations.get(tensor, INDEX)
        return chosen(subject, tensor, stats)


def layer(sums: Sums) -> str:
    """The layer, named."""
    return f"'{printable(sums.piece.name, 60)}'"


def what(sums: Sums) -> str:
    """The output of the layer, or the input of the network."""
    if sums.piece.op == "Input":
        return f"the input '{printable(sums.piece.tensor, 60)}'"
    return f"the output of '{printable(sums.piece.name, 60)}'"


def short(format: Format) -> str:
    """A format, the many steps of channels left out."""
    if np.ndim(format.scale) == 0:
        return str(format)
    return f"int{format.bits} per channel"


def bits(count: float) -> str:
    """``1 bit``, ``1.5 bits``."""
    text = f"{count:.3g}"
    return f"{text} bit" if text == "1" else f"{text} bits"


def percent(share: float) -> str:
    """A share of one."""
    value = 100 * share
    return f"{value:.0f} %" if value >= 10 or value == 0 else f"{value:.1f} %" if value >= 0.1 else f"{value:.2g} %"
