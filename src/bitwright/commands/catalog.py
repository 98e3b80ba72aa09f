"""What there is to choose from, for help texts: read off the files, so that nothing heavy is imported."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

PACKAGE = Path(__file__).parent.parent
METRICS = ("top1", "top5", "agreement", "sqnr", "miou", "map50", "mse", "auc")


def scheme_names() -> dict[str, str]:
    """Scheme → its summary, of all schemes that come with bitwright."""
    found = {}
    for file in sorted((PACKAGE / "calibrate" / "schemes").glob("[!_]*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                texts = {
                    item.target.id: item.value.value
                    for item in node.body
                    if isinstance(item, ast.AnnAssign)
                    and isinstance(item.target, ast.Name)
                    and isinstance(item.value, ast.Constant)
                }
                if "name" in texts and "summary" in texts:
                    found[str(texts["name"])] = str(texts["summary"])
    return found


def target_titles() -> dict[str, str]:
    """Target → its title, of all targets that come with bitwright."""
    files = sorted((PACKAGE / "targets").glob("*.toml"))
    return {f.stem: str(tomllib.loads(f.read_text("utf-8")).get("title", "")) for f in files if f.stem != "base"}


def board_titles() -> dict[str, str]:
    """Board → what it is, of all boards for generated C that come with bitwright."""
    files = sorted((PACKAGE / "mcu" / "boards").glob("*.toml"))
    emulated = {f"qemu:{f.stem}": str(tomllib.loads(f.read_text("utf-8"))["summary"]) for f in files}
    return {
        "host": "This machine, with its own C compiler",
        **emulated,
        "serial:PORT": "A real board that runs the generated serial program; PORT may end in @BAUD",
    }


def listing(entries: dict[str, str], title: str) -> str:
    """Entries for the end of a help text, in a block that click does not wrap."""
    width = max(map(len, entries))
    return "\b\n" + "\n".join([title, *(f"  {name:<{width}}  {text}" for name, text in entries.items())])
