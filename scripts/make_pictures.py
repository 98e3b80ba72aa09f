"""Draws the pictures of the documentation: real output of real commands, as SVG, and real pages, as PNG.

    python scripts/make_pictures.py            # all of them; pages need Playwright and Chromium
    python scripts/make_pictures.py --text     # only what terminals show

Run it again when what the commands print has changed; a test compares the figures in the pictures with today's.
"""

from __future__ import annotations

import io
import os
import re
import shutil
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
# How strips look in a terminal.
STRIPS = ("details fpga.bw --worst 8",)
# The page that is photographed, and how: file, width, height, dark, printed.
REPORT = "report fpga.bw --data digits-val.npz --explain --time 60s -o report.html --quiet"
PHOTOS = (
    ("report.png", 1500, 950, False),
    ("report-dark.png", 1500, 950, True),
    ("report-narrow.png", 390, 844, False),
)
BROWSER = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


def draw(path: Path, prepared: tuple[str, ...], commands_drawn: tuple[str, ...]) -> None:
    """Run the commands and write what the latter print to an SVG file."""
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
    for commands, out in ((prepared, console(record=False)), (commands_drawn, drawn)):
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


def photograph(folder: Path) -> list[Path]:
    """Write a report and take pictures of it."""
    from PIL import Image
    from playwright.sync_api import sync_playwright

    from bitwright.cli import run

    if run(REPORT.split()):
        sys.exit(f"bitwright {REPORT} failed")
    made = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium") or "/usr/bin/chromium", args=list(BROWSER)
        )
        for name, width, height, dark in PHOTOS:
            page = browser.new_page(
                viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
            )
            page.goto((folder / "report.html").as_uri())
            page.screenshot(path=folder / name)
            page.close()
            # A page has few colors: a palette makes half of it.
            Image.open(folder / name).convert("RGB").quantize(256).save(FOLDER / name, optimize=True)
            made.append(FOLDER / name)
        browser.close()
    return made


def main() -> None:
    """Draw all pictures."""
    sys.path.insert(0, str(ROOT / "src"))
    FOLDER.mkdir(parents=True, exist_ok=True)
    made = [FOLDER / "validate.svg", FOLDER / "strips.svg"]
    with tempfile.TemporaryDirectory() as folder:
        for file in (ROOT / "src/bitwright/demo").iterdir():
            (Path(folder) / file.name).write_bytes(file.read_bytes())
        os.chdir(folder)
        draw(made[0], PREPARED, DRAWN)
        draw(made[1], PREPARED, STRIPS)
        if "--text" not in sys.argv:
            made += photograph(Path(folder))
            sys.path.insert(0, str(ROOT / "scripts"))
            from app_pictures import photograph_app

            made += photograph_app()
    for path in made:
        print(path)


if __name__ == "__main__":
    main()
