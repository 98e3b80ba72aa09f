"""An exported processor in tests: benches in Icarus Verilog, and hardware without a simulator behind the C driver."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.export.rtl.simulated import _Processor
from bitwright.fpga.functional import execute, new_state
from bitwright.fpga.image import Image, Segment
from bitwright.fpga.registers import BY_NAME, CONSTANTS, bit

RESULT = subprocess.CompletedProcess[str]


def run_bench(folder: Path, *, stall: int = 0, seed: int = 1) -> str:
    """What the bench in ``folder/bench`` prints in Icarus Verilog."""
    bench = folder / "bench"
    sources = ["testbench.v", "../rtl/processor.v", *(path.name for path in bench.glob("SB_*.v"))]
    command(["iverilog", "-g2012", "-o", "testbench.vvp", *sources], bench)
    return command(["vvp", "-n", "testbench.vvp", f"+stall={stall}", f"+seed={seed}"], bench).stdout


def command(arguments: list[str], folder: Path) -> RESULT:
    """A tool that must not fail or warn."""
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr, done.stderr
    return done


class Model:
    """Registers and memory as the documentation of the registers describes them, the functional model behind them.

    Attributes:
        base: Where memory is on the bus.
        writes: Registers written, by name, in order.
        refuse: Functions that fail.
        patience: How often ``wait`` may be called before a program ends, or before it gives up.
        ends: Whether a program ends.
        fault: The bus answers with an error.
    """

    def __init__(self, image: Image, base: int = 0) -> None:
        self.image, self.base = image, base
        self.values: dict[str, int] = {"FINGERPRINT": image.config.fingerprint, "STATUS": 0, **CONSTANTS}
        self.state = new_state(image.config, np.zeros(image.size_bytes, np.uint8))
        self.segments = {part.address: part for part in image.parts if isinstance(part, Segment)}
        self.writes: list[tuple[str, int]] = []
        self.refuse: set[str] = set()
        self.patience = self.waited = 0
        self.ends, self.fault = True, False
        size = ctypes.c_size_t
        word, pointer = ctypes.c_uint32, ctypes.c_void_p
        kinds = {
            "write_memory": (self.write_memory, [pointer, word, pointer, size]),
            "read_memory": (self.read_memory, [pointer, word, pointer, size]),
            "write_register": (self.write_register, [pointer, word, word]),
            "read_register": (self.read_register, [pointer, word, ctypes.POINTER(word)]),
            "wait": (self.wait, [pointer]),
        }
        self.callbacks = [ctypes.CFUNCTYPE(ctypes.c_int, *types)(function) for function, types in kinds.values()]
        self.processor = _Processor(None, *(ctypes.cast(c, pointer) for c in self.callbacks), base, 0)

    def write_memory(self, _: int, address: int, data: int, count: int) -> int:
        """A callback."""
        if "write_memory" in self.refuse or address + count > len(self.state.external):
            return 1
        self.state.external[address : address + count] = np.frombuffer(ctypes.string_at(data, count), np.uint8)
        return 0

    def read_memory(self, _: int, address: int, data: int, count: int) -> int:
        """A callback."""
        if "read_memory" in self.refuse or address + count > len(self.state.external):
            return 1
        ctypes.memmove(data, self.state.external[address : address + count].tobytes(), count)
        return 0

    def write_register(self, _: int, offset: int, value: int) -> int:
        """A callback."""
        name = next(n for n, r in BY_NAME.items() if r.offset == offset)
        assert "write" in BY_NAME[name].access
        self.writes.append((name, value))
        if name == "STATUS":
            if value >> bit("STATUS", "DONE") & 1:
                self.values["STATUS"] &= ~(1 << bit("STATUS", "DONE"))
            return 0
        if name == "CONTROL" and value >> bit("CONTROL", "START") & 1:
            assert self.values["MEMORY_BASE"] == self.base
            execute(self.state, self.segments[self.values["PROGRAM"]].instructions)
            self.values |= {"STATUS": 1 << bit("STATUS", "RUNNING"), "CYCLES": 7, "CYCLES_HIGH": 1}
            self.waited = 0
        else:
            self.values[name] = value
        return 0

    def read_register(self, _: int, offset: int, value: Any) -> int:
        """A callback."""
        if "read_register" in self.refuse:
            return 1
        name = next(n for n, r in BY_NAME.items() if r.offset == offset)
        value[0] = self.values[name]
        return 0

    def wait(self, _: int) -> int:
        """A callback."""
        self.waited += 1
        if not self.ends:
            return int(self.waited > self.patience)
        if self.waited > self.patience:
            self.values["STATUS"] = 1 << bit("STATUS", "DONE") | self.fault << bit("STATUS", "FAULT")
        return 0


def equal(got: Mapping[str, NDArray[Any]], want: Mapping[str, NDArray[Any]]) -> None:
    """Two sets of tensors are the same integers."""
    assert got.keys() == want.keys()
    for name, values in want.items():
        np.testing.assert_array_equal(got[name], values)
