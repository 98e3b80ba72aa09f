"""Builds bitstreams of the open processor with strict timing, and a digits network's image beside each, ready to run.

What is left in ``build/bitstreams/BOARD``: the bitstream, the quantized network, its memory image (a raw file, and where it
begins), and a line that says how to run it.  The figures are printed as a table and left in ``figures.md``.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

import bitwright
from bitwright.errors import DoesNotFit, TimingMissed
from bitwright.fpga.bitstreams import board_bitstream
from bitwright.fpga.board import list_boards, load_board
from bitwright.fpga.config import load_config
from bitwright.fpga.image import compile_program
from bitwright.fpga.synthesis import Bitstream

USUAL = ("ulx3s-25f", "icebreaker")
DEMO = Path(bitwright.__file__).parent / "demo"
HEAD = ("board", "configuration", "multipliers", "clock", "reached", "LUT", "FF", "DSP", "RAM", "seed", "built in")


def digits(folder: Path) -> Path:
    """The demo's network, quantized for the processor."""
    found = folder / "digits-fpga.bw"
    quantized = bitwright.quantize(DEMO / "digits.onnx", DEMO / "digits-calib.npz", target="fpga")
    quantized.save(found)
    return found


def row(board: str, config: str, macs: int, made: Bitstream) -> tuple[str, ...]:
    """A line of the table."""
    worst = min(made.clocks, key=lambda c: c.reached_hz / c.wanted_hz)
    used = [f"{made.resources[n].used} of {made.resources[n].available}" for n in ("LUT", "FF", "DSP", "RAM")]
    return (board, config, str(macs), f"{worst.wanted_hz / 1e6:.2f} MHz", f"{worst.reached_hz / 1e6:.2f} MHz", *used,
            str(made.seed), f"{made.seconds:.0f} s")  # fmt: skip


def main(arguments: list[str]) -> int:
    """Build for the boards that are named, or the usual ones."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "boards", nargs="*", metavar="BOARD", help=f"of {', '.join(list_boards())}; usually {', '.join(USUAL)}"
    )
    parser.add_argument("--config", metavar="NAME", help="the processor's configuration; usually the board's own")
    parser.add_argument("--folder", type=Path, default=Path("build/bitstreams"))
    given = parser.parse_args(arguments)
    given.folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    rows: list[tuple[str, ...]] = []
    network = digits(given.folder)
    program = bitwright.Quantized.load(network).program
    failed: list[str] = []

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:4.0f} s] {text}", flush=True)

    for name in given.boards or USUAL:
        board = load_board(name)
        config = load_config(given.config or board.config)
        other = f" --config {config.name}" if config.name != board.config else ""
        try:
            made = board_bitstream(board, config, strict_timing=True, say=say)
        except (DoesNotFit, TimingMissed) as error:
            failed.append(f"{name}: {error}")
            say(failed[-1])
            continue
        image = compile_program(program, config)
        with tempfile.TemporaryDirectory(dir=given.folder) as temporary:
            folder = Path(temporary) / name
            folder.mkdir()
            shutil.copy(made.path, folder / made.path.name)
            shutil.copy(network, folder)
            (folder / "digits.image").write_bytes(image.memory.tobytes())
            (folder / "README.txt").write_text(
                f"{made.path.name}: {config.name}, fingerprint {config.fingerprint:#010x}; built, timing closed, simulated.\n"
                f"digits.image: {image.memory.size} bytes of external memory from {image.memory_offset:#x} on.\n"
                f"Run it: bitwright deploy digits-fpga.bw --board {name}{other}\n",
                "utf-8",
            )
            shutil.rmtree(given.folder / name, ignore_errors=True)
            folder.rename(given.folder / name)
        rows.append(row(name, config.name, config.macs, made))
    lines = ["| " + " | ".join(cells) + " |" for cells in (HEAD, ("---",) * len(HEAD), *rows)]
    (given.folder / "figures.md").write_text("\n".join(lines) + "\n", "utf-8")
    print("\n".join([*lines, *failed]))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
