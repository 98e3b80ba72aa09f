"""``NAME.h`` and ``NAME.c``: one network on the processor, as C calls it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bitwright.data.contract import InputContract
from bitwright.export.c import interface
from bitwright.export.c.constants import Constants
from bitwright.export.c.layout import Layout, plain_order
from bitwright.export.c.names import Names, comment, plain, string, type_of
from bitwright.export.rtl.host_steps import Arena, Group, arena, call_lines, groups
from bitwright.fpga.image import Image, Segment
from bitwright.fpga.jobs import HostJob, Place
from bitwright.fpga.layout import padded, spatial
from bitwright.fpga.registers import BASE_ALIGNMENT, BITS, CONSTANTS, MAP
from bitwright.fpga.schedule import Compute, Fetch, Schedule, Send, schedule

HERE = Path(__file__).parent / "driver"
PROFILED = 256
RETURN = "if ((result = {}) != BWP_OK) {{\n        return result;\n    }}"


@dataclass(frozen=True)
class Driver:
    """The C of a network.

    Attributes:
        prefix: Its name in C.
        files: File name → text.
        sources: The C files among them.
        arena_bytes: Working memory of the host.
        host_steps: Steps that run on the host.
    """

    prefix: str
    files: dict[str, str]
    arena_bytes: int
    host_steps: int

    @property
    def sources(self) -> list[str]:
        """The C files of the driver, without the example."""
        return [name for name in self.files if name.endswith(".c") and name != "example.c"]


def processor_files() -> dict[str, str]:
    """The driver's part that is the same for all networks."""
    offsets = [f"#define BWP_{r.name} 0x{r.offset:02x}u /* {r.access}: {r.meaning} */" for r in MAP]
    bits = [f"#define BWP_{b.register}_{b.name} 0x{1 << b.bit:x}u /* {b.meaning} */" for b in BITS]
    values = {
        "REGISTERS": "\n".join(offsets),
        "BITS": "\n".join(bits),
        "IDENTITY": f"{CONSTANTS['IDENTITY']:08x}",
        "VERSION": f"{CONSTANTS['VERSION']}u",
        "ALIGNMENT": str(BASE_ALIGNMENT),
    }
    found = {}
    for name in ("bitwright_processor.h", "bitwright_processor.c"):
        text = (HERE / name).read_text("utf-8")
        for key, value in values.items():
            text = text.replace(f"@{key}@", value)
        found[name] = text
    return found


def example(image: Image, prefix: str, arena_bytes: int) -> str:
    """A program that runs the network on files, for memory and registers that are mapped."""
    program, buffers = image.program, image.program.buffers
    given = [(f"in{i}", buffers[n]) for i, n in enumerate(program.inputs)]
    found = [(f"out{i}", buffers[n]) for i, n in enumerate(program.outputs)]
    lines = [f"static {type_of(b.format.dtype)} {symbol}[{b.size}];" for symbol, b in (*given, *found)]
    if arena_bytes:
        lines.append(f"static uint64_t arena[{prefix.upper()}_ARENA_BYTES / 8 + 1];")
    table = ", ".join(f"{{{symbol}, sizeof({symbol})}}" for symbol, _ in given)
    lines.append(f"static const struct {{\n    void *data;\n    size_t bytes;\n}} inputs[] = {{{table}}};")
    values = {
        "NAME": comment(program.name),
        "PREFIX": prefix,
        "BUFFERS": "\n".join(lines),
        "INPUTS": str(len(given)),
        "ARGUMENTS": ", ".join(symbol for symbol, _ in (*given, *found)),
        "ARENA": "arena" if arena_bytes else "NULL",
        "WRITES": "\n".join(f"    fwrite({symbol}, 1, sizeof({symbol}), stdout);" for symbol, _ in found),
    }
    text = (HERE / "example.c").read_text("utf-8")
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text


