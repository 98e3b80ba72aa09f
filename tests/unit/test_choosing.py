"""Schemes chosen by trial."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import bitwright as bw
from bitwright.choosing import candidates, softmax_divergence
from bitwright.errors import CalibrationError
from bitwright.targets.target import load_target

DEMO = Path(bw.__file__).parent / "demo"


def test_the_targets_own_schemes_are_tried_first_and_no_pair_twice() -> None:
    tried = candidates(load_target("dpu"))
    own = load_target("dpu").schemes
    assert tried[0]["activation"] == own.activation
    assert tried[0]["weight"] == own.weight
    assert len({tuple(sorted(names.items())) for names in tried}) == len(tried)


def test_the_best_trial_is_taken_and_all_are_kept() -> None:
    data = np.load(DEMO / "digits-calib.npz")["x"][:24]
    model = bw.load(DEMO / "digits.onnx")
    calibration = bw.calibrate(model, data)
    quantized = bw.quantize(model, calibration, target="fpga", scheme="auto", data=data)
    trials = quantized.provenance["scheme_trials"]
    figures = [trial["output_sqnr_db"] for trial in trials]
    assert len(trials) == len(candidates(load_target("fpga")))
    scores = [t["output_sqnr_db"] - 10 * np.log10(t["divergence"]) for t in trials]
    assert scores == sorted(scores, reverse=True)
    assert max(figures) > min(figures), "if all are equal the trial shows nothing"
    assert dict(quantized.provenance["schemes"]) == trials[0]["schemes"]
    again = bw.quantize(model, calibration, target="fpga", scheme="auto", data=data)
    assert again.provenance["scheme_trials"] == trials


def test_a_calibration_alone_cannot_be_tried() -> None:
    model = bw.load(DEMO / "digits.onnx")
    calibration = bw.calibrate(model, np.load(DEMO / "digits-calib.npz")["x"][:8])
    with pytest.raises(CalibrationError, match="runs candidates on samples"):
        bw.quantize(model, calibration, target="fpga", scheme="auto")


def test_divergence_of_equal_logits_is_zero_and_of_others_their_cross_entropy_gap() -> None:
    logits = np.array([[1.0, 2.0, 4.0], [0.0, 0.0, 0.0]])
    assert softmax_divergence(logits, logits + 3.0) == pytest.approx([0.0, 0.0], abs=1e-12)
    other = np.array([[1.0, 2.0, 3.0], [np.log(2.0), 0.0, 0.0]])
    p, q = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (logits, other))
    assert softmax_divergence(logits, other) == pytest.approx((p * np.log(p / q)).sum(1))
