from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bitwright.errors import InputMismatch, NoData
from bitwright.metrics.own import OwnFunction, OwnObject, load_attribute, own_metric

SOURCE = """
import numpy as np

def mean_of_first(outputs, labels):
    return np.mean(outputs[0]) + (0 if labels is None else sum(labels))
mean_of_first.better = "lower"

class Counts:
    def __init__(self): self.n = 0
    def update(self, outputs, labels): self.n += len(outputs[0])
    def result(self): return self.n
    def merge(self, other): self.n += other.n
    def per_sample(self): return np.ones(self.n)

ready = Counts()
text = "no metric"

class Nested:
    @staticmethod
    def fn(outputs, labels): return 7
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "bw_own_metrics_of_a_test.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "place", ["bw_own_metrics_of_a_test", "bw_own_metrics_of_a_test.py", "./bw_own_metrics_of_a_test.py"]
)
def test_modules_and_files_of_the_current_folder(folder: Path, place: str) -> None:
    metric = own_metric(load_attribute(f"{place}:mean_of_first", what="The metric"), "own")
    metric.update([np.ones((2, 3))], [1, 2])
    metric.update([np.full((1, 3), 4.0)], [3])
    assert isinstance(metric, OwnFunction)
    assert metric.result() == 2 + 6
    assert metric.better == "lower"


def test_names_within_names(folder: Path) -> None:
    assert load_attribute("bw_own_metrics_of_a_test.py:Nested.fn", what="The metric")([], []) == 7


def test_each_network_gets_its_own_object(folder: Path) -> None:
    for name in ("Counts", "ready"):
        given = load_attribute(f"bw_own_metrics_of_a_test.py:{name}", what="The metric")
        a, b = own_metric(given, "a"), own_metric(given, "b")
        a.update([np.zeros((3, 2))])
        b.update([np.zeros((2, 2))], [0, 1])
        assert (a.result(), b.result()) == (3, 2)
        assert isinstance(a, OwnObject)
        assert a.per_sample() is not None
        a.merge(b)
        assert a.result() == 5


def test_buffers_that_are_used_again_do_no_harm() -> None:
    metric = own_metric(lambda outputs, labels: float(outputs[0].sum()), "own")
    buffer = np.ones((2, 2))
    metric.update([buffer])
    buffer[:] = 100
    metric.update([buffer])
    assert metric.result() == 404


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("mean", "module:function or file.py:function"),
        (":mean", "module:function"),
        ("no_such_module_here:f", "cannot be imported: ModuleNotFoundError"),
        ("no_such_file.py:f", "cannot be imported: FileNotFoundError"),
        ("bw_own_metrics_of_a_test:nothing", "has no nothing"),
    ],
)
def test_what_cannot_be_loaded(folder: Path, spec: str, words: str) -> None:
    with pytest.raises(InputMismatch, match=words):
        load_attribute(spec, what="The metric")


def test_what_is_no_metric(folder: Path) -> None:
    with pytest.raises(InputMismatch, match="neither a function"):
        own_metric(load_attribute("bw_own_metrics_of_a_test:text", what="The metric"), "text")


def test_a_function_that_returns_no_number() -> None:
    metric = own_metric(lambda outputs, labels: "good", "own")
    with pytest.raises(NoData):
        metric.result()
    metric.update([np.zeros((1, 1))])
    with pytest.raises(InputMismatch, match="'good', not a number"):
        metric.result()


def test_an_object_that_cannot_merge() -> None:
    class Plain:
        def update(self, outputs: list[np.ndarray], labels: object) -> None: ...
        def result(self) -> float:
            return 1.0

    metric = own_metric(Plain(), "plain")
    assert metric.per_sample() is None
    with pytest.raises(InputMismatch, match="no merge"):
        metric.merge(own_metric(Plain, "plain"))
