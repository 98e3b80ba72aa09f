"""``bitwright validate``: what the integers cost, measured on the same samples as the float network."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bitwright.commands import catalog, options, screen
from bitwright.commands.failures import Missed

if TYPE_CHECKING:
    from bitwright.metrics.validation import Validation

LOWER_IS_BETTER = {"mse"}
SHARES = set(catalog.METRICS) - {"mse", "sqnr"}


@click.command(short_help="Measure float against integers, bit for bit what the device computes.")
@click.argument("quantized", metavar="NAME.bw", type=click.Path(path_type=Path))
@options.data()
@click.option(
    "--metric",
    metavar="M",
    help=f"{', '.join(catalog.METRICS)}, or module:function; by default the usual one of the network's task.",
)
@click.option("--decode", metavar="MODULE:FUNCTION", help="For map50: turns the outputs of one sample into boxes.")
@click.option("--min", "least", type=float, metavar="VALUE", help="Exit with 1 if the quantized figure is below.")
@click.option("--max", "most", type=float, metavar="VALUE", help="Exit with 1 if it is above (for mse).")
@options.samples
@options.board()
@options.core
@options.config
@options.port
@options.strict_timing
@options.patches
@click.option("--quiet", is_flag=True, help="No progress.")
@options.as_json
def validate(
    quantized: Path,
    data: str,
    *,
    metric: str | None,
    decode: str | None,
    least: float | None,
    most: float | None,
    samples: int | None,
    seed: int | None,
    skip_bad: bool,
    board: str | None,
    core: str | None,
    config: str | None,
    port: str | None,
    strict_timing: bool,
    patches: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Run the float network and the integers of NAME.bw over the same samples, and compare them.

    The first samples also go through the reference simulator, and every integer of every tensor is compared. With
    --board the integers are computed there, and every output of every sample is compared with the simulator's.
    """
    from bitwright.boards.registry import find_board
    from bitwright.quantized import Quantized
    from bitwright.validating import validate as run

    for option, value in (("--core", core), ("--config", config), ("--port", port), ("--patches", patches)):
        if value is not None and board is None:
            raise click.UsageError(f"{option} is for --board: without one the simulator computes the integers.")
    if strict_timing and board is None:
        raise click.UsageError("--strict-timing is for --board: without one there is no bitstream.")
    if board is not None:
        find_board(board)  # before anything takes time
    check_threshold(metric, least, most)
    q = Quantized.load(quantized)
    unit = "samples" if q.contract.layout == "raw" else "images"
    with screen.progress("Validating", unit, quiet=quiet) as progress:
        result = run(
            q,
            data,
            metric,
            samples=samples,
            seed=seed,
            skip_bad=skip_bad,
            decode=decode,
            board=board,
            core=core,
            config=config,
            port=port,
            strict_timing=strict_timing,
            patches=patches,
            progress=progress,
        )
    if as_json:
        screen.emit_json(result.to_json())
    else:
        show(result)
    if result.partial:
        from bitwright.commands.failures import Interrupted

        raise Interrupted(f"The figures above are of the first {screen.many(result.samples, 'sample')}.")
    threshold(result, least, most)


def check_threshold(metric: str | None, least: float | None, most: float | None) -> None:
    """Refuse thresholds that cannot be meant.

    Raises:
        click.UsageError: if one is no number, or the metric goes the other way.
    """
    for name, value in (("--min", least), ("--max", most)):
        if value is not None and math.isnan(value):
            raise click.UsageError(f"{name} must be a number.")
    if metric in LOWER_IS_BETTER and least is not None:
        raise click.UsageError(f"The lower {metric} is, the better: give --max VALUE instead of --min.")
    if metric in SHARES and max(least or 0, most or 0) > 1:
        raise click.UsageError(f"The metric {metric} lies between 0 and 1: 60 % is 0.6.")


def threshold(result: Validation, least: float | None, most: float | None) -> None:
    """Compare with the thresholds.

    Raises:
        Missed: if one is missed.
        click.UsageError: as ``check_threshold``.
    """
    check_threshold(result.metric, least, most)  # the default metric is known only now
    got = result.quantized
    if least is not None and not got >= least:
        raise Missed(f"{result.metric} is {got:.4g}, less than --min {least:.4g}.")
    if most is not None and not got <= most:
        raise Missed(f"{result.metric} is {got:.4g}, more than --max {most:.4g}.")


def show(result: Validation) -> None:
    """The report for people."""
    from bitwright.metrics.verdict import Kind

    styles = {Kind.COLLAPSE: "bold red", Kind.LOSS: "yellow", Kind.GAIN: "green", Kind.SAME: "blue", Kind.NOISE: "blue"}
    title, *rest = result.lines()
    screen.say(screen.text(title, "bold"))
    for item in rest:
        words = item.strip()
        if words.startswith("→ "):
            style = styles.get(result.verdict.kind, "")
            wrapped = screen.paragraph(words, first="  ", indent="    ", width=screen.out().width)
            screen.say(screen.text(wrapped, style))
        elif words.startswith("note: "):
            screen.notes([words.removeprefix("note: ")])
        else:
            style = "bold red" if words.startswith("bit-exact") and result.mismatches else ""
            wrapped = screen.paragraph(words, first="  ", indent=" " * 14, width=screen.out().width)
            screen.say(screen.text(wrapped, style))
