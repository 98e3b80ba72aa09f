"""Configurations and instructions."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitwright.errors import BadTargetFile, UnknownTarget
from bitwright.fpga.config import FOLDER, list_configs, load_config
from bitwright.fpga.isa import FIELDS, HEADER, KINDS, Instruction, Unit, assemble, decode, disassemble, encode


@pytest.mark.parametrize("name", list_configs())
def test_configurations_load_and_have_fingerprints_of_their_own(name: str) -> None:
    config = load_config(name)
    assert config.name == name
    assert load_config(FOLDER / f"{name}.toml") == config
    assert replace(config, name="x", summary="y", clock_hz=1).fingerprint == config.fingerprint
    assert replace(config, queue=config.queue * 2).fingerprint != config.fingerprint
    assert len({load_config(n).fingerprint for n in list_configs()}) == len(list_configs())


def test_parity_with_the_closed_processor() -> None:
    assert load_config("dlp576").macs == 576
    assert load_config("dlp576").bus.bytes == 16


def test_an_unknown_configuration_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownTarget, match="ecp5-85f") as caught:
        load_config("ecp5-85")
    assert "ecp5-85f" in caught.value.nearest
    with pytest.raises(BadTargetFile, match="cannot be read"):
        load_config(tmp_path / "none.toml")
    text = (FOLDER / "sim-tiny.toml").read_text()
    for old, new, match in (
        ("icp = 4", "icp = 6", "power of two"),
        ("ocp = 4", "ocp = 8", "fit one word"),
        ("act = 4096", "act = 1", "memory.act"),
        ("pp = 3", "rows = 3", "rows"),
    ):
        bad = tmp_path / "bad.toml"
        bad.write_text(text.replace(old, new))
        with pytest.raises(BadTargetFile, match=match):
            load_config(bad)


@st.composite
def instructions(draw: st.DrawFn) -> Instruction:
    unit = draw(st.sampled_from(list(Unit)))
    values = {}
    for field in (*HEADER, *FIELDS[unit]):
        lo, hi = (-(1 << field.bits - 1), (1 << field.bits - 1) - 1) if field.signed else (0, (1 << field.bits) - 1)
        values[field.name] = draw(st.integers(lo, hi))
    del values["unit"]
    return KINDS[unit](**values)


@given(st.lists(instructions(), max_size=4))
def test_instructions_survive_their_bytes(program: list[Instruction]) -> None:
    assert disassemble(assemble(program)) == program
    for instruction in program:
        assert len(encode(instruction)) == 64
        assert {f.name for f in (*HEADER, *FIELDS[instruction.unit])} - {"unit"} == set(asdict(instruction))


def test_what_is_no_instruction_is_refused() -> None:
    with pytest.raises(ValueError, match="queue"):
        decode(b"\x0f" + bytes(63))
    with pytest.raises(ValueError, match="bits are set"):
        decode(b"\0" * 63 + b"\x80")
    with pytest.raises(ValueError, match="whole number"):
        disassemble(bytes(65))
    conv = KINDS[Unit.STORE](
        address=1 << 33, pixel_stride=0, base=0, rows=0, xs=0, x_step=0, words=0, run_words=0, runs=0
    )
    with pytest.raises(OverflowError, match=r"STORE\.address"):
        encode(conv)
