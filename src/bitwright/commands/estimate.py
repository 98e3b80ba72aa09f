"""``bitwright estimate``: what a network would cost on a device, without running it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bitwright.commands import costs, options, screen

if TYPE_CHECKING:
    from bitwright.quantized import Quantized


@click.command(short_help="Estimate instructions, frames per second and memory; runs nothing.")
@click.argument("quantized", metavar="NAME.bw", type=click.Path(path_type=Path))
@options.core
@options.config
@click.option("--kernels", metavar="K", help="Whose kernels the C calls; by default bitwright's own.")
@options.frames
@click.option(
    "--fit",
    "bounds",
    metavar="BOUNDS",
    help='Search a configuration that meets bounds, such as "fps>=30, dsp<=128"; --config is where it starts from.',
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="With --fit: write the configuration, a TOML file.",
)
@click.option("--quiet", is_flag=True, help="No progress.")
@options.clock
@click.option("--no-prune", is_flag=True, help="Keep channels that are proven constant.")
@options.layers
@options.as_json
def estimate(
    quantized: Path,
    *,
    core: str | None,
    config: str | None,
    kernels: str | None,
    frames: int | None,
    bounds: str | None,
    output: Path | None,
    quiet: bool,
    clock: float | None,
    no_prune: bool,
    most: int,
    as_json: bool,
) -> None:
    """Estimate what an inference of NAME.bw costs on a microcontroller's core, by default a Cortex-M4: instructions of every
    layer from a model of its kernels, frames per second at a clock, flash and RAM.

    With --config the figures are those of the open processor: cycles, latency, throughput, resources, what each layer waits
    for. With --fit configurations are searched.

    The same file gives the same figures on every machine. `bitwright deploy` counts them on a board.
    """
    from bitwright.estimating import estimate as run
    from bitwright.quantized import Quantized

    if bounds is None and output is not None:
        raise click.UsageError("-o writes the configuration that --fit finds: give --fit, or leave out -o.")
    if bounds is not None and (core or kernels or frames):
        raise click.UsageError(
            "--fit searches configurations of a processor: leave out --core, --kernels and --frames."
        )
    if output is not None:
        options.check_output(output)
    q = Quantized.load(quantized)
    if bounds is not None:
        _fit(q, bounds, config, clock, prune=not no_prune, output=output, quiet=quiet, as_json=as_json)
        return
    found = run(q, core=core, config=config, kernels=kernels, frames=frames, clock_mhz=clock, prune=not no_prune)
    if as_json:
        screen.emit_json(found.to_json())
        return
    screen.say(screen.line((screen.safe(q.name), "bold"), " on ", (screen.safe(found.device), "bold cyan")))
    screen.say()
    costs.show(found, most=most, map_too=True)


def _fit(
    q: Quantized, bounds: str, config: str | None, clock: float | None, *, prune: bool, output: Path | None, quiet: bool,
    as_json: bool,
) -> None:  # fmt: skip
    from bitwright.estimating import fit
    from bitwright.fpga.fitting import SHOWN, to_toml
    from bitwright.view.report import write_text

    with screen.progress("Searching", "configurations", quiet=quiet) as progress:
        found = fit(q, bounds, config=config, clock_mhz=clock, prune=prune, progress=progress)
    if output is not None:
        write_text(output, to_toml(found.chosen.config))
    if as_json:
        screen.emit_json({"network": q.name, **found.to_json(), "written": None if output is None else str(output)})
        return
    screen.say(
        screen.line((screen.safe(q.name), "bold"), " with ", (", ".join(map(str, found.wishes)), "bold cyan"),
                    (f"   {found.tried} configurations, {found.compiled} compiled, {found.seconds:.0f} s", "dim"))
    )  # fmt: skip
    screen.say()
    names = ("fps", "latency_ms", *(("throughput",) if "throughput" in found.chosen.values else ()), "dsp", "lut", "ff",
             "bram", "ram_kib", "bandwidth")  # fmt: skip
    rows = [
        [f"{c.config.pp} x {c.config.icp} x {c.config.ocp}", *(screen.number(c.values[name]) if c.values[name] < 1000 else f"{c.values[name]:,.0f}" for name in names),
         "Pareto" if c.best_of_both else ""]
        for c in found.candidates[:SHOWN]
    ]  # fmt: skip
    screen.table(
        [screen.Column("rows x in x out"), *(screen.Column(name, right=True) for name in names), screen.Column("")],
        rows,
    )
    more = len(found.candidates) - len(rows)
    if more > 0:
        screen.say(screen.text(f"   and {screen.many(more, 'other')} that meet the bounds", "dim"))
    if output is not None:
        screen.say()
        screen.say(f"Wrote the first to {screen.safe(str(output))}: use it as --config.")
