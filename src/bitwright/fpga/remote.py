"""The processor on a real board, over its serial bridge, as a machine that runs segments."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import ExportError, Mismatch
from bitwright.fpga.cycles import simulate
from bitwright.fpga.image import Image, Segment
from bitwright.fpga.link import Link
from bitwright.fpga.registers import IDENTITY, bit
from bitwright.fpga.wire import LOADED

Progress = Callable[[int, int, str], None]
RUN_S, RUN_FACTOR = 10.0, 20.0
"""A program may take so long, and so many times what the cycle model says."""
FENCE_BYTES = 8


@dataclass
class Remote:
    """A board that the right bitstream is loaded on.

    Attributes:
        image: The compiled network.
        link: The line.
        clock_hz: Of the processor.
        progress: Told how much of something long is done.
        cycles: Of the segments so far.
        loaded_before: The image was there already.
    """

    image: Image
    link: Link
    clock_hz: float
    progress: Progress = lambda done, size, what: None
    cycles: int = 0
    loaded_before: bool = False
    _waiting: list[tuple[int, bytes]] = field(default_factory=list)

    def load(self) -> None:
        """Write instructions and parameters, unless the board says that they are there.

        Raises:
            ExportError: nobody answers.
        """
        self._idle(0)
        digest = digest_of(self.image)
        if self.link.get_at(LOADED) == digest:
            self.loaded_before = True
            return
        self.link.set_at(LOADED, 0)
        parts = contents(self.image)
        size, done = sum(len(data) for _, data in parts), 0
        for address, data in parts:
            self.link.write(address, data, partial(self._loaded, done, size))
            done += len(data)
        self.link.set_at(LOADED, digest)

    def _loaded(self, before: int, size: int, done: int, _: int) -> None:
        self.progress(before + done, size, "loading the network")

    def write(self, address: int, data: NDArray[np.uint8]) -> None:
        """See ``Machine.write``; what is written is sent before something else happens."""
        self._waiting.append((address, data.tobytes()))

    def read(self, address: int, size_bytes: int) -> NDArray[np.uint8]:
        """See ``Machine.read``."""
        self._send()
        return np.frombuffer(self.link.read(address, size_bytes), np.uint8).copy()

    def run(self, segment: Segment) -> None:
        """See ``Machine.run``.

        Raises:
            Mismatch: it does not end.
            ExportError: nobody answers.
        """
        self._send()
        self.link.set("PROGRAM", segment.address)
        self.link.set("CONTROL", 1 << bit("CONTROL", "START"))
        expected, _, _ = simulate(self.image.config, segment.instructions)
        self._idle(expected)
        self.cycles += self.link.get("CYCLES") | self.link.get("CYCLES_HIGH") << 32

    def _idle(self, cycles: int) -> None:
        """Wait until no program runs."""
        deadline = time.monotonic() + RUN_S + RUN_FACTOR * cycles / self.clock_hz
        while self.link.get("STATUS") >> bit("STATUS", "RUNNING") & 1:
            if time.monotonic() > deadline:
                raise Mismatch(
                    f"The processor does not come to the end of a program that takes {cycles} cycles by its model. Load the "
                    "bitstream again, by switching the board off and on; if it stays so, build it with --strict-timing."
                )

    def profile(self, stamp: int) -> int:
        """Cycle of the last segment at which a layer's last result was stored."""
        self.link.set("PROFILE_INDEX", stamp)
        return self.link.get("PROFILE")

    def _send(self) -> None:
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            self.link.write_all(waiting)


def digest_of(image: Image) -> int:
    """32 bits that tell one loaded image from another; never 0."""
    digest = hashlib.sha256(image.config.fingerprint.to_bytes(4, "little"))
    for address, data in contents(image):
        digest.update(address.to_bytes(8, "little") + len(data).to_bytes(8, "little") + data)
    return int.from_bytes(digest.digest()[:4], "little") or 1


def contents(image: Image) -> list[tuple[int, bytes]]:
    """What is used of instructions and parameters: addresses and bytes, in whole words."""
    found = []
    for region in image.regions:
        at = region.offset - image.memory_offset
        if at < 0 or not region.used_bytes:
            continue
        size = -(-region.used_bytes // FENCE_BYTES) * FENCE_BYTES
        found.append((region.offset, image.memory[at : at + size].tobytes()))
    return found


def check_processor(link: Link, image: Image, board: str) -> None:
    """Refuse a board with another processor.

    Raises:
        ExportError: nobody answers, or it is no processor of bitwright's.
        Mismatch: its configuration is another.
    """
    if (found := link.get("IDENTITY")) != IDENTITY:
        raise ExportError(
            f"What answers on board {board} is not the open processor (identity {found:#010x}, not {IDENTITY:#010x}). Check "
            "that the port is the board's."
        )
    if (found := link.get("FINGERPRINT")) != image.config.fingerprint:
        raise Mismatch(
            f"Board {board} has a processor of the configuration {found:#010x}, and the network was compiled for "
            f"{image.config.name}, {image.config.fingerprint:#010x}. Its bitstream was loaded, so the board runs one from its "
            "flash memory, or the port is that of another board: check --port."
        )
