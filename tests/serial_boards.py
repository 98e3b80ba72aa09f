"""Boards at the other end of a serial line: generated serial programs on this machine and in an emulator."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import threading
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bitwright.export.c.writer import Exported
from bitwright.mcu import host
from bitwright.mcu.board import Board
from bitwright.mcu.firmware import FLAGS, FOLDER, TIMERS, compiler, linker_script

# The UART of Arm's CMSDK (Arm Cortex-M System Design Kit TRM, 4.3): data, state (bit 0: full to send, bit 1: something
# has come), control (bits 0 and 1: send and receive), divider of the clock.
CMSDK_UART = """\
#include <stdint.h>
#define UART ((volatile uint32_t *)0x40004000u)
int bw_serial_get(void)
{
    for (int32_t i = 0; i < 4000000; i++) {
        if (UART[1] & 2u) {
            return (int)(UART[0] & 255u);
        }
    }
    return -1;
}
void bw_serial_put(uint8_t byte)
{
    while (UART[1] & 1u) {
    }
    UART[0] = byte;
}
void NAME_serve(void);
int main(void)
{
    UART[4] = 16;
    UART[2] = 3;
    NAME_serve();
    return 0;
}
"""


@contextmanager
def on_this_machine(tree: Exported, folder: Path, *, damage: int = 0) -> Iterator[str]:
    """The serial program as a process at a pseudo-terminal; gives the terminal's path.

    With ``damage``, every so many bytes one is lost, one is changed and one is doubled, in both directions.
    """
    program = folder / "serial"
    sources = [str(tree.directory / name) for name in (*tree.library_sources, f"{tree.prefix}_serial.c")]
    subprocess.run(
        [*host.compiler(), "-std=gnu99", "-Wall", "-Wextra", "-Werror", *host.OPTIMIZE, "-DBW_SERIAL_STDIO",
         f"-D{tree.prefix.upper()}_HOOKS=1", *sources, "-o", str(program), "-lm"],
        check=True,
    )  # fmt: skip
    master, slave = pty.openpty()
    tty.setraw(slave)
    board = subprocess.Popen([str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    assert board.stdin is not None
    assert board.stdout is not None
    stop = threading.Event()
    pumps = [
        threading.Thread(target=_pump, args=(master, board.stdin.fileno(), stop, damage)),
        threading.Thread(target=_pump, args=(board.stdout.fileno(), master, stop, damage)),
    ]
    for pump in pumps:
        pump.start()
    try:
        yield os.ttyname(slave)
    finally:
        stop.set()
        for pump in pumps:
            pump.join()
        board.stdin.close()
        board.wait(timeout=10)
        board.stdout.close()
        os.close(master)
        os.close(slave)


def _pump(source: int, target: int, stop: threading.Event, damage: int) -> None:
    seen = 0
    while not stop.is_set():
        if not select.select([source], [], [], 0.05)[0]:
            continue
        try:
            data = os.read(source, 1024)
        except OSError:
            return
        out = bytearray()
        for byte in data:
            seen += 1
            place = seen % damage if damage else -1
            if place == 0:
                continue
            out.append(byte ^ 16 if place == damage // 3 else byte)
            if place == 2 * damage // 3:
                out.append(byte)
        os.write(target, bytes(out))


@contextmanager
def in_an_emulator(tree: Exported, board: Board, folder: Path) -> Iterator[str]:
    """The serial program in QEMU with its UART at a pseudo-terminal; gives the terminal's path."""
    uart, script, elf = folder / "uart.c", folder / "link.ld", folder / "serial.elf"
    uart.write_text(CMSDK_UART.replace("NAME", tree.prefix))
    script.write_text(linker_script(board))
    sources = [str(tree.directory / name) for name in (*tree.library_sources, f"{tree.prefix}_serial.c")]
    options = [f"-DBW_TIMER={TIMERS[board.timer.kind]}", f"-DBW_TIMER_ADDRESS={board.timer.address:#x}u"]
    options += [f"-I{FOLDER}", f"-D{tree.prefix.upper()}_HOOKS=1", "-DBW_CLOCK_HZ=25000000"]
    subprocess.run(
        [*compiler(board, "gcc"), *FLAGS, "-Werror", *options, *sources, str(uart), str(FOLDER / "start_arm.c"),
         "-o", str(elf), f"-Wl,-T,{script}", "-Wl,--gc-sections", "-nostdlib", "-Wl,--no-warn-rwx-segments",
         "-lm", "-lc", "-lgcc"],
        check=True,
    )  # fmt: skip
    master, slave = pty.openpty()
    tty.setraw(slave)
    emulator = subprocess.Popen(
        [board.qemu.system, "-M", board.qemu.machine, "-display", "none", "-monitor", "none", "-serial", "stdio",
         "-kernel", str(elf)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
    )  # fmt: skip
    assert emulator.stdin is not None
    assert emulator.stdout is not None
    stop = threading.Event()
    pumps = [
        threading.Thread(target=_pump, args=(master, emulator.stdin.fileno(), stop, 0)),
        threading.Thread(target=_pump, args=(emulator.stdout.fileno(), master, stop, 0)),
    ]
    for pump in pumps:
        pump.start()
    time.sleep(0.2)
    try:
        yield os.ttyname(slave)
    finally:
        stop.set()
        for pump in pumps:
            pump.join()
        emulator.kill()
        emulator.wait(timeout=10)
        emulator.stdin.close()
        emulator.stdout.close()
        os.close(master)
        os.close(slave)
