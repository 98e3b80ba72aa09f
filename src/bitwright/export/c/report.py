"""What ``report.json`` says: flash, the map of the memory with lifetimes, and the work of each step."""

from __future__ import annotations

from typing import Any

from bitwright.export.c.emitter import Emitter
from bitwright.mcu.arm import kernels, pools
from bitwright.mcu.runtime import Instance
from bitwright.program.forms import Contract


def report(e: Emitter) -> dict[str, Any]:
    """What ``report.json`` holds."""
    program = e.program
    code = code_bytes(e.instances, len(e.functions), sum(map(len, e.functions)), len(program.steps))
    code += kernels.code_bytes([call.fast for call in e.fast.values()], list(e.sums.values()))
    code += pools.CODE_BYTES * len({pool.source for pool in e.pools.values()})
    descriptions = 80 * len(e.descriptions)
    busiest = e.plan.busiest_step
    at = max(min(busiest, len(program.steps) - 1), 0)
    counted: set[str] = set()
    rows = []
    for step, bytes_, how in zip(program.steps, e.step_bytes, e.how, strict=True):
        macs = 0
        if isinstance(step.form, Contract) and step.layer not in counted:
            macs = program.macs.get(step.layer, 0)
            counted.add(step.layer)
        rows.append(
            {
                "step": step.name,
                "layer": step.layer,
                "op": step.op,
                "by": how,
                **({"not_by_library": e.uncovered[step.name]} if step.name in e.uncovered else {}),
                "macs": macs,
                "constant_bytes": bytes_,
            }
        )
    return {
        "network": program.name,
        "target": program.target,
        "prefix": e.prefix,
        "kernels": e.kernels,
        "macs": sum(program.macs.values()),
        "flash": {
            "weights_bytes": e.constants.bytes_of("weights"),
            "bias_bytes": e.constants.bytes_of("bias"),
            "requantization_bytes": e.constants.bytes_of("requantization"),
            "table_bytes": e.constants.bytes_of("table") + e.constants.bytes_of("indices"),
            "constant_bytes": e.constants.size_bytes,
            "description_bytes": descriptions,
            "code_bytes_estimate": code,
            "estimate_bytes": e.constants.size_bytes + descriptions + code,
        },
        "ram": {
            "arena_bytes": e.plan.arena_bytes,
            "bound_bytes": e.plan.bound_bytes,
            "orders_tried": e.plan.tries,
            "busiest_step": {
                "name": program.steps[at].name if program.steps else "",
                "layer": program.steps[at].layer if program.steps else "",
                "alive_bytes": e.plan.bound_bytes,
            },
            "blocks": [
                {
                    "name": block.name,
                    "offset": offset,
                    "bytes": block.size_bytes,
                    "first_step": block.first,
                    "last_step": block.last,
                    "buffers": e.storage.roots[block.name].members if block.name in e.storage.roots else [],
                }
                for block, offset in zip(e.plan.blocks, e.plan.offsets, strict=True)
            ],
        },
        "layers": rows,
    }


# Bytes of each portable kernel in Thumb-2 (gcc 12.2, -O2, Cortex-M4, shifting requantizer).
KERNEL_BYTES = {"conv": 1170, "pointwise": 580, "depthwise": 540}
REQUANTIZER_BYTES = {"shift": 0, "single": 80, "double": 140}


def code_bytes(instances: set[Instance], functions: int, text: int, steps: int) -> int:
    """A rough size of Thumb-2 code: shared kernels, the network's own functions by their text, one call per step."""
    shared = sum(KERNEL_BYTES.get(i.kernel, 800) + REQUANTIZER_BYTES.get(i.scale, 140) for i in instances)
    return shared + 24 * functions + text // 14 + 20 * steps + 60
