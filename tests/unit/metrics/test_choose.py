from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bitwright.data.contract import InputContract
from bitwright.errors import InputMismatch, NoData
from bitwright.metrics.choose import metric_for


@pytest.mark.parametrize(
    ("task", "labelled", "name"),
    [
        ("classification", True, "top1"),
        ("classification", False, "agreement"),
        ("segmentation", True, "miou"),
        ("segmentation", False, "agreement"),
        ("reconstruction", True, "mse"),
        ("reconstruction", False, "mse"),
        ("detection", False, "agreement"),
        ("language model", True, "top1"),
        ("none", True, "agreement"),
        ("none", False, "agreement"),
    ],
)
def test_the_default_of_each_task(task: str, labelled: bool, name: str) -> None:
    assert metric_for(None, InputContract(task=task), labelled=labelled).name == name


def test_a_detector_needs_its_decode_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contract = InputContract(task="detection")
    with pytest.raises(InputMismatch, match=r"map50:module:function.*x1 y1 x2 y2"):
        metric_for(None, contract, labelled=True)
    (tmp_path / "bw_decode_of_a_test.py").write_text("def decode(outputs):\n    return [[.4, .4, .6, .6, .9, 1]]\n")
    monkeypatch.chdir(tmp_path)
    for metric in (
        metric_for("map50:bw_decode_of_a_test:decode", contract, labelled=True),
        metric_for("map50:bw_decode_of_a_test.py:decode", contract, labelled=True),
        metric_for(None, contract, labelled=True, decode="bw_decode_of_a_test:decode"),
        metric_for("map50", contract, labelled=True, decode=lambda outputs: [[0.4, 0.4, 0.6, 0.6, 0.9, 1]]),
    ):
        metric.update([np.zeros((1, 2))], [np.array([[1, 0.5, 0.5, 0.2, 0.2]])])
        assert metric.result() == 1


@pytest.mark.parametrize("name", ["top1", "top5", "miou", "auc"])
def test_missing_labels_are_noticed_before_anything_runs(name: str) -> None:
    with pytest.raises(NoData, match=f"metric {name} compares outputs with labels.*--metric agreement"):
        metric_for(name, InputContract(), labelled=False)


def test_an_unknown_name_is_told_the_nearest() -> None:
    with pytest.raises(InputMismatch, match=r"no metric 'top_1'; did you mean top1\?"):
        metric_for("top_1", InputContract(), labelled=True)
    with pytest.raises(InputMismatch, match=r"no metric 'x\\x1by'\. Known are top1, top5"):
        metric_for("x\x1by", InputContract(), labelled=True)


def test_the_contract_names_the_output_and_the_offset() -> None:
    contract = InputContract(output="b", offset=1)
    metric = metric_for("top1", contract, labelled=True, outputs=("a", "b"))
    metric.update([np.zeros((1, 4)), np.array([[9.0, 0.0, 0.0, 1.0]])], [2])
    assert metric.result() == 1
    with pytest.raises(InputMismatch, match="output 'b', and the network has a, c"):
        metric_for("top1", contract, labelled=True, outputs=("a", "c"))


def test_functions_and_classes_in_python() -> None:
    metric = metric_for(lambda outputs, labels: 3.0, InputContract(), labelled=False)
    metric.update([np.zeros((1, 1))])
    assert metric.result() == 3
