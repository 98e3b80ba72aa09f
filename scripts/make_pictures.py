"""Draws the pictures of the documentation: real output of real commands, as SVG.

    python scripts/make_pictures.py

Run it again when what the commands print has changed; a test compares the figures in the pictures with today's.
"""

from __future__ import annotations

import io
import os
import re
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "pictures"
WIDTH = 100

# The first commands prepare what the last ones, which are drawn, need.
PREPARED = ("quantize digits.onnx --data digits-calib.npz --target fpga -o fpga.bw --quiet",)
DRAWN = (
    "validate fpga.bw --data digits-val.npz --quiet",
    "quantize digits.onnx --data digits-calib.npz --target fpga --mend equalize -o mended.bw --quiet",
    "validate mended.bw --data digits-val.npz --quiet",
)


def draw(path: Path) -> None:
    """Run the commands and write what they print to an SVG file."""
    from rich.console import Console
    from rich.terminal_theme import MONOKAI

    from bitwright.cli import run
    from bitwright.commands import screen

    def console(*, record: bool) -> Console:
        return Console(
            file=io.StringIO(),
            record=record,
            width=WIDTH,
            force_terminal=True,
            color_system="truecolor",
            highlight=False,
            markup=False,
            emoji=False,
            legacy_windows=False,
        )

    drawn = console(record=True)
    for commands, out in ((PREPARED, console(record=False)), (DRAWN, drawn)):
        screen.out = lambda out=out: out  # type: ignore[assignment,misc]
        for at, command in enumerate(commands):
            if at:
                screen.say()
            screen.say(screen.line(("$ ", "dim"), (f"bitwright {command}", "bold cyan")))
            if run(command.split()):
                sys.exit(f"bitwright {command} failed")
    svg = drawn.export_svg(title="bitwright", theme=MONOKAI, unique_id="bitwright")
    # A picture loads nothing from elsewhere: the reader's own monospaced font will do.
    path.write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL), "utf-8")


def main() -> None:
    """Draw all pictures."""
    sys.path.insert(0, str(ROOT / "src"))
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for file in (ROOT / "src/bitwright/demo").iterdir():
            (Path(folder) / file.name).write_bytes(file.read_bytes())
        os.chdir(folder)
        draw(FOLDER / "validate.svg")
    print(FOLDER / "validate.svg")


if __name__ == "__main__":
    main()
