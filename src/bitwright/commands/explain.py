"""``bitwright explain``: where accuracy is lost, why, and what would bring it back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bitwright.commands import options, screen

if TYPE_CHECKING:
    from bitwright.explain.finding import Explanation, Finding, LayerLoss, Remedy

STYLES = {"severe": "bold red", "notable": "yellow", "minor": "dim"}
SIGNS = {"severe": "✗", "notable": "!", "minor": "·"}
MINOR = 3
WIDTH = 20


@click.command(short_help="Say where accuracy is lost, why, and what would bring it back.")
@click.argument("quantized", metavar="NAME.bw", type=click.Path(path_type=Path))
@options.data()
@click.option(
    "--metric", metavar="M", help="What is shown of both networks, as for validate; by default that of the task."
)
@click.option("--decode", metavar="MODULE:FUNCTION", help="For map50: turns the outputs of one sample into boxes.")
@options.samples
@click.option(
    "--time",
    "seconds",
    default="2m",
    show_default=True,
    metavar="T",
    help="Time for trying remedies: 90s, 5m, 1h; 0 tries none.",
)
@click.option(
    "--most", type=click.IntRange(min=0), default=12, show_default=True, metavar="N", help="Show N layers at most."
)
@click.option(
    "--remedy", type=click.Path(path_type=Path), metavar="FOLDER", help="Write files that remedies need there."
)
@click.option("--quiet", is_flag=True, help="No progress.")
@options.as_json
def explain(
    quantized: Path,
    data: str,
    *,
    metric: str | None,
    decode: str | None,
    samples: int | None,
    seed: int | None,
    skip_bad: bool,
    seconds: str,
    most: int,
    remedy: Path | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Take the error of NAME.bw apart by layer and cause, and try what would help.

    Give samples that calibration has not seen.  Layers and causes are measured by running the float network with one
    error at a time switched on.  Remedies are applied and measured before they are recommended.
    """
    from bitwright.commands.quantize import parse_seconds
    from bitwright.explain.entry import explain as run

    budget = 0.0 if seconds.strip().rstrip("smh") == "0" else parse_seconds(seconds)
    with screen.progress("Explaining", "", quiet=quiet) as progress:
        found = run(
            quantized, data, metric=metric, decode=decode, samples=samples, seed=seed, seconds=budget, skip_bad=skip_bad,
            progress=progress,
        )  # fmt: skip
    written = write_files(found, remedy) if remedy is not None else []
    if as_json:
        screen.emit_json(found.to_json())
        return
    show(found, most)
    show_tensors(quantized, found)
    for path in written:
        screen.remark(f"wrote {screen.safe(path)}")


def write_files(found: Explanation, folder: Path) -> list[Path]:
    """Write the target files and input contracts of all remedies."""
    folder.mkdir(parents=True, exist_ok=True)
    written: dict[Path, None] = {}
    for finding in found.findings:
        for one in (finding.remedy, *finding.others):
            if one is None or not (one.target_file or one.input_contract):
                continue
            name = str(one.options.get("target") or one.options.get("input_spec"))
            path = folder / Path(name).name
            part = path.with_name(f".{path.name}.part")
            part.write_text(one.target_file or one.input_contract, "utf-8")
            part.replace(path)
            written[path] = None
    return list(written)


def show(found: Explanation, most: int) -> None:
    """The report for people."""
    totals = found.totals
    screen.say(screen.line((f"{screen.safe(found.network)} on {found.target}", "bold")))
    facts = [] if totals.output_db is None else [f"outputs {decibel(totals.output_db)} dB"]
    if totals.agreement is not None:
        facts.append(f"{100 * totals.agreement:.1f} % same answers as the float network on {totals.judged} samples")
    if totals.quantized_metric is not None:
        figures = [x for x in (totals.float_metric, totals.quantized_metric) if x is not None]
        facts.append(f"{screen.safe(totals.metric)} {' → '.join(figure(x, totals.metric_unit) for x in figures)}")
    screen.say(screen.paragraph("; ".join(facts), first="  ", indent="  ", width=screen.out().width))
    screen.say()
    grave = [one for one in found.findings if one.severity != "minor"]
    shown = [*grave, *[one for one in found.findings if one.severity == "minor"][: max(0, MINOR - len(grave))]]
    if not grave:
        screen.say(screen.line(("✓ ", "blue"), "Nothing is wrong: what follows is what these bits cost anyway."))
        screen.say()
    for finding in shown:
        show_finding(finding)
    if len(found.findings) > len(shown):
        screen.say(
            screen.text(f"  and {screen.many(len(found.findings) - len(shown), 'minor finding')} (--json)", "dim")
        )
        screen.say()
    show_causes(found)
    show_layers(found, most)
    screen.notes(found.notes)


