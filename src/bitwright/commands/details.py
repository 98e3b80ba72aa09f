"""``bitwright details``: what is in a .bw file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bitwright.commands import options, screen
from bitwright.commands.bits import short

if TYPE_CHECKING:
    from bitwright.detailing import Details
    from bitwright.quantized import Quantized


@click.command(short_help="Show what is in a .bw file: formats, learnables, findings.")
@click.argument("quantized", metavar="NAME.bw", type=click.Path(path_type=Path))
@click.option(
    "--worst",
    type=click.IntRange(min=0),
    default=6,
    show_default=True,
    metavar="N",
    help="Show the N tensors that lose most in their formats.",
)
@options.as_json
def details(quantized: Path, *, worst: int, as_json: bool) -> None:
    """Show the formats of NAME.bw, what stayed in float, and what is proven of its integers."""
    from bitwright.detailing import details as read
    from bitwright.quantized import Quantized

    q = Quantized.load(quantized)
    found = read(q)
    if as_json:
        screen.emit_json(found.to_json())
    else:
        show(q, found, worst)


def show(q: Quantized, found: Details, worst: int) -> None:
    """The report for people."""
    before, after = found.learnable_bytes
    screen.say(screen.line((screen.safe(found.name), "bold"), (f"   in the integers of {found.target}", "dim")))
    screen.say()
    schemes = list(dict.fromkeys(found.schemes.values()))
    how = schemes[0] if len(schemes) == 1 else ", ".join(f"{role} {name}" for role, name in found.schemes.items())
    screen.fact("Formats", f"by {how}, from {screen.many(found.calibration_samples, 'sample')}")
    screen.fact(
        "Layers",
        f"{len(found.quantized_layers)} in integers",
        f", {len(found.float_layers)} in float" if found.float_layers else "",
        (f"   {100 * found.integer_mac_share:.1f} % of the multiply-accumulates in integers", "dim"),
    )
    screen.fact("Learnables", f"{screen.size(before)} → {screen.size(after)}")
    screen.say()
    layers(q, found)
    if worst:
        worst_tensors(q, worst)
    for row in found.float_layers:
        message = f"{screen.safe(row.layer)} ({screen.safe(row.op, 60)}) runs in float: {screen.safe(row.reason, 300)}"
        screen.say(
            screen.text(screen.paragraph(message, first="  ! ", indent="    ", width=screen.out().width), "yellow")
        )
    screen.say()
    for sentence in found.findings:
        wrapped = screen.paragraph(screen.safe(sentence, 600), first="  ", indent="    ", width=screen.out().width)
        screen.say(wrapped)
    screen.notes(found.notes)


def layers(q: Quantized, found: Details) -> None:
    """A row per layer: the formats of what it multiplies with and of what it makes."""
    weights = {(row.layer, row.parameter): row.format for row in found.quantized_learnables}
    accumulators: dict[str, int] = {}
    for row in found.accumulators:
        accumulators[row.layer] = max(row.bits, accumulators.get(row.layer, 0))
    made: dict[str, tuple[str, str]] = {}
    for step in q.program.steps:
        made[step.layer] = (step.op, str(q.program.buffers[step.outputs[-1]].format))
    screen.table(
        (
            screen.Column("Layer", shrinks=True),
            screen.Column("Operator", drop=2),
            screen.Column("Weights", style="cyan"),
            screen.Column("Bias", drop=3),
            screen.Column("Sum bits", right=True, drop=1),
            screen.Column("Output", style="cyan"),
        ),
        [
            [
                screen.safe(name),
                screen.safe(op, 24),
                short(weights.get((name, "Weights"), "")),
                short(weights.get((name, "Bias"), "")),
                accumulators.get(name, ""),
                short(output),
            ]
            for name, (op, output) in made.items()
        ],
    )
    screen.say()


def worst_tensors(q: Quantized, count: int) -> None:
    """The tensors with the lowest signal to noise, with the bits that they use."""
    from bitwright.commands.bits import tensor_table
    from bitwright.view.tensors import tensors_seen

    # What a bias loses counts beside the layer's output, not beside the bias, which may be next to nothing.
    known = [t for t in tensors_seen(q) if (t.sqnr_db is not None or t.lossless) and t.kind != "Bias"]
    known.sort(key=lambda t: math.inf if t.sqnr_db is None else t.sqnr_db)
    if known:
        tensor_table(known[:count], title="Lose most")
