"""Firmware for a bare machine: the emitted network, a harness, start-up code and a linker script, compiled for a board."""

from __future__ import annotations

import importlib.util
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Literal

from bitwright.errors import DoesNotFit, ExportError, ToolMissing, printable
from bitwright.mcu.board import Board
from bitwright.mcu.host import Tree
from bitwright.mcu.runtime import fill_in
from bitwright.program.program import Buffer, Program

FOLDER = Path(__file__).parent / "firmware"
STACK_BYTES = 16 * 1024
FIRMWARE_RAM = 8192  # at most, of the harness itself
FLAGS = ("-std=gnu99", "-O2", "-ffunction-sections", "-fdata-sections", "-fno-strict-aliasing", "-Wall", "-Wextra")
TIMERS = {"cmsdk-dual": 1, "sse-counter": 2, "instret": 0}
TIMEOUT_S = 600
ZIG = "pip install 'bitwright[mcu]'"
OVERFLOW = re.compile(r"region '?[`']?(FLASH|RAM)'?[^\n]*?overflowed by (\d+) bytes")
Which = Literal["gcc", "zig"]
Template = Literal["run.c", "bare.c", "outputs.c"]


@dataclass(frozen=True)
class Sizes:
    """What a linked program takes.

    Attributes:
        flash_bytes: Code, constants and the initial values of variables.
        ram_bytes: Variables; the stack comes on top.
    """

    flash_bytes: int
    ram_bytes: int


def compiler(board: Board, which: Which) -> list[str]:
    """The command of the board's compiler and the flags for its core.

    Raises:
        ToolMissing: with the command that installs it.
    """
    if which == "gcc":
        need(board.gcc.command, board.gcc.package)
        return [board.gcc.command, *board.gcc.flags]
    if not has_zig():
        raise ToolMissing(
            f"The Python package ziglang is not installed; it can compile for {printable(board.name)}: {ZIG}.",
            tool="ziglang",
            install=ZIG,
        )
    return [sys.executable, "-m", "ziglang", "cc", "-target", board.zig.target, *board.zig.flags]


def has_zig() -> bool:
    """Whether the ziglang wheel is there."""
    return importlib.util.find_spec("ziglang") is not None


def installed(board: Board) -> Which:
    """The compiler to take: the board's gcc if it is there, else zig.

    Raises:
        ToolMissing: neither is; with the commands that install one.
    """
    if shutil.which(board.gcc.command):
        return "gcc"
    if has_zig():
        return "zig"
    install = f"apt install {board.gcc.package}"
    raise ToolMissing(
        f"No compiler for {printable(board.name)} was found: neither '{printable(board.gcc.command)}' nor the Python "
        f"package ziglang. Install one of them: {install}  (or: {ZIG}).",
        tool=board.gcc.command,
        install=install,
    )


@cache
def version(board: Board, which: Which) -> str:
    """The compiler with its version: ``arm-none-eabi-gcc 12.2.1``."""
    if which == "zig":
        return zig_version()
    done = subprocess.run(
        [board.gcc.command, "-dumpfullversion"], capture_output=True, text=True, check=False, timeout=60
    )
    return f"{board.gcc.command} {done.stdout.strip()}"


def zig_version() -> str:
    """``zig 0.15.1``, from the wheel's own description."""
    return f"zig {metadata.version('ziglang')}"


def need(command: str, package: str) -> None:
    """Check that a command of an apt package is installed.

    Raises:
        ToolMissing: with the command that installs it.
    """
    if shutil.which(command) is None:
        install = f"apt install {package}"
        raise ToolMissing(
            f"'{printable(command)}' was not found, and the board is built and run with it. Install it: {install}.",
            tool=command,
            install=install,
        )


def harness(tree: Tree, program: Program, template: Template) -> str:
    """A main program for the network."""
    upper = tree.prefix.upper()
    buffers, arguments, reads, writes = [], [], [], []
    for i, name in enumerate(program.inputs):
        kind, size = c_type(program.buffers[name]), program.buffers[name].size
        declared = f"static {kind} in{i}[{size}];"
        arguments.append(f"in{i}")
        reads.append(f"get(input, in{i}, sizeof in{i}) == 0")
        if template == "bare.c":
            macro = f"{upper}_INPUT{'' if len(program.inputs) == 1 else i}_OFFSET"
            place = f"#define in{i} (({kind} *)(void *)(arena.bytes + {macro}))"
            declared = f"#ifdef {macro}\n{place}\n#else\n{declared}\n#endif"
        buffers.append(declared)
    for i, name in enumerate(program.outputs):
        arguments.append(f"out{i}" if template == "outputs.c" else "NULL")
        if template == "outputs.c":
            kind, size = c_type(program.buffers[name]), program.buffers[name].size
            buffers.append(f"static {kind} out{i}[{size}];")
            writes.append(f"put(out{i}, sizeof out{i});")
    values = {
        "PREFIX": tree.prefix,
        "UPPER": upper,
        "BUFFERS": "\n".join(buffers),
        "ARGUMENTS": ", ".join(arguments),
        "READ": " && ".join(reads),
        "WRITE": " ".join(writes),
    }
    return fill_in((FOLDER / template).read_text("utf-8"), values)


