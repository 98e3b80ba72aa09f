"""Options that several commands have, and how their text becomes values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def as_json(function: F) -> F:
    """``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(function)


def data(*, required: bool = True) -> Callable[[F], F]:
    """``--data``."""
    return click.option(
        "--data",
        metavar="D",
        required=required,
        help="Samples: a folder of images, a folder of class folders, a CSV 'file,label', an .npz or .npy, "
        "or package.module:function.",
    )


def samples(function: F) -> F:
    """``--samples``, ``--seed`` and ``--skip-bad``."""
    for option in (
        click.option("--skip-bad", is_flag=True, help="Leave out samples that cannot be read, instead of stopping."),
        click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Draw those samples at random."),
        click.option(
            "--samples", type=click.IntRange(min=1), metavar="N", help="Use N samples, spread evenly; by default all."
        ),
    ):
        function = option(function)
    return function


def board(*, required: bool = False) -> Callable[[F], F]:
    """``--board``."""
    return click.option(
        "--board",
        metavar="B",
        required=required,
        help="Where to run: host, qemu:…, serial:PORT, sim:…, an FPGA board, or a board's .toml file.",
    )


def core(function: F) -> F:
    """``--core``."""
    return click.option(
        "--core",
        metavar="CORE",
        help="The core that kernels are chosen for, as gcc spells it (cortex-m4, rv32imc), or portable.",
    )(function)


def config(function: F) -> F:
    """``--config``."""
    return click.option(
        "--config",
        metavar="C",
        help="Configuration of a processor that is made for the network: a name, or a .toml file.",
    )(function)


def port(function: F) -> F:
    """``--port``."""
    return click.option("--port", metavar="PORT", help="Serial port of an FPGA board, where it is not the only one.")(
        function
    )


def frames(function: F) -> F:
    """``--frames``."""
    return click.option(
        "--frames",
        type=click.IntRange(min=1, max=64),
        metavar="N",
        help="N inferences in one program of a processor that is made for the network, for its throughput.",
    )(function)


def strict_timing(function: F) -> F:
    """``--strict-timing``."""
    return click.option(
        "--strict-timing", is_flag=True, help="Refuse a bitstream that is too slow for its clock, instead of saying so."
    )(function)


def patches(function: F) -> F:
    """``--patches``."""
    return click.option(
        "--patches",
        metavar="P",
        help="First layers of C patch by patch, for less RAM: auto, off, or at most so many.",
    )(function)


def clock(function: F) -> F:
    """``--clock``."""
    return click.option(
        "--clock",
        type=click.FloatRange(min=0, min_open=True),
        metavar="MHZ",
        help="Clock of the device, for frames per second; by default a usual one.",
    )(function)


def layers(function: F) -> F:
    """``--layers``."""
    return click.option(
        "--layers",
        "most",
        type=click.IntRange(min=0),
        default=30,
        show_default=True,
        metavar="N",
        help="Show the N layers that cost most; 0 shows all.",
    )(function)


def network(function: F) -> F:
    """``--input-spec`` and ``--shape``."""
    for option in (
        click.option(
            "--shape",
            "shapes",
            multiple=True,
            metavar="NAME=SHAPE",
            help="A size that the file leaves free: an input's shape (data=1,3,224,224) or a dimension (height=224).",
        ),
        click.option(
            "--input-spec",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="How samples become inputs; by default MODEL.toml beside the model.",
        ),
    ):
        function = option(function)
    return function


def model_argument(function: F) -> F:
    """``MODEL``."""
    return click.argument("model", type=click.Path(path_type=Path))(function)


def parse_shapes(items: tuple[str, ...]) -> Mapping[str, int | list[int]] | None:
    """``NAME=1,3,224,224`` and ``NAME=224``.

    Raises:
        click.UsageError: if a text is of another form.
    """
    shapes: dict[str, int | list[int]] = {}
    for item in items:
        name, equals, sizes = item.rpartition("=")
        try:
            numbers = [int(part) for part in sizes.replace("x", ",").split(",")]
        except ValueError:
            numbers = []
        if not equals or not name or not numbers or min(numbers) < 1:
            raise click.UsageError(
                f"--shape {item!r} is not of the form NAME=SHAPE with positive whole numbers, such as "
                "data=1,3,224,224 or height=224."
            )
        shapes[name] = numbers[0] if len(numbers) == 1 else numbers
    return shapes or None


def output(default: str) -> Callable[[F], F]:
    """``-o``."""
    return click.option(
        "-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help=f"Where to write; by default {default}."
    )


def beside(model: Path, suffix: str) -> Path:
    """The default output: the model's name with another suffix, in the current folder."""
    return Path(model.stem + suffix)


def check_output(path: Path) -> None:
    """Refuse an output that cannot be written before hours are spent on it.

    Raises:
        click.UsageError: if the folder is missing or the path is a folder.
    """
    if path.is_dir():
        raise click.UsageError(f"-o {str(path)!r} is a folder: give the name of a file in it.")
    if not path.absolute().parent.is_dir():
        raise click.UsageError(f"-o {str(path)!r}: there is no folder {str(path.parent)!r}. Create it first.")
