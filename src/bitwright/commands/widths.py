"""``bitwright widths``: which layers want more bits, and which can do with fewer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bitwright.commands import options, screen

if TYPE_CHECKING:
    from bitwright.mend.widths import Point, Width


@click.command()
@options.model_argument
@options.data()
@click.option("--target", metavar="T", default="generic", show_default=True, help="A target or its .toml file.")
@click.option("--weights", metavar="BITS", default="6,4", show_default=True, help="Widths to try for weights.")
@click.option("--activations", metavar="BITS", default="16", show_default=True, help="Widths to try for activations.")
@click.option("--time", "seconds", metavar="T", default="5m", show_default=True, help="Time for measuring.")
@options.samples
@options.network
@click.option("--quiet", is_flag=True, help="No progress.")
@options.as_json
def widths(
    model: Path,
    data: str,
    *,
    target: str,
    weights: str,
    activations: str,
    seconds: str,
    samples: int | None,
    seed: int | None,
    skip_bad: bool,
    input_spec: Path | None,
    shapes: tuple[str, ...],
    quiet: bool,
    as_json: bool,
) -> None:
    """Rank the tensors of MODEL by what other widths gain or cost, and list the combinations worth having.

    Each line is measured in the integers of the target.  The rule behind a line makes it permanent in a target file.
    """
    from bitwright.api import load, role_schemes, target_of
    from bitwright.commands.quantize import parse_seconds
    from bitwright.mend.entry import trade_widths

    chosen = target_of(target)
    sizes = [_bits(text, option) for option, text in (("--weights", weights), ("--activations", activations))]
    budget = parse_seconds(seconds)
    loaded = load(model, input_spec=input_spec, shapes=options.parse_shapes(shapes))
    with screen.progress("Measuring", "percent", quiet=quiet) as progress:

        def report(text: str, share: float) -> None:
            if progress is not None:
                progress(round(100 * share), 100, text)

        ranked, points = trade_widths(
            loaded, data, chosen, role_schemes(chosen).made, weights=sizes[0], activations=sizes[1],
            samples=samples, seed=seed, skip_bad=skip_bad, seconds=budget, progress=report,
        )  # fmt: skip
    if as_json:
        screen.emit_json(
            {"ranked": [w.to_json() | {"rule": w.rule} for w in ranked], "front": [p.to_json() for p in points]}
        )
    else:
        show(ranked, points)


def _bits(text: str, option: str) -> tuple[int, ...]:
    try:
        found = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        found = (0,)
    if any(not 2 <= bits <= 16 for bits in found):
        raise click.UsageError(f"{option} {text}: numbers of bits from 2 to 16 are wanted, such as 6,4.")
    return found


def show(ranked: list[Width], points: list[Point]) -> None:
    """Two tables: each tensor by itself, and combinations."""
    screen.table(
        (
            screen.Column("Tensor", shrinks=True),
            screen.Column("Role"),
            screen.Column("Bits", right=True),
            screen.Column("Gain dB", right=True),
            screen.Column("± dB", right=True, drop=1),
            screen.Column("Bytes", right=True),
            screen.Column("Work", right=True, drop=2),
        ),
        [
            [w.name, w.role, w.bits, f"{w.gain:+.2f}", f"{w.error:.2f}", f"{w.bytes:+,.0f}", f"{w.work:+,.0f}"]
            for w in ranked
        ],
    )
    screen.say("")
    screen.table(
        (
            screen.Column("Together", shrinks=True),
            screen.Column("Gain dB", right=True),
            screen.Column("Bytes", right=True),
            screen.Column("Work", right=True),
        ),
        [[_together(p), f"{p.gain:+.2f}", f"{p.bytes:,.0f}", f"{p.work:,.0f}"] for p in points],
    )


def _together(point: Point) -> str:
    if not point.widths:
        return "the target's own widths"
    counts: dict[str, int] = {}
    for width in point.widths:
        key = f"{width.role} at {width.bits} bits"
        counts[key] = counts.get(key, 0) + 1
    return ", ".join(f"{count} {key}" for key, count in counts.items())
