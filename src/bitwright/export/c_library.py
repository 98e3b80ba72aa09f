"""``c``: a C99 library without malloc, compiled and compared with the reference, every integer of every step."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitwright.errors import ExportError, printable
from bitwright.export.c.counting import can_measure, measured
from bitwright.export.c.patching import by_patches
from bitwright.export.c.writer import Exported, write
from bitwright.export.exporter import Exporter
from bitwright.export.report import ExportReport, Reading
from bitwright.mcu.microcontrollers import check_core
from bitwright.program.program import Program
from bitwright.program.prune import prune as pruned

if TYPE_CHECKING:
    from bitwright.export.running import Codes
    from bitwright.quantized import Quantized


@dataclass(frozen=True)
class Written:
    """What was written, for reading it back.

    Attributes:
        tree: The files.
        program: Their program: that of the network, or what was left of it when constant channels were taken out.
        library: Folder of the user's library of kernels.
    """

    tree: Exported
    program: Program
    library: str | None = None


def export_c(
    q: Quantized,
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    core: str | None = None,
    kernels: str = "own",
    prune: bool = True,
    patches: str = "off",
    library: str | None = None,
    measure: str = "auto",
    flash: str | None = None,
    ram: str | None = None,
) -> ExportReport:
    """Write the program as a folder of C99 with build files, a self-test and a memory report.

    Args:
        q: The quantized network, without pieces that stay in float.
        path: The folder.
        name: Name of the network in C; the network's own by default.
        core: The core that kernels are chosen for, as gcc spells it (``cortex-m4``); portable C by default.
        kernels: ``own``, or a library of the user that is called where it computes the same integers.
        prune: Take out channels that are proven constant, which changes no output.
        patches: Run the first layers patch by patch over the picture, to need less RAM: ``auto`` for up to 16 patches and
            20 % more work, a number for up to so many patches, or ``off``.
        library: The folder of the user's CMSIS-NN, to build with when the files are read back.
        measure: Count instructions on an emulated board: ``yes``, ``no``, or ``auto``, which does it where a board of the
            core can be run here.  Otherwise the report has an estimate.
        flash: Refuse what needs more flash: bytes, or ``256k``, ``1M``.
        ram: Refuse what needs a larger arena.

    Raises:
        UnsupportedOp: if a layer stays in float.
        DoesNotFit: if more memory is needed than there is.
        UnknownTarget: if there is no such core; the nearest are named.
        ToolMissing: if counting was asked for, and compiler or emulator is missing.
    """
    chosen = None if core == "portable" else core
    if chosen is not None:
        check_core(chosen)
    if measure not in ("auto", "yes", "no"):
        raise ExportError(f"Option measure is auto, yes or no, not '{printable(measure, 40)}'.")
    if measure == "yes" and chosen is None:
        raise ExportError("Instructions are counted on a core: give one (--core cortex-m4), or leave out measure.")
    program = q.program
    notes: tuple[str, ...] = ()
    if prune:
        program, taken = pruned(program)
        notes = taken.sentences if any(taken.removed.values()) else ()
    patching = by_patches(program, patches, chosen, kernels)
    program = patching.program
    tree = write(
        program,
        Path(path),
        name=name,
        core=chosen,
        kernels=kernels,
        patching=patching,
        contract=q.contract,
        flash_bytes=parse_bytes("flash", flash),
        ram_bytes=parse_bytes("ram", ram),
    )
    if chosen is not None and (measure == "yes" or (measure == "auto" and can_measure(tree.report, chosen))):
        tree = replace(tree, report=measured(tree, program, chosen))
    memory = (
        tree.report["ram"]["arena_bytes"],
        tree.report["flash"].get("linked_bytes", tree.report["flash"]["estimate_bytes"]),
    )
    counted = tree.report["instructions"]
    sentence = f"It needs {memory[0]:,} bytes of RAM for the arena and about {memory[1]:,} bytes of flash."
    if counted["total"] is not None:
        sentence += f" An inference takes {counted['total']:,} instructions, {counted['basis']}."
    return ExportReport(
        format="c",
        # The library and its header come first.
        files=tuple(Path(path) / file for file in tree.files),
        promise="bit-exact",
        notes=(sentence, *notes, *uncovered(tree.report), *([patching.sentence] if patches != "off" else [])),
        facts={
            "prefix": tree.prefix,
            "arena_bytes": memory[0],
            "flash_bytes": memory[1],
            "instructions": counted["total"],
            "instructions_basis": counted["basis"],
        },
        handle=Written(tree, program, library),
    )


def uncovered(report: Mapping[str, Any]) -> tuple[str, ...]:
    """Which layers the user's library does not compute, and why, in sentences."""
    reasons: dict[str, list[str]] = {}
    for row in report["layers"]:
        if "not_by_library" in row:
            reasons.setdefault(str(row["not_by_library"]), []).append(str(row["layer"]))
    return tuple(
        f"{len(layers)} of the steps run on bitwright's own kernels ({', '.join(printable(x, 40) for x in layers[:3])}"
        f"{' …' if len(layers) > 3 else ''}): {reason}."
        for reason, layers in reasons.items()
    )


