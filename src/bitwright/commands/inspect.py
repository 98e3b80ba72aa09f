"""``bitwright inspect``: what would become of a network on a target, without data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bitwright.commands import options, screen

if TYPE_CHECKING:
    from bitwright.inspection import Inspection
    from bitwright.layer_rows import LayerRow

BECOMES = {"integer": "", "table": "cyan", "float": "yellow", "unsupported": "bold red"}
SHOWN_FOLDS = 6


@click.command(short_help="Show what becomes of each layer on a target; needs no data.")
@options.model_argument
@click.option("--target", default="generic", show_default=True, metavar="T", help="A target or its .toml file.")
@click.option("--strict", is_flag=True, help="Exit with 3 if a layer has no integer form on the target.")
@options.network
@options.as_json
def inspect(
    model: Path, target: str, *, strict: bool, input_spec: Path | None, shapes: tuple[str, ...], as_json: bool
) -> None:
    """Show every layer of MODEL, an ONNX file: whether the target computes it in integers, and what it costs."""
    from bitwright.inspection import inspect as look

    found = look(model, target, strict=strict, input_spec=input_spec, shapes=options.parse_shapes(shapes))
    if as_json:
        screen.emit_json(found.to_json())
    else:
        show(found)
    if strict:
        found.require_integers()


def show(found: Inspection) -> None:
    """The report for people."""
    screen.say(screen.line((screen.safe(found.name), "bold"), (f"   on target {found.target}", "dim")))
    for word, shapes in (("input ", found.inputs), ("output", found.outputs)):
        for name, shape in shapes.items():
            screen.say(
                screen.line((f"  {word} ", "dim"), screen.safe(name), ("   " + screen.shape_text(shape), "cyan"))
            )
    screen.say()
    screen.table(
        (
            screen.Column("Layer", shrinks=True),
            screen.Column("Operator"),
            screen.Column("Becomes"),
            screen.Column("Output", right=True, drop=2),
            screen.Column("Parameters", right=True, drop=3),
            screen.Column("MACs", right=True, drop=1),
        ),
        [_cells(row) for row in found.layers],
    )
    screen.say()
    totals(found)
    folds(found)
    screen.notes(found.notes)


def _cells(row: LayerRow) -> list[Any]:
    output = screen.shape_text(row.outputs[0]) if row.outputs else ""
    return [
        screen.text(screen.safe(row.layer), BECOMES[row.becomes]),
        screen.safe(row.op, 30),
        screen.text(row.becomes, BECOMES[row.becomes]),
        output,
        screen.big(row.parameters) if row.parameters else "",
        screen.big(row.macs) if row.macs else "",
    ]


def totals(found: Inspection) -> None:
    """How many layers become what, and the sums."""
    counts = [
        f"{found.count(word)} {name}"
        for word, name in (("integer", "in integers"), ("table", "as tables"), ("float", "in float"))
        if found.count(word)
    ]
    stuck = found.count("unsupported")
    if stuck:
        counts.append(f"{stuck} unsupported")
    before, after = found.learnable_bytes
    share = 100 * found.integer_mac_share
    screen.fact("Layers", f"{len(found.layers)}: {', '.join(counts)}")
    screen.fact(
        "MACs",
        f"{screen.big(found.macs)} per sample, ",
        (f"{share:.1f} %", "" if found.integer_mac_share == 1 else "yellow"),
        " in integers",
    )
    screen.fact("Learnables", f"{screen.big(found.parameters)}: {screen.size(before)} → {screen.size(after)}")
    reasons: dict[str, list[str]] = {}
    for row in found.layers:
        if row.reason:
            reasons.setdefault(row.reason, []).append(row.layer)
    for reason, layers in reasons.items():
        names = ", ".join(screen.safe(name, 40) for name in layers[:3]) + (" …" if len(layers) > 3 else "")
        message = f"{screen.many(len(layers), 'layer')} not in integers: {screen.safe(reason, 300)} ({names})"
        screen.say(
            screen.text(screen.paragraph(message, first="  ! ", indent="    ", width=screen.out().width), "yellow")
        )


def folds(found: Inspection) -> None:
    """What folding cost in bits, the worst layers first."""
    from bitwright.passes.fold import sentence

    by_layer: dict[str, list[Any]] = {}
    for fold in found.folds:
        by_layer.setdefault(fold.layer, []).append(fold)
    if not by_layer:
        return
    costly = sorted(by_layer.values(), key=lambda group: -max(fold.bits_lost for fold in group))
    shown = [group for group in costly if max(fold.bits_lost for fold in group) > 0][:SHOWN_FOLDS]
    screen.say()
    names = dict.fromkeys(s for fold in found.folds for s in fold.sources)
    screen.fact(
        "Folding",
        f"{screen.many(len(names), 'node')} folded into the weights of {screen.many(len(by_layer), 'layer')}",
        "" if shown else "; no bits lost",
    )
    for group in shown:
        screen.say(
            screen.text(screen.paragraph(sentence(tuple(group)), first="  ", indent="    ", width=screen.out().width))
        )
    rest = sum(max(fold.bits_lost for fold in group) > 0 for group in costly) - len(shown)
    if rest > 0:
        screen.say(screen.text(f"  and {screen.many(rest, 'layer')} more; --json has all", "dim"))
