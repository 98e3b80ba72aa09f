"""``bitwright compare``: two .bw files, tensor by tensor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bitwright.commands import options, screen

if TYPE_CHECKING:
    from bitwright.comparing import NetworkComparison, Side, TensorPair


@click.command(short_help="Compare two .bw files or reports, tensor by tensor.")
@click.argument("a", metavar="A", type=click.Path(path_type=Path))
@click.argument("b", metavar="[B]", type=click.Path(path_type=Path), required=False)
@click.option(
    "--profile", metavar="P", help="In place of B: A itself under other rounding rules, such as tflite-single."
)
@click.option("--flips", is_flag=True, help="Run both, and count the integers that differ, layer by layer.")
@options.data(required=False)
@click.option(
    "--samples", type=click.IntRange(min=1), default=8, show_default=True, metavar="N", help="Samples that are run."
)
@click.option(
    "--most", type=click.IntRange(min=0), default=15, show_default=True, metavar="N", help="Show N differences at most."
)
@options.as_json
def compare(
    a: Path,
    b: Path | None,
    *,
    profile: str | None,
    flips: bool,
    data: str | None,
    samples: int,
    most: int,
    as_json: bool,
) -> None:
    """Show where B stores tensors better or worse than A, the largest difference first, and say why.

    A and B are .bw files or reports (bitwright report).  With --data, every difference is weighed by what it costs at
    the outputs on those samples.  With --flips or --profile, samples of --data (random numbers without it) go through
    both, and integers that differ are counted, those that a layer flips itself, given the same inputs, and all of them.
    """
    from bitwright.commands.flips import show_flips
    from bitwright.commands.reasons import reasons, show_reasons
    from bitwright.comparing import compare as run
    from bitwright.flipping import flips as count

    if (b is None) == (profile is None):
        raise click.UsageError("Give two files, or one and --profile.")
    if b is None:
        flipped = count(a, profile=profile, data=data, samples=samples)
        if as_json:
            screen.emit_json({"flips": flipped.to_json()})
        else:
            show_flips(flipped, most)
        return
    if {a.suffix.lower(), b.suffix.lower()} & {".html", ".htm"}:
        from bitwright.view.against import compare_files

        found, why = compare_files(a, b), None
    else:
        found = run(a, b)
        why = reasons(a, b, found, data=None if flips else data, samples=samples)
    counted = count(a, b, data=data, samples=samples) if flips else None
    if as_json:
        more: dict[str, Any] = {} if counted is None else {"flips": counted.to_json()}
        more |= {} if why is None else {"why": why.to_json()}
        screen.emit_json({**found.to_json(), **more})
        return
    show(found, a, b, most)
    if why is not None:
        screen.say()
        show_reasons(why, most)
    if counted is not None:
        screen.say()
        show_flips(counted, most)


def show(found: NetworkComparison, a: Path, b: Path, most: int) -> None:
    """The report for people."""
    from bitwright.commands.bits import short

    sides(found, a, b)
    screen.say()
    shown = [pair for pair in found.tensors if not pair.same_format or abs(pair.gain_db or 0) > 0.05][:most]
    if shown:
        screen.table(
            (
                screen.Column("Tensor", shrinks=True),
                screen.Column("Kind", drop=2),
                screen.Column("Format A", style="cyan", drop=1),
                screen.Column("Format B", style="cyan", drop=1),
                screen.Column("A dB", right=True),
                screen.Column("B dB", right=True),
                screen.Column("B−A", right=True),
            ),
            [
                [
                    screen.safe(pair.a.tensor),
                    pair.a.kind,
                    short(pair.a.format),
                    short(pair.b.format),
                    _decibel(pair.a.sqnr_db),
                    _decibel(pair.b.sqnr_db),
                    _gain(pair),
                ]
                for pair in shown
            ],
        )
        screen.say()
    if not found.tensors:
        screen.notes(found.notes)
        return
    mean = found.mean_gain_db
    better = "" if mean is None else f"; B is {abs(mean):.1f} dB {'better' if mean >= 0 else 'worse'} on average"
    if not found.different:
        screen.say(screen.line(("✓ ", "blue"), f"all {len(found.tensors)} tensors have the same formats"))
    else:
        screen.say(f"{found.different} of {len(found.tensors)} tensors have other formats{better}")
    for side, names in (("A", found.only_a), ("B", found.only_b)):
        if names:
            listed = ", ".join(screen.safe(name, 40) for name in names[:4]) + (" …" if len(names) > 4 else "")
            screen.say(f"only in {side}: {listed}")
    screen.notes(found.notes)


def sides(found: NetworkComparison, a: Path, b: Path) -> None:
    """What is compared."""

    def cells(letter: str, path: Path, side: Side) -> list[Any]:
        return [
            screen.text(letter, "bold"),
            screen.safe(path),
            side.target,
            ", ".join(dict.fromkeys(side.schemes.values())),
            screen.size(side.learnable_bytes),
            f"{100 * side.integer_mac_share:.1f} %",
        ]

    screen.table(
        (
            screen.Column(""),
            screen.Column("File", shrinks=True),
            screen.Column("Target", style="cyan"),
            screen.Column("Schemes", drop=1),
            screen.Column("Learnables", right=True),
            screen.Column("Integers", right=True),
        ),
        [cells("A", a, found.a), cells("B", b, found.b)],
    )


def _decibel(value: float | None) -> str:
    return "" if value is None else "∞" if value == float("inf") else f"{value:.1f}"


def _gain(pair: TensorPair) -> Any:
    gain = pair.gain_db
    if gain is None:
        return ""
    return screen.text(f"{gain:+.1f}", "green" if gain > 0.05 else "yellow" if gain < -0.05 else "dim")
