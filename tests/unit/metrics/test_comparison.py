from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from bitwright.data.contract import InputContract
from bitwright.errors import NoData
from bitwright.metrics.choose import metric_for
from bitwright.metrics.comparison import Comparison
from bitwright.metrics.interval import wilson
from bitwright.metrics.paired import mcnemar
from bitwright.metrics.validation import Pair, Seconds, Validation
from bitwright.metrics.verdict import Kind

CLASSES = InputContract(task="classification")


def compared(
    spec: object,
    contract: InputContract,
    floats: np.ndarray,
    quantized: np.ndarray,
    labels: object = None,
    **extra: object,
) -> Validation:
    comparison = Comparison(lambda: metric_for(spec, contract, labelled=labels is not None), contract, **extra)
    half = len(floats) // 2
    for part in (slice(0, half), slice(half, None)):
        if len(floats[part]):
            own = None if labels is None else labels[part]
            comparison.update([floats[part]], [quantized[part]], own, inputs=np.zeros_like(floats[part]))
    return comparison.validation(
        learnable_bytes=Pair(2_900_244, 733_908),
        integer_mac_share=1.0,
        engine="reference",
        values_checked=123_456,
        mismatches=0,
        seconds=Seconds(9.1, 3.2, 4.0),
        target="dpu",
    )


def logits(classes: np.ndarray, count: int = 10) -> np.ndarray:
    return np.eye(count)[classes] * 5 + np.random.default_rng(0).normal(0, 0.1, (len(classes), count))


def test_everything_that_the_command_promises() -> None:
    labels = np.arange(400) % 10
    before, after = labels.copy(), labels.copy()
    before[:40] = (before[:40] + 1) % 10  # 40 wrong
    after[37:52] = (after[37:52] + 1) % 10  # 3 of them as wrong, 12 others
    after[3:37] = before[3:37]  # 3 gained
    found = compared("top1", CLASSES, logits(before), logits(after), labels)
    assert found.float == 0.9
    assert found.quantized == (400 - 34 - 15) / 400
    assert (found.lost, found.gained) == (12, 3)
    assert found.paired_p == mcnemar(12, 3)
    assert found.verdict.text == "12 of 400 images lost, 3 gained: a real drop (p = 0.035)"
    assert found.agreement == pytest.approx(1 - 15 / 400)
    assert (found.interval["float"].low, found.interval["float"].high) == wilson(360, 400)

    plain = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert plain["learnable_bytes"] == {"float": 2_900_244, "quantized": 733_908}
    assert plain["bit_exact"] == {"engine": "reference", "values_checked": 123_456, "mismatches": 0}
    assert plain["seconds"] == {"float": 9.1, "quantized": 3.2, "data": 4.0}
    assert {
        "samples",
        "metric",
        "float",
        "quantized",
        "agreement",
        "output_sqnr_db",
        "integer_mac_share",
    } < plain.keys()
    assert (plain["samples"], plain["metric"], plain["target"]) == (400, "top1", "dpu")
    assert plain["verdict"]["kind"] == "loss"


def test_the_text_for_people() -> None:
    labels = np.arange(400) % 10
    found = compared("top1", CLASSES, logits(labels), logits(labels), labels)
    text = "\n".join(found.lines())
    for part in (
        "top1 on 400 samples, target dpu",
        "float       100.0 %   (95 %: 99.0 % … 100.0 %)",
        "→ none of 400 images differs",
        "2,900,244 → 733,908 bytes (-74.7 %)",
        "123,456 values compared with the reference, 0 differ (engine reference)",
    ):
        assert part in text
    assert "[" not in text
    assert "2 of 123,456 values DIFFER" in "\n".join(replace(found, mismatches=2).lines())
    assert "\x1b" not in "\n".join(replace(found, target="\x1b[2Jx", notes=("\x1b",)).lines())


