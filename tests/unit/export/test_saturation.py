"""Processors without VNNI add pairs of products in 16 bits and saturate: known, detected, avoided.

The machine that runs this may have VNNI, so the probe's answer is simulated, and so is the saturating sum.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitwright.export import onnx_int, onnx_qdq, running
from bitwright.export.onnx_qdq import export_onnx_qdq, saturable_layers
from bitwright.export.running import EXACT_SUMS, file_session
from bitwright.export.verify import export
from bitwright.simulate import engine
from bitwright.targets.target import load_target
from exports import calibrated, quantized


@pytest.fixture
def old_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose probe finds saturation."""
    for module in (onnx_int, running, engine):
        monkeypatch.setattr(module, "int8_convolution_is_exact", lambda: False)


@pytest.mark.usefixtures("old_processor")
@pytest.mark.parametrize("target", ["cpu", "fpga"])
def test_the_deploy_model_avoids_it(target: str, tmp_path: Path) -> None:
    """By default no byte is multiplied with a byte there, and the integers are the program's."""
    done = export(quantized("residual", target), "onnx-int", tmp_path / "net.onnx", verify=True, samples=2)
    assert done.report.facts["portable"] is True
    ops = {node.op_type for node in onnx.load(tmp_path / "net.onnx").graph.node}
    assert "Conv" in ops
    assert not ops & {"QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"}
    assert done.reading is not None
    assert done.reading.differing == 0


@pytest.mark.usefixtures("old_processor")
def test_the_engine_avoids_it() -> None:
    q = quantized("residual", "cpu")
    fresh = engine.Engine(q.program)
    assert "onnx-int8" not in set(fresh.ways.values())


@pytest.mark.usefixtures("old_processor")
def test_readers_ask_for_exact_sums_there(tmp_path: Path) -> None:
    export(quantized("residual", "cpu"), "onnx-qdq", tmp_path / "net.onnx")
    options = file_session(tmp_path / "net.onnx").get_session_options()
    assert options.get_session_config_entry(EXACT_SUMS) == "1"


def test_machines_that_are_exact_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "int8_convolution_is_exact", lambda: True)
    export(quantized("residual", "cpu"), "onnx-qdq", tmp_path / "net.onnx")
    options = file_session(tmp_path / "net.onnx").get_session_options()
    with pytest.raises(RuntimeError, match=EXACT_SUMS):  # it was not set
        options.get_session_config_entry(EXACT_SUMS)


def test_the_eval_model_says_which_layers_it_concerns(tmp_path: Path) -> None:
    q = quantized("residual", "cpu")
    report = export_onnx_qdq(q, tmp_path / "net.onnx")
    assert report.facts["saturable"] == len(saturable_layers(q)) > 0
    assert any("x64quantprecision" in note and "without VNNI" in note for note in report.notes)
    signed = export_onnx_qdq(q, tmp_path / "signed.onnx", signed=True)
    assert not any("VNNI" in note for note in signed.notes)


def test_small_weights_cannot_saturate(tmp_path: Path) -> None:
    from bitwright.api import quantize

    collected = calibrated("residual")
    q = quantize(collected.model, collected, load_target("cpu").with_overrides({"weight": {"bits": 7}}))
    assert saturable_layers(q) == ()
    report = export_onnx_qdq(q, tmp_path / "net.onnx")
    assert report.facts["saturable"] == 0
    assert not any("VNNI" in note for note in report.notes)


def test_the_target_knows_of_it() -> None:
    assert "without VNNI" in load_target("cpu").summary


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-127, 127), min_size=2, max_size=12), st.integers(0, 2**32 - 1))
def test_layers_that_are_not_named_never_saturate(weights: list[int], seed: int) -> None:
    """Whatever two products a kernel adds in 16 bits, the sum of a layer that is not named is exact."""
    row = np.sort(np.asarray(weights, np.int64))
    pairs = max(int(row[-2:].clip(0).sum()), int(-row[:2].clip(None, 0).sum()))
    named = onnx_qdq.UNSIGNED_LARGEST * pairs > onnx_qdq.LARGEST_16
    rng = np.random.default_rng(seed)
    x = rng.choice(np.asarray([0, 255, 250]), len(weights)).astype(np.int64)
    products = rng.permutation(x * np.asarray(weights))
    whole = [
        int(np.clip(p.sum(), -(1 << 15), (1 << 15) - 1))
        for p in np.array_split(products, max(1, -(-len(products) // 2)))
    ]
    assert named or sum(whole) == int(products.sum())
