"""What is in the image, for people: the configuration, the map of external memory, the program instruction by instruction."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from bitwright.errors import printable
from bitwright.fpga.config import INSTRUCTION_BYTES, ProcessorConfig
from bitwright.fpga.image import Image, Segment
from bitwright.fpga.isa import Dest, Load, Mode, Unit, Vec, disassemble
from bitwright.fpga.jobs import HostJob
from bitwright.fpga.schedule import Compute, Fetch, Send, schedule

HEADER = ("unit", "last", "stamp", "wait", "post")


def configuration_toml(config: ProcessorConfig) -> str:
    """A configuration as the file that it can be read back from."""
    plain: list[str] = [f"# Fingerprint 0x{config.fingerprint:08x}"]
    tables: list[str] = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            tables += ["", f"[{field.name}]"]
            tables += [f"{f.name} = {_toml(getattr(value, f.name))}" for f in dataclasses.fields(value)]
        else:
            plain.append(f"{field.name} = {_toml(value)}")
    return "\n".join([*plain, *tables, ""])


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int) else json.dumps(str(value))


def memory_map(image: Image) -> str:
    """Regions and tensors of external memory, and what the host does, in order."""
    lines = ["Regions of external memory", "", f"  {'offset':<10}  {'bytes':>12}  {'used':>12}  name"]
    for region in image.regions:
        lines.append(f"  0x{region.offset:08x}  {region.size_bytes:>12}  {region.used_bytes:>12}  {region.name}")
    lines += [
        "",
        f"image.bin, {image.memory.size} bytes of instructions and parameters, goes to 0x{image.memory_offset:08x}, once.",
        "",
        "Tensors that the host reads or writes",
        "",
        "  Pixel after pixel, channels innermost.  `bytes of a pixel` are channels in order and zeros up to whole words,",
        "  but for tensors whose order the C driver lists.",
        "",
        f"  {'offset':<10}  {'rows':>5} {'pixels':>6}  {'bytes of a pixel':>16}  {'of a row':>9}  {'pixel to pixel':>14}  name",
    ]
    plan = schedule(image)
    seen = set()
    for action in plan.actions:
        if isinstance(action, Send | Fetch):
            seen.add((action.buffer, action.place if isinstance(action, Send) else image.graph.places[action.buffer]))
    places = sorted(
        [
            *seen,
            *(
                (name, image.graph.places[name])
                for name in plan.results
                if (name, image.graph.places[name]) not in seen
            ),
        ],
        key=lambda item: (image.address(item[1]), item[0]),
    )
    for name, place in places:
        layout = place.layout
        gathered = ""
        if layout.columns is not None:
            c = layout.columns
            gathered = (
                f"; pixel x holds columns {c.stride} * x + {c.dilation} * t - {c.before} for t = 0 .. {c.taps - 1}, all "
                "channels of each"
            )
        lines.append(
            f"  0x{image.address(place):08x}  {layout.height:>5} {layout.width:>6}  {len(layout.channels):>16}  "
            f"{place.row_words * layout.icp:>9}  {place.pixel_words * layout.icp:>14}  {printable(name, 60)}{gathered}"
        )
    lines += ["", "A frame", ""]
    for action in plan.actions:
        match action:
            case Send(buffer, place):
                lines.append(f"  host writes {printable(buffer, 60)} to 0x{image.address(place):08x}")
            case Fetch(buffer):
                lines.append(f"  host reads {printable(buffer, 60)}")
            case Compute():
                for step, reason in zip(action.steps, action.reasons, strict=True):
                    lines.append(f"  host computes {printable(step.layer, 60)} ({printable(step.op, 30)}): {reason}")
            case Segment():
                lines.append(
                    f"  processor runs the program at 0x{action.address:08x}, {len(action.instructions)} instructions"
                )
    lines += [f"  host reads {printable(name, 60)}" for name in plan.results]
    return "\n".join([*lines, ""])


def listing(image: Image) -> str:
    """The instructions as they are in the image, disassembled; fields that are 0 are left out."""
    lines = ["; queue, tokens waited for and posted, then the fields that are not 0; a layer's number is its stamp"]
    for part in image.parts:
        if isinstance(part, HostJob):
            lines += ["", f"; on the host: {printable(part.step.layer, 80)}"]
            continue
        start = part.address - image.memory_offset
        data = image.memory[start : start + len(part.instructions) * INSTRUCTION_BYTES].tobytes()
        before = -1
        for at, instruction in enumerate(disassemble(data)):
            if instruction.stamp != before:
                before = instruction.stamp
                job = image.graph.jobs[before] if before < len(image.graph.jobs) else None
                layer = "" if job is None or isinstance(job, HostJob) else printable(job.layer, 80)
                lines += ["", f"; layer {before}: {layer}"]
            fields = {f.name: getattr(instruction, f.name) for f in dataclasses.fields(instruction)}
            fields["unit"] = instruction.unit
            shown = [f"wait={fields['wait']:04x}", f"post={fields['post']:04x}"] + (["last"] if fields["last"] else [])
            shown += [
                f"{name}={_value(instruction, name, value)}"
                for name, value in fields.items()
                if name not in HEADER and (value or name in ("dest", "mode"))
            ]
            name = Unit(fields["unit"]).name
            lines.append(f"{part.address + at * INSTRUCTION_BYTES:08x}  {name:<5} {' '.join(shown)}")
    return "\n".join([*lines, ""])


def _value(instruction: Any, name: str, value: int) -> str:
    if name == "address":
        return f"0x{value:08x}"
    if isinstance(instruction, Load) and name == "dest":
        return Dest(value).name
    if isinstance(instruction, Vec) and name == "mode":
        return Mode(value).name
    return str(int(value))
