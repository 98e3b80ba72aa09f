"""``bitwright report``: everything there is to see of a .bw file, in one HTML file."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bitwright.commands import options, screen

if TYPE_CHECKING:
    from bitwright.view.report import Report


@click.command(short_help="Write one HTML file that shows a .bw file whole.")
@click.argument("quantized", metavar="NAME.bw", type=click.Path(path_type=Path))
@options.data(required=False)
@click.option("--metric", metavar="M", help="The metric for --data; by default what the network is for.")
@click.option("--decode", metavar="NAME", help="How a detector's outputs become boxes, for --data.")
@options.samples
@click.option("--explain", is_flag=True, help="Show why accuracy is lost and what would help, measured on --data.")
@click.option("--time", default="1m", show_default=True, metavar="T", help="Time for trying remedies, with --explain.")
@click.option(
    "--compare",
    "other",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Show another .bw file or report beside it.",
)
@click.option("--md", "as_markdown", is_flag=True, help="Print a summary in Markdown, for a pull request.")
@click.option(
    "--split", is_flag=True, help="Put style and script beside the file, for servers that refuse what is inline."
)
@options.output("NAME.html")
@click.option("--quiet", is_flag=True, help="No progress.")
@options.as_json
def report(
    quantized: Path,
    *,
    data: str | None,
    metric: str | None,
    decode: str | None,
    samples: int | None,
    seed: int | None,
    skip_bad: bool,
    explain: bool,
    time: str,
    other: Path | None,
    as_markdown: bool,
    split: bool,
    output: Path | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Write NAME.html: formats and where values lie in them, findings, layers, memory, and what it takes to do it again.

    It loads nothing, is complete without scripts, and equal networks give equal bytes.  With --data the network is
    validated too.  NAME may be a report as well: then --md and --json print what it holds, and nothing is written.
    """
    from bitwright.view.report import Report, is_report
    from bitwright.view.report import report as run

    if is_report(quantized):
        if data is not None or output is not None or other is not None or split:
            raise click.UsageError("A report is only printed again (--md, --json). Give the .bw file to write one.")
        show(Report.load(quantized), None, as_markdown=as_markdown or not as_json, as_json=as_json)
        return
    if data is None and any((metric, decode, samples, explain)):
        raise click.UsageError("--metric, --decode, --samples and --explain go with --data.")
    output = output or options.beside(quantized, ".html")
    options.check_output(output)
    given: dict[str, object] = {
        "--data": data,
        "--metric": metric,
        "--decode": decode,
        "--samples": samples,
        "--seed": seed,
    }
    given |= {"--skip-bad": skip_bad, "--explain": explain, "--time": time if explain else None, "--compare": other}
    found = None
    if explain:
        from bitwright.commands.quantize import parse_seconds
        from bitwright.explain.entry import explain as run_explain

        budget = parse_seconds(time)
        with screen.progress("Explaining", "", quiet=quiet) as progress:
            found = run_explain(
                quantized, data, metric=metric, decode=decode, samples=samples, seed=seed, seconds=budget, skip_bad=skip_bad,
                progress=progress,
            )  # fmt: skip
    with screen.progress("Validating", quiet=quiet or data is None) as progress:
        made = run(
            quantized, data=data, metric=metric, decode=decode, samples=samples, seed=seed, skip_bad=skip_bad,
            compare=other, explanation=found, command=command_line(quantized, given), progress=progress,
        )  # fmt: skip
    made.save(output, split=split)
    show(made, output, as_markdown=as_markdown, as_json=as_json)


def command_line(quantized: Path, given: Mapping[str, object]) -> str:
    """The command line, without what does not change the report: where it goes and what is printed."""
    words = ["bitwright", "report", str(quantized)]
    for name, value in given.items():
        if value is True:
            words.append(name)
        elif value is not None and value is not False:
            words += [name, str(value)]
    return shlex.join(words)


def show(made: Report, output: Path | None, *, as_markdown: bool, as_json: bool) -> None:
    """What is printed: Markdown, JSON, or where the file is."""
    if as_json:
        screen.emit_json(made.to_json())
    elif as_markdown:
        screen.out().print(made.markdown(), end="")
    elif output is not None:
        page = made.page
        size = screen.size(output.stat().st_size)
        screen.done(screen.many(len(page.tensors), "tensor"), f", {size}", saved=output)
        if page.verdict:
            screen.say(
                screen.text(screen.paragraph(page.verdict, first="  → ", indent="    ", width=screen.out().width))
            )
    if output is not None and as_markdown:
        screen.remark((f"saved {screen.safe(output, 1000)}", "dim"))
