"""``rtl``: the open processor as Verilog, the network's program and image, a C driver and a test bench."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitwright.errors import ExportError, printable
from bitwright.export.c.names import plain
from bitwright.export.c.writer import random_samples
from bitwright.export.exporter import Exporter
from bitwright.export.report import ExportReport, Reading, compare_codes, write_bytes
from bitwright.export.rtl import simulated
from bitwright.export.rtl.bench import bench, models
from bitwright.export.rtl.listing import configuration_toml, listing, memory_map
from bitwright.export.rtl.network_c import Driver, network_files
from bitwright.export.rtl.readme import Facts, makefile, readme
from bitwright.fpga.config import load_config
from bitwright.fpga.cycles import timing
from bitwright.fpga.image import Image, Segment, compile_program
from bitwright.fpga.verilog import check_bus, verilog

if TYPE_CHECKING:
    from bitwright.export.running import Codes
    from bitwright.quantized import Quantized


@dataclass(frozen=True)
class Written:
    """What was written, for reading it back.

    Attributes:
        folder: Where.
        image: The compiled network.
        driver: Its C.
        cycles: Of a frame, by the cycle model.
    """

    folder: Path
    image: Image
    driver: Driver
    cycles: int


def export_rtl(
    q: Quantized,
    path: str | os.PathLike[str],
    *,
    config: str = "dlp576",
    bus: str = "axi4",
    name: str | None = None,
) -> ExportReport:
    """Write the processor as Verilog, the network as its program, and what a host needs to run it.

    Args:
        q: A network quantized for the processor (target ``fpga``).
        path: The folder.
        config: The processor: a configuration's name, or a file of your own that ends in ``.toml``.
        bus: How memory and registers are reached: ``axi4`` (with AXI4-Lite) or ``wishbone`` (B4, pipelined).
        name: Name of the network in C; the network's own by default.

    Raises:
        ExportError: none of the steps runs on the processor, or an option is unknown.
        UnsupportedOp: a step is computed in floats.
        UnknownTarget: there is no such configuration; the nearest are named.
        DoesNotFit: a layer or the network does not fit the configuration.
        ToolMissing: Amaranth or Yosys is not installed.
    """
    chosen = check_bus(bus)
    processor = load_config(config)
    image = compile_program(q.program, processor)
    if not any(isinstance(part, Segment) for part in image.parts):
        first = next((part for part in image.parts if not isinstance(part, Segment)), None)
        why = f' ("{printable(first.step.layer, 60)}": {first.reason})' if first is not None else ""
        raise ExportError(
            f"No step of this network runs on the processor{why}. It computes what was quantized with: bitwright quantize "
            "--target fpga."
        )
    driver = network_files(image, plain(name or q.name), q.contract)
    checked = bench(image, random_samples(q.program, 1)[0], chosen)
    times = timing(image)
    cycles = sum(times.segments)
    hardware = verilog(processor, chosen)
    facts = Facts(image, chosen, driver, cycles, checked.compared, hardware)
    texts: dict[str, str] = {
        "rtl/processor.v": hardware,
        "rtl/configuration.toml": configuration_toml(processor),
        "image/memory_map.txt": memory_map(image),
        "image/program.txt": listing(image),
        **{f"bench/{file}": text for file, text in checked.files.items()},
        **{f"bench/{file}": text for file, text in models(hardware).items()},
        "bench/Makefile": makefile(models(hardware)),
        **{f"driver/{file}": text for file, text in driver.files.items()},
        "README.md": readme(facts),
    }
    folder = Path(path)
    contents: dict[str, bytes] = {"image/image.bin": image.memory.tobytes()}
    contents |= {file: text.encode("utf-8") for file, text in texts.items()}
    try:
        files = [write_bytes(folder / file, data) for file, data in contents.items()]
    except OSError as error:
        raise ExportError(
            f"The files cannot be written to {printable(folder)}: {error.strerror}. Choose another folder with -o."
        ) from error
    files.sort(key=lambda file: (file.name != "README.md", str(file)))
    sentence = (
        f"A frame takes {cycles:,} cycles by the cycle model, {processor.clock_hz / cycles:.1f} a second at "
        f"{processor.clock_hz / 1e6:g} MHz; {image.size_bytes:,} bytes of external memory."
    )
    return ExportReport(
        format="rtl",
        files=tuple(files),
        promise="bit-exact",
        notes=(sentence, *_on_host(image)),
        facts={
            "config": processor.name,
            "fingerprint": f"0x{processor.fingerprint:08x}",
            "bus": chosen,
            "prefix": driver.prefix,
            "cycles": cycles,
            "memory_bytes": image.size_bytes,
            "arena_bytes": driver.arena_bytes,
            "host_steps": driver.host_steps,
        },
        handle=Written(folder, image, driver, cycles),
    )


def _on_host(image: Image) -> tuple[str, ...]:
    """Which layers the host computes, and why, in sentences."""
    reasons: dict[str, list[str]] = {}
    for part in image.parts:
        if not isinstance(part, Segment):
            reasons.setdefault(part.reason, []).append(part.step.layer)
    found = []
    for reason, layers in reasons.items():
        names = list(dict.fromkeys(layers))
        more = " …" if len(names) > 3 else ""
        shown = ", ".join(printable(layer, 40) for layer in names[:3])
        found.append(f"In C on the host, not in the cycles: {shown}{more}, because {reason}.")
    return tuple(found)


def read_rtl(q: Quantized, report: ExportReport, codes: Codes | None) -> Reading:
    """Compile the Verilog to a simulator and the C to a library, and let the one drive the other on the samples.

    Raises:
        Mismatch: the driver or the hardware fails; our bug.
        ToolMissing: a compiler is missing.
    """
    assert codes is not None  # this format runs
    written: Written = report.handle
    config, folder, driver = written.image.config, written.folder.resolve(), written.driver
    bus = check_bus(str(report.facts["bus"]))
    kind = simulated.kind_for(written.cycles * codes.samples)
    library = simulated.simulator(folder / "rtl" / "processor.v", bus, kind)
    inputs = dict(zip(q.program.inputs, codes.integers, strict=True))
    with tempfile.TemporaryDirectory() as temporary:
        compiled = Path(temporary) / "driver.so"
        compiler = simulated.compiled_driver(folder / "driver", driver.sources, compiled)
        hardware = simulated.Hardware(library, written.image.size_bytes, config.bus.bytes, config.bus.latency_cycles)
        driven = simulated.Driven(compiled, driver.prefix, q.program, driver.arena_bytes)
        ran = simulated.run_samples(driven, hardware, (folder / "image" / "image.bin").read_bytes(), inputs)
    found: Mapping[str, Any] = ran.outputs
    simulator = "Verilator" if kind == "verilator" else "CXXRTL"
    return compare_codes(
        f"the C driver (by {compiler}) on the Verilog (in {simulator})",
        codes.expected,
        [found[name] for name in q.program.outputs],
        notes=(f"{ran.cycles:,} cycles for the first sample in the simulated hardware.",),
    )


EXPORTER = Exporter(
    name="rtl",
    summary="The open processor as Verilog, the network's program and image, a C driver and a test bench.",
    promise="bit-exact",
    path="folder",
    suffix="",
    write=export_rtl,
    read=read_rtl,
    runs=True,
)
