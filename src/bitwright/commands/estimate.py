"""``bitwright estimate``: what a network would cost on a device, without running it."""

from __future__ import annotations

from pathlib import Path

import click

from bitwright.commands import costs, options, screen


@click.command(short_help="Estimate instructions, frames per second and memory; runs nothing.")
@click.argument("quantized", metavar="NAME.bw", type=click.Path(path_type=Path))
@options.core
@options.config
@click.option("--kernels", metavar="K", help="Whose kernels the C calls; by default bitwright's own.")
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
    clock: float | None,
    no_prune: bool,
    most: int,
    as_json: bool,
) -> None:
    """Estimate what an inference of NAME.bw costs on a microcontroller's core, by default a Cortex-M4: instructions of every
    layer from a model of its kernels, frames per second at a clock, flash and RAM.

    The same file gives the same figures on every machine. `bitwright deploy` counts them on a board.
    """
    from bitwright.estimating import estimate as run
    from bitwright.quantized import Quantized

    q = Quantized.load(quantized)
    found = run(q, core=core, config=config, kernels=kernels, clock_mhz=clock, prune=not no_prune)
    if as_json:
        screen.emit_json(found.to_json())
        return
    screen.say(screen.line((screen.safe(q.name), "bold"), " on ", (screen.safe(found.device), "bold cyan")))
    screen.say()
    costs.show(found, most=most, map_too=True)
