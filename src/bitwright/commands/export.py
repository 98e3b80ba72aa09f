"""``bitwright export``: the quantized network in another form, and the proof that it is the same."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bitwright.commands import catalog, options, screen
from bitwright.export.registry import BUILT_IN

if TYPE_CHECKING:
    from bitwright.export.verify import Exported


MOST_LINES = 4  # files named on a line each


def format_summaries() -> dict[str, str]:
    """Format → its summary, of all exporters that come with bitwright; read off the files, so that nothing is loaded."""
    found = {}
    for module in sorted({where.partition(":")[0] for where in BUILT_IN.values()}):
        file = catalog.PACKAGE.joinpath(*module.split(".")[1:]).with_suffix(".py")
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Exporter":
                texts = {k.arg: k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)}
                found[str(texts["name"])] = str(texts["summary"])
    return {name: found[name] for name in BUILT_IN}


@click.command(
    short_help="Write the network for another runtime, and prove it.",
    epilog=catalog.listing(format_summaries(), "Formats:"),
)
@click.argument("quantized", metavar="NAME.bw", type=click.Path(path_type=Path))
@click.option("--to", required=True, metavar="FORMAT", help="One of the formats below, or one that a package adds.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="PATH",
    required=True,
    help="The file or folder to write.",
)
@click.option("--raw", is_flag=True, help="onnx-int: integers at inputs and outputs instead of real numbers.")
@click.option("--portable", is_flag=True, help="onnx-int: exact on every processor, at the speed of float.")
@click.option(
    "--core", metavar="CORE", help="c: the core that kernels are chosen for (cortex-m4, rv32imc, cortex-a53)."
)
@click.option("--kernels", metavar="K", help="c: own, or a library of yours that is called (cmsis-nn, cmsis-nn-q7).")
@options.patches
@click.option("--flash", metavar="BYTES", help="c: refuse what needs more flash, such as 256k.")
@click.option("--ram", metavar="BYTES", help="c: refuse what needs a larger arena.")
@click.option(
    "--config", metavar="C", help="rtl: the processor, a configuration or a file of yours (sim-tiny, dlp576)."
)
@click.option("--bus", metavar="BUS", help="rtl: axi4 or wishbone.")
@click.option("--option", "settings", multiple=True, metavar="NAME=VALUE", help="Another option of the format.")
@click.option("--verify", is_flag=True, help="Read the files back with another reader, compare, write a certificate.")
@options.data(required=False)
@click.option("--samples", type=click.IntRange(min=1), metavar="N", help="Samples for --verify; by default 8.")
@options.as_json
def export(
    quantized: Path,
    to: str,
    *,
    output: Path,
    raw: bool,
    portable: bool,
    core: str | None,
    kernels: str | None,
    patches: str | None,
    flash: str | None,
    ram: str | None,
    config: str | None,
    bus: str | None,
    settings: tuple[str, ...],
    verify: bool,
    data: str | None,
    samples: int | None,
    as_json: bool,
) -> None:
    """Write NAME.bw in the form that another runtime or tool reads.

    With --verify the files are read back by another program than the one that wrote them, every output integer (or
    every number of a table) is compared, and a certificate with hashes of the model, the data and the result is
    written beside them. Without --data the samples are random numbers over the range of the input.
    """
    from bitwright.export.registry import find_exporter
    from bitwright.export.verify import export as run
    from bitwright.quantized import Quantized

    if not verify and (data is not None or samples is not None):
        raise click.UsageError("--data and --samples are for --verify.")
    texts = dict(parse_setting(item) for item in settings)
    texts |= {name: "yes" for name, given in (("raw", raw), ("portable", portable)) if given}
    named = {"core": core, "kernels": kernels, "patches": patches, "flash": flash, "ram": ram,
             "config": config, "bus": bus}  # fmt: skip
    texts |= {name: value for name, value in named.items() if value is not None}
    chosen = find_exporter(to).parse(texts)
    q = Quantized.load(quantized)
    with screen.progress("Exporting", quiet=as_json):  # a sign of life: some formats build simulators
        result = run(q, to, output, verify=verify, data=data, samples=samples, options=chosen)
    if as_json:
        screen.emit_json(result.to_json())
    else:
        show(result, q.name)


def parse_setting(item: str) -> tuple[str, str]:
    """``NAME=VALUE``.

    Raises:
        click.UsageError: if the text is of another form.
    """
    name, equals, value = item.partition("=")
    if not equals or not name:
        raise click.UsageError(f"--option {item!r} is not of the form NAME=VALUE.")
    return name, value


def show(result: Exported, name: str) -> None:
    """The report for people."""
    report, reading = result.report, result.reading
    screen.done((screen.safe(name), "bold"), " as ", (report.format, "bold cyan"), saved=report.files[0])
    others = report.files[1:]
    if len(others) > MOST_LINES:
        screen.fact("And", ", ".join(screen.safe(file.name, 200) for file in others), indent=2)
    else:
        for file in others:
            screen.fact("And", screen.safe(file, 1000), indent=2)
    if reading is not None:
        style = "blue" if not reading.differing else "yellow"
        screen.fact("Verified", (screen.safe(reading.sentence, 600), style), indent=2)
        screen.fact("Certificate", screen.safe(result.certificate, 1000), indent=2)
    screen.notes([*report.notes, *(reading.notes if reading is not None else ())])
