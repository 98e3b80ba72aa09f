"""Runs the code blocks of one page in order, as a reader would: ``python session.py PAGE.md``, in a folder of its own.

- A block whose first line is ``# NAME.py`` (or another file name) is written to that file.
- ``python`` blocks share one namespace.  A ``text`` block right after one holds what it prints.
- ``console`` blocks hold commands after ``$``, each followed by what it prints, which may be left out.  A command that
  fails must be followed by ``$ echo $?``.
- In expected output, ``...`` stands for anything.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import re
import shlex
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*) *$")
FILE = re.compile(r"# (?P<name>[\w./-]+\.(?:py|toml|csv))")
LANGUAGES = {"python", "console", "text", "toml", "csv", "json", "sh", "c"}
# What a reader has anyway.
TOOLS = {"cat", "cp", "head", "ls", "make", "python"}


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, where its text begins, and the text."""

    language: str
    line: int
    text: str

    @property
    def file(self) -> str | None:
        """The file that the block shows, if its first line names one."""
        found = FILE.fullmatch(self.text.split("\n", 1)[0])
        return found["name"] if found else None


def blocks(text: str) -> Iterator[Block]:
    """The fenced blocks of a page; one that is never closed is an error."""
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        found = FENCE.match(lines[at])
        at += 1
        if found is None:
            assert not lines[at - 1].lstrip().startswith("```"), f"line {at}: {lines[at - 1]} opens no block"
            continue
        end = lines.index(f"{found['indent']}```", at)
        depth = len(found["indent"])
        yield Block(found["language"], at + 1, "\n".join(line[depth:] for line in lines[at:end]))
        at = end + 1


def commands(block: Block) -> Iterator[tuple[int, str, str]]:
    """The commands of a console block as (line, command, expected output)."""
    command, expected, start = "", [], 0
    for number, line in enumerate(block.text.split("\n"), block.line):
        if line.startswith("$ "):
            if command:
                yield start, command, "\n".join(expected)
            command, expected, start = line[2:], [], number
        elif command.endswith("\\"):
            command = command[:-1] + line.strip()
        else:
            assert command, f"line {number}: output before the first command"
            expected.append(line)
    yield start, command, "\n".join(expected)


def check(expected: str, got: str) -> None:
    """Compare what is shown with what was printed; spaces at line ends and empty lines around do not count."""
    want, have = ("\n".join(line.rstrip() for line in text.strip("\n").splitlines()) + "\n" for text in (expected, got))
    if not doctest.OutputChecker().check_output(want, have, doctest.ELLIPSIS):
        raise AssertionError(f"The page shows\n{want}\nand this was printed\n{have}")


class Session:
    """A reader's terminal and Python prompt."""

    def __init__(self) -> None:
        self.namespace: dict[str, Any] = {"__name__": "__main__"}
        self.code = 0

    def page(self, path: Path) -> None:
        """Run every block of a page."""
        found = list(blocks(path.read_text("utf-8")))
        for number, block in enumerate(found):
            following = found[number + 1] if number + 1 < len(found) else None
            if block.file is not None:
                Path(block.file).parent.mkdir(parents=True, exist_ok=True)
                Path(block.file).write_text(block.text + "\n", "utf-8")
            elif block.language == "python":
                with located(path, block.line):
                    printed = self.python(block, path)
                    if following is not None and following.language == "text":
                        check(following.text, printed)
            elif block.language == "console":
                for line, command, expected in commands(block):
                    with located(path, line, command):
                        self.console(command, expected)
        assert self.code == 0, f"{path}: the last command failed"

    def python(self, block: Block, path: Path) -> str:
        """Run a block and give what it prints."""
        code = compile("\n" * (block.line - 1) + block.text + "\n", str(path), "exec")
        return captured(lambda: exec(code, self.namespace))[0]  # noqa: S102  (pages of this repository)

    def console(self, command: str, expected: str) -> None:
        """Run a command and compare what it prints, where that is shown."""
        if command == "echo $?":
            out, self.code = f"{self.code}\n", 0
        else:
            assert self.code == 0, f"the command before failed with {self.code}"
            out, self.code = execute(command)
            if self.code and not expected:
                raise AssertionError(f"exit code {self.code}\n{out}")
        if expected.strip():
            check(expected, out)


@contextlib.contextmanager
def located(path: Path, line: int, what: str = "") -> Iterator[None]:
    """Say where on the page something failed."""
    try:
        yield
    except BaseException as error:
        raise RuntimeError(f"{path}, line {line}: {what}\n{''.join(traceback.format_exception(error))}") from None


def captured(run: Callable[[], Any]) -> tuple[str, Any]:
    """What a call prints (stdout, then stderr), and what it returns."""
    from bitwright.commands import screen

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        screen.forget_streams()
        result = run()
    return out.getvalue() + err.getvalue(), result


def execute(command: str) -> tuple[str, int]:
    """Run a command; bitwright's own in this process, which saves its start."""
    words = shlex.split(command)
    if words[0] == "bitwright" and not {"|", ">"} & set(words):
        from bitwright.cli import run

        return captured(lambda: run(words[1:]))
    first = {part.split()[0] for part in command.split("|")}
    assert first <= {*TOOLS, "bitwright"}, f"{command} is nothing that the tests run"
    shim = f'bitwright() {{ "{sys.executable}" -m bitwright "$@"; }}; python() {{ "{sys.executable}" "$@"; }}; '
    done = subprocess.run(["bash", "-c", shim + command], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr, done.returncode


def main() -> None:
    sys.path.insert(0, str(Path.cwd()))
    os.environ["COLUMNS"] = "100"
    try:
        Session().page(Path(sys.argv[1]))
    except RuntimeError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
