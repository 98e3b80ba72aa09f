"""The search for configurations: its language, its bounds, what it writes and what it says when nothing fits."""

from __future__ import annotations

from pathlib import Path

import pytest

import fpga_programs
import zoo_programs
from bitwright.errors import DoesNotFit, ExportError
from bitwright.estimating import estimate, fit
from bitwright.fpga.config import list_configs, load_config
from bitwright.fpga.cycles import timing
from bitwright.fpga.fitting import fewest_cycles, search, static_values, to_toml, variants
from bitwright.fpga.image import compile_program
from bitwright.fpga.wishes import QUANTITIES, Wish, parse


def test_bounds_are_read() -> None:
    assert parse("fps>=30, dsp<=128,LUT < 20k , latency_ms=1.5") == (
        Wish("fps", ">=", 30), Wish("dsp", "<=", 128), Wish("lut", "<", 20_000), Wish("latency_ms", "=", 1.5),
    )  # fmt: skip
    assert parse("ff<=1M")[0].value == 1_000_000
    assert Wish("fps", ">=", 30).miss(30) == 0
    assert Wish("fps", ">", 30).miss(30) > 0
    assert Wish("dsp", "<=", 10).miss(20) == pytest.approx(Wish("fps", ">=", 20).miss(10))


def test_what_is_no_bound_is_refused_with_what_there_is() -> None:
    with pytest.raises(ExportError, match=r"fsp.*Did you mean fps") as caught:
        parse("fsp>=30")
    assert all(name in str(caught.value) for name in QUANTITIES)
    for text in ("fps", "fps>=", ">=3", "fps>=x", "", "fps>=1 dsp<=2", "fps>=-1"):
        with pytest.raises(ExportError, match="is no bound"):
            parse(text)


def test_closed_form_is_never_above_the_cycle_model() -> None:
    for seed in range(4):
        program = fpga_programs.random_program(seed)
        for name in ("sim-tiny", "dlp576", "dlp512"):
            config = load_config(name)
            assert fewest_cycles(program, config) <= timing(compile_program(program, config)).cycles


@pytest.mark.parametrize("name", list_configs())
def test_configurations_survive_their_file(name: str, tmp_path: Path) -> None:
    config = load_config(name)
    path = tmp_path / "c.toml"
    path.write_text(to_toml(config))
    assert load_config(path) == config


def test_found_configurations_meet_their_bounds_and_are_what_estimate_says(tmp_path: Path) -> None:
    program = zoo_programs.quantized("fire", "fpga")
    found = fit(program, "fps>=2000, dsp<=200, ram_kib<=1000", config="dlp576")
    assert found.tried >= 100
    assert found.candidates
    for one in found.candidates:
        assert all(wish.miss(one.values[wish.quantity]) == 0 for wish in found.wishes)
    best = found.chosen
    assert best.best_of_both
    path = tmp_path / "best.toml"
    path.write_text(to_toml(best.config))
    cost = estimate(program, config=str(path))
    assert cost.frames_per_s == pytest.approx(best.values["fps"])
    assert cost.resources["dsp"] == best.values["dsp"]


def test_nothing_that_fits_says_what_is_missed() -> None:
    program = zoo_programs.quantized("fire", "fpga")
    with pytest.raises(DoesNotFit, match=r"The nearest is .* misses .*fps .*% away"):
        search(program, load_config("dlp576"), parse("fps>=100000000, dsp<=9"))


def test_clock_and_bandwidth_are_searched_where_they_are_named() -> None:
    base = load_config("dlp576")
    assert {c.bus.bytes for c in variants(base, parse("fps>=1"))} <= {16, 8, 4}
    assert {c.bus.bytes for c in variants(base, parse("bandwidth<=500"))} == {1, 2, 4, 8, 16}
    assert {c.clock_hz for c in variants(base, parse("clock_mhz=50"))} == {50_000_000}
    values = static_values(base)
    assert values["macs"] == 576
    assert values["bandwidth"] == 2400
