"""Formats set by hand: their text, the target's rules, and what the other formats make of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

import bitwright
from bitwright.api import Calibration, calibrate, load, quantize
from bitwright.calibrate.given import format_text, parse_format, read_given
from bitwright.errors import CalibrationError
from bitwright.number.format import Format
from bitwright.quantized import Quantized
from bitwright.targets.target import load_target
from command_line import Line

DIGITS = Path(bitwright.__file__).parent / "demo"
MODEL, CALIB, VAL = DIGITS / "digits.onnx", DIGITS / "digits-calib.npz", DIGITS / "digits-val.npz"


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return calibrate(MODEL, CALIB, samples=40)


def formats(q: Quantized) -> dict[str, Format]:
    return {b.tensor: b.format for b in q.program.buffers.values() if b.tensor is not None}


def weights(q: Quantized) -> dict[str, Format]:
    return {item.layer: item.format for item in q.program.learnables if item.parameter == "Weights"}


@pytest.mark.parametrize(
    ("text", "format"),
    [
        ("int8·2^-5", Format.power_of_two(8, -5)),
        (" uint4*2^3 ", Format.power_of_two(4, 3, signed=False)),
        ("int8·2^[-5, -7]", Format.power_of_two(8, [-5, -7], axis=0)),
        ("uint8·0.5 (zero point 12)", Format(8, False, np.float64(0.5), np.int64(12))),
        ("int16·[0.25,1e-3]", Format(16, True, np.array([0.25, 1e-3]), axis=0)),
    ],
)
def test_reading(text: str, format: Format) -> None:
    assert parse_format(text) == format
    assert parse_format(format_text(format)) == format


@settings(max_examples=50, deadline=None)
@drawn(
    st.integers(2, 32),
    st.booleans(),
    st.lists(st.one_of(st.integers(-60, 60).map(lambda n: 2.0**n), st.floats(1e-12, 1e12)), min_size=1, max_size=4),
    st.booleans(),
)
def test_texts_are_read_back(bits: int, signed: bool, steps: list[float], whole: bool) -> None:
    format = Format(bits, signed, np.float64(steps[0]) if whole else np.array(steps), axis=None if whole else 0)
    assert parse_format(format_text(format)) == format


@pytest.mark.parametrize(
    "text",
    ["", "int8", "int8·", "float8·2^1", "int8·2^x", "int8·2^1.5", "int1·2^0", "int99·2^0", "int8·0", "int8·-1", "int8·nan",
     "int8·inf", "int8·[]", "int8·2^99999999", "int8·1 (zero point 200)", "int8·2^-5 per channel", "int8·2^[-5..-3]"],
)  # fmt: skip
def test_no_format(text: str) -> None:
    with pytest.raises(CalibrationError, match="is no format"):
        parse_format(text)


def test_an_activation_keeps_what_was_given(calibration: Calibration, tmp_path: Path) -> None:
    plain = quantize(MODEL, calibration, "fpga")
    tensor, old = next((t, f) for t, f in formats(plain).items() if t not in plain.input_tensors)
    new = Format.power_of_two(8, int(old.exponent) + 2)  # type: ignore[arg-type]
    q = quantize(MODEL, calibration, "fpga", formats={tensor: str(new)})
    assert formats(q)[tensor] == new != old
    assert q.provenance["formats"]["given"] == {tensor: str(new)}
    assert plain.provenance["formats"]["given"] == {}
    assert Quantized.load(q.save(tmp_path / "q.bw")).provenance["formats"]["given"] == {tensor: str(new)}
    with np.load(VAL) as arrays:
        x = np.asarray(arrays["x"][:4], np.float32).reshape(-1, 1, 16, 16) / 255
    assert q.check(x).mismatches == 0


def test_weights_keep_what_was_given(calibration: Calibration) -> None:
    plain = quantize(MODEL, calibration, "fpga")
    layer, old = next(iter(weights(plain).items()))
    new = Format.power_of_two(8, int(old.exponent) - 1)  # type: ignore[arg-type]
    q = quantize(MODEL, calibration, "fpga", formats={f"{layer}.Weights": new})
    assert weights(q)[layer] == new
    assert q.provenance["formats"]["given"] == {f"{layer}.Weights": str(new)}


def test_one_step_serves_all_channels(calibration: Calibration) -> None:
    layer, old = next(iter(weights(quantize(MODEL, calibration, "generic")).items()))
    step = float(old.scale.max())
    q = quantize(MODEL, calibration, "generic", formats={f"{layer}.Weights": f"int8·{step!r}"})
    got = weights(q)[layer]
    assert got.axis == 0
    assert set(got.scale) == {step}


def test_tensors_that_share_a_format_move_together(calibration: Calibration) -> None:
    groups = quantize(MODEL, calibration, "fpga").provenance["formats"]["groups"]
    shared = [[t for t, r in groups.items() if r == root] for root in set(groups.values())]
    first, second = max(shared, key=len)[:2]
    old = formats(quantize(MODEL, calibration, "fpga"))[first]
    new = Format.power_of_two(8, int(old.exponent) + 1)  # type: ignore[arg-type]
    q = quantize(MODEL, calibration, "fpga", formats={second: new})
    assert formats(q)[first] == formats(q)[second] == new
    with pytest.raises(CalibrationError, match="must have one format"):
        quantize(MODEL, calibration, "fpga", formats={first: new, second: old})


def test_what_a_target_forbids_is_named(calibration: Calibration) -> None:
    plain = quantize(MODEL, calibration, "fpga")
    tensor = plain.output_tensors[0]
    layer = next(iter(weights(plain)))
    for name, text, words in (
        (tensor, "int4·2^-2", "8 bits there"),
        (tensor, "uint8·2^-5", "signed there"),
        (tensor, "int8·0.3", "powers of two"),
        (tensor, "int8·2^[-3,-4]", "one step for the whole tensor"),
        (f"{layer}.Weights", "int8·2^[-3,-4]", "one step for the whole tensor"),
        (f"{layer}.Weights", "int8·2^-5 (zero point 3)", "zero point is 0"),
        (tensor, "int8·2^64", "exponent_range"),
        (tensor, "gibberish", "is no format"),
        ("logitz", "int8·2^-5", "Did you mean"),
        ("\x1b[31m", "int8·2^-5", "There is no tensor"),
    ):
        with pytest.raises(CalibrationError, match=words) as caught:
            quantize(MODEL, calibration, "fpga", formats={name: text})
        assert "\x1b" not in str(caught.value)
    with pytest.raises(CalibrationError, match="channels, and 2 steps"):
        quantize(MODEL, calibration, "generic", formats={f"{layer}.Weights": "int8·[0.1, 0.2]"})
    with pytest.raises(CalibrationError, match="steps of the accumulator"):
        quantize(MODEL, calibration, "generic", formats={f"{layer}.Bias": "int32·0.1"})


def test_limits_between_tensors_are_errors_not_silent_moves(calibration: Calibration) -> None:
    """A step so fine that the accumulator cannot tell it is refused with the rule, where a scheme's would be moved."""
    plain = quantize(MODEL, calibration, "fpga")
    layer = next(iter(weights(plain)))
    made = next(s.outputs[0] for s in load(MODEL).spec(load_target("fpga")).layers if s.name == layer)
    with pytest.raises(CalibrationError, match="shift"):
        quantize(MODEL, calibration, "fpga", formats={made: "int8·2^-60"})


