"""Details and comparisons of quantized networks, and what tensor reports say of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import bitwright
from bitwright.api import calibrate, load, quantize
from bitwright.comparing import ENOUGH_DB, compare
from bitwright.detailing import accumulator_rows, details, findings
from bitwright.errors import BadModelFile
from bitwright.program.file import plain
from bitwright.quantized import Quantized
from bitwright.tensors import tensor_reports
from zoo import ZOO, feeds

DIGITS = Path(bitwright.__file__).parent / "demo"
MODEL, CALIB = DIGITS / "digits.onnx", DIGITS / "digits-calib.npz"


@pytest.fixture(scope="module")
def networks() -> dict[str, Quantized]:
    calibration = calibrate(MODEL, CALIB)
    return {name: quantize(MODEL, calibration, name) for name in ("fpga", "generic", "dpu")}


def test_details_are_what_the_program_holds(networks: dict[str, Quantized]) -> None:
    q = networks["dpu"]
    found = details(q)
    assert found.quantized_layers == tuple(row["layer"] for row in q.provenance["layers"])
    assert len(found.quantized_learnables) == 14  # seven layers with weights and bias
    assert sum(row.bytes for row in found.quantized_learnables) == q.program.learnable_bytes
    assert found.formats["image"] == str(q.program.buffers[q.program.inputs[0]].format)
    assert found.float_layers == ()
    assert found.calibration_samples == 100
    json.dumps(plain(found.to_json()), allow_nan=False)
    assert "stem_conv" in found._repr_html_()


def test_details_of_a_file_are_those_of_the_network(networks: dict[str, Quantized], tmp_path: Path) -> None:
    networks["fpga"].save(tmp_path / "x.bw")
    assert plain(details(tmp_path / "x.bw").to_json()) == plain(details(networks["fpga"]).to_json())
    with pytest.raises(BadModelFile, match=r"path of a \.bw file"):
        details(3)  # type: ignore[arg-type]


def test_dead_channels_are_named_first_the_worst(networks: dict[str, Quantized]) -> None:
    found = details(networks["fpga"])
    constant = [row for row in found.constants if row.constant]
    assert {row.layer for row in constant} == {"stem_conv", "depthwise_conv"}
    text = " ".join(found.findings)
    assert "2 of 154 channels are constant" in text
    assert text.index("stem_conv: 1 of 16") < text.index("depthwise_conv: 1 of 16")


def test_accumulators_that_may_overflow_are_named(networks: dict[str, Quantized]) -> None:
    program = networks["fpga"].program
    rows = accumulator_rows(program, 32)
    for row in rows:
        assert -(1 << (row.bits - 1)) <= row.lo <= row.hi < 1 << (row.bits - 1)
    widest = max(row.bits for row in rows)
    short = tuple(replace(row, available=widest - 1) for row in rows)
    assert f"needs {widest} bits and the target has {widest - 1}" in " ".join(findings(program, (), short, ()))
    assert "No accumulator can overflow" in " ".join(findings(program, (), rows, ()))


def test_reports_cover_every_tensor(networks: dict[str, Quantized]) -> None:
    for q in networks.values():
        reports = {report.tensor: report for report in tensor_reports(q)}
        assert {b.tensor for b in q.program.buffers.values() if b.tensor} <= reports.keys()
        assert all(report.sqnr_db is not None for report in reports.values())
        weights = reports["depthwise_conv.Weights"]
        # The network's trap: one step for all channels loses the small ones.
        assert (weights.underflow > 0.3) == (q.program.target != "generic")


@pytest.mark.parametrize("target", ["fpga", "generic", "dpu"])
def test_biases_are_measured_in_the_steps_that_they_are_held_in(target: str, networks: dict[str, Quantized]) -> None:
    for report in tensor_reports(networks[target]):
        if report.kind == "Bias":
            assert report.sqnr_db is not None
            assert report.sqnr_db > 20, report


def test_compare(networks: dict[str, Quantized]) -> None:
    found = compare(networks["fpga"], networks["generic"])
    assert found.different == len(found.tensors) == 27
    biases = [pair.a.kind == "Bias" for pair in found.tensors]
    assert biases == sorted(biases)
    assert sum(biases) == 7
    gains = [pair.gain_db for pair in found.tensors if pair.a.kind != "Bias"]
    assert all(gain is not None and abs(gain) < ENOUGH_DB for gain in gains)
    assert [abs(g or 0) for g in gains] == sorted((abs(g or 0) for g in gains), reverse=True)
    assert (found.mean_gain_db or 0) > 3
    back = compare(networks["generic"], networks["fpga"])
    assert back.mean_gain_db == pytest.approx(-(found.mean_gain_db or 0))
    json.dumps(plain(found.to_json()), allow_nan=False)


def test_compare_with_itself_finds_nothing(networks: dict[str, Quantized]) -> None:
    found = compare(networks["dpu"], networks["dpu"])
    assert found.different == 0
    assert found.mean_gain_db == 0
    assert not found.notes


def test_compare_without_calibration_says_so(networks: dict[str, Quantized]) -> None:
    bare, other = (Quantized(replace(networks[name].artefact, calibration=None)) for name in ("fpga", "dpu"))
    found = compare(bare, other)
    assert sum("no calibration" in note for note in found.notes) == 2
    assert {pair.gain_db for pair in found.tensors if pair.a.kind == "Activations"} == {None}
    assert None not in {pair.gain_db for pair in found.tensors if pair.a.kind == "Weights"}
    assert not any("no calibration" in note for note in compare(bare, networks["dpu"]).notes), "one serves both"


def test_both_are_judged_on_the_same_samples(networks: dict[str, Quantized]) -> None:
    few = quantize(MODEL, CALIB, "fpga", samples=5)
    found = compare(few, networks["fpga"])
    assert any("one calibration, of 100 samples" in note for note in found.notes)
    for pair in found.tensors:
        if pair.same_format:
            assert pair.gain_db == 0.0


def test_other_networks_are_told(networks: dict[str, Quantized]) -> None:
    model = ZOO["mlp"]()
    contract = {"input": {"layout": "raw"}, "output": {"task": "none"}}
    (x,) = feeds(model, 8).values()
    other = quantize(load(model, input_spec=contract), x, "fpga")
    found = compare(networks["fpga"], other)
    assert any("different float networks" in note for note in found.notes)
    assert any("no tensor in common" in note for note in found.notes)
    assert found.tensors == ()
    assert found.mean_gain_db is None
    assert set(found.only_a) == {report.tensor for report in tensor_reports(networks["fpga"])}
