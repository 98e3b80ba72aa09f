"""``bitwright check``: whether a report keeps what it must, for continuous integration."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bitwright.commands import options, screen
from bitwright.commands.failures import Missed

if TYPE_CHECKING:
    from bitwright.view.gate import Judgement, Threshold

SHARES = {"top1", "top5", "agreement", "map50", "miou", "auc"}


@click.command(short_help="Fail if a report misses thresholds, for CI.")
@click.argument("report", metavar="REPORT.html", type=click.Path(path_type=Path))
@click.option("--min-sqnr", type=float, metavar="DB", help="Least output signal to noise, in decibel.")
@click.option("--min-top1", type=float, metavar="SHARE", help="Least top-1, 0 to 1.")
@click.option("--min-agreement", type=float, metavar="SHARE", help="Least share of equal decisions, 0 to 1.")
@click.option("--max-drop", type=float, metavar="POINTS", help="Most points of a hundred that the metric may lose.")
@click.option("--min-integers", type=float, metavar="SHARE", help="Least share of multiply-accumulates in integers.")
@click.option("--min", "least", multiple=True, metavar="NAME=VALUE", help="Least value of any measured figure.")
@click.option("--max", "most", multiple=True, metavar="NAME=VALUE", help="Most of a figure where less is better.")
@options.as_json
def check(
    report: Path,
    *,
    min_sqnr: float | None,
    min_top1: float | None,
    min_agreement: float | None,
    max_drop: float | None,
    min_integers: float | None,
    least: tuple[str, ...],
    most: tuple[str, ...],
    as_json: bool,
) -> None:
    """Compare the figures in REPORT.html (bitwright report --data) with thresholds; the exit code is 1 if one is missed."""
    from bitwright.view.gate import Threshold, judge
    from bitwright.view.report import read_page

    named = {"sqnr": min_sqnr, "top1": min_top1, "agreement": min_agreement, "integers": min_integers}
    wanted = [Threshold(figure=name, limit=value) for name, value in named.items() if value is not None]
    if max_drop is not None:
        wanted.append(Threshold(figure="drop", limit=max_drop, least=False))
    wanted += [parsed(text, "--min", least=True) for text in least]
    wanted += [parsed(text, "--max", least=False) for text in most]
    if not wanted:
        raise click.UsageError("Give at least one threshold, such as --min-sqnr 25 or --min-top1 0.6.")
    for one in wanted:
        if not math.isfinite(one.limit):
            raise click.UsageError("A threshold must be a number.")
        if one.figure in SHARES | {"integers"} and one.limit > 1:
            raise click.UsageError(f"{one.figure} lies between 0 and 1: 60 % is 0.6.")
    found = judge(read_page(report), wanted)
    if as_json:
        screen.emit_json({"kept": all(one.kept for one in found), "thresholds": [one.to_json() for one in found]})
    else:
        show(found)
    missed = [one.text for one in found if not one.kept]
    if missed:
        raise Missed(f"{'; '.join(missed)}.")


def parsed(text: str, option: str, *, least: bool) -> Threshold:
    """``NAME=VALUE``.

    Raises:
        click.UsageError: if it is of another form.
    """
    from bitwright.view.gate import Threshold

    name, equals, value = text.partition("=")
    try:
        return Threshold(figure=name.strip(), limit=float(value) if equals else math.nan, least=least)
    except ValueError:
        raise click.UsageError(f"{option} {text!r} is not of the form NAME=VALUE, such as miou=0.5.") from None


def show(found: tuple[Judgement, ...]) -> None:
    """A line for each demand."""
    for one in found:
        sign = ("✓ ", "blue") if one.kept else ("✗ ", "bold red")
        screen.say(screen.line(sign, screen.safe(one.text, 200)))
