"""``bitwright calibrate``: the range and bit histogram of every tensor, in one pass over the data."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bitwright.commands import options, screen

if TYPE_CHECKING:
    from bitwright.api import Calibration
    from bitwright.model import Model


@click.command(short_help="Run the float network over data and collect ranges and histograms.")
@options.model_argument
@options.data(required=False)
@options.samples
@options.output("MODEL.bwcal")
@click.option(
    "--merge",
    "parts",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Add up .bwcal files of this model instead of reading data; give it once per file.",
)
@click.option(
    "--from",
    "numbers",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Take formats and ranges from another tool's file, with --data for tensors that it leaves out: TensorRT cache, ncnn "
    "table, Vitis AI quant_info.json, NNoM weights.h, AIMET encodings, ONNX Runtime calibration.json.",
)
@click.option("--table", "as_table", is_flag=True, help="Print a row for every weight, bias and activation.")
@options.network
@click.option("--quiet", is_flag=True, help="No progress.")
@options.as_json
def calibrate(
    model: Path,
    data: str | None,
    *,
    samples: int | None,
    seed: int | None,
    skip_bad: bool,
    output: Path | None,
    parts: tuple[Path, ...],
    numbers: Path | None,
    as_table: bool,
    input_spec: Path | None,
    shapes: tuple[str, ...],
    quiet: bool,
    as_json: bool,
) -> None:
    """Run MODEL over data and write what its tensors hold to a .bwcal file.

    Labels are not needed.  A run that was stopped or killed goes on where it was when the same command is given again.
    """
    from bitwright.api import load

    if bool(parts) == (data is not None or numbers is not None):
        raise click.UsageError(
            "give --data D to read samples, --from FILE for another tool's numbers (or both), or --merge FILE to add up "
            "calibrations."
        )
    output = output or options.beside(model, ".bwcal")
    options.check_output(output)
    loaded = load(model, input_spec=input_spec, shapes=options.parse_shapes(shapes))
    start = time.monotonic()
    if parts:
        result = merged(loaded, parts)
    elif data is None:
        from bitwright.api import calibrate as run

        result = run(loaded, numbers=numbers)
    else:
        checkpoint = output.with_name(f"{output.name}.part")
        if checkpoint.exists() and not quiet:
            screen.remark((f"going on from {screen.safe(checkpoint)}, if it is of the same run", "dim"))
        result = observed(
            loaded,
            data,
            numbers=numbers,
            samples=samples,
            seed=seed,
            skip_bad=skip_bad,
            checkpoint=checkpoint,
            quiet=quiet,
        )
    partial = result.statistics.partial and not parts
    kept = output
    if partial and is_whole(output):
        kept = output.with_name(f"{output.name}.part")  # what is there already is worth more
    else:
        result.save(output)
    if as_json:
        screen.emit_json(result.rows)
    else:
        show(result, kept, time.monotonic() - start, as_table=as_table)
    if partial:
        from bitwright.commands.failures import Interrupted

        count = screen.many(result.statistics.samples, "sample")
        raise Interrupted(f"The first {count} are in {kept}; give the same command again to go on from there.")


def is_whole(path: Path) -> bool:
    """Whether a calibration that was not interrupted is there already."""
    from bitwright.calibrate.file import load_statistics
    from bitwright.errors import BadModelFile

    try:
        return not load_statistics(path).partial
    except BadModelFile:
        return False


def observed(
    model: Model,
    data: str,
    *,
    numbers: Path | None = None,
    samples: int | None,
    seed: int | None,
    skip_bad: bool,
    checkpoint: Path | None,
    quiet: bool,
) -> Calibration:
    """Calibrate with progress on the screen."""
    from bitwright.api import calibrate as run

    unit = "samples" if model.contract.layout == "raw" else "images"
    with screen.progress("Calibrating", unit, quiet=quiet) as progress:
        return run(
            model, data, numbers=numbers, samples=samples, seed=seed, skip_bad=skip_bad, checkpoint=checkpoint,
            progress=progress,
        )  # fmt: skip


def merged(model: Model, parts: tuple[Path, ...]) -> Calibration:
    """The sum of several files of one network."""
    from bitwright.api import Calibration

    first, *rest = (Calibration.load(model, part) for part in parts)
    for part in rest:
        first = first + part
    return first


def show(result: Calibration, output: Path, seconds: float, *, as_table: bool) -> None:
    """The report for people."""
    statistics = result.statistics
    if as_table:
        rows(result)
        screen.say()
    unit = "sample" if result.model.contract.layout == "raw" else "image"
    tensors = len(statistics.activations) + len(statistics.weights) + len(statistics.biases)
    screen.done(
        (tensors, "bold cyan"),
        " tensors, ",
        (statistics.samples, "bold cyan"),
        f" {unit}{'' if statistics.samples == 1 else 's'}, ",
        (f"{seconds:.1f}", "bold cyan"),
        " s",
        saved=output,
    )
    screen.notes(result.notes)


def rows(result: Calibration) -> None:
    """The calibration table, with the bits that each tensor uses."""
    from bitwright.commands.bits import look, strip_text
    from bitwright.view.observed import observed_tensors
    from bitwright.view.term import axis_title, term_axis

    tensors = observed_tensors(result)
    axis = term_axis(tensors, screen.out().width)
    screen.table(
        (
            screen.Column("Layer", shrinks=True),
            screen.Column("Kind"),
            screen.Column("Min", right=True),
            screen.Column("Max", right=True),
            screen.Column(axis_title(axis, look()), drop=1),
        ),
        [
            [
                screen.safe(tensor.name),
                tensor.kind,
                "" if tensor.min is None else screen.number(tensor.min),
                "" if tensor.max is None else screen.number(tensor.max),
                strip_text(tensor, axis, typed=False),
            ]
            for tensor in tensors
        ],
    )
