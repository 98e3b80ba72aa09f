"""``bitwright deploy``: build a network for a board, run it there, compare every integer, count what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bitwright.commands import catalog, costs, options, screen

if TYPE_CHECKING:
    from bitwright.measured import Measured
    from bitwright.quantized import Quantized


@click.command(
    short_help="Run on a board: every integer compared, every instruction counted.",
    epilog=catalog.listing(catalog.board_titles(), "Boards:"),
)
@click.argument("quantized", metavar="NAME.bw", type=click.Path(path_type=Path))
@options.board(required=True)
@options.core
@click.option("--kernels", metavar="K", help="Whose kernels the C calls; by default bitwright's own.")
@click.option("--compiler", metavar="C", help="gcc or zig; gcc where it is installed. On host any compiler's command.")
@options.config
@options.frames
@options.port
@options.strict_timing
@options.patches
@options.clock
@options.data(required=False)
@click.option("--samples", type=click.IntRange(min=1), default=2, show_default=True, metavar="N", help="Run N samples.")
@click.option("--keep", type=click.Path(path_type=Path), metavar="DIR", help="Leave the files that were built here.")
@click.option("--no-prune", is_flag=True, help="Keep channels that are proven constant.")
@options.layers
@click.option("--quiet", is_flag=True, help="No progress.")
@options.as_json
def deploy(
    quantized: Path,
    *,
    board: str,
    core: str | None,
    kernels: str | None,
    compiler: str | None,
    config: str | None,
    frames: int | None,
    port: str | None,
    strict_timing: bool,
    patches: str | None,
    clock: float | None,
    data: str | None,
    samples: int,
    keep: Path | None,
    no_prune: bool,
    most: int,
    quiet: bool,
    as_json: bool,
) -> None:
    """Build NAME.bw for a board, run it there on samples, compare every integer of every step with the reference, and
    count what an inference costs, in all and layer by layer.

    Without --data the samples are random numbers over the range of the input, the same every time. Exits with 70 if an
    integer differs, which is a bug of bitwright.
    """
    from bitwright.boards.registry import find_board
    from bitwright.deploying import deploy as run
    from bitwright.quantized import Quantized

    find_board(board)  # before anything takes time
    q = Quantized.load(quantized)
    with screen.progress("Deploying", "samples", quiet=quiet) as progress:
        found = run(
            q,
            board,
            data=data,
            samples=samples,
            core=core,
            kernels=kernels,
            patches=patches,
            compiler=compiler,
            config=config,
            frames=frames,
            port=port,
            strict_timing=strict_timing,
            clock_mhz=clock,
            prune=not no_prune,
            directory=keep,
            progress=progress,
        )
    if as_json:
        screen.emit_json(found.to_json())
    else:
        show(found, q, most, keep)
    found.require_equal()


def show(found: Measured, q: Quantized, most: int, keep: Path | None) -> None:
    """The report for people."""
    head = screen.line((screen.safe(q.name), "bold"), " on ", (screen.safe(found.board), "bold cyan"))
    screen.say(screen.line(head, (f"   {screen.safe(found.toolchain)}", "dim")))
    screen.say()
    if found.mismatches:
        verdict = (f"{found.mismatches:,} of {found.outputs_checked:,} integers differ", "bold red")
    else:
        verdict = (f"all {found.outputs_checked:,} integers are those of the reference", "blue")
    screen.fact("Compared", verdict, (f"   {screen.many(found.samples, 'sample')}, every step", "dim"), indent=2)
    costs.show(found.cost, most=most, map_too=True)
    if keep is not None:
        screen.say(screen.text(f"saved {screen.safe(keep, 1000)}", "dim"))
