"""``NAME_serial.c``: the network behind a serial line, so that a host can run samples on a board and compare."""

from __future__ import annotations

import json
import zlib

from bitwright.export.c.names import type_of
from bitwright.mcu.firmware import FOLDER
from bitwright.mcu.runtime import fill_in
from bitwright.program.codec import program_to_dict
from bitwright.program.program import Program


def identity(program: Program) -> int:
    """A number that tells this program from others: CRC-32 of its steps and constants."""
    crc = zlib.crc32(json.dumps(program_to_dict(program), sort_keys=True).encode("utf-8"))
    for name, values in sorted(program.tensors.items()):
        crc = zlib.crc32(name.encode("utf-8") + values.astype(values.dtype.newbyteorder("<")).tobytes(), crc)
    return crc


def source(program: Program, prefix: str) -> str:
    """The C text."""
    members = {
        role: [
            f"    {type_of(program.buffers[name].format.dtype)} {role}{i}[{program.buffers[name].size}];"
            for i, name in enumerate(names)
        ]
        for role, names in (("x", program.inputs), ("y", program.outputs))
    }
    arguments = [f"in.x{i}" for i in range(len(program.inputs))] + [f"out.y{i}" for i in range(len(program.outputs))]
    return fill_in(
        (FOLDER / "serial.c").read_text("utf-8"),
        {
            "PREFIX": prefix,
            "UPPER": prefix.upper(),
            "INPUTS": "\n".join(members["x"]),
            "OUTPUTS": "\n".join(members["y"]),
            "ARGUMENTS": ", ".join(arguments),
            "ID": f"0x{identity(program):08x}",
        },
    )


def offsets(program: Program, names: tuple[str, ...]) -> tuple[dict[str, int], int]:
    """Where each buffer lies in the structure of inputs or outputs, and the structure's size, by the rules of C."""
    found, at, widest = {}, 0, 1
    for name in names:
        item = program.buffers[name].format.dtype.itemsize
        at = -(-at // item) * item
        found[name] = at
        at += program.buffers[name].size * item
        widest = max(widest, item)
    return found, -(-at // widest) * widest