def library_flags(kernels: str, folder: str | None) -> tuple[str, ...]:
    """What a compiler of this machine wants besides, where kernels are the user's own.

    Args:
        kernels: ``own`` or the library.
        folder: Where the library is.

    Raises:
        ExportError: the library is not given, or does not build for this machine.
    """
    if kernels == "own":
        return ()
    if kernels != "cmsis-nn":
        raise ExportError(
            f"Kernels {printable(kernels, 40)} build for microcontrollers only, so the files cannot be read back on this "
            "machine. Run the generated self-test on the device."
        )
    root = Path(folder or "")
    sources = sorted(str(f) for f in root.glob("Source/*/*.c") if not f.stem.endswith(("_f16", "_f32")))
    if folder is None or not sources:
        raise ExportError(
            "The generated C calls CMSIS-NN, which is not part of bitwright: give the folder of yours, the one with Include "
            "and Source in it, to build with it (--option library=FOLDER)."
        )
    return ("-w", f"-isystem{root / 'Include'}", *sources)


def parse_bytes(option: str, text: str | None) -> int | None:
    """``65536``, ``64k`` or ``1M`` as bytes.

    Raises:
        ExportError: it is no such number.
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kKmM]?)(?:i?[bB])?", str(text).strip())
    if found is None:
        raise ExportError(
            f"Option {option} is a number of bytes such as 65536, 256k or 1M, not '{printable(text, 40)}'."
        )
    return int(float(found[1]) * {"": 1, "k": 1024, "m": 1 << 20}[found[2].lower()])


def read_c(q: Quantized, report: ExportReport, codes: Codes | None) -> Reading:
    """Compile the library, run it on the samples, and compare what every step computes.

    Raises:
        Mismatch: naming the first integer that differs.
        ToolMissing: if there is no C compiler.
    """
    from bitwright.mcu.host import OPTIMIZE, check

    assert codes is not None  # this format runs
    inputs = dict(zip(q.program.inputs, codes.integers, strict=True))
    written: Written = report.handle
    flags = (*OPTIMIZE, *library_flags(str(written.tree.report["kernels"]), written.library))
    found = check(written.tree, written.program, inputs, flags=flags)
    return Reading(
        reader=found.compiler,
        compared=found.values,
        differing=0,
        # They were found to be equal, so the reference's are the library's.
        result=b"".join(x.astype("<i8").tobytes() for x in codes.expected),
        samples=found.samples,
    )


EXPORTER = Exporter(
    name="c",
    summary="A C99 library without malloc, with build files, a self-test and a memory report.",
    promise="bit-exact",
    path="folder",
    suffix="",
    write=export_c,
    read=read_c,
    runs=True,
)
