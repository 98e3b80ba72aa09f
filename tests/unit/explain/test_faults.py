"""A known fault is planted; the first finding names it, and its remedy, applied as a user would, mends it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bitwright
from bitwright.data.contract import InputContract
from bitwright.explain import trials
from bitwright.explain.entry import explain
from bitwright.explain.finding import Cause, Finding
from bitwright.explain.remedies import Idea, ideas
from bitwright.explain.subject import Subject
from bitwright.quantized import Quantized
from faults import FAULTS, Fault, images

SAMPLES, SECONDS = 96, 600.0


def halves() -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Validation pictures: those that explaining sees, and those that judge the remedy."""
    x, y = images("val")
    return (x[:SAMPLES], y[:SAMPLES]), (x[SAMPLES : 3 * SAMPLES], y[SAMPLES : 3 * SAMPLES])


def applied(fault: Fault, finding: Finding, folder: Path) -> Quantized:
    """The network quantized again as the remedy says."""
    remedy = finding.remedy
    assert remedy is not None
    model, target, calibration = fault.model, fault.target, fault.calibration
    options: dict[str, Any] = dict(fault.options)
    if remedy.input_contract:
        file = folder / "input.toml"
        file.write_text(remedy.input_contract)
        first = model.network.inputs[0]
        bound = InputContract.from_toml(file).bind([None, *model.network.shape(first)[1:]], name=first)
        return bitwright.quantize(replace(model, contract=bound), calibration, target)
    if remedy.target_file:
        file = folder / str(remedy.options["target"])
        file.write_text(remedy.target_file)
        return bitwright.quantize(model, calibration, file, **options)
    if finding.cause == Cause.CALIBRATION_DATA:
        return bitwright.quantize(model, images("calib"), target, **options)
    options |= dict(remedy.options)
    return bitwright.quantize(model, calibration, target, data=calibration, mend_seconds=20.0, **options)


def quick_ideas(subject: Subject, finding: Finding) -> tuple[Idea, ...]:
    """All but the search that takes all the time it gets."""
    return tuple(idea for idea in ideas(subject, finding) if idea.value != "learn-ranges")


@pytest.mark.parametrize("name", FAULTS)
def test_the_planted_fault_is_found_first_and_mended(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "MOST_FINDINGS", 1)  # what helps against others is not asked here
    monkeypatch.setattr(trials, "ideas", quick_ideas)
    fault = FAULTS[name]()
    seen, rest = halves()
    broken = bitwright.quantize(fault.model, fault.calibration, fault.target, **fault.options)
    found = explain(broken, seen, seconds=SECONDS)
    top = found.top
    assert top is not None
    assert top.cause == fault.cause, [(f.cause, f.layer, f.sentence) for f in found.findings[:3]]
    assert not fault.layer or top.layer == fault.layer
    assert fault.channel is None or top.channel == fault.channel
    assert top.remedy is not None, [other.how for other in top.others]
    json.dumps(found.to_json(), allow_nan=False)

    mended = applied(fault, top, tmp_path)
    before, after = (bitwright.validate(q, rest) for q in (broken, mended))
    assert after.quantized >= 0.95, top.remedy.sentence
    if fault.cause == Cause.FLOAT_ISLAND:
        assert mended.program.integer_mac_share == 1.0
        assert not [row for row in bitwright.details(mended).float_layers if "abs" in row.layer]
    elif fault.cause == Cause.ACCUMULATOR:
        worst = max(top.numbers["bits_needed"], 0)
        assert mended.target.arithmetic.accumulator_bits >= worst
    elif fault.cause != Cause.PREPROCESSING:
        gained = after.output_sqnr_db - before.output_sqnr_db
        predicted = top.remedy.gain.decibels if top.remedy.gain is not None else None
        assert predicted is not None
        assert gained >= 3
        assert gained == pytest.approx(predicted, abs=max(6.0, 0.35 * predicted))


def test_a_good_network_has_nothing_severe() -> None:
    from faults import Plot

    model = Plot(folded=False).model()
    q = bitwright.quantize(model, images("calib"), "generic")
    found = explain(q, halves()[0], seconds=0)
    assert {f.severity for f in found.findings} == {"minor"}
    assert all(f.remedy is None for f in found.findings)
    assert found.totals.modeled_db == pytest.approx(found.totals.output_db, abs=0.01)


def test_what_is_found_does_not_depend_on_the_run() -> None:
    q = bitwright.quantize(FAULTS["fold"]().model, images("calib"), "fpga")
    first, second = (explain(q, halves()[0], seconds=0).to_json() for _ in range(2))
    assert {**first, "seconds": 0} == {**second, "seconds": 0}


def test_shares_of_causes_add_up_to_one() -> None:
    q = bitwright.quantize(FAULTS["shared_format"]().model, images("calib"), "mcu-q7")
    found = explain(q, halves()[0], seconds=0)
    for row in found.layers:
        if row.causes:
            assert sum(row.causes.values()) == pytest.approx(1, abs=1e-3)
    assert sum(row.output_share or 0 for row in found.layers) == pytest.approx(1, abs=1e-6)
    assert np.isclose(sum(row.share for row in found.causes), 1)