def c_type(buffer: Buffer) -> str:
    """The C type of a buffer's elements."""
    return f"{buffer.format.dtype.name}_t"


def build(
    tree: Tree,
    program: Program,
    board: Board,
    output: Path,
    *,
    template: Template,
    which: Which = "gcc",
    flags: Sequence[str] = FLAGS,
) -> Sizes:
    """Compile and link.

    Args:
        tree: The emitted files.
        program: Their program.
        board: For what.
        output: The ELF file to write; other files go beside it.
        template: The harness that runs samples, or the least that holds the network.
        which: The compiler.
        flags: Its options besides those of the core.

    Raises:
        ToolMissing: the compiler is not installed.
        DoesNotFit: the linker finds the board's memory too small.
        ExportError: it refuses our text; always our bug.
    """
    command = compiler(board, which)
    folder = output.parent
    main, script = folder / f"{output.stem}_main.c", folder / "link.ld"
    main.write_text(harness(tree, program, template), "utf-8")
    script.write_text(linker_script(board), "utf-8")
    sources = [str(tree.directory / name) for name in tree.library_sources]
    sources += [str(main), str(FOLDER / f"start_{board.startup}.c")]
    bare = which == "zig" or board.gcc.bare
    options = [f"-I{tree.directory}", f"-I{FOLDER}", f"-DBW_TIMER={TIMERS[board.timer.kind]}"]
    options.append(f"-DBW_TIMER_ADDRESS={board.timer.address:#x}u")
    if template == "run.c":
        options.append(f"-D{tree.prefix.upper()}_HOOKS=1")
    if bare:
        options += [f"-I{FOLDER / 'include'}", "-ffreestanding", "-fno-builtin"]
        sources.append(str(FOLDER / "libc.c"))
        if which == "gcc":
            options.append("-fno-tree-loop-distribute-patterns")
    link = [f"-Wl,-T,{script}", "-Wl,--gc-sections", "-nostdlib"]
    if which == "gcc":
        link += ["-Wl,--no-warn-rwx-segments", *([] if bare else ["-lm", "-lc"]), "-lgcc"]
    done = subprocess.run(
        [*command, *flags, *options, *sources, "-o", str(output), *link],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    if done.returncode:
        _refuse_overflow(board, done.stderr)
        raise ExportError(
            f"{printable(Path(command[0]).name)} cannot make firmware for {printable(board.name)} of the generated C in "
            f"{printable(tree.directory)}; please report it. It says: {printable(done.stderr, 2000)}"
        )
    return sizes(output)


def _refuse_overflow(board: Board, message: str) -> None:
    """What the linker says of memory that is too small, as our error."""
    found = OVERFLOW.search(message)
    if found is None and "RAM is full" not in message:
        return
    kind, over = (found[1], int(found[2])) if found else ("RAM", 1)
    have = board.flash.bytes if kind == "FLASH" else board.ram.bytes
    what = "Constants and code" if kind == "FLASH" else f"Arena, inputs, outputs and {STACK_BYTES} bytes of stack"
    raise DoesNotFit(
        f"{what} need {have + over} bytes of {kind.lower() if kind == 'FLASH' else kind} and "
        f"{printable(board.name)} has {have}: {over} too many. Choose a board with more, or make the network smaller.",
        need_bytes=have + over,
        have_bytes=have,
    )


def linker_script(board: Board) -> str:
    """The linker script of a board."""
    values: Mapping[str, int] = {
        "FLASH": board.flash.origin,
        "FLASHBYTES": board.flash.bytes,
        "RAM": board.ram.origin,
        "RAMBYTES": board.ram.bytes,
        "STACKBYTES": STACK_BYTES,
    }
    return fill_in((FOLDER / "link.ld").read_text("utf-8"), {k: f"{v:#x}" for k, v in values.items()})


NOBITS, ALLOCATED, WRITABLE = 8, 2, 1


def sizes(path: Path) -> Sizes:
    """Flash and RAM of a 32-bit little-endian ELF file, from its section headers (System V ABI, chapter 4)."""
    data = path.read_bytes()
    (start,) = struct.unpack_from("<I", data, 32)
    entry, count = struct.unpack_from("<HH", data, 46)
    flash = ram = 0
    for i in range(count):
        _, kind, flags, _, _, size = struct.unpack_from("<6I", data, start + i * entry)
        if flags & ALLOCATED:
            flash += 0 if kind == NOBITS else size
            ram += size if flags & WRITABLE else 0
    return Sizes(flash, ram)
