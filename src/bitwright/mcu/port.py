"""A serial port of this machine: opened raw, read with a limit of time.  POSIX by itself, others through pyserial."""

from __future__ import annotations

import os
import select
import time
from typing import Any, Protocol

from bitwright.errors import ExportError, ToolMissing, printable

BAUD = 115200


class Port(Protocol):
    """Bytes in and bytes out."""

    def read(self, seconds: float) -> bytes:
        """What has arrived, waiting so long for the first byte; empty if there is none."""

    def write(self, data: bytes) -> None:
        """Send all of it."""

    def close(self) -> None:
        """Give the port back."""


class Terminal:
    """A terminal device of a POSIX system.

    Args:
        path: Its device.
        baud: Bits per second.

    Raises:
        ExportError: it cannot be opened, or does not know this speed.
    """

    def __init__(self, path: str, baud: int = BAUD) -> None:
        import termios

        speed = getattr(termios, f"B{baud}", None)
        if speed is None:
            raise ExportError(
                f"Ports of this machine have no speed of {baud} baud: choose a usual one, such as {BAUD}."
            )
        try:
            self.handle = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError as error:
            raise ExportError(
                f"Port {printable(path)} cannot be opened: {error.strerror}. Check the cable, the name (ls /dev/tty*) and "
                "that you may use it (group dialout)."
            ) from error
        try:
            mode: list[Any] = termios.tcgetattr(self.handle)
            mode[0] = mode[1] = mode[3] = 0  # raw: nothing is translated, echoed or waited for
            mode[2] = termios.CS8 | termios.CREAD | termios.CLOCAL
            mode[4] = mode[5] = speed
            mode[6][termios.VMIN] = mode[6][termios.VTIME] = 0
            termios.tcsetattr(self.handle, termios.TCSANOW, mode)
        except termios.error as error:
            os.close(self.handle)
            raise ExportError(f"{printable(path)} is no serial port: {printable(error)}.") from error

    def read(self, seconds: float) -> bytes:
        """See ``Port.read``."""
        ready, _, _ = select.select([self.handle], [], [], max(seconds, 0))
        if not ready:
            return b""
        try:
            return os.read(self.handle, 4096)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise ExportError(f"The serial port is gone: {error.strerror}. Check the cable.") from error

    def write(self, data: bytes) -> None:
        """See ``Port.write``."""
        left, deadline = memoryview(data), time.monotonic() + 10
        while left:
            if not select.select([], [self.handle], [], 1)[1]:
                if time.monotonic() > deadline:
                    raise ExportError("The serial port takes no more bytes: check the board and its flow control.")
                continue
            try:
                left = left[os.write(self.handle, left) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise ExportError(f"The serial port is gone: {error.strerror}. Check the cable.") from error

    def close(self) -> None:
        """See ``Port.close``."""
        os.close(self.handle)


def open_port(text: str) -> Port:
    """The port of ``PORT`` or ``PORT@BAUD``.

    Raises:
        ExportError: it cannot be opened.
        ToolMissing: this system needs pyserial.
    """
    path, at, speed = text.rpartition("@")
    if not at or not speed.isdigit():
        path, speed = text, str(BAUD)
    if os.name == "posix":
        return Terminal(path, int(speed))
    return _pyserial(path, int(speed))


def _pyserial(path: str, baud: int) -> Port:
    try:
        import serial  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError as error:
        install = "pip install pyserial"
        raise ToolMissing(
            f"Serial ports of this system need the Python package pyserial: {install}.",
            tool="pyserial",
            install=install,
        ) from error
    try:
        line = serial.Serial(path, baud, timeout=0)
    except serial.SerialException as error:
        raise ExportError(f"Port {printable(path)} cannot be opened: {printable(error)}.") from error

    class Wrapped:
        def read(self, seconds: float) -> bytes:
            line.timeout = seconds
            first: bytes = line.read(1)
            return first + bytes(line.read(line.in_waiting))

        def write(self, data: bytes) -> None:
            line.write(data)

        def close(self) -> None:
            line.close()

    return Wrapped()
