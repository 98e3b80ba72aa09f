"""Simulated hardware as a machine."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import Mismatch
from bitwright.fpga.config import ProcessorConfig
from bitwright.fpga.image import Image, Segment
from bitwright.fpga.sim.build import Say, Simulator, library

CHUNK_CYCLES = 200_000


@dataclass(frozen=True)
class Counters:
    """What the simulated hardware did since it was made.

    Attributes:
        load: Cycles in which LOAD worked.
        conv: CONV.
        vec: VEC.
        store: STORE.
        read_beats: Beats read.
        write_beats: Beats written.
    """

    load: int
    conv: int
    vec: int
    store: int
    read_beats: int
    write_beats: int


class Simulated:
    """RTL beside a memory.

    Attributes:
        cycles: Cycles of the segments so far.
    """

    def __init__(
        self, image: Image, simulator: Simulator = "verilator", *, say: Say = lambda _: None,
        on_cycles: Callable[[int], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self.image, self.on_cycles = image, on_cycles
        config = image.config
        self._library = _bind(ctypes.CDLL(str(library(config, simulator, say))))
        bus = config.bus
        self._machine = self._library.bw_new(image.size_bytes, bus.bytes, bus.latency_cycles, bus.outstanding)
        start = ctypes.addressof(self._library.bw_memory(self._machine).contents)
        self.external = np.ctypeslib.as_array((ctypes.c_uint8 * image.size_bytes).from_address(start))
        self.external[image.memory_offset :] = image.memory
        self.cycles = 0
        check_fingerprint(config, int(self._library.bw_fingerprint(self._machine)))

    def __del__(self) -> None:
        machine = getattr(self, "_machine", None)
        if machine:
            self._library.bw_free(machine)
            self._machine = None

    def stall(self, percent: int, seed: int) -> None:
        """Let the memory refuse at random, ``percent`` of the time."""
        self._library.bw_stall(self._machine, percent, seed)

    def write(self, address: int, data: NDArray[np.uint8]) -> None:
        """Put bytes into external memory."""
        self.external[address : address + data.size] = data.reshape(-1)

    def read(self, address: int, size_bytes: int) -> NDArray[np.uint8]:
        """Bytes of external memory."""
        return self.external[address : address + size_bytes].copy()

    def run(self, segment: Segment) -> None:
        """Run a program to its end.

        Raises:
            Mismatch: it does not end; our bug.
        """
        idle, before = 0, None
        done = -1
        resume = 0
        while done < 0:
            done = int(self._library.bw_run(self._machine, segment.address, CHUNK_CYCLES, resume))
            resume = 1
            now = self.counters()
            idle = idle + 1 if now == before else 0
            before = now
            if idle > 1:
                raise Mismatch(
                    f"The processor {self.image.config.name} stands still in the program at {segment.address:#x}."
                )
            self.on_cycles(self.cycles + CHUNK_CYCLES)
        self.cycles += done

    def counters(self) -> Counters:
        """What it did so far."""
        into = (ctypes.c_uint64 * 7)()
        self._library.bw_counters(self._machine, into)
        if into[6]:
            raise Mismatch(f"The processor {self.image.config.name} reached outside of its memory {into[6]} times.")
        return Counters(*into[:6])

    def profile(self, stamp: int) -> int:
        """Cycle of the last segment at which a layer's last STORE was done."""
        return int(self._library.bw_profile(self._machine, stamp))


def check_fingerprint(config: ProcessorConfig, found: int) -> None:
    """Refuse hardware of another configuration.

    Raises:
        Mismatch: the fingerprints differ.
    """
    if found != config.fingerprint:
        raise Mismatch(
            f"The hardware has the configuration {found:#010x}, and the program was compiled for {config.name}, "
            f"{config.fingerprint:#010x}. Load the bitstream of {config.name}, or compile for the one that is loaded."
        )


def _bind(found: ctypes.CDLL) -> ctypes.CDLL:
    pointer, byte = ctypes.c_void_p, ctypes.POINTER(ctypes.c_uint8)
    for name, result, arguments in (
        ("bw_new", pointer, [ctypes.c_uint64, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_uint32]),
        ("bw_free", None, [pointer]),
        ("bw_memory", byte, [pointer]),
        ("bw_stall", None, [pointer, ctypes.c_uint32, ctypes.c_uint64]),
        ("bw_fingerprint", ctypes.c_uint32, [pointer]),
        ("bw_run", ctypes.c_int64, [pointer, ctypes.c_uint32, ctypes.c_uint64, ctypes.c_int]),
        ("bw_profile", ctypes.c_uint32, [pointer, ctypes.c_uint32]),
        ("bw_counters", None, [pointer, ctypes.POINTER(ctypes.c_uint64)]),
    ):
        function = getattr(found, name)
        function.restype, function.argtypes = result, arguments
    return found
