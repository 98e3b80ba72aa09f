"""The laws of every metric that is registered, on random outputs of the kind it is for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitwright.data.contract import InputContract
from bitwright.errors import NoData
from bitwright.metrics.choose import METRICS, metric_for
from bitwright.metrics.metric import Metric, Unit

SAMPLES = 12


@dataclass(frozen=True)
class Case:
    """What one metric is fed with: everything indexed by sample."""

    task: str
    outputs: Callable[[np.random.Generator], np.ndarray]
    labels: Callable[[np.random.Generator], list[Any]]


def boxes(rng: np.random.Generator, label: np.ndarray) -> np.ndarray:
    """Boxes x1 y1 x2 y2 score class scattered around those of a label ``class cx cy w h``."""
    near = np.repeat(label, 3, 0) + np.c_[np.zeros(3 * len(label)), rng.normal(0, 0.03, (3 * len(label), 4))]
    corners = np.c_[near[:, 1:3] - near[:, 3:5] / 2, near[:, 1:3] + near[:, 3:5] / 2]
    return np.c_[corners, rng.random(len(near)), near[:, 0]]


def objects(rng: np.random.Generator) -> list[Any]:
    return [
        np.c_[rng.integers(0, 2, 2), rng.uniform(0.3, 0.7, (2, 2)), rng.uniform(0.2, 0.4, (2, 2))]
        for _ in range(SAMPLES)
    ]


def scattered(rng: np.random.Generator) -> np.ndarray:
    """Detections around objects as the labels' generator makes them from the same seed."""
    return np.stack([boxes(rng, label) for label in objects(np.random.default_rng(7))])


