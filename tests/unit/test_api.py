"""The public functions: load, calibrate, quantize, validate, and the quantized network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx import save as save_model

import bitwright
from bitwright.api import Calibration, calibrate, load, quantize, validate
from bitwright.data.contract import InputContract
from bitwright.errors import (
    BadModelFile,
    CalibrationError,
    InputMismatch,
    ModelError,
    NoData,
    StaleCalibration,
    UnsupportedOp,
)
from bitwright.model import Model
from bitwright.quantized import Quantized, open_quantized
from bitwright.targets.target import load_target
from zoo import ZOO, feeds, run

DIGITS = Path(bitwright.__file__).parent / "demo"
MODEL, CALIB, VAL = DIGITS / "digits.onnx", DIGITS / "digits-calib.npz", DIGITS / "digits-val.npz"
RAW = {"input": {"layout": "raw"}, "output": {"task": "none"}}


def images(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(path) as arrays:
        return arrays["x"], arrays["y"]


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return calibrate(MODEL, CALIB)


@pytest.fixture(scope="module")
def q(calibration: Calibration) -> Quantized:
    return quantize(MODEL, calibration, "fpga")


# -------------------------------------------------------------------- load


def test_loading_finds_the_contract_beside_the_model() -> None:
    loaded = load(MODEL)
    assert loaded.path == MODEL
    assert loaded.contract.color == "gray"
    assert loaded.contract.shape == (1, 16, 16)
    assert load(loaded) is loaded
    assert len(loaded.folds) == 12  # six layers with weights and bias


@pytest.mark.parametrize("kind", ["dict", "file", "contract"])
def test_contracts_given_in_any_form(kind: str, tmp_path: Path) -> None:
    table = {"input": {"layout": "NCHW", "color": "gray", "std": [128.0]}, "output": {"task": "none"}}
    (tmp_path / "own.toml").write_text(
        '[input]\nlayout = "NCHW"\ncolor = "gray"\nstd = [128.0]\n[output]\ntask = "none"\n'
    )
    given: Any = {"dict": table, "file": tmp_path / "own.toml", "contract": InputContract.from_dict(table)}[kind]
    loaded = load(MODEL, input_spec=given)
    assert (loaded.contract.std, loaded.contract.task) == ((128.0,), "none")


def test_without_a_contract_the_guess_is_told() -> None:
    loaded = load(MODEL.read_bytes())
    assert any("No input contract" in note for note in loaded.notes)


def test_a_network_without_inputs_is_refused() -> None:
    from onnx import TensorProto, helper

    node = helper.make_node("Constant", [], ["y"], value=helper.make_tensor("v", TensorProto.FLOAT, [2], [1.0, 2.0]))
    graph = helper.make_graph([node], "g", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])])
    with pytest.raises(ModelError, match="no inputs or no outputs"):
        load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


# -------------------------------------------------------------------- calibrate


def test_calibrations_add_up(calibration: Calibration) -> None:
    x, _ = images(CALIB)
    parts = calibrate(MODEL, x[:30]) + calibrate(MODEL, x[30:])
    assert parts.statistics.activations == calibration.statistics.activations
    assert parts.statistics.samples == 100
    assert {row["kind"] for row in parts.rows} == {"Weights", "Bias", "Activations"}
    assert "stem_<wbr>conv" in calibration._repr_html_()


def test_a_calibration_survives_its_file_and_refuses_others(calibration: Calibration, tmp_path: Path) -> None:
    calibration.save(tmp_path / "x.bwcal")
    again = Calibration.load(MODEL, tmp_path / "x.bwcal")
    assert again.statistics == calibration.statistics
    other = load(ZOO["mlp"](), input_spec=RAW)
    with pytest.raises(StaleCalibration):
        Calibration.load(other, tmp_path / "x.bwcal")
    with pytest.raises(StaleCalibration, match="another network"):
        quantize(other, calibration, "fpga")


def test_a_stream_that_can_be_read_once_is_used_whole() -> None:
    x, _ = images(CALIB)

    def stream() -> Iterator[np.ndarray]:
        yield from x

    seen: list[tuple[int, int | None, str]] = []
    found = calibrate(MODEL, stream(), progress=lambda *a: seen.append(a))
    assert found.statistics.samples == len(x), "looking at the first batch must not cost it"
    assert seen[-1] == (len(x), None, "calibrating")


def test_a_first_batch_that_cannot_be_right_stops_at_once() -> None:
    taken: list[int] = []

    def stream() -> Iterator[np.ndarray]:
        for i in range(1000):
            taken.append(i)
            yield np.zeros((9, 9), np.uint8)

    with pytest.raises(InputMismatch, match="16"):
        calibrate(MODEL, stream())
    assert len(taken) < 500


def test_no_samples() -> None:
    with pytest.raises(NoData):
        calibrate(MODEL, iter(()))


def test_pandas_is_named_if_it_is_missing(calibration: Calibration, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from bitwright.errors import ToolMissing

    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ToolMissing, match="notebook"):
        calibration.to_pandas()


# -------------------------------------------------------------------- quantize


def test_calibration_data_and_file_give_the_same_network(calibration: Calibration, tmp_path: Path) -> None:
    calibration.save(tmp_path / "x.bwcal")
    made = [quantize(MODEL, given, "dpu") for given in (calibration, tmp_path / "x.bwcal", CALIB, str(CALIB))]
    files = set()
    for k, one in enumerate(made):
        files.add(one.save(tmp_path / f"{k}.bw").read_bytes())
    assert len(files) == 1


def test_a_target_may_be_a_name_a_file_or_a_target(calibration: Calibration, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        'name = "mine"\ntitle = "Mine"\nsummary = "As fpga."\nextends = "fpga"\n[weight]\nbits = 6\n'
    )
    for given, name in (("fpga", "fpga"), (tmp_path / "mine.toml", "mine"), (load_target("dpu"), "dpu")):
        assert quantize(MODEL, calibration, given).program.target == name
    six = quantize(MODEL, calibration, tmp_path / "mine.toml")
    assert {item.format.bits for item in six.program.learnables if item.parameter == "Weights"} == {6}
    assert six.target.weight.bits == 6, "the file carries the target as it was"


def test_schemes_are_used_and_inputs_keep_theirs(calibration: Calibration) -> None:
    made = quantize(MODEL, calibration, "fpga", scheme="percentile{p=99}")
    schemes = made.provenance["schemes"]
    assert schemes["activation"] == schemes["weight"] == "percentile{p=99}"
    assert schemes["input"] == "minmax"
    with pytest.raises(CalibrationError, match="mse"):
        quantize(MODEL, calibration, "fpga", scheme="msee")


def test_nothing_to_calibrate_with() -> None:
    with pytest.raises(CalibrationError, match="data"):
        quantize(MODEL, None)


def test_strict() -> None:
    model = load(ZOO["attention"](), input_spec=RAW)
    (x,) = feeds(ZOO["attention"](), 16).values()
    with pytest.raises(UnsupportedOp) as caught:
        quantize(model, x, "generic", strict=True)
    assert caught.value.op == "MatMul"
    made = quantize(model, x, "generic")
    assert made.program.integer_mac_share < 1
    assert [row["becomes"] for row in made.provenance["layers"]].count("float") >= 2


def test_ctrl_c_while_calibrating_makes_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    from bitwright.calibrate import observe

    original, seen = observe._Counter.feeds, []

    def stops(self: Any, batch: Any) -> Any:
        seen.append(batch)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return original(self, batch)

    monkeypatch.setattr(observe, "LARGEST_BATCH", 8)
    monkeypatch.setattr(observe._Counter, "feeds", stops)
    with pytest.raises(KeyboardInterrupt):
        quantize(MODEL, CALIB, "fpga")


@pytest.mark.parametrize("name", [name for name in ZOO if name != "shape_chain"])
def test_the_zoo_is_near_its_float_networks(name: str) -> None:
    model = ZOO[name]()
    inputs = feeds(model, 24)
    loaded = load(model, input_spec=RAW)
    data = [dict(zip(inputs, values, strict=True)) for values in zip(*inputs.values(), strict=True)]
    made = quantize(loaded, data if len(inputs) > 1 else next(iter(inputs.values())), "generic", scheme="minmax")
    few = {key: value[:6] for key, value in inputs.items()}
    outputs = made.run(few)
    outputs = outputs if isinstance(outputs, list) else [outputs]
    for got, want in zip(outputs, run(model, few), strict=True):
        assert got.shape == want.shape
        noise = float(((got - want) ** 2).mean())
        assert noise < 0.05 * float((want**2).mean()), name
    assert made.check({key: value[:2] for key, value in inputs.items()}).mismatches == 0


# -------------------------------------------------------------------- the quantized network


def test_running_gives_reals_or_integers(q: Quantized) -> None:
    x, _ = images(VAL)
    tensor = np.stack([q.contract.apply(image) for image in x[:5]])
    real, raw = q.run(tensor), q.run(tensor, raw=True)
    assert raw.dtype == np.int8
    assert real.dtype == np.float64
    output = q.program.buffers[q.program.outputs[0]].format
    assert (real == output.dequantize(raw)).all()
    assert (q.run({"image": tensor}) == real).all()
    with pytest.raises(InputMismatch, match=r"\[n, 1, 16, 16\]"):
        q.run(tensor[:, :, :8])
    with pytest.raises(InputMismatch, match="image"):
        q.run({"picture": tensor})


def test_a_file_holds_everything(q: Quantized, tmp_path: Path) -> None:
    again = Quantized.load(q.save(tmp_path / "x.bw"))
    assert again.network.fingerprint == q.network.fingerprint == load(MODEL).network.fingerprint
    assert again.contract == q.contract
    assert again.statistics == q.statistics
    assert again.target == q.target
    assert open_quantized(again) is again
    assert ("target", "fpga") in again.facts()
    assert "fpga" in again._repr_html_()
    with pytest.raises(BadModelFile):
        open_quantized(tmp_path / "missing.bw")


def test_a_network_too_large_to_carry_is_found_again(q: Quantized, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(MODEL.read_bytes())
    provenance = {**q.provenance, "network_file": {"path": str(tmp_path / "net.onnx")}}
    apart = Quantized(replace(q.artefact, network=None, provenance=provenance))
    assert apart.network.fingerprint == q.network.fingerprint
    (tmp_path / "net.onnx").write_bytes(ZOO["mlp"]().SerializeToString())
    with pytest.raises(ModelError, match="fingerprint"):
        _ = Quantized(apart.artefact).network
    (tmp_path / "net.onnx").unlink()
    with pytest.raises(ModelError, match="Put the ONNX file back"):
        _ = Quantized(apart.artefact).network


# -------------------------------------------------------------------- validate


def test_validation_agrees_with_doing_it_by_hand(q: Quantized) -> None:
    x, y = images(VAL)
    found = validate(q, VAL, samples=None)
    tensor = np.stack([q.contract.apply(image) for image in x])
    decided = q.run(tensor).argmax(1)
    (floats,) = q.network.session().run(None, {"image": tensor})
    assert found.samples == len(x)
    assert found.quantized == pytest.approx(float((decided == y).mean()))
    assert found.float == pytest.approx(float((floats.argmax(1) == y).mean()))
    assert found.agreement == pytest.approx(float((decided == floats.argmax(1)).mean()))
    assert (found.mismatches, found.target) == (0, "fpga")
    assert found.values_checked > 0


def test_labels_of_a_stream_are_seen(q: Quantized) -> None:
    x, y = images(VAL)
    with_labels = validate(q, iter(list(zip(x[:40], y[:40], strict=True))))
    without = validate(q, iter(list(x[:40])))
    assert with_labels.metric == "top1"
    assert without.metric == "agreement"
    assert with_labels.quantized == validate(q, (x[:40], y[:40])).quantized
    with pytest.raises(NoData, match="labels"):
        validate(q, iter(list(x[:40])), "top1")


def test_a_metric_of_ones_own(q: Quantized) -> None:
    def share_of_threes(outputs: Any, labels: Any) -> float:
        return float((outputs[0].argmax(1) == 3).mean())

    found = validate(q, VAL, share_of_threes, samples=50)
    assert 0 <= found.quantized <= 1


def test_pieces_in_float_are_counted_in_one_sentence() -> None:
    (x,) = feeds(ZOO["attention"](), 8).values()
    made = quantize(load(ZOO["attention"](), input_spec=RAW), x, "generic")
    found = validate(made, x)
    notes = [note for note in found.notes if "in float" in note]
    assert len(notes) == 1
    assert "2 pieces of the network run in float" in notes[0]
    assert found.integer_mac_share < 1


def test_what_a_collapsed_network_needs_depends_on_its_target(calibration: Calibration, q: Quantized) -> None:
    from bitwright.validating import remedy

    assert "per-channel weights" in remedy(q)
    assert "per-channel" not in remedy(quantize(MODEL, calibration, "generic"))


def test_a_wrong_first_batch_stops_validation(q: Quantized) -> None:
    with pytest.raises(InputMismatch, match="16"):
        validate(q, np.zeros((3, 20, 20), np.uint8))


def test_model_is_what_load_gives() -> None:
    assert isinstance(load(MODEL), Model)
    assert load(MODEL, name="other").name == "other"


def test_pruning_changes_no_output_and_is_told(tmp_path: Path) -> None:
    """A network with a dead channel gets smaller, its outputs stay the same integers."""
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w", "b"], ["c"], name="first"),
            helper.make_node("Relu", ["c"], ["r"], name="relu"),
            helper.make_node("Conv", ["r", "v"], ["y"], name="second"),
        ],
        "dead",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3, 4, 4])],
        [
            numpy_helper.from_array(np.array([[1, 0.5], [0, 0], [-1, 2]], np.float32)[:, :, None, None], "w"),
            numpy_helper.from_array(np.array([0.1, -1.0, 0.2], np.float32), "b"),
            numpy_helper.from_array(np.arange(9, dtype=np.float32).reshape(3, 3, 1, 1) / 9, "v"),
        ],
    )
    path = tmp_path / "dead.onnx"
    save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    x = np.random.default_rng(1).normal(size=(8, 2, 4, 4)).astype(np.float32)
    model = load(path, input_spec={"input": {"layout": "raw"}})
    calibration = calibrate(model, x)
    whole = quantize(model, calibration, "fpga")
    pruned = quantize(model, calibration, "fpga", prune=True)
    assert pruned.program.learnable_bytes < whole.program.learnable_bytes
    assert pruned.learnable_float_bytes == whole.learnable_float_bytes
    assert np.array_equal(pruned.run(x, raw=True), whole.run(x, raw=True))
    assert len(pruned.provenance["notes"]) > len(whole.provenance["notes"])
    assert any("constant" in note for note in pruned.provenance["notes"])
