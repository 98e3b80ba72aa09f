"""``bitwright app``: look at a network and work on it in the browser."""

from __future__ import annotations

from pathlib import Path

import click

from bitwright.commands import screen


@click.command(short_help="Look at a network and work on it in the browser.")
@click.argument("item", metavar="[MODEL | NAME.bw]", required=False, type=click.Path(path_type=Path))
@click.option("--target", metavar="T", help="The target for MODEL.")
@click.option("--data", metavar="D", help="Samples to calibrate MODEL with.")
@click.option("--val", "judge", metavar="D", help="Samples to validate with.")
@click.option(
    "--port", type=click.IntRange(0, 65535), metavar="N", help="The port; by default the first free one from 8750."
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where sessions are kept; by default ~/.local/state/bitwright/sessions.",
)
@click.option("--no-browser", is_flag=True, help="Only print the address.")
def app(
    item: Path | None,
    *,
    target: str | None,
    data: str | None,
    judge: str | None,
    port: int | None,
    folder: Path | None,
    no_browser: bool,
) -> None:
    """Open MODEL, a .bw file, or nothing yet, in a page that only this machine's browser can reach.

    The address holds a key and is printed; Ctrl-C ends the app. Everything stays on this machine. Sessions are kept and
    can be opened again.
    """
    from bitwright.app.server import require_tools, serve

    if item is None and (target or data or judge):
        raise click.UsageError("--target, --data and --val are for a MODEL: name it.")
    require_tools()

    def ready(address: str) -> None:
        screen.say(screen.text(address))
        screen.remark(("Ctrl-C ends the app", "dim"))
        if not no_browser:
            import webbrowser

            webbrowser.open(address)

    given = {name: value for name, value in (("target", target), ("data", data), ("judge", judge)) if value}
    serve("" if item is None else str(item), port=port, folder=folder, settings=given, ready=ready)
