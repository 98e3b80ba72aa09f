"""The summary of a page in Markdown, for pull requests and job summaries."""

from __future__ import annotations

import re

from bitwright.errors import printable
from bitwright.view.pairs import PairsSeen, decibel
from bitwright.view.seen import Page

WORST, MOST = 5, 5
POOR_DB = 20.0


def markdown(page: Page, other: PairsSeen | None = None) -> str:
    """A heading, the verdict, the summary, what stands out, and the tensors that lose most."""
    lines = [f"### {plain(page.name)} in the integers of {plain(page.side.target)}", ""]
    if page.verdict:
        lines += [f"**{plain(page.verdict, 400)}**", ""]
    lines += ["| | float | integers | |", "| --- | ---: | ---: | --- |"]
    for tile in page.tiles:
        after = " ".join(part for part in (tile.change, tile.note) if part)
        lines.append(f"| {plain(tile.label)} | {plain(tile.before)} | **{plain(tile.value)}** | {plain(after)} |")
    serious = [f for f in page.findings if f.severity != "good"][:MOST]
    if serious:
        lines += ["", "What stands out:", ""]
        for k, finding in enumerate(serious, 1):
            gain = f" ({plain(finding.gain)} measured)" if finding.gain else ""
            remedy = f" {plain(finding.remedy, 300)}{gain}" if finding.remedy else ""
            lines.append(f"{k}. **{plain(finding.title)}**: {plain(finding.text, 400)}{remedy}")
    worst = sorted(
        (t for t in page.tensors if t.sqnr_db is not None and t.kind != "Bias"), key=lambda t: t.sqnr_db or 0.0
    )[:WORST]
    if worst:
        lines += ["", f"<details><summary>The {len(worst)} tensors that lose most</summary>", ""]
        lines += ["| tensor | format | overflow % | SQNR dB |", "| --- | --- | ---: | ---: |"]
        for t in worst:
            over = "" if t.overflow is None else f"{100 * t.overflow:.2g}"
            lines.append(f"| {plain(t.name)} | {plain(t.type.text)} | {over} | {t.sqnr_db:.1f} |")
        lines += ["", "</details>"]
    if page.floats:
        names = ", ".join(plain(layer) for layer, _, _ in page.floats[:MOST])
        more = f" and {len(page.floats) - MOST} more" if len(page.floats) > MOST else ""
        lines += ["", f"In float: {names}{more}."]
    if other is not None:
        lines += ["", *_compared(other)]
    return "\n".join(lines) + "\n"


def _compared(found: PairsSeen) -> list[str]:
    different = [row for row in found.rows if row.changed or abs(row.gain_db or 0) > 0.05]
    lines = [
        f"Against {plain(found.b.name)} for {plain(found.b.target)}: {len(different)} of {len(found.rows)} tensors differ."
    ]
    if different:
        lines += ["", "| tensor | A | B | A dB | B dB |", "| --- | --- | --- | ---: | ---: |"]
        for row in different[:MOST]:
            cells = (row.a.name, row.a.type.text, row.b.type.text, decibel(row.a), decibel(row.b))
            lines.append("| " + " | ".join(plain(cell) for cell in cells) + " |")
    return lines


def plain(text: str, limit: int = 80) -> str:
    """A foreign text that is no markup in Markdown, on one line: a mail that names somebody or loads a picture is none of ours."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~@&$])", r"\\\1", printable(text, limit)).replace("://", ":\u200b//")
