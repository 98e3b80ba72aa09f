"""What is in a quantized network: formats, learnables, what stayed in float, and what interval analysis proves of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from bitwright.number.expr import signed_bits
from bitwright.program.constants import LayerConstants, count_constants, summary
from bitwright.program.forms import Island
from bitwright.quantized import Quantized, open_quantized
from bitwright.shown import Shown

if TYPE_CHECKING:
    import os

    from bitwright.program.program import Program

WORST_CONSTANTS = 3


@dataclass(frozen=True, kw_only=True)
class LearnableRow:
    """A weight or bias as it is stored.

    Attributes:
        layer: Its layer.
        parameter: ``Weights`` or ``Bias``.
        format: Its format.
        shape: Its shape.
        bytes: Its size on the device.
    """

    layer: str
    parameter: str
    format: str
    shape: tuple[int, ...]
    bytes: int


@dataclass(frozen=True, kw_only=True)
class FloatRow:
    """A layer that runs in float.

    Attributes:
        layer: Its name.
        op: Its operator.
        reason: Why it is not integers.
        macs: Its multiply-accumulates per sample.
    """

    layer: str
    op: str
    reason: str
    macs: int


@dataclass(frozen=True, kw_only=True)
class AccumulatorRow:
    """The accumulator of one contraction.

    Attributes:
        layer: Its layer.
        lo: Proven lowest partial sum.
        hi: Proven highest.
        bits: Width that holds both.
        available: Width that the target has.
    """

    layer: str
    lo: int
    hi: int
    bits: int
    available: int


@dataclass(frozen=True, kw_only=True)
class Details(Shown):
    """What is in a quantized network.

    Attributes:
        name: The network.
        target: The target's name.
        quantized_layers: Layers computed in integers, in order of execution.
        quantized_learnables: Weights and biases.
        float_layers: Layers that run in float, and why.
        formats: Tensor → format, inputs and activations.
        accumulators: A row per contraction.
        constants: Channels that hold one value whatever the input, a row per contraction.
        findings: What stands out, in sentences.
        schemes: Role → scheme.
        calibration_samples: How many samples the formats come from.
        integer_mac_share: 0 to 1.
        learnable_bytes: In float and in integers.
        provenance: Version, fingerprints, seed and repairs.
        notes: What calibration, format assignment and lowering had to say.
        is_quantized: Always true; the field's usual tables have it.
    """

    name: str
    target: str
    quantized_layers: tuple[str, ...]
    quantized_learnables: tuple[LearnableRow, ...]
    float_layers: tuple[FloatRow, ...]
    formats: Mapping[str, str]
    accumulators: tuple[AccumulatorRow, ...]
    constants: tuple[LayerConstants, ...]
    findings: tuple[str, ...]
    schemes: Mapping[str, str]
    calibration_samples: int
    integer_mac_share: float
    learnable_bytes: tuple[int, int]
    provenance: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    is_quantized: bool = True

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "is_quantized": self.is_quantized,
            "network": self.name,
            "target": self.target,
            "quantized_layers": list(self.quantized_layers),
            "quantized_learnables": [asdict(row) | {"shape": list(row.shape)} for row in self.quantized_learnables],
            "float_layers": [asdict(row) for row in self.float_layers],
            "formats": dict(self.formats),
            "schemes": dict(self.schemes),
            "calibration_samples": self.calibration_samples,
            "integer_mac_share": self.integer_mac_share,
            "learnable_bytes": {"float": self.learnable_bytes[0], "quantized": self.learnable_bytes[1]},
            "accumulators": [asdict(row) for row in self.accumulators],
            "constant_channels": [asdict(row) for row in self.constants if row.constant],
            "findings": list(self.findings),
            "notes": list(self.notes),
            "provenance": dict(self.provenance),
        }


def details(quantized: Quantized | str | os.PathLike[str]) -> Details:
    """Read off everything that a quantized network says of itself.

    Args:
        quantized: A quantized network or its ``.bw`` file.

    Raises:
        BadModelFile: if the file cannot be read.
    """
    q = open_quantized(quantized)
    program, provenance = q.program, q.provenance
    floats = float_rows(q)
    inside = {row.layer for row in floats}
    layers = [str(row["layer"]) for row in provenance.get("layers", ())] or [step.layer for step in program.steps]
    accumulators = accumulator_rows(program, q.target.arithmetic.accumulator_bits)
    constants = count_constants(program)
    return Details(
        name=q.name,
        target=program.target,
        quantized_layers=tuple(name for name in dict.fromkeys(layers) if name not in inside),
        quantized_learnables=tuple(
            LearnableRow(
                layer=item.layer,
                parameter=item.parameter,
                format=str(item.format),
                shape=item.shape,
                bytes=item.size_bytes,
            )
            for item in program.learnables
        ),
        float_layers=floats,
        formats={b.tensor: str(b.format) for b in program.buffers.values() if b.tensor is not None},
        accumulators=accumulators,
        constants=constants,
        findings=findings(program, floats, accumulators, constants),
        schemes=dict(provenance.get("schemes", {})),
        calibration_samples=int(provenance.get("calibration_samples", 0)),
        integer_mac_share=program.integer_mac_share,
        learnable_bytes=(q.learnable_float_bytes, program.learnable_bytes),
        provenance={key: provenance.get(key) for key in ("bitwright", "fingerprint", "data", "seed", "repairs")},
        notes=tuple(str(note) for note in provenance.get("notes", ())),
    )


def float_rows(q: Quantized) -> tuple[FloatRow, ...]:
    """The layers in float: as noted when the program was made, or else the islands themselves."""
    rows = [row for row in q.provenance.get("layers", ()) if row["becomes"] == "float"]
    if rows:
        return tuple(
            FloatRow(layer=str(r["layer"]), op=str(r["op"]), reason=str(r["reason"]), macs=int(r["macs"])) for r in rows
        )
    return tuple(
        FloatRow(layer=step.layer, op=step.op, reason=step.form.reason, macs=q.program.macs.get(step.layer, 0))
        for step in q.program.steps
        if isinstance(step.form, Island)
    )


def accumulator_rows(program: Program, available: int) -> tuple[AccumulatorRow, ...]:
    """How wide the accumulator of each contraction must be."""
    return tuple(
        AccumulatorRow(
            layer=step.layer,
            lo=form.acc_lo,
            hi=form.acc_hi,
            bits=signed_bits(form.acc_lo, form.acc_hi),
            available=available,
        )
        for step, form in program.contracts()
    )


def findings(
    program: Program,
    floats: tuple[FloatRow, ...],
    accumulators: tuple[AccumulatorRow, ...],
    constants: tuple[LayerConstants, ...],
) -> tuple[str, ...]:
    """What stands out, the heaviest first."""
    found = []
    if floats:
        share = 1 - program.integer_mac_share
        found.append(
            f"{len(floats)} layer{'s run' if len(floats) > 1 else ' runs'} in float, {100 * share:.1f} % of the "
            "multiply-accumulates."
        )
    short = [row for row in accumulators if row.bits > row.available]
    if short:
        worst = max(short, key=lambda row: row.bits)
        found.append(
            f"The accumulators of {len(short)} layer{'s' if len(short) > 1 else ''} may overflow: {worst.layer} needs "
            f"{worst.bits} bits and the target has {worst.available}."
        )
    elif accumulators:
        widest = max(accumulators, key=lambda row: row.bits)
        found.append(
            f"No accumulator can overflow: the widest, of {widest.layer}, needs {widest.bits} of {widest.available} bits."
        )
    idle = sorted((row for row in constants if row.constant), key=lambda row: -row.constant_macs)
    if idle:
        found.append(f"{summary(constants)}.")
        found += [f"{row.sentence}." for row in idle[:WORST_CONSTANTS]]
    largest = max((b for b in program.buffers.values() if b.size), key=lambda b: b.size_bytes, default=None)
    if largest is not None:
        found.append(
            f"The largest tensor is {largest.tensor or largest.name}, {prod(largest.shape):,} values in "
            f"{largest.size_bytes:,} bytes."
        )
    return tuple(found)
