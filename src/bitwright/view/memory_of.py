"""Where the tensors of a quantized network lie in memory: the plan that generated C uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitwright.view.seen import CyclesSeen, MemorySeen, RegionSeen

if TYPE_CHECKING:
    from bitwright.measured import Cost
    from bitwright.quantized import Quantized

MOST_STEPS = 400
TRIES = 200


def memory_seen(q: Quantized) -> tuple[MemorySeen, ...]:
    """The arena of the activations and the constants, for targets that run generated C; nothing for the others.

    Kernels of a core may need scratch memory beside it; the report of ``export --to c`` counts that too.
    """
    from bitwright.mcu.planner import Block, plan

    program = q.program
    if not program.target.startswith("mcu") or len(program.steps) > MOST_STEPS:
        return ()
    first: dict[str, int] = dict.fromkeys(program.inputs, -1)
    last: dict[str, int] = {}
    for k, step in enumerate(program.steps):
        for name in step.inputs:
            last[name] = k
        for name in step.outputs:
            first.setdefault(name, k)
            last.setdefault(name, k)
    last |= dict.fromkeys(program.outputs, len(program.steps))
    names = [name for name in program.buffers if name in first]
    blocks = [
        Block(
            name=program.buffers[name].tensor or name,
            size_bytes=program.buffers[name].size_bytes,
            first=first[name],
            last=last.get(name, first[name]),
        )
        for name in names
    ]
    found = plan(blocks, most_tries=TRIES)
    regions = tuple(
        RegionSeen(name=b.name, offset=at, size=b.size_bytes, first=b.first, last=b.last)
        for b, at in zip(found.blocks, found.offsets, strict=True)
    )
    note = f"No plan can be smaller than {found.bound_bytes:,} bytes, which step {found.busiest_step + 1} needs."
    constants, at = [], 0
    for item in program.learnables:
        constants.append(RegionSeen(name=f"{item.layer}.{item.parameter}", offset=at, size=item.size_bytes))
        at += item.size_bytes
    return (
        MemorySeen(
            name="Working memory (RAM)",
            size=found.arena_bytes,
            regions=regions,
            steps=len(program.steps) + 1,
            note=note,
        ),
        MemorySeen(name="Weights and biases (flash)", size=at, regions=tuple(constants)),
    )


def cost_memory(cost: Cost) -> tuple[MemorySeen, ...]:
    """The memories of a device, as it was measured or estimated."""
    blocks = tuple(
        RegionSeen(name=b.name, offset=b.offset, size=b.bytes, first=b.first, last=b.last) for b in cost.blocks
    )
    found = []
    if blocks:
        size = max(b.offset + b.size for b in blocks)
        steps = max(b.last or 0 for b in blocks) + 1
        found.append(MemorySeen(name=f"Working memory, {cost.device}", size=size, regions=blocks, steps=steps))
    for kind, size in cost.memory.items():
        limit = cost.limits.get(kind)
        note = f"Of {limit:,} bytes that there are." if limit else ""
        found.append(
            MemorySeen(
                name=f"{kind}, {cost.device}",
                size=limit or size,
                regions=(RegionSeen(name="used", offset=0, size=size),),
                note=note,
            )
        )
    return tuple(found)


def cost_cycles(cost: Cost) -> tuple[CyclesSeen, ...]:
    """The time of each step."""
    total = max(sum(row.count for row in cost.layers), 1)
    return tuple(
        CyclesSeen(layer=row.layer, cycles=row.count, share=row.count / total, note=f"{row.by}, {cost.basis}")
        for row in cost.layers
    )