def scores(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(-3, 4, (SAMPLES, 8)).astype(np.float32)


def no_labels(rng: np.random.Generator) -> list[Any]:
    return [None] * SAMPLES


CASES = {
    "top1": Case("classification", scores, lambda rng: rng.integers(0, 8, SAMPLES).tolist()),
    "top5": Case("classification", scores, lambda rng: rng.integers(0, 8, SAMPLES).tolist()),
    "agreement": Case("classification", scores, no_labels),
    "sqnr": Case("none", scores, no_labels),
    "miou": Case(
        "segmentation",
        lambda rng: rng.normal(size=(SAMPLES, 3, 4, 5)),
        lambda rng: list(rng.choice([0, 1, 2, 255], (SAMPLES, 8, 5)).astype(np.uint8)),
    ),
    "map50": Case("detection", scattered, lambda rng: objects(np.random.default_rng(7))),
    "mse": Case("reconstruction", scores, lambda rng: list(rng.normal(size=(SAMPLES, 8)))),
    "auc": Case("classification", lambda rng: scores(rng)[:, :2], lambda rng: [i % 2 for i in range(SAMPLES)]),
}


@dataclass(frozen=True)
class Data:
    outputs: np.ndarray
    floats: np.ndarray
    labels: list[Any]
    inputs: np.ndarray

    def feed(self, metric: Metric, which: list[int]) -> None:
        labels = [self.labels[i] for i in which]
        metric.update(
            [self.outputs[which]],
            None if labels[0] is None else labels,
            inputs=self.inputs[which],
            floats=[self.floats[which]],
        )


def fresh(name: str) -> Metric:
    contract = InputContract(task=CASES[name].task)
    return metric_for(name, contract, labelled=True, decode=lambda outputs: outputs[0])


def random_data(name: str, seed: int) -> Data:
    rng, case = np.random.default_rng(seed), CASES[name]
    outputs = case.outputs(rng)
    return Data(outputs, outputs + rng.normal(0, 0.5, outputs.shape), case.labels(rng), rng.normal(size=outputs.shape))


def measure(name: str, data: Data, which: list[int]) -> float:
    metric = fresh(name)
    data.feed(metric, which)
    return metric.result()


def test_every_metric_has_a_case() -> None:
    assert CASES.keys() == METRICS.keys()


@pytest.mark.parametrize("name", METRICS)
def test_what_it_says_of_itself(name: str) -> None:
    metric = fresh(name)
    assert isinstance(metric, Metric)
    assert metric.name == name
    assert metric.better in {"higher", "lower"}
    assert isinstance(metric.unit, Unit)
    assert set(metric.needs) <= {"labels", "floats", "inputs"}
    assert metric.chance is None or 0 <= metric.chance <= 1


@pytest.mark.parametrize("name", METRICS)
@given(seed=st.integers(0, 10_000), cuts=st.sets(st.integers(1, SAMPLES - 1)), merge_at=st.integers(0, 20))
@settings(max_examples=15)
def test_batches_and_workers_do_not_matter(name: str, seed: int, cuts: set[int], merge_at: int) -> None:
    data = random_data(name, seed)
    parts = [part.tolist() for part in np.split(np.arange(SAMPLES), sorted(cuts))]
    first, second = fresh(name), fresh(name)
    for i, part in enumerate(parts):
        data.feed(first if i < merge_at else second, part)
    first.merge(second)
    assert first.result() == pytest.approx(measure(name, data, list(range(SAMPLES))), rel=1e-12)
    one_by_one = fresh(name)
    for i in range(SAMPLES):
        data.feed(one_by_one, [i])
    expected, got = one_by_one.per_sample(), first.per_sample()
    if expected is None:
        assert got is None
    else:
        assert got == pytest.approx(expected)
        assert len(got) == SAMPLES


@pytest.mark.parametrize("name", METRICS)
@given(seed=st.integers(0, 10_000), counts=st.lists(st.integers(0, 3), min_size=SAMPLES, max_size=SAMPLES))
@settings(max_examples=25)
def test_a_weight_is_a_repetition(name: str, seed: int, counts: list[int]) -> None:
    data = random_data(name, seed)
    metric = fresh(name)
    data.feed(metric, list(range(SAMPLES)))
    repeated = [i for i, count in enumerate(counts) for _ in range(count)]
    if not repeated:
        return
    weighted = metric.weighted(np.array(counts, np.float64))
    try:
        expected = measure(name, data, repeated)
    except NoData:
        assert weighted is None
        return
    assert weighted == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", METRICS)
def test_a_mean_of_scores_is_the_mean_of_its_scores(name: str) -> None:
    data, metric = random_data(name, 1), fresh(name)
    data.feed(metric, list(range(SAMPLES)))
    scores = metric.per_sample()
    if metric.unit is Unit.PROPORTION:
        assert scores is not None
        assert set(scores.tolist()) <= {0, 1}
    if scores is not None and name != "miou":  # miou pools its pixels over images
        assert metric.result() == pytest.approx(scores.mean())


@pytest.mark.parametrize("name", METRICS)
def test_nothing_measured_is_an_error(name: str) -> None:
    with pytest.raises(NoData):
        fresh(name).result()


@pytest.mark.parametrize("name", [name for name in METRICS if "labels" in fresh(name).needs])
def test_missing_labels_are_an_error_that_helps(name: str) -> None:
    data = random_data(name, 1)
    with pytest.raises(NoData, match=f"metric {name} compares outputs with labels.*--metric agreement"):
        fresh(name).update([data.outputs], None, inputs=data.inputs, floats=[data.floats])


@pytest.mark.parametrize("name", METRICS)
def test_perfect_outputs_are_not_beaten(name: str) -> None:
    """Where the outputs are made from what is asked for, the figure is the best there is."""
    data = random_data(name, 3)
    outputs = data.outputs
    if name in {"top1", "top5"}:
        outputs = np.eye(8)[data.labels]
    elif name == "auc":
        outputs = np.eye(2)[data.labels]
    elif name == "mse":
        outputs = np.stack(data.labels)
    elif name == "miou":
        wanted = np.stack(data.labels)
        outputs = (wanted[:, None] == np.arange(3)[None, :, None, None]).astype(float)
    elif name == "map50":
        corners = [np.c_[b[:, 1:3] - b[:, 3:] / 2, b[:, 1:3] + b[:, 3:] / 2] for b in data.labels]
        outputs = np.stack([np.c_[c, np.full(2, 0.9), b[:, 0]] for c, b in zip(corners, data.labels, strict=True)])
    metric = fresh(name)
    labels = None if data.labels[0] is None else data.labels
    metric.update([outputs], labels, inputs=data.inputs, floats=[outputs])
    best = {"mse": 0.0, "sqnr": np.inf}.get(name, 1.0)
    if name == "map50":  # overlapping objects of one class are suppressed, whoever finds them
        assert metric.result() > 0.8
    else:
        assert metric.result() == best