class _Writer:
    """Collects the tables and lines of a network."""

    def __init__(self, image: Image, prefix: str, contract: InputContract | None) -> None:
        self.image, self.prefix, self.upper = image, prefix, prefix.upper()
        self.program = image.program
        self.plan: Schedule = schedule(image)
        self.groups: dict[Compute, Group] = groups(self.program, self.plan, prefix)
        given = {*self.program.inputs, *self.plan.results}
        kept = dict.fromkeys(
            name
            for group in self.groups.values()
            for name in (*group.program.inputs, *group.program.outputs)
            if name not in given
        )
        fetched = [a.buffer for a in self.plan.actions if isinstance(a, Fetch) and a.buffer not in given]
        self.arena: Arena = arena(self.program, dict.fromkeys([*kept, *fetched]), self.groups.values())
        self.constants = Constants(prefix, Names())
        layouts = {
            n: Layout(self.program.buffers[n].shape, plain_order(len(self.program.buffers[n].shape)))
            for n in (*self.program.inputs, *self.program.outputs)
        }
        self.helpers = interface.helpers(self.program, layouts, prefix, contract, self.constants)
        self.tensors: list[str] = []
        self.tables: dict[tuple[int, ...], str] = {}
        self.numbers: dict[tuple[str, Place], str] = {}

    def pointer(self, name: str) -> str:
        """The first element of a buffer that the host has."""
        if name in self.program.inputs:
            return f"in{self.program.inputs.index(name)}"
        if name in self.arena.offsets:
            return self.arena.pointer(name)
        return f"out{self.program.outputs.index(name)}"

    def tensor(self, name: str, place: Place) -> str:
        """The description of a place, made once."""
        if (name, place) not in self.numbers:
            symbol = f"tensor_{len(self.numbers)}"
            self.numbers[name, place] = symbol
            layout, columns = place.layout, place.layout.columns
            channels, _, width = spatial(self.program.buffers[name].shape)
            taps = 1 if columns is None else columns.taps
            order = "NULL"
            if layout.channels != padded(taps * channels, layout.icp):
                order = self.tables.setdefault(layout.channels, f"order_{len(self.tables)}")
            gathered = (1, 1, 1, 0, width) if columns is None else (
                columns.taps, columns.stride, columns.dilation, columns.before, width
            )  # fmt: skip
            numbers = [
                f"0x{self.image.address(place):08x}u", f"{place.row_words * layout.icp}u",
                f"{place.pixel_words * layout.icp}u", layout.height, layout.width, len(layout.channels), channels, order,
                *gathered,
            ]  # fmt: skip
            self.tensors.append(
                f"/* {comment(name)} */\nstatic const bwp_tensor_t {symbol} = {{{', '.join(map(str, numbers))}}};"
            )
        return self.numbers[name, place]

    def body(self) -> list[str]:
        """The lines of the run function."""
        lines: list[str] = []
        for action in self.plan.actions:
            match action:
                case Send(buffer, place):
                    lines.append(RETURN.format(f"bwp_send(p, &{self.tensor(buffer, place)}, {self.pointer(buffer)})"))
                case Fetch(buffer):
                    place = self.image.graph.places[buffer]
                    lines.append(RETURN.format(f"bwp_fetch(p, &{self.tensor(buffer, place)}, {self.pointer(buffer)})"))
                case Segment():
                    layers = dict.fromkeys(comment(self._layer(n), 30) for n in action.jobs)
                    first, *_, last = *layers, *layers
                    shown = first if first == last else f"{first} .. {last}"
                    lines.append(f"/* {shown} */\n    " + RETURN.format(f"bwp_run(p, 0x{action.address:08x}u, cycles)"))
                case Compute():
                    group = self.groups[action]
                    names = (*group.program.inputs, *group.program.outputs)
                    pointers = {name: self.pointer(name) for name in names}
                    layers = dict.fromkeys(comment(step.layer, 30) for step in action.steps)
                    lines.append(f"/* on the host: {', '.join(layers)} */")
                    lines += call_lines(group, self.arena, pointers)
        for name in dict.fromkeys(self.program.outputs):
            at = self.program.outputs.index(name)
            if name in self.plan.results:
                place = self.image.graph.places[name]
                lines.append(RETURN.format(f"bwp_fetch(p, &{self.tensor(name, place)}, out{at})"))
            elif self.pointer(name) != f"out{at}":
                lines.append(f"memcpy(out{at}, {self.pointer(name)}, {self.program.buffers[name].size_bytes});")
        for at, name in enumerate(self.program.outputs):
            same = self.program.outputs.index(name)
            if same != at:
                lines.append(f"memcpy(out{at}, out{same}, {self.program.buffers[name].size_bytes});")
        return lines

    def _layer(self, number: int) -> str:
        job = self.image.graph.jobs[number]
        return job.step.layer if isinstance(job, HostJob) else job.layer

    def arguments(self) -> str:
        """Parameters of the run function after the processor."""
        buffers = self.program.buffers
        parts = [f"const {type_of(buffers[n].format.dtype)} *in{i}" for i, n in enumerate(self.program.inputs)]
        parts += [f"{type_of(buffers[n].format.dtype)} *out{i}" for i, n in enumerate(self.program.outputs)]
        return ", ".join([*parts, "void *arena", "uint64_t *cycles"])

    def layer_names(self) -> list[str]:
        """Names by the number that the profiler knows them by."""
        return [self._layer(number) for number in range(min(len(self.image.graph.jobs), PROFILED))]

    def source(self) -> str:
        """``NAME.c``."""
        body = self.body()
        image = self.image
        pointers = [f"in{i}" for i in range(len(self.program.inputs))]
        pointers += [f"out{i}" for i in range(len(self.program.outputs))]
        missing = " || ".join(f"{name} == NULL" for name in ["p", *pointers])
        helper_text = [helper.definition for helper in self.helpers]
        uses = "\n".join([*body, *helper_text])
        headers = ["string"] if "memcpy(" in uses or "memset(" in uses else []
        headers += ["math"] if "fabs(" in uses or "floor(" in uses else []
        work = ["    int result;", "    (void)arena;"]
        if self.groups:
            work = [
                "    int result;",
                "    unsigned char *const a = (unsigned char *)arena;",
                "    if (arena == NULL || (uintptr_t)arena % 8 != 0) {",
                "        return BWP_HOST_STEP;",
                "    }",
            ]
        checks = [f"    if ({missing}) {{", "        return BWP_BAD_ARGUMENT;", "    }"]
        orders = [
            f"static const int16_t {symbol}[{len(channels)}] = {{{', '.join(map(str, channels))}}};"
            for channels, symbol in self.tables.items()
        ]
        described = (
            f"0x{image.memory_offset:08x}u, {image.memory.size}u, 0x{zlib.crc32(image.memory.tobytes()):08x}u, "
            f"0x{image.config.fingerprint:08x}u"
        )
        lines = [
            f'#include "{self.prefix}.h"',
            *(f'#include "{group.emitter.prefix}.h"' for group in self.groups.values()),
            *(["", *(f"#include <{name}.h>" for name in headers)] if headers else []),
            "",
            f"const bwp_image_t {self.prefix}_image = {{{described}}};",
            "",
            f"const char *const {self.prefix}_layers[{self.upper}_LAYERS] = {{",
            *(f"    {string(name)}," for name in self.layer_names() or [""]),
            "};",
            "",
            *orders,
            *self.tensors,
            "",
            *(line.replace("BW_WEIGHTS_SECTION", "static") for line in self.constants.definitions()),
            f"int {self.prefix}_run(const bwp_t *p, {self.arguments()})",
            "{",
            *work,
            *checks,
            "    if (cycles != NULL) {",
            "        *cycles = 0;",
            "    }",
            *(line if line.startswith("#") else f"    {line}" for line in body),
            "    return BWP_OK;",
            "}",
            "",
            *helper_text,
            "",
        ]
        return "\n".join(lines)

    def header(self) -> str:
        """``NAME.h``."""
        program, upper, prefix = self.program, self.upper, self.prefix
        lines = [
            f"/* {comment(program.name)} on bitwright's processor {comment(self.image.config.name)}, written by bitwright. */",
            f"#ifndef {upper}_H",
            f"#define {upper}_H",
            "",
            '#include "bitwright_processor.h"',
            "",
            "#ifdef __cplusplus",
            'extern "C" {',
            "#endif",
            "",
            "/* External memory that the network needs, from the memory's base on. */",
            f"#define {upper}_MEMORY_BYTES {self.image.size_bytes}u",
            "/* Working memory of the host, aligned to 8; none where this is 0. */",
            f"#define {upper}_ARENA_BYTES {self.arena.most_bytes}u",
            f"#define {upper}_LAYERS {max(len(self.layer_names()), 1)}",
            "",
        ]
        for role, names in (("INPUT", program.inputs), ("OUTPUT", program.outputs)):
            for i, name in enumerate(names):
                buffer = program.buffers[name]
                macro = f"{upper}_{role}{'' if len(names) == 1 else i}"
                lines += [
                    f"/* {role.lower()} {comment(name)}: {comment(buffer.format)}, real = scale * (integer - zero point).",
                    f"   In memory: {' x '.join(map(str, buffer.shape))}, the last index fastest, as in the network. */",
                    f"#define {macro}_SIZE {buffer.size}",
                    f"#define {macro}_SCALE {interface.real(float(np.asarray(buffer.format.scale)))}",
                    f"#define {macro}_ZERO_POINT {int(buffer.format.zero_point)}",
                    "",
                ]
        lines += [
            "/* What is written into external memory once: the content of image.bin. */",
            f"extern const bwp_image_t {prefix}_image;",
            "/* Layers by the number that bwp_profile takes. */",
            f"extern const char *const {prefix}_layers[{upper}_LAYERS];",
            "",
            "/* Checks the processor and the image's sum, and writes the image. */",
            f"#define {prefix}_load(p, data, bytes) bwp_load((p), &{prefix}_image, (data), (bytes))",
            "",
            "/* One frame.  `arena` may be NULL where no memory is needed.  The cycles of the processor go to `*cycles`,",
            "   unless that is NULL.  Returns BWP_OK or another of its results. */",
            f"int {prefix}_run(const bwp_t *p, {self.arguments()});",
            "",
        ]
        for helper in self.helpers:
            lines += [f"/* {helper.comment} */", f"{helper.prototype};", ""]
        lines += ["#ifdef __cplusplus", "}", "#endif", "", "#endif", ""]
        return "\n".join(lines)


def network_files(image: Image, name: str, contract: InputContract | None) -> Driver:
    """The C driver of a network.

    Args:
        image: The compiled network.
        name: The network's name.
        contract: What its inputs are, for the functions that take pixels.

    Raises:
        UnsupportedOp: a step is computed in floats.
    """
    prefix = plain(name)
    if prefix.lower() in ("bitwright_processor", "example"):
        prefix += "_net"
    writer = _Writer(image, prefix, contract)
    source = writer.source()
    files = {f"{prefix}.h": writer.header(), f"{prefix}.c": source, **processor_files()}
    files["example.c"] = example(image, prefix, writer.arena.most_bytes)
    for group in writer.groups.values():
        files |= group.files()
    steps = sum(len(action.steps) for action in writer.groups)
    return Driver(prefix, files, writer.arena.most_bytes, steps)
