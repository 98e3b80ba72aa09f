"""What a network costs on a device, for people: a table of layers and the map of the memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bitwright.commands import screen

if TYPE_CHECKING:
    from bitwright.measured import Cost, CostTable, LayerCost, MemoryBlock

MAP_WIDTH, MAP_ROWS = 48, 24
NAMES = {
    "flash_bytes": "flash",
    "ram_bytes": "RAM",
    "stack_bytes": "stack",
    "constant_bytes": "constants",
    "external_bytes": "external",
}
RESOURCES = {"dsp": "DSP", "lut": "LUT", "ff": "FF", "bram": "BRAM", "ram_bytes": "buffers"}


def show(cost: Cost, *, most: int, map_too: bool) -> None:
    """Totals, layers and memory."""
    totals(cost)
    screen.say()
    layers(cost, most)
    if map_too and cost.blocks:
        screen.say()
        memory_map(cost.blocks, cost.memory.get("arena_bytes", 0), len(cost.layers))
    for table in cost.tables if map_too else ():
        screen.say()
        screen.say(screen.text(table.title, "bold"))
        own(table)
        if table.note:
            screen.say(screen.text(f"   {table.note}", "dim"))
    screen.notes(cost.notes)


def own(table: CostTable) -> None:
    """A table of the device's own: figures to the right, words to the left."""
    columns = list(zip(*table.rows, strict=True)) or [()] * len(table.columns)
    words = [2 * sum(bool(cell) and not cell[0].isdigit() for cell in column) > len(column) for column in columns]
    screen.table(
        [screen.Column(name, right=not word, shrinks=word and at > 0)
         for at, (name, word) in enumerate(zip(table.columns, words, strict=True))],
        [[screen.safe(cell, 300) for cell in row] for row in table.rows],
    )  # fmt: skip


def totals(cost: Cost) -> None:
    """One inference and the memory, in a few lines."""
    per = f"   {cost.count / cost.macs:.3g} per multiply-accumulate" if cost.macs else ""
    screen.fact("Inference", f"{cost.count:,} {cost.unit}", (f", {cost.basis}", "dim"), (per, "dim"), indent=2)
    if cost.frames_per_s is not None:
        rate = f"{cost.frames_per_s:.3g}" if cost.frames_per_s < 100 else f"{cost.frames_per_s:,.0f}"
        screen.fact("Frames/s", rate, (f"   {screen.safe(cost.frames_basis, 300)}", "dim"), indent=2)
    if cost.throughput_per_s is not None:
        rate = f"{cost.throughput_per_s:.3g}" if cost.throughput_per_s < 100 else f"{cost.throughput_per_s:,.0f}"
        screen.fact("Throughput", rate, (f"   {screen.safe(cost.throughput_basis, 300)}", "dim"), indent=2)
    if cost.resources:
        words = "   ".join(
            f"{RESOURCES.get(name, name)} {screen.size(count) if name.endswith('_bytes') else f'{count:,}'}"
            for name, count in cost.resources.items()
        )
        screen.fact("Resources", words, (f"   {screen.safe(cost.resources_basis, 300)}", "dim"), indent=2)
    parts: list[Any] = []
    for key, label in NAMES.items():
        if key in cost.memory:
            limit = cost.limits.get(key)
            of = f" of {screen.size(limit)}" if limit else ""
            parts += ["   " if parts else "", f"{label} {screen.size(cost.memory[key])}", (of, "dim")]
    arena, bound = cost.memory.get("arena_bytes"), cost.memory.get("arena_bound_bytes")
    if arena is not None:
        how = "the liveness bound" if arena == bound else f"the liveness bound is {screen.size(bound or 0)}"
        parts += ["   " if parts else "", f"arena {screen.size(arena)}", (f", {how}", "dim")]
    if parts:
        screen.fact("Memory", *parts, indent=2)


def layers(cost: Cost, most: int) -> None:
    """A row per layer; those that cost next to nothing are put together."""
    shown = [row for row in cost.layers if row.count or row.macs or row.constant_bytes]
    kept = set(sorted(range(len(shown)), key=lambda i: -shown[i].count)[:most]) if most else set(range(len(shown)))
    rows = [_cells(row, cost) for i, row in enumerate(shown) if i in kept]
    rest = [row for i, row in enumerate(shown) if i not in kept]
    if rest:
        rows.append(
            [f"and {screen.many(len(rest), 'other')}", "", "", screen.big(sum(r.macs for r in rest)),
             f"{sum(r.count for r in rest):,}", "", screen.size(sum(r.constant_bytes for r in rest)), ""]
        )  # fmt: skip
    screen.table(
        (
            screen.Column("Layer", shrinks=True),
            screen.Column("Operator", drop=3),
            screen.Column("By", style="cyan", drop=2, shrinks=True),
            screen.Column("MACs", right=True),
            screen.Column(cost.unit.capitalize(), right=True),
            screen.Column("/MAC", right=True),
            screen.Column("Flash", right=True, drop=1),
            screen.Column("Share", drop=4),
        ),
        rows,
    )


def _cells(row: LayerCost, cost: Cost) -> list[Any]:
    share = row.count / cost.count if cost.count else 0.0
    return [
        screen.safe(row.layer),
        screen.safe(row.op, 24),
        row.by,
        screen.big(row.macs) if row.macs else "",
        f"{row.count:,}",
        "" if row.per_mac is None else f"{row.per_mac:.2f}",
        screen.size(row.constant_bytes) if row.constant_bytes else "",
        screen.text("█" * max(round(16 * share), 1) + f" {100 * share:.0f} %" if share >= 0.005 else "", "blue"),
    ]


def memory_map(blocks: Sequence[MemoryBlock], arena: int, steps: int) -> None:
    """The arena: a row per block by its place, and when it is alive."""
    first = min((block.first for block in blocks), default=0)
    span = max(steps - first, 1)
    width = min(MAP_WIDTH, span)
    ordered = sorted(blocks, key=lambda b: (b.offset, b.first))
    large = sorted(ordered, key=lambda b: -b.bytes)[:MAP_ROWS]
    rows = []
    for block in ordered:
        if block not in large:
            continue
        begin = (block.first - first) * width // span
        end = max((block.last - first + 1) * width // span, begin + 1)
        life = "·" * begin + "█" * (end - begin) + "·" * (width - end)
        rows.append(
            [screen.safe(block.name), f"{block.offset:,}", f"{block.bytes:,}", screen.text(life, "blue"),
             f"{max(block.first, 0)}-{block.last}"]
        )  # fmt: skip
    screen.table(
        (
            screen.Column(f"Arena of {arena:,} bytes", shrinks=True),
            screen.Column("From", right=True),
            screen.Column("Bytes", right=True),
            screen.Column("Alive, first step to last", drop=1),
            screen.Column("Steps", drop=2),
        ),
        rows,
    )
    if len(ordered) > len(large):
        screen.say(screen.text(f"   and {screen.many(len(ordered) - len(large), 'smaller block')}", "dim"))
