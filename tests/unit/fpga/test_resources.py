"""The resource model: memories that the hardware has, factors that the points give."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from math import prod
from pathlib import Path

import pytest

from bitwright.fpga.config import list_configs, load_config
from bitwright.fpga.resources import DATA, FAMILIES, memories, quantities, resources
from bitwright.fpga.sim.build import rtlil

sys.path.insert(0, str(Path(__file__).parents[3] / "scripts"))

import fit_processor_resources as fitting


@pytest.mark.parametrize("name", ["up5k", "ecp5-25f"])
def test_memories_are_those_of_the_hardware(name: str) -> None:
    """All large memories, and no others; what waits in queues is small."""
    config = load_config(name)
    found = [(int(w), int(n)) for w, n in re.findall(r"memory width (\d+) size (\d+)", rtlil(config))]
    counted = sum(count * bits * words for count, bits, words in memories(config))
    real = sum(prod(shape) for shape in found)
    assert counted == pytest.approx(real, rel=0.15)


@pytest.mark.parametrize("name", list_configs())
def test_every_configuration_has_resources(name: str) -> None:
    found = resources(load_config(name))
    assert found.family in FAMILIES.values()
    assert min(found.dsp, found.lut, found.ff, found.bram) > 0
    assert found.ram_bytes == sum(c * b * w for c, b, w in memories(load_config(name))) // 8


def test_more_of_anything_takes_no_less() -> None:
    config = load_config("sim-tiny")
    small = resources(config)
    for other in (replace(config, pp=4), replace(config, memory=replace(config.memory, act=8192))):
        large = resources(other)
        assert large.lut >= small.lut
        assert large.bram >= small.bram
        assert large.ram_bytes > small.ram_bytes


def test_factors_are_those_that_the_points_give() -> None:
    data = json.loads(DATA.read_text("utf-8"))
    assert len(data["structures"]) >= 10
    assert len(data["points"]) >= 3
    assert fitting.fit(data["points"], data["structures"]) == data["fit"]
    for point in data["points"]:
        config = fitting.variant(point)
        found, real = resources(config), point["measured"]
        assert found.dsp == real["dsp"]
        for name in ("lut", "ff", "bram"):
            assert getattr(found, name) == pytest.approx(real[name], rel=max(found.error[name], 0.1) + 0.01)


def test_registers_are_those_of_the_hardware() -> None:
    data = json.loads(DATA.read_text("utf-8"))
    config = load_config("up5k")
    factors = data["fit"]["registers"]["factors"]
    bits = sum(f * q for f, q in zip(factors, quantities(config), strict=True))
    assert fitting.registers(config) == pytest.approx(bits, rel=0.15)
