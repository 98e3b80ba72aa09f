"""``bitwright vitis``: the words and the printout of people who come from Vitis AI's quantizer."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from bitwright.commands import screen

STARS = "*" * 21
BAR = 50


@click.group(short_help="Vitis AI's words: quantize and inspect for the DPU.")
def vitis() -> None:
    """Quantize and inspect networks for the DPU with the options that users of Vitis AI know."""


@vitis.command()
@click.option(
    "--input_model", "--input_frozen_graph", "input_model", type=click.Path(path_type=Path), required=True,
    metavar="FILE", help="The float network.",
)  # fmt: skip
@click.option("--input_fn", required=True, metavar="module.fn", help="fn(iter) -> {input node: array of a batch}.")
@click.option(
    "--calib_iter", type=click.IntRange(min=1), default=100, show_default=True, help="How often it is called."
)
@click.option(
    "--output_dir", type=click.Path(path_type=Path), default=Path("quantize_results"), show_default=True, metavar="DIR"
)
@click.option("--input_nodes", default="", metavar="A,B", help="By default all, which are listed.")
@click.option("--output_nodes", default="", metavar="A,B", help="By default all, which are listed.")
@click.option(
    "--input_shapes", default="", metavar="SHAPES", help="Sizes of inputs with free ones: '?,3,224,224', split by ':'."
)
@click.option("--method", type=click.IntRange(0, 2), default=1, show_default=True, help="0 no overflow, 1 least error.")
@click.option("--weight_bit", type=click.IntRange(2, 16), default=8, show_default=True)
@click.option("--activation_bit", type=click.IntRange(2, 16), default=8, show_default=True)
@click.option("--do_cle", type=click.IntRange(0, 1), default=0, show_default=True, help="Equalize layers.")
@click.option("--include_fast_ft", type=click.IntRange(0, 1), default=0, show_default=True, help="Tune the rounding.")
@click.option("--gpu", default="0", metavar="N", help="Taken and not needed: numbers are the same without.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def quantize(
    *,
    input_model: Path,
    input_fn: str,
    calib_iter: int,
    output_dir: Path,
    input_nodes: str,
    output_nodes: str,
    input_shapes: str,
    method: int,
    weight_bit: int,
    activation_bit: int,
    do_cle: int,
    include_fast_ft: int,
    gpu: str,
    as_json: bool,
) -> None:
    """Calibrate with input_fn and write the models of the DPU.

    quantize_eval_model.onnx is QDQ with powers of two, for the Vitis AI execution provider; deploy_model.onnx holds the
    DPU's integers in standard ONNX operators; deploy_model.bw is what other commands of bitwright take.
    """
    from bitwright.familiar.vitis import find_input_fn, vitis_quantize
    from bitwright.model import load

    del gpu
    start = time.monotonic()
    model = load(input_model, input_spec={"input": {"layout": "raw"}}, shapes=shapes_of(input_model, input_shapes))
    say = (lambda line: None) if as_json else (lambda line: screen.say(screen.safe(line, 2000)))
    result = vitis_quantize(
        model,
        find_input_fn(input_fn),
        output_dir,
        calib_iter=calib_iter,
        input_nodes=names(input_nodes),
        output_nodes=names(output_nodes),
        method=method,
        weight_bit=weight_bit,
        activation_bit=activation_bit,
        do_cle=bool(do_cle),
        include_fast_ft=bool(include_fast_ft),
        tick=lambda done, total: bar(done, total, time.monotonic() - start),
        say=say,
    )
    if as_json:
        screen.emit_json(
            {
                "quantize_eval_model": str(result.eval_model),
                "deploy_model": str(result.deploy_model),
                "bw": str(result.bw),
                "samples": result.samples,
                "integer_mac_share": result.quantized.program.integer_mac_share,
                "notes": list(result.notes),
            }
        )
        return
    for line in (
        f"{STARS} Quantization Summary {STARS}",
        "INFO: Output:",
        f"  quantize_eval_model: {result.eval_model}",
        f"  deploy_model: {result.deploy_model}",
        f"  bitwright: {result.bw}",
    ):
        screen.say(screen.safe(line, 2000))
    for note in result.notes:
        screen.say(screen.safe(f"WARNING: {note}", 2000))


def names(text: str) -> tuple[str, ...]:
    """Names split by commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def shapes_of(model: Path, text: str) -> dict[str, list[int]] | None:
    """``--input_shapes``: one shape per input in order, split by colons; ``?`` and ``-1`` are the batch.

    Raises:
        click.UsageError: if it is of another form, or there are more or fewer than inputs.
    """
    if not text:
        return None
    from bitwright.model import load

    inputs = load(model).network.inputs
    parts = text.split(":")
    found: list[list[int]] = []
    for part in parts:
        try:
            sizes = [1 if size.strip() in {"?", "-1"} else int(size) for size in part.split(",")]
        except ValueError:
            sizes = []
        if not sizes or min(sizes) < 1:
            raise click.UsageError(f"--input_shapes {part!r} is no shape such as ?,3,224,224.")
        found.append(sizes)
    if len(found) != len(inputs):
        raise click.UsageError(f"--input_shapes has {len(found)} shapes and the network {len(inputs)} inputs.")
    return dict(zip(inputs, found, strict=True))


def bar(done: int, total: int, seconds: float) -> None:
    """The line ``100% (100 of 100) |####| Elapsed Time: 0:04:28 Time: 0:04:28`` on stderr."""
    filled = "#" * (BAR * done // total)
    clock = clock_text(seconds)
    last = done == total
    left = f"Time: {clock}" if last else f"ETA:  {clock_text(seconds * (total - done) / done)}"
    line = f"{100 * done // total:3d}% ({done} of {total}) |{filled:<{BAR}}| Elapsed Time: {clock} {left}"
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{line}{chr(10) if last else ''}")
        sys.stderr.flush()
    elif last:
        sys.stderr.write(line + "\n")


def clock_text(seconds: float) -> str:
    """Hours, minutes and seconds."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


@vitis.command()
@click.option(
    "--input_model", "--input_frozen_graph", "input_model", type=click.Path(path_type=Path), required=True,
    metavar="FILE", help="The float network.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def inspect(*, input_model: Path, as_json: bool) -> None:
    """List input and output nodes, and which layers the DPU computes."""
    from bitwright.commands.inspect import show
    from bitwright.inspection import inspect as look

    found = look(input_model, "dpu")
    if as_json:
        screen.emit_json(found.to_json())
        return
    for which, shapes in (("input", found.inputs), ("output", found.outputs)):
        screen.say(screen.safe(f"INFO: Found {which} nodes: {', '.join(shapes)}", 2000))
    show(found)
