"""Files that remedies write, drift of calibration, preparation of inputs, differences of two networks."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bitwright
from bitwright.data.contract import InputContract
from bitwright.errors import CalibrationError, ModelError, NoData
from bitwright.explain.contrast import contrast
from bitwright.explain.drift import drift_of
from bitwright.explain.entry import explain
from bitwright.explain.finding import Cause, Gain, number
from bitwright.explain.memory import observed
from bitwright.explain.preparation import divergence, doubt, ways
from bitwright.explain.remedies import escape
from bitwright.explain.subject import subject_of
from bitwright.explain.toml import contract_text, target_text, toml
from bitwright.quantized import Quantized
from bitwright.targets.target import list_targets, load_target
from command_line import Line
from faults import DIGITS, FAULTS, Plot, images
from zoo import ZOO


@pytest.fixture(scope="module")
def q() -> Quantized:
    return bitwright.quantize(Plot(folded=False).model(), images("calib"), "fpga")


# ------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("name", list_targets())
def test_a_changed_target_is_written_and_read_back(name: str, tmp_path: Path) -> None:
    target = load_target(name)
    changes = {"name": f"{name}-x", "rule": [{"match": {"layer": "a[[]b]"}, "weight": {"bits": 6}}]}
    for start in (target, target.with_overrides({"arithmetic": {"accumulator_bits": 24}})):
        file = tmp_path / f"{start.name}.toml"
        file.write_text(target_text(start, changes))
        again, wanted = load_target(file), start.with_overrides(changes)
        for part in ("arithmetic", "input", "activation", "weight", "bias", "bias_source", "schemes", "rules"):
            assert getattr(again, part) == getattr(wanted, part), part
        assert {op: again.op(op) for op in wanted.ops} == {op: wanted.op(op) for op in wanted.ops}


def test_a_contract_is_written_and_read_back(tmp_path: Path) -> None:
    wanted = InputContract("data", mean=(1.0, 2.0, 3.0), std=(4.0,), color="BGR", resize=8, crop=(4, 6), offset=1)
    file = tmp_path / "input.toml"
    file.write_text(contract_text(wanted))
    assert InputContract.from_toml(file) == wanted


def test_names_are_quoted() -> None:
    table = {"a b": {"c": [1, 2.5, "x\ny", True]}, "rule": [{"match": {"layer": "conv/1"}}]}
    assert tomllib.loads(toml(table)) == table


def test_a_layer_name_is_no_pattern() -> None:
    import fnmatch

    for name in ("conv[1]", "a*b", "x?", "plain"):
        assert fnmatch.fnmatchcase(name, escape(name))
    assert not fnmatch.fnmatchcase("conv1", escape("conv[1]"))


# ------------------------------------------------------------------------------------------------- drift


def test_the_same_samples_do_not_drift(q: Quantized) -> None:
    subject = subject_of(q)
    x = np.asarray(images("calib")[0][:, None] / np.float32(255), np.float32)
    drift = drift_of(subject, observed(subject.network, {"image": x}))
    assert not drift.narrow
    assert not drift.wide
    assert not drift.significant
    assert not drift.inputs_differ
    assert drift.growth == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(("factor", "kind"), [(8.0, "narrow"), (1 / 16, "wide")])
def test_other_samples_drift(q: Quantized, factor: float, kind: str) -> None:
    subject = subject_of(q)
    x = np.asarray(images("calib")[0][:, None] / np.float32(255), np.float32)
    drift = drift_of(subject, observed(subject.network, {"image": x * np.float32(factor)}))
    assert "image" in getattr(drift, kind)
    assert drift.inputs_differ
    assert drift.input_ratio == pytest.approx(factor, rel=0.1)


# ------------------------------------------------------------------------------------------------- inputs


def test_inputs_as_in_training_are_not_doubted(q: Quantized) -> None:
    x = np.asarray(images("val")[0][:64, None] / np.float32(255), np.float32)
    assert doubt(q.network, q.contract, {"image": x}, q.provenance["norms"]) is None


@pytest.mark.parametrize("factor", [255.0, 1 / 255])
def test_wrong_inputs_are_doubted_without_labels(q: Quantized, factor: float) -> None:
    contract = Plot(folded=False).model(std=[255.0 / factor]).contract
    x = np.asarray(images("val")[0][:64, None] / np.float32(255) * factor, np.float32)
    found = doubt(q.network, contract, {"image": x}, q.provenance["norms"])
    assert found is not None
    assert found.better.contract.std == pytest.approx((255.0,))
    np.testing.assert_allclose(found.better.apply(x), x / factor, rtol=1e-4)


def test_ways_agree_with_their_contracts() -> None:
    """What a way makes of present inputs is what its contract makes of the samples."""
    picture = np.random.default_rng(0).integers(0, 256, (5, 6, 3)).astype(np.uint8)
    now = InputContract("x", mean=(10.0, 20.0, 30.0), std=(2.0, 3.0, 4.0)).bind([None, 3, 5, 6], np.float32)
    x = np.stack([now.apply(picture)])
    tried = ways(now, x)
    assert len(tried) > 8
    for way in tried:
        np.testing.assert_allclose(way.apply(x)[0], way.contract.apply(picture), rtol=1e-3, atol=1e-3)


def test_divergence_is_zero_for_training_itself() -> None:
    y = np.random.default_rng(0).normal(size=(50, 4, 10, 10)) * [[[[1]], [[2]], [[3]], [[0]]]]
    assert divergence(y, np.zeros(4), np.array([1.0, 2.0, 3.0, 0.0])) < 0.05
    assert divergence(4 * y, np.zeros(4), np.array([1.0, 2.0, 3.0, 0.0])) == pytest.approx(np.log(4), abs=0.1)


# ------------------------------------------------------------------------------------------------- two networks


def test_the_same_network_twice_does_not_differ(q: Quantized) -> None:
    found = contrast(q, q)
    assert not found.differences
    assert "alike" in found.summary


def test_two_targets_differ_by_the_fold(tmp_path: Path) -> None:
    fault = FAULTS["fold"]()
    calibration = bitwright.calibrate(fault.model, fault.calibration)
    files = [bitwright.quantize(fault.model, calibration, t).save(tmp_path / f"{t}.bw") for t in ("generic", "fpga")]
    for data in (None, images("val")):
        found = contrast(*files, data)
        weights = next(d for d in found.differences if d.tensor == "stem_conv.Weights")
        assert weights.reasons[0] == "per-channel"
        assert "stem_norm" in weights.sentence
        assert found.differences.index(weights) < 3
        assert weights.a_db is not None
        assert weights.b_db is not None
        assert weights.a_db > weights.b_db + 10
    assert found.a_db is not None
    assert found.b_db is not None
    assert found.a_db > found.b_db


def test_two_calibrations_differ_by_what_they_saw() -> None:
    model = Plot(folded=False).model()
    x, y = images("calib")
    found = contrast(*(bitwright.quantize(model, data, "fpga") for data in ((x, y), (x // 4, y))))
    image = next(d for d in found.differences if d.tensor == "image")
    assert "calibration" in image.reasons
    assert "100 samples" in image.sentence


def test_different_networks_are_refused(q: Quantized) -> None:
    model = bitwright.load(ZOO["mlp"](), input_spec={"input": {"layout": "raw"}, "output": {"task": "none"}})
    data = [np.zeros(model.network.shape(model.network.inputs[0])[1:], np.float32) + i for i in range(3)]
    other = bitwright.quantize(model, data, "fpga")
    with pytest.raises(ModelError, match="no layer in common"):
        contrast(q, other)


# ------------------------------------------------------------------------------------------------- edges


def test_too_few_samples_are_refused(q: Quantized) -> None:
    x, y = images("val")
    with pytest.raises(NoData, match="at least 3"):
        explain(q, (x[:2], y[:2]))


def test_a_file_without_calibration_is_measured_on_the_samples_or_refused(q: Quantized) -> None:
    from dataclasses import replace

    from bitwright.explain.subject import subject_of

    bare = Quantized(replace(q.artefact, calibration=None))
    with pytest.raises(CalibrationError, match="carries no calibration"):
        subject_of(bare)
    found, whole = explain(bare, images("val")), explain(q, images("val"))
    assert [row.layer for row in found.layers] == [row.layer for row in whole.layers]


def test_ctrl_c_keeps_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from bitwright.explain.trials import Trials

    def stop(*_: Any) -> Any:
        raise KeyboardInterrupt

    fault = FAULTS["fold"]()
    broken = bitwright.quantize(fault.model, fault.calibration, fault.target)
    monkeypatch.setattr(Trials, "_score", stop)
    x, y = images("val")
    found = explain(broken, (x[:48], y[:48]))
    assert found.top is not None
    assert found.top.cause == Cause.FOLD
    assert any("Interrupted" in note for note in found.notes)
    assert all("time was up" in one.how for one in found.top.others)


def test_numbers_are_those_of_json() -> None:
    assert number(float("inf")) is None
    assert number(np.float32(0.5)) == 0.5
    assert number([np.int64(3), float("nan")]) == [3, None]
    gain = Gain(before_db=1.0, after_db=3.5, metric="agreement", before=0.5, after=0.75)
    assert (gain.decibels, gain.points) == (2.5, 25.0)


def test_the_command_shows_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fault = FAULTS["preprocessing"]()
    file = bitwright.quantize(fault.model, fault.calibration, fault.target).save(tmp_path / "x.bw")
    data = str(DIGITS / "digits-val.npz")
    folder = tmp_path / "mend"
    done = Line(capsys)(
        "explain", str(file), "--data", data, "--samples", "48", "--remedy", str(folder), "--time", "1s", "--quiet"
    )
    assert done.code == 0, done.err
    assert "preprocessing" in done.out
    assert InputContract.from_toml(folder / "input.toml").std == (255.0,)
    done = Line(capsys)("explain", str(file), "--data", data, "--samples", "24", "--time", "0", "--json", "--quiet")
    assert done.json["findings"][0]["cause"] == "preprocessing"
    assert done.json["findings"][0]["remedy"] is None


# ------------------------------------------------------------------------------------------------- metrics


@pytest.mark.parametrize("metric", [None, "top1", "top5", "agreement", "sqnr"])
def test_figures_are_those_of_validation(q: Quantized, metric: str | None) -> None:
    x, y = images("val")
    found = explain(q, (x[:24], y[:24]), metric=metric, seconds=0).totals
    validation = bitwright.validate(q, (x[:24], y[:24]), metric)
    assert found.metric == validation.metric
    assert found.quantized_metric == pytest.approx(validation.quantized, rel=1e-6)
    if metric not in ("agreement", "sqnr"):
        assert found.float_metric == pytest.approx(validation.float)


def boxes(outputs: list[np.ndarray]) -> np.ndarray:
    """The class of the highest output in a box over the whole image."""
    return np.array([[0.0, 0.0, 1.0, 1.0, 0.9, float(np.argmax(outputs[0]))]])


def test_detectors(q: Quantized, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from dataclasses import replace

    detector = Quantized(replace(q.artefact, contract=replace(q.contract, task="detection").to_dict()))
    x, y = images("val")
    x, y = x[:24], np.array([[[float(k), 0.5, 0.5, 1.0, 1.0]] for k in y[:24]])
    found = explain(detector, (x, y), decode=boxes, seconds=0).totals
    validation = bitwright.validate(detector, (x, y), "map50", decode=boxes)
    assert (found.metric, found.metric_unit) == ("map50", "share")
    assert found.float_metric == pytest.approx(validation.float)
    assert found.quantized_metric == pytest.approx(validation.quantized)
    assert found.agreement is None
    # Who cannot say how boxes are held gets all the rest.
    assert explain(detector, (x, y), seconds=0).totals.metric == ""
    with pytest.raises(NoData, match="labels"):
        explain(detector, x, metric="map50", decode=boxes, seconds=0)


def test_the_command_takes_a_metric(q: Quantized, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, data = q.save(tmp_path / "x.bw"), str(DIGITS / "digits-val.npz")
    words = ("explain", str(file), "--data", data, "--samples", "24", "--time", "0", "--quiet")
    done = Line(capsys)(*words, "--metric", "sqnr")
    assert done.code == 0, done.err
    assert "sqnr" in done.out
    done = Line(capsys)(*words, "--metric", "top9")
    assert done.code != 0
    assert "top5" in done.err
