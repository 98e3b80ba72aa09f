"""What a network would cost on a device, without running it."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from bitwright.errors import ExportError, printable
from bitwright.measured import Cost

if TYPE_CHECKING:
    from bitwright.program.program import Program
    from bitwright.quantized import Quantized

# Option → the function that estimates for what it names: ``model(job, name, clock_mhz=...) -> Cost``.
MODELS = {"core": "bitwright.boards.costing:estimate_core", "config": "bitwright.boards.processor:estimate_config"}
USUAL_CORE = "cortex-m4"


def estimate(
    quantized: Quantized | Program | str | os.PathLike[str],
    *,
    core: str | None = None,
    config: str | None = None,
    kernels: str | None = None,
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
    option, name = ("config", config) if config is not None else ("core", core or USUAL_CORE)
    if option not in MODELS:
        raise ExportError(
            f"This version of bitwright has no processors to configure: leave out --config {printable(name, 60)}."
        )
    job = job_of(quantized, core=core, kernels=kernels, config=config, clock_mhz=clock_mhz, prune=prune)
    module, _, function = MODELS[option].partition(":")
    model: Any = getattr(import_module(module), function)
    cost: Cost = model(job, name, clock_mhz=clock_mhz)
    return cost
