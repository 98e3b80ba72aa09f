"""Every code block of every page runs, and prints what the page says."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from docs.session import FENCE, LANGUAGES, Block, Session, blocks, check, commands

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
RUN = {"python", "console"}
# Headings as GitHub makes anchors of them.
ANCHOR = re.compile(r"[^\w\- ]")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def executable(page: Path) -> bool:
    return any(block.language in RUN for block in blocks(page.read_text("utf-8")))


@pytest.mark.parametrize("page", [page for page in PAGES if executable(page)], ids=name)
def test_the_blocks_run(page: Path, demo: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    shutil.copytree(demo, tmp_path, dirs_exist_ok=True)
    shutil.copytree(ROOT / "src/bitwright/demo", tmp_path / "src/bitwright/demo")
    done = subprocess.run(
        [sys.executable, ROOT / "tests/docs/session.py", page],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-6000:]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_block_has_a_language(page: Path) -> None:
    assert {block.language for block in blocks(page.read_text("utf-8"))} <= LANGUAGES


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_what_only_a_shell_can_do_exists(page: Path) -> None:
    """``sh`` blocks set things up and are not run: their goals and extras must exist."""
    goals = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    for block in blocks(page.read_text("utf-8")):
        if block.language != "sh":
            continue
        for line in filter(None, (line.split("#")[0].strip() for line in block.text.splitlines())):
            match line.split():
                case ["make", goal]:
                    assert goal in goals
                case ["pip", "install", *what]:
                    asked = {extra for item in what for extra in re.findall(r"\[([\w,]+)\]", item)}
                    assert {extra for item in asked for extra in item.split(",")} <= set(extras)
                case ["bitwright", "demo"]:  # the fixture has run it
                    pass
                case ["bash", path] | ["python" | ".venv/bin/python", path]:
                    assert (ROOT / path).is_file()
                case _:
                    pytest.fail(f"nothing shows that this works: {line}")


def anchors(page: Path) -> set[str]:
    text = re.sub(r"^( *)```.*?^\1```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {ANCHOR.sub("", title.replace("`", "").strip().lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_can_be_found() -> None:
    """From the README on, by links."""
    seen: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen:
            continue
        seen.add(page)
        links = re.findall(r"\]\(([^)#\s]+\.md)", page.read_text("utf-8"))
        waiting += [(page.parent / link).resolve() for link in links if not link.startswith("http")]
    assert {name(page) for page in PAGES if page.is_relative_to(ROOT / "docs")} <= {name(page) for page in seen}


# The session itself must be able to fail.


def test_a_fence_is_read_with_its_indentation() -> None:
    (block,) = blocks("text\n\n  ```python\n  if 1:\n      x = 2\n  ```\n")
    assert block == Block("python", 4, "if 1:\n    x = 2")
    assert FENCE.match("````python") is None


def test_a_fence_that_is_never_closed_is_an_error() -> None:
    with pytest.raises(ValueError, match="not in list"):
        list(blocks("```python\nx = 1\n"))


def test_commands_go_with_their_output() -> None:
    block = Block("console", 7, "$ bitwright a \\\n    b\n$ echo $?\n2")
    assert list(commands(block)) == [(7, "bitwright a b", ""), (9, "echo $?", "2")]


def test_output_is_compared() -> None:
    check("a ... b\n", "a 1 2 b   \n")
    with pytest.raises(AssertionError, match="and this was printed"):
        check("a", "b")


@pytest.mark.parametrize(
    ("page", "complaint"),
    [
        ("```python\nx = 1\nassert x == 2\n```", "line 3"),
        ("```python\nprint(1)\n```\n\n```text\n2\n```", "The page shows"),
        ("```console\n$ bitwright targets show fgpa\n```", "exit code 2"),
        ("```console\n$ bitwright targets show fgpa\nerror ...\n```", "the last command failed"),
        ("```console\n$ bitwright targets show fgpa\nerror ...\n$ bitwright targets\n```", "failed with 2"),
        ("```console\n$ rm -r x\n```", "nothing that the tests run"),
    ],
)
def test_a_page_that_is_wrong_fails(page: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(page)
    with pytest.raises((RuntimeError, AssertionError), match=complaint):
        Session().page(path)