def figure(value: float, unit: str) -> str:
    """A figure of a metric."""
    if unit in ("proportion", "share"):
        return f"{100 * value:.1f} %"
    return decibel(value) + " dB" if unit == "dB" else f"{value:.4g}"


def show_tensors(quantized: Path, found: Explanation) -> None:
    """The tensors that findings are about, with the bits that they use."""
    from bitwright.commands.bits import tensor_table
    from bitwright.quantized import Quantized
    from bitwright.view.look import concerned
    from bitwright.view.tensors import tensors_seen

    names = list(dict.fromkeys(concerned(one) for one in found.findings if one.severity != "minor"))
    seen = {tensor.name: tensor for tensor in tensors_seen(Quantized.load(quantized))} if names else {}
    shown = [seen[name] for name in names if name in seen]
    if shown:
        screen.say()
        tensor_table(shown, title="Tensors in question")


def show_finding(finding: Finding) -> None:
    """One finding with its remedy."""
    style = STYLES[finding.severity]
    screen.say(
        screen.line((f"{SIGNS[finding.severity]} {finding.rank}. {finding.cause}", style), f"  {place(finding)}")
    )
    screen.say(screen.paragraph(screen.safe(finding.sentence, 2000), first="     ", indent="     ", width=room()))
    if finding.remedy is not None:
        show_remedy(finding.remedy)
    screen.say()


def show_remedy(remedy: Remedy) -> None:
    """What to do."""
    words = screen.paragraph(screen.safe(remedy.sentence, 600), first="   → ", indent="     ", width=room())
    screen.say(screen.text(words, "green" if remedy.gain is not None else ""))
    if remedy.command:
        screen.say(screen.text(f"     {screen.safe(remedy.command, 400)}", "cyan"))
    if remedy.target_file or remedy.input_contract:
        name = remedy.options.get("target") or remedy.options.get("input_spec")
        screen.say(screen.text(f"     (--remedy FOLDER writes {screen.safe(name)})", "dim"))


def place(finding: Finding) -> str:
    """Where it is."""
    if not finding.layer:
        return ""
    channel = f", channel {finding.channel}" if finding.channel is not None else ""
    return f"{screen.safe(finding.layer, 60)}{channel}"


def room() -> int:
    """Width for sentences."""
    return min(screen.out().width, screen.TEXT_WIDTH)


def show_causes(found: Explanation) -> None:
    """Every cause by its noise at the outputs."""
    rows: list[list[Any]] = [
        [
            str(row.cause),
            screen.text("█" * max(1, round(WIDTH * row.share)) if row.share > 0.004 else "", "blue"),
            f"{100 * row.share:.1f} %",
            decibel(row.alone_db),
            decibel(row.without_db),
        ]
        for row in found.causes
    ]
    if not rows:
        return
    screen.table(
        (
            screen.Column("Cause"),
            screen.Column("Noise at the outputs"),
            screen.Column("Share", right=True),
            screen.Column("Alone dB", right=True),
            screen.Column("Without dB", right=True, drop=1),
        ),
        rows,
    )
    screen.say()


def show_layers(found: Explanation, most: int) -> None:
    """The layers that cost most, in order of execution."""
    worst = sorted(found.layers, key=lambda row: -(row.output_share or 0.0))[:most]
    chosen = [row for row in found.layers if row in worst]
    if not chosen:
        return
    screen.table(
        (
            screen.Column("Layer", shrinks=True),
            screen.Column("Op", drop=3),
            screen.Column("Format", style="cyan", drop=2),
            screen.Column("Adds dB", right=True),
            screen.Column("Arrives dB", right=True, drop=1),
            screen.Column("Leaves dB", right=True),
            screen.Column("Alone dB", right=True),
            screen.Column("Share", right=True),
            screen.Column("Mostly", drop=1),
        ),
        [layer_cells(row) for row in chosen],
    )
    if len(found.layers) > len(chosen):
        screen.say(
            screen.text(f" {screen.many(len(found.layers) - len(chosen), 'more layer')}; --most shows more", "dim")
        )


def layer_cells(row: LayerLoss) -> list[Any]:
    """One line of the table."""
    share = row.output_share or 0.0
    style = "bold red" if share >= 0.3 else "yellow" if share >= 0.1 else ""
    return [
        screen.safe(row.layer),
        row.op,
        row.format if len(row.format) <= 20 else f"int{row.format[3:5]}…",
        decibel(row.injected_db),
        decibel(row.arriving_db),
        decibel(row.cumulative_db),
        decibel(row.output_db),
        screen.text(f"{100 * share:.1f} %", style),
        str(next(iter(row.causes), "")),
    ]


def decibel(value: float | None) -> str:
    """With one digit; infinite where there is no error."""
    return "" if value is None else "∞" if value == float("inf") else f"{value:.1f}"
