"""``report.txt``: what ``report.json`` says, for people: flash, the map of the arena with lifetimes, work of each layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bitwright.errors import printable

LIFE_WIDTH = 40
NAME_WIDTH = 36


def report_text(report: Mapping[str, Any]) -> str:
    """The report as plain text."""
    counted = report["instructions"]
    lines = [
        f"{printable(report['network'])} for target {printable(report['target'])}",
        "",
        f"Core          {report['core'] or 'portable C'}",
        f"Work          {report['macs']:,} multiply-accumulates",
        f"Instructions  {'not known' if counted['total'] is None else format(counted['total'], ',')} ({counted['basis']})",
        "",
        "Flash, bytes",
    ]
    flash = report["flash"]
    names = {
        "weights_bytes": "weights",
        "bias_bytes": "biases",
        "requantization_bytes": "requantization",
        "table_bytes": "tables",
        "description_bytes": "descriptions of layers",
        "code_bytes_estimate": "code (estimate)",
        "estimate_bytes": "in all (estimate)",
        "linked_bytes": "in all (linked, with the least firmware around it)",
    }
    lines += [f"  {flash[key]:>12,}  {words}" for key, words in names.items() if key in flash]
    ram = report["ram"]
    lines += [
        "",
        "RAM, bytes",
        f"  {ram['arena_bytes']:>12,}  arena",
        f"  {ram['bound_bytes']:>12,}  liveness bound: what step '{printable(ram['busiest_step']['name'], 60)}' has alive",
        *([f"  {ram['stack_bytes']:>12,}  stack"] if "stack_bytes" in ram else []),
        "",
        f"Arena: {'from':>10} {'bytes':>10}  alive from the first step to the last",
        *memory_map(ram["blocks"], len(report["layers"])),
        "",
        *layer_table(report["layers"]),
    ]
    return "\n".join([*lines, ""])


def memory_map(blocks: Sequence[Mapping[str, Any]], steps: int) -> list[str]:
    """A line per block, by its place."""
    first = min((b["first_step"] for b in blocks), default=0)
    span = max(steps - first, 1)
    width = min(LIFE_WIDTH, span)
    lines = []
    for block in sorted(blocks, key=lambda b: (b["offset"], b["first_step"])):
        begin = (block["first_step"] - first) * width // span
        end = max((block["last_step"] - first + 1) * width // span, begin + 1)
        life = "." * begin + "#" * (end - begin) + "." * (width - end)
        lines.append(f"  {block['offset']:>15,} {block['bytes']:>10,}  {life}  {printable(block['name'], NAME_WIDTH)}")
    return lines


def layer_table(layers: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line per step."""
    lines = [f"{'MACs':>12} {'instructions':>13} {'per MAC':>8} {'constants':>10}  layer, operator: what computes it"]
    for row in layers:
        count = row["instructions"]
        per = f"{count / row['macs']:.2f}" if count is not None and row["macs"] else ""
        shown = "" if count is None else f"{count:,}"
        what = f"{printable(row['layer'], NAME_WIDTH)}, {printable(row['op'], 24)}: {row['by']}"
        macs, constants = (f"{row[key]:,}" if row[key] else "" for key in ("macs", "constant_bytes"))
        lines.append(f"{macs:>12} {shown:>13} {per:>8} {constants:>10}  {what}")
    return lines
