"""Looking at a quantized network: everything that a page shows, gathered once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bitwright.view.charts import profile
from bitwright.view.graphs import graphs_seen
from bitwright.view.markup import Markup
from bitwright.view.memory_of import cost_cycles, cost_memory, memory_seen
from bitwright.view.panels import bytes_text
from bitwright.view.seen import (
    FigureSeen,
    FindingSeen,
    FoldSeen,
    GraphSeen,
    Page,
    PointSeen,
    SideSeen,
    TensorSeen,
    TileSeen,
)
from bitwright.view.tensors import tensors_seen

if TYPE_CHECKING:
    from bitwright.detailing import FloatRow
    from bitwright.explain.finding import Explanation, Finding, Remedy
    from bitwright.measured import Cost
    from bitwright.metrics.validation import Validation
    from bitwright.quantized import Quantized

MOST_FACTS = 4
MOST_STEPS = 500
"""Steps of a program in which constant channels are looked for; it takes about a millisecond for each."""


def look(
    q: Quantized,
    *,
    validation: Validation | None = None,
    explanation: Explanation | None = None,
    cost: Cost | None = None,
    command: str = "",
    data: str = "",
) -> Page:
    """Everything there is to see of a quantized network.

    Args:
        q: The network.
        validation: What :func:`bitwright.validate` gave for it, if it was validated.
        explanation: What ``explain`` gave for it, if it was explained.
        cost: What it costs on a device, if it was deployed or estimated.
        command: The command line that asked, for the reader who wants to do it again.
        data: What it was validated with, as the user called it.

    Raises:
        ModelError: if the float network is not in the file and cannot be found.
    """
    from bitwright import __version__

    found = _proven(q)
    tensors = tensors_seen(q)
    measured = {} if explanation is None else {row.layer: row.cumulative_db for row in explanation.layers}
    optimized, network = graphs_seen(q, tensors, measured)
    points, profile_of = _profile(optimized, explanation)
    folds = tuple(fold_seen(fold) for fold in q.provenance.get("folds", ()))
    return Page(
        side=side_seen(q),
        verdict="" if validation is None else validation.verdict.text,
        verdict_kind="" if validation is None else validation.verdict.kind.value,
        facts=_facts(q, validation, command, data),
        tiles=tiles_seen(q, validation),
        findings=_findings(found.findings, tensors, explanation, found.floats, folds),
        figures=() if validation is None else _figures(validation),
        tensors=tensors,
        optimized=optimized,
        network=network,
        profile=points,
        profile_of=profile_of,
        folds=folds,
        floats=tuple((row.layer, row.op, row.reason) for row in found.floats),
        memory=memory_seen(q) if cost is None else cost_memory(cost),
        cycles=() if cost is None else cost_cycles(cost),
        settings=settings_seen(q),
        notes=tuple(
            dict.fromkeys((*map(str, q.provenance.get("notes", ())), *(() if validation is None else validation.notes)))
        ),
        version=__version__,
    )


@dataclass(frozen=True)
class _Proven:
    findings: tuple[str, ...]
    floats: tuple[FloatRow, ...]


def _proven(q: Quantized) -> _Proven:
    """What the program says of itself.  Channels that are constant are looked for in networks of a usual size only."""
    from bitwright.detailing import accumulator_rows, findings, float_rows
    from bitwright.program.constants import count_constants

    program, floats = q.program, float_rows(q)
    constants = count_constants(program) if len(program.steps) <= MOST_STEPS else ()
    rows = accumulator_rows(program, q.target.arithmetic.accumulator_bits)
    return _Proven(findings(program, floats, rows, constants), floats)


def side_seen(q: Quantized) -> SideSeen:
    """What a comparison says of the network."""
    from bitwright.comparing import Side

    side = Side.of(q)
    return SideSeen(
        name=side.name,
        target=side.target,
        schemes=tuple(side.schemes.items()),
        learnable_bytes=(q.learnable_float_bytes, side.learnable_bytes),
        integer_mac_share=side.integer_mac_share,
        samples=side.samples,
        fingerprint=side.fingerprint,
    )


def tiles_seen(q: Quantized, validation: Validation | None) -> tuple[TileSeen, ...]:
    """The summary: what was measured, sizes, and how much of it computes in integers."""
    from bitwright.metrics.metric import Unit
    from bitwright.metrics.verdict import value_text

    tiles: list[TileSeen] = []
    if validation is not None:
        v = validation
        interval = v.interval.get("quantized")
        note = (
            ""
            if interval is None
            else (f"95 %: {value_text(interval.low, v.unit)} … {value_text(interval.high, v.unit)}")
        )
        tiles.append(
            TileSeen(
                label=f"{v.metric} on {v.samples:,} samples",
                value=value_text(v.quantized, v.unit),
                before="" if v.float is None else value_text(v.float, v.unit),
                change=_change(v),
                tone="bad" if v.verdict.kind.value in {"loss", "collapse"} else "plain",
                note=note,
            )
        )
        if v.decides and v.metric != "agreement":
            tiles.append(TileSeen(label="Same decisions", value=value_text(v.agreement, Unit.PROPORTION)))
        if v.metric != "sqnr":
            tiles.append(TileSeen(label="Output SQNR", value=value_text(v.output_sqnr_db, Unit.DECIBEL)))
    before, after = q.learnable_float_bytes, q.program.learnable_bytes
    change = f"{100 * (after - before) / before:+.0f} %".replace("-", "−") if before else ""
    tiles.append(
        TileSeen(label="Learnables", value=bytes_text(after), before=bytes_text(before), change=change, tone="good")
    )
    share = q.program.integer_mac_share
    tiles.append(
        TileSeen(
            label="In integers",
            value=f"{100 * share:.1f} %",
            tone="plain" if share == 1 else "bad",
            note="of the multiply-accumulates",
        )
    )
    if validation is not None:
        wrong = validation.mismatches
        tiles.append(
            TileSeen(
                label="Bit-exact",
                value="yes" if not wrong else "NO",
                tone="bad" if wrong else "plain",
                note=f"{wrong:,} of {validation.values_checked:,} values differ from the reference",
            )
        )
    return tuple(tiles)


def _change(v: Validation) -> str:
    from bitwright.metrics.metric import Unit

    if v.float is None or not math.isfinite(v.float):
        return ""
    change = v.quantized - v.float
    text = f"{100 * change:+.1f}" if v.unit in {Unit.PROPORTION, Unit.SHARE} else f"{change:+.3g}"
    return text.replace("-", "−")


def _figures(v: Validation) -> tuple[FigureSeen, ...]:
    from bitwright.metrics.validation import finite

    lower = v.metric in {"mse", "mae", "nll"}
    figures = [
        FigureSeen(
            name=v.metric,
            value=finite(v.quantized),
            before=finite(v.float),
            samples=v.samples,
            better="lower" if lower else "higher",
            infinite=v.quantized == math.inf,
        )
    ]
    if v.metric != "agreement":
        figures.append(FigureSeen(name="agreement", value=finite(v.agreement), samples=v.samples))
    if v.metric != "sqnr":
        infinite = v.output_sqnr_db == math.inf
        figures.append(FigureSeen(name="sqnr", value=finite(v.output_sqnr_db), samples=v.samples, infinite=infinite))
    return tuple(figures)


def _findings(
    sentences: Sequence[str],
    tensors: Sequence[TensorSeen],
    explanation: Explanation | None,
    floats: Sequence[Any],
    folds: Sequence[FoldSeen],
) -> tuple[FindingSeen, ...]:
    """What an explanation found; without one, what the formats alone tell."""
    from bitwright.view.first_findings import first_findings

    if explanation is not None and explanation.findings:
        return tuple(finding_seen(one) for one in explanation.findings)
    return first_findings(sentences, tensors, floats, folds)


LEARNABLE = {"weight-rounding": "Weights", "weight-range": "Weights", "fold": "Weights", "bias-resolution": "Bias"}


def concerned(finding: Finding) -> str:
    """The tensor that a finding is about: of weights and biases the learnable, else what the layer makes."""
    parameter = LEARNABLE.get(str(finding.cause))
    return f"{finding.layer}.{parameter}" if parameter and finding.layer else finding.tensor


def finding_seen(finding: Finding) -> FindingSeen:
    """A finding of an explanation."""
    severity = {"severe": "bad", "notable": "note", "minor": "good"}.get(finding.severity, "note")
    remedy = finding.remedy
    gain = "" if remedy is None or remedy.gain is None else _gain(remedy.gain)
    return FindingSeen(
        title=finding.layer or finding.tensor or "The whole network",
        text=finding.sentence,
        kind=str(finding.cause).replace("-", " "),
        severity=severity,  # type: ignore[arg-type]  # one of the three above
        remedy="" if remedy is None else remedy.sentence,
        command="" if remedy is None else remedy.command,
        gain=gain,
        layer=finding.layer,
        tensor=concerned(finding),
        action=() if remedy is None else _action(remedy),
    )


def _action(remedy: Remedy) -> tuple[tuple[str, str], ...]:
    """What the app does for a remedy; where that is another file, its text."""
    if remedy.target_file:
        return (("target_file", remedy.target_file),)
    if remedy.input_contract:
        return (("input_contract", remedy.input_contract),)
    return tuple((str(k), str(v)) for k, v in remedy.options.items())


def _gain(gain: Any) -> str:
    """What a remedy brings, in points where they are known, else in decibel."""
    if gain.points is not None:
        return f"{gain.points:+.1f} points".replace("-", "−")
    return "" if gain.decibels is None else f"{gain.decibels:+.1f} dB".replace("-", "−")


def _profile(optimized: GraphSeen, explanation: Explanation | None) -> tuple[tuple[PointSeen, ...], str]:
    if explanation is not None and explanation.layers:
        rows = [(row.layer, row.cumulative_db) for row in explanation.layers]
        what = "Signal to noise after each layer, all errors so far included"
    else:
        rows = [(box.name, box.sqnr_db) for box in optimized.boxes if box.state != "input"]
        what = "Signal to noise of each layer's output format alone (bitwright explain measures what adds up)"
    known = [PointSeen(layer=name, sqnr_db=db) for name, db in rows if db is not None and math.isfinite(db)]
    return tuple(known), what


def explained_profile(explanation: Explanation) -> Markup | None:
    """The measured profile of an explanation."""
    points, what = _profile(GraphSeen(), explanation)
    return profile(points, what)


def fold_seen(fold: Mapping[str, Any]) -> FoldSeen:
    """A fold as the ``.bw`` file holds it."""
    worst = fold.get("worst_channel")
    return FoldSeen(
        layer=str(fold["layer"]),
        kind=str(fold["kind"]),
        sources=tuple(map(str, fold["sources"])),
        before=(float(fold["before"][0]), float(fold["before"][1])),
        after=(float(fold["after"][0]), float(fold["after"][1])),
        factor=float(fold["factor"]),
        bits_lost=int(fold["bits_lost"]),
        worst_channel=None if worst is None else int(worst),
        worst_scale=float(fold.get("worst_scale", 1.0)),
        channel_bits_lost=tuple(int(n) for n in fold.get("channel_bits_lost", ())),
        text=str(fold["text"]),
    )


def _facts(q: Quantized, validation: Validation | None, command: str, data: str) -> tuple[tuple[str, str], ...]:
    provenance = q.provenance
    facts = [
        ("bitwright", str(provenance.get("bitwright", ""))),
        ("Network, SHA-256", str(provenance.get("fingerprint", ""))),
        ("Target", q.program.target),
        ("Calibrated with", f"{int(provenance.get('calibration_samples', 0)):,} samples"),
    ]
    sources = [str(one) for one in provenance.get("data", ())]
    if sources:
        more = f" and {len(sources) - MOST_FACTS} more" if len(sources) > MOST_FACTS else ""
        facts.append(("Calibration data, SHA-256", ", ".join(sources[:MOST_FACTS]) + more))
    seed = provenance.get("seed")
    facts.append(("Seed", "none: samples spread evenly" if seed is None else str(seed)))
    if validation is not None:
        facts.append(("Validated with", f"{validation.samples:,} samples{f' of {data}' if data else ''}"))
        facts.append(("Integers computed by", validation.engine))
    if command:
        facts.append(("Command", command))
    return tuple(facts)


def settings_seen(q: Quantized) -> tuple[tuple[str, str], ...]:
    """Schemes, the target's rules, and everything that was set by hand or repaired."""
    provenance = q.provenance
    found = [(f"Scheme for {role}", str(name)) for role, name in dict(provenance.get("schemes") or {}).items()]
    target = dict(provenance.get("target") or {})
    for part in ("weight", "activation", "bias", "arithmetic"):
        rules = target.get(part)
        if isinstance(rules, Mapping):
            plain = [f"{k} = {v}" for k, v in rules.items() if isinstance(v, (str, int, float, bool))]
            if plain:
                found.append((f"Rules for {part}", ", ".join(plain)))
    for repair in provenance.get("repairs", ()):
        found.append(("Repair", str(repair.get("sentence") or repair.get("name") or "")))
    for tensor, override in dict(provenance.get("overrides") or {}).items():
        found.append((f"Set by hand: {tensor}", str(override)))
    return tuple(found)
