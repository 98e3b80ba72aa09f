"""Multipliers, logic, registers and memory blocks that a configuration takes of an FPGA.

Memory is counted from the buffers' shapes and the shapes that a block can have.  Bits of registers are a sum of a few
quantities, fitted to hardware descriptions of many configurations; logic and registers of a device are in proportion to
that, by runs of Yosys.  All points, versions and factors are in ``resources.json``, which
``scripts/fit_processor_resources.py`` writes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bitwright.fpga.config import Multiplier, ProcessorConfig

DATA = Path(__file__).parent / "resources.json"

FAMILIES: Mapping[Multiplier, str] = {
    "ecp5": "ECP5",
    "ecp5-pack2": "ECP5",
    "ice40-mac16": "iCE40",
    "infer": "7 series",
}
"""For which devices a multiplier is made; plain ones are counted as those of a Xilinx 7 series."""

SHAPES: Mapping[str, tuple[tuple[int, int], ...]] = {
    "ECP5": ((36, 512), (18, 1024), (9, 2048), (4, 4096), (2, 8192), (1, 16384)),
    "iCE40": ((16, 256), (8, 512), (4, 1024), (2, 2048)),
    "7 series": ((36, 512), (18, 1024), (9, 2048), (4, 4096), (2, 8192), (1, 16384)),
}
"""``(bits, words)`` that one memory block can be: DP16KD, SB_RAM40, half of a RAMB36."""

SMALLEST_BLOCK_BITS = 2048
"""Less than this is made of logic."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a configuration takes.

    Attributes:
        family: Of which devices.
        dsp: Multiplier blocks.
        lut: Lookup tables, those of carry chains included.
        ff: Registers.
        bram: Memory blocks.
        ram_bytes: Bytes of its buffers.
        error: For ``lut``, ``ff`` and ``bram`` the largest error at a synthesized configuration, of a fit without it; 0.1 for
            10 %.
    """

    family: str
    dsp: int
    lut: int
    ff: int
    bram: int
    ram_bytes: int
    error: Mapping[str, float]


def memories(config: ProcessorConfig) -> list[tuple[int, int, int]]:
    """Memories of a configuration: ``(how many, bits of a word, words)``."""
    m, icp = config.memory, 8 * config.icp
    columns = config.granules_per_word
    found = [
        (config.pp, icp, m.act),
        (config.pp * columns, icp // columns, m.mid),
        (config.pp * columns, icp // columns, m.out),
        (config.ocp, icp, m.weight),
        (4 * config.ocp // config.icp, icp, m.bias),
        (2 * config.row_entry_words, icp, m.rows),
    ]
    if config.units.multiply:
        found += [(1, icp, m.vector_weight), (4, icp, m.vector_bias)]
    if config.units.table:
        found.append((config.pp * config.icp, 8, 256))
    return found


def blocks(config: ProcessorConfig, family: str) -> int:
    """Memory blocks, each memory in the shape that takes the fewest."""
    total = 0
    for count, bits, words in memories(config):
        if bits * words >= SMALLEST_BLOCK_BITS:
            total += count * min(-(-bits // w) * -(-words // d) for w, d in SHAPES[family])
    return total


def ram_bytes(config: ProcessorConfig) -> int:
    """Bytes of all buffers."""
    return sum(count * bits * words for count, bits, words in memories(config)) // 8


def quantities(config: ProcessorConfig) -> list[float]:
    """What the bits of registers are a sum of: for each a factor is fitted."""
    lanes, kinds = config.pp * config.icp, ("infer", "ecp5-pack2", "ice40-mac16")
    kind = "infer" if config.multiplier == "ecp5" else config.multiplier
    parts = [
        1.0,
        config.control == "fast",
        *(config.macs * (kind == one) for one in kinds),
        config.pp * config.ocp,
        lanes,
        lanes * config.units.multiply,
        lanes * config.units.scale,
        lanes * config.units.table,
    ]
    return [float(part) for part in parts]


def dsp(config: ProcessorConfig) -> int:
    """Multiplier blocks: of the array, and of lanes that multiply; a sum of 32 bits times 18 takes four."""
    pairs = config.multiplier in ("ecp5-pack2", "ice40-mac16")
    lanes = config.pp * config.icp
    array = lanes * (-(-config.ocp // 2) if pairs else config.ocp)
    return array + lanes * config.units.multiply + 4 * lanes * config.units.scale


@cache
def _data() -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(DATA.read_text("utf-8"))
    return found


def resources(config: ProcessorConfig) -> Resources:
    """What a configuration takes of an FPGA, by the fitted model."""
    family, fit = FAMILIES[config.multiplier], _data()["fit"]
    bits = sum(f * q for f, q in zip(fit["registers"]["factors"], quantities(config), strict=True))
    lut, ff = (round(bits * fit[name]["families"].get(family, fit[name]["all"])) for name in ("lut", "ff"))
    return Resources(
        family=family,
        dsp=dsp(config),
        lut=lut,
        ff=ff,
        bram=blocks(config, family),
        ram_bytes=ram_bytes(config),
        error={name: float(fit[name]["largest_error"]) for name in ("lut", "ff", "bram")},
    )


def in_words(found: Resources) -> str:
    """Where the figures come from, and how good they are."""
    errors = ", ".join(f"{name.upper()} {100 * found.error[name]:.0f} %" for name in ("lut", "ff", "bram"))
    data = _data()
    known = found.family in data["fit"]["lut"]["families"]
    unknown = "" if known else f"; none of them for {found.family}, so that LUT and FF are those of other families"
    return (
        f"of {found.family}; fitted to {len(data['points'])} runs of Yosys {data['yosys']} with up to "
        f"{data['fit']['multipliers']['largest']} multipliers{unknown}; a fit without it missed a run by at most: {errors}"
    )
