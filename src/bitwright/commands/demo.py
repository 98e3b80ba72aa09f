"""``bitwright demo``: the whole way on a small network that comes with bitwright."""

from __future__ import annotations

import shlex
import shutil
import time
from pathlib import Path
from typing import NamedTuple

import click

from bitwright.commands import screen

SHIPPED = Path(__file__).parent.parent / "demo"
FILES = ("digits.onnx", "digits.toml", "digits-calib.npz", "digits-val.npz")


class Step(NamedTuple):
    """What is said, and the command that follows; {} stands for the folder."""

    text: str
    command: str


STEPS = (
    Step(
        "A small network that reads handwritten digits, and small gray images of them, are now in {}. What would "
        "become of it on an FPGA? That needs no data.",
        "inspect {}/digits.onnx --target fpga",
    ),
    Step(
        "To choose integers, bitwright must know what the tensors hold: it runs the float network once over some "
        "images. Labels are not needed.",
        "calibrate {}/digits.onnx --data {}/digits-calib.npz -o {}/digits.bwcal --quiet",
    ),
    Step(
        "The same calibration serves every target. First a machine that can multiply by any number, with its own "
        "step for each channel of the weights:",
        "quantize {}/digits.onnx --data {}/digits.bwcal --target generic -o {}/digits-generic.bw",
    ),
    Step(
        "Then the open FPGA processor, where every step is a power of two, so that rescaling is a shift:",
        "quantize {}/digits.onnx --data {}/digits.bwcal --target fpga -o {}/digits-fpga.bw",
    ),
    Step(
        "What does that cost? Images that neither training nor calibration has seen, through the float network and "
        "through the very integers that the device computes:",
        "validate {}/digits-generic.bw --data {}/digits-val.npz --quiet",
    ),
    Step("", "validate {}/digits-fpga.bw --data {}/digits-val.npz --quiet"),
    Step(
        "What is inside: each layer's formats, the bits that its sums need, and the tensors that lose most.",
        "details {}/digits-fpga.bw --worst 4",
    ),
    Step(
        "And tensor by tensor against the other:",
        "compare {}/digits-fpga.bw {}/digits-generic.bw --most 6",
    ),
)


@click.command(short_help="Go the whole way on a small network that comes with bitwright.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("bitwright-demo"),
    show_default=True,
    metavar="DIR",
    help="Where the files go.",
)
def demo(folder: Path) -> None:
    """Inspect, calibrate, quantize for two targets, validate and compare a small network, with real commands."""
    context = click.get_current_context()
    commands = context.find_root().command
    start = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copyfile(SHIPPED / name, folder / name)
    for text, words in STEPS:
        if text:
            told(text.replace("{}", screen.safe(folder)))
        arguments = [word.replace("{}", str(folder)) for word in words.split()]
        screen.say(screen.line(("$ ", "dim"), (f"bitwright {shlex.join(arguments)}", "bold cyan")), "")
        # What goes wrong in a command goes wrong here.
        commands.main(arguments, prog_name="bitwright", standalone_mode=False)
        screen.say()
        if words.startswith("validate {}/digits-fpga") and (hint := costly_fold(folder)) is not None:
            told(hint)
    told(
        f"That took {time.monotonic() - start:.0f} s. The files are in {screen.safe(folder)}. For a network of your own:"
    )
    for line in (
        "bitwright inspect   MODEL.onnx",
        "bitwright quantize  MODEL.onnx --data FOLDER_OF_IMAGES --target fpga -o MODEL.bw",
        "bitwright validate  MODEL.bw --data FOLDER_OF_CLASS_FOLDERS",
    ):
        screen.say(screen.text(f"  {line}", "cyan"))


BITS_THAT_HURT = 3


def costly_fold(folder: Path) -> str | None:
    """A sentence about the layer to which folding did most harm, or None if it did little."""
    from bitwright.inspection import inspect

    found = [fold for fold in inspect(folder / FILES[0], "fpga").folds if fold.bits_lost >= BITS_THAT_HURT]
    if not found:
        return None
    worst = max(found, key=lambda fold: fold.bits_lost)
    return (
        f"Where two figures differ, the first report has a hint: batch normalization multiplied the weights of "
        f"{screen.safe(worst.layer)} by up to {worst.worst_scale:.0f}. One step for the whole tensor must cover its largest "
        f"channel, which costs the others {worst.bits_lost} of their 8 bits; a step for each channel costs nothing."
    )


def told(text: str) -> None:
    """A sentence between two commands."""
    screen.say(screen.paragraph(text, width=screen.out().width), "")