def test_unknown_layers_of_the_network_have_no_learnables() -> None:
    target = load_target("fpga")
    spec = load(MODEL).spec(target)
    assert read_given(spec, target, {}).activations == {}
    pool = next(s.name for s in spec.layers if not s.is_linear)
    with pytest.raises(CalibrationError, match="no tensor"):
        read_given(spec, target, {f"{pool}.Weights": "int8·2^-5"})


def test_a_given_format_outlives_repairs(calibration: Calibration, tmp_path: Path) -> None:
    layer, old = next(iter(weights(quantize(MODEL, calibration, "fpga")).items()))
    new = Format.power_of_two(8, int(old.exponent) + 1)  # type: ignore[arg-type]
    q = quantize(
        MODEL,
        calibration,
        "fpga",
        formats={f"{layer}.Weights": new},
        mend="correct-bias",
        data=CALIB,
        samples=24,
        checkpoint=tmp_path / "mend.part",
    )
    assert weights(q)[layer] == new
    assert q.provenance["repairs"]
    assert (tmp_path / "mend.part").is_file()


def test_command_line(calibration: Calibration, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = Line(capsys)
    made = calibration.save(tmp_path / "digits.bwcal")
    tensor = quantize(MODEL, calibration, "fpga").output_tensors[0]
    common = ("quantize", MODEL, "--data", made, "--target", "fpga", "-o", tmp_path / "d.bw", "--json")
    answer = line(*common, "--format", f"{tensor}=int8*2^1")
    assert answer.code == 0, answer
    assert answer.json["formats_given"] == {tensor: "int8*2^1"}
    assert str(formats(Quantized.load(tmp_path / "d.bw"))[tensor]) == "int8·2^1"
    assert "Set by hand" in line(*common[:-1], "--format", f"{tensor}=int8*2^1").out
    for wrong in ("nothing", "=int8·2^1", f"{tensor}="):
        assert "not of the form" in line(*common, "--format", wrong).err
    assert "twice" in line(*common, "--format", f"{tensor}=int8*2^1", "--format", f"{tensor}=int8*2^2").err
    assert line(*common, "--format", f"{tensor}=int4*2^1").code == 2