def test_twenty_images_can_show_only_large_drops() -> None:
    labels = np.arange(20) % 10
    after = labels.copy()
    after[0] = 5
    found = compared("top1", CLASSES, logits(labels), logits(after), labels)
    assert found.verdict.text == "1 of 20 images differs: noise (p = 1.00)"
    assert found.notes == ("With 20 images a drop of less than 30 points cannot be told from noise.",)
    assert "too few" in compared("top1", CLASSES, logits(labels[:4]), logits(labels[:4]), labels[:4]).notes[0]
    many = np.arange(300) % 10
    assert compared("top1", CLASSES, logits(many), logits(many), many).notes == ()


def test_a_network_that_gives_one_class_has_collapsed() -> None:
    labels = np.arange(200) % 10
    stuck = np.zeros((200, 10))
    stuck[:, 7] = 1.27
    found = compared("top1", CLASSES, logits(labels), stuck, labels, highest=1.27)
    assert found.collapsed
    assert "100 % of the decisions are for class 7" in found.verdict.text
    assert "100 % end at the highest value" in found.verdict.text
    # The same from outputs alone.
    found = compared(None, CLASSES, logits(labels), stuck)
    assert found.metric == "agreement"
    assert found.collapsed


def test_a_constant_network_did_not_collapse_by_quantization() -> None:
    labels = np.zeros(100, int)
    found = compared("top1", CLASSES, logits(labels), logits(labels), labels)
    assert found.verdict.kind is Kind.SAME


def test_without_labels_the_default_is_agreement_and_nothing_is_tested() -> None:
    floats = np.random.default_rng(1).normal(size=(50, 6))
    found = compared(None, InputContract(task="none"), floats, floats + 1e-3)
    assert (found.metric, found.float, found.paired_p) == ("agreement", 1.0, None)
    assert found.interval.keys() == {"quantized"}
    assert found.verdict.kind is Kind.UNTESTED


def test_sqnr_of_equal_outputs_is_valid_json() -> None:
    floats = np.random.default_rng(2).normal(size=(8, 6))
    found = compared("sqnr", CLASSES, floats, floats)
    assert found.float is None
    assert found.quantized == math.inf
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["output_sqnr_db"] is None


def test_scores_that_are_no_counts_get_a_permutation_test_and_a_bootstrap() -> None:
    rng = np.random.default_rng(3)
    floats = rng.normal(size=(40, 5))
    found = compared("mse", InputContract(layout="raw", task="reconstruction"), floats, floats * 1.1)
    assert found.paired_p is not None
    assert found.paired_p < 0.001
    assert found.interval["quantized"].method == "bootstrap"
    assert found.interval["quantized"].low < found.quantized < found.interval["quantized"].high
    assert "a real loss" in found.verdict.text
    assert "agreement" not in "\n".join(found.lines())  # nothing is decided there


def test_figures_about_pairs_of_samples_get_a_paired_bootstrap() -> None:
    rng = np.random.default_rng(4)
    labels = np.arange(120) % 2
    floats = labels[:, None] + rng.normal(0, 0.5, (120, 1))
    contract = InputContract(layout="raw")
    same = compared("auc", contract, floats, floats, labels)
    assert (same.paired_p, same.verdict.kind) == (1.0, Kind.SAME)
    noisy = compared("auc", contract, floats, rng.normal(size=(120, 1)), labels)
    assert noisy.paired_p is not None
    assert noisy.paired_p < 0.01
    assert noisy.collapsed


def test_a_function_of_the_users_own() -> None:
    floats = np.random.default_rng(5).normal(size=(10, 3))
    found = compared(lambda outputs, labels: float(outputs[0].max()), CLASSES, floats, floats * 0.5, np.zeros(10, int))
    assert found.quantized == pytest.approx(found.float / 2)
    assert found.verdict.kind is Kind.UNTESTED


def test_no_samples() -> None:
    with pytest.raises(NoData, match="No sample came"):
        compared("top1", CLASSES, np.empty((0, 3)), np.empty((0, 3)), np.empty(0))
