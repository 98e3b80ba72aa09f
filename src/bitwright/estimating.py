"""What a network would cost on a device, without running it."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from bitwright.errors import ExportError, printable
from bitwright.measured import Cost

if TYPE_CHECKING:
    from bitwright.fpga.fitting import Found
    from bitwright.program.program import Program
    from bitwright.quantized import Quantized

# Option → the function that estimates for what it names: ``model(job, name, clock_mhz=...) -> Cost``.
MODELS = {"core": "bitwright.boards.costing:estimate_core", "config": "bitwright.boards.processor:estimate_config"}
USUAL_CORE = "cortex-m4"
USUAL_BASE = "dlp576"
Progress = Callable[[int, int | None, str], None]


def estimate(
    quantized: Quantized | Program | str | os.PathLike[str],
    *,
    core: str | None = None,
    config: str | None = None,
    kernels: str | None = None,
    frames: int | None = None,
    clock_mhz: float | None = None,
    prune: bool = True,
) -> Cost:
    """Estimate instructions or cycles, frames per second, memory and every layer's share; the same on every machine.

    Args:
        quantized: A quantized network, its ``.bw`` file, or an integer program, without float islands.
        core: A microcontroller's core, as gcc spells it; a Cortex-M4 by default.  Instructions come from a model of every
            kernel that was fitted to counts of emulated boards.
        config: Configuration of a processor that is made for the network, in place of a core.
        kernels: Whose kernels the C calls; bitwright's own by default.
        frames: Inferences in one program of such a processor, for the throughput; as many as fit,
            up to eight, by default.
        clock_mhz: Clock of the device; a usual one by default.
        prune: Take out channels that are constant, which changes no output.

    Raises:
        UnknownTarget: there is no such core; the nearest are named.
        ExportError: there is no model for what was asked.
        UnsupportedOp: a layer is a float island.
    """
    from bitwright.deploying import job_of

    if core is not None and config is not None:
        raise ExportError("An estimate is for a core or for a configuration of a processor, not for both.")
    if frames is not None and config is None:
        raise ExportError(
            "Only a processor that is made for the network has several frames in one program: give --config."
        )
    option, name = ("config", config) if config is not None else ("core", core or USUAL_CORE)
    if option not in MODELS:
        raise ExportError(
            f"This version of bitwright has no processors to configure: leave out --config {printable(name, 60)}."
        )
    job = job_of(quantized, core=core, kernels=kernels, config=config, frames=frames, clock_mhz=clock_mhz, prune=prune)
    module, _, function = MODELS[option].partition(":")
    model: Any = getattr(import_module(module), function)
    cost: Cost = model(job, name, clock_mhz=clock_mhz)
    return cost


def fit(
    quantized: Quantized | Program | str | os.PathLike[str],
    bounds: str,
    *,
    config: str | None = None,
    clock_mhz: float | None = None,
    prune: bool = True,
    progress: Progress | None = None,
) -> Found:
    """Search configurations of the open processor that meet bounds with a network.

    Args:
        quantized: A quantized network, its ``.bw`` file, or an integer program.
        bounds: Such as ``fps>=30, dsp<=128``; quantities are those of ``bitwright.fpga.wishes.QUANTITIES``.
        config: Configuration to start from, whose clock, multipliers and bus are kept; ``dlp576`` by default.
        clock_mhz: Another clock.
        prune: Take out channels that are constant, which changes no output.
        progress: Called with (done, in all or None, what is going on).

    Returns:
        Configurations that meet the bounds, the chosen one first.

    Raises:
        ExportError: the bounds cannot be read; the quantities that there are are named.
        UnknownTarget: there is no such configuration to start from.
        DoesNotFit: no configuration meets them; the nearest is named, and what it misses.
    """
    from dataclasses import replace

    from bitwright.deploying import job_of
    from bitwright.fpga.config import load_config
    from bitwright.fpga.fitting import search
    from bitwright.fpga.wishes import parse

    wishes = parse(bounds)
    base = load_config(config or USUAL_BASE)
    if clock_mhz is not None:
        base = replace(base, clock_hz=round(clock_mhz * 1e6))
    return search(job_of(quantized, prune=prune).program, base, wishes, progress)
