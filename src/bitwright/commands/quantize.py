"""``bitwright quantize``: from a float network and data to one file of integers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bitwright.commands import catalog, options, screen

if TYPE_CHECKING:
    from bitwright.api import Calibration
    from bitwright.model import Model
    from bitwright.quantized import Quantized


@click.command(
    short_help="Write the integer network, NAME.bw.",
    epilog="\n\n".join(
        (
            catalog.listing(catalog.target_titles(), "Targets:"),
            catalog.listing(catalog.scheme_names(), "Schemes:"),
        )
    ),
)
@options.model_argument
@click.option(
    "--data",
    metavar="D",
    help="Samples to calibrate with, or a .bwcal file of this model (see bitwright calibrate).  A network that came "
    "quantized needs none: it keeps the integers of its file.",
)
@click.option(
    "--target",
    metavar="T",
    help="A target or its .toml file; by default generic, or the one that a quantized network is made for.",
)
@click.option(
    "--scheme",
    metavar="S",
    help="How ranges become formats, as name or name{option=value}; by default the target's own.  auto tries the usual "
    "ones on some samples and takes the one whose integer outputs are best.",
)
@click.option(
    "--format",
    "formats",
    multiple=True,
    metavar="TENSOR=F",
    help="The format of a tensor, set by hand: conv1=int8·2^-5, or conv1.Weights=int8*2^-7.  Repeatable; it must keep "
    "the target's rules.",
)
@click.option(
    "--mend", metavar="SPEC", help="Repairs to try and keep where the integers get better: auto, or names with options."
)
@click.option("--time", "seconds", metavar="T", default="5m", show_default=True, help="Time for --mend: 90s, 5m, 1h.")
@click.option(
    "--max-drop", type=click.FloatRange(min=0), metavar="P", help="End --mend once at most P in 100 answers differ."
)
@options.samples
@click.option("--strict", is_flag=True, help="Exit with 3 if a layer would stay in float.")
@click.option("--prune", is_flag=True, help="Take out channels proven constant; no output integer changes.")
@options.output("MODEL.bw")
@options.network
@click.option("--quiet", is_flag=True, help="No progress.")
@options.as_json
def quantize(
    model: Path,
    data: str | None,
    *,
    target: str | None,
    scheme: str | None,
    formats: tuple[str, ...],
    mend: str | None,
    seconds: str,
    max_drop: float | None,
    samples: int | None,
    seed: int | None,
    skip_bad: bool,
    strict: bool,
    prune: bool,
    output: Path | None,
    input_spec: Path | None,
    shapes: tuple[str, ...],
    quiet: bool,
    as_json: bool,
) -> None:
    """Choose a format for every tensor of MODEL under the rules of a target, and write the integer network.

    The file holds everything that later steps need: the integer program, the float network, the calibration and the
    input contract.
    """
    from bitwright.api import load, role_schemes, target_of
    from bitwright.api import quantize as run

    budget_s = parse_seconds(seconds)
    output = output or options.beside(model, ".bw")
    options.check_output(output)
    chosen = target_of("generic" if target is None else target)
    given = parse_formats(formats)
    role_schemes(chosen, scheme)  # a misspelt name is said before hours are spent
    loaded = load(model, input_spec=input_spec, shapes=options.parse_shapes(shapes))
    if data is None:
        if loaded.network.stated is None:
            raise click.UsageError("missing option '--data': a float network is quantized by what it does on samples.")
        if scheme or given or mend or prune:
            raise click.UsageError(
                "a network that keeps the integers of its file takes no --scheme, --format, --mend or --prune; give --data to quantize it anew."
            )
        finish(run(loaded, target=target, strict=strict), output, as_json=as_json)
        return
    if given:
        from bitwright.calibrate.given import read_given

        read_given(loaded.spec(chosen), chosen, given)
    if strict:
        from bitwright.inspection import inspect

        inspect(loaded, chosen, strict=True).require_integers()
    calibration = calibrated(loaded, data, samples=samples, seed=seed, skip_bad=skip_bad, quiet=quiet)
    kept = output.with_name(f"{output.name}.mending") if mend else None
    if kept is not None and kept.exists() and not quiet:
        screen.remark((f"going on from {screen.safe(kept)}, if it is of the same search", "dim"))
    title = "Mending" if mend else "Choosing"
    with screen.progress(title, "steps", quiet=quiet or (mend is None and scheme != "auto")) as progress:
        q = run(
            loaded,
            calibration,
            chosen,
            scheme=scheme,
            formats=given,
            mend=mend,
            mend_seconds=budget_s,
            max_drop=max_drop,
            checkpoint=kept,
            data=data,
            seed=seed,
            strict=strict,
            prune=prune,
            progress=progress,
        )
    finish(q, output, as_json=as_json)
    if kept is not None:
        kept.unlink(missing_ok=True)


def finish(q: Quantized, output: Path, *, as_json: bool) -> None:
    """Write the file and say what is in it."""
    q.save(output)
    if as_json:
        screen.emit_json(summary(q, output))
    else:
        show(q, output)


def parse_formats(items: tuple[str, ...]) -> dict[str, str]:
    """``TENSOR=int8·2^-5``.

    Raises:
        click.UsageError: if a text is of another form, or a tensor has two formats.
    """
    found: dict[str, str] = {}
    for item in items:
        tensor, equals, text = item.rpartition("=")
        if not equals or not tensor or not text:
            raise click.UsageError(f"--format {item!r} is not of the form TENSOR=FORMAT, such as conv1=int8·2^-5.")
        if tensor in found:
            raise click.UsageError(f"--format gives {tensor!r} twice.")
        found[tensor] = text
    return found


UNITS = {"s": 1, "m": 60, "h": 3600}


def parse_seconds(text: str) -> float:
    """``90s``, ``5m``, ``1h`` or a plain number of seconds.

    Raises:
        click.UsageError: if it is none of these.
    """
    number, unit = (text[:-1], text[-1]) if text[-1:] in UNITS else (text, "s")
    try:
        seconds = float(number) * UNITS[unit]
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise click.UsageError(f"--time {text}: a time such as 90s, 5m or 1h is wanted.")
    return seconds


def calibrated(
    model: Model, data: str, *, samples: int | None, seed: int | None, skip_bad: bool, quiet: bool
) -> Calibration:
    """The calibration in a .bwcal file, or one made of data."""
    from bitwright.api import Calibration
    from bitwright.commands.calibrate import observed

    if data.endswith(".bwcal"):
        if samples is not None or seed is not None:
            raise click.UsageError("--samples and --seed choose from data; a .bwcal file is used whole.")
        return Calibration.load(model, data)
    result = observed(model, data, samples=samples, seed=seed, skip_bad=skip_bad, checkpoint=None, quiet=quiet)
    if result.statistics.partial:
        raise KeyboardInterrupt
    return result


def summary(q: Quantized, output: Path) -> dict[str, object]:
    """The result for programs."""
    program, provenance = q.program, q.provenance
    return {
        "output": str(output),
        "network": q.name,
        "target": program.target,
        "schemes": provenance["schemes"],
        "scheme_trials": provenance["scheme_trials"],
        "repairs": provenance["repairs"],
        "formats_given": provenance["formats"]["given"],
        "calibration_samples": provenance["calibration_samples"],
        "layers": len(provenance["layers"]),
        "integer_mac_share": program.integer_mac_share,
        "learnable_bytes": {"float": q.learnable_float_bytes, "quantized": program.learnable_bytes},
        "notes": provenance["notes"],
    }


SHOWN_NOTES = 8


def show(q: Quantized, output: Path) -> None:
    """The report for people."""
    from bitwright.validating import island_notes

    program, provenance = q.program, q.provenance
    before, after = q.learnable_float_bytes, program.learnable_bytes
    saved = f"   {100 * (after - before) / before:+.0f} %" if before else ""
    schemes = provenance["schemes"]
    named = sorted(set(schemes.values()))
    shown = named[0] if len(named) == 1 else ", ".join(f"{role} {name}" for role, name in schemes.items())
    samples = provenance["calibration_samples"]
    layers = screen.many(len(provenance["layers"]), "layer")
    screen.done((screen.safe(q.name), "bold"), " for ", (program.target, "bold cyan"), f", {layers}", saved=output)
    screen.fact("Formats", f"by {shown}, from {screen.many(samples, 'sample')}", indent=2)
    screen.fact("Learnables", f"{screen.size(before)} → {screen.size(after)}", (saved, "blue"), indent=2)
    screen.fact(
        "Integers",
        (f"{100 * program.integer_mac_share:.1f} %", "" if program.integer_mac_share == 1 else "yellow"),
        " of the multiply-accumulates",
        indent=2,
    )
    for tensor, text in provenance["formats"]["given"].items():
        screen.fact("Set by hand", f"{screen.safe(tensor)} {screen.safe(text)}", indent=2)
    trials = [t["output_sqnr_db"] for t in provenance["scheme_trials"] if t["output_sqnr_db"] is not None]
    if trials:
        chosen = f"the best of {len(trials)} tried: output SQNR {trials[0]:.1f} dB, others {min(trials):.1f} to {max(trials):.1f} dB"
        screen.fact("Schemes", chosen, indent=2)
    for repair in provenance["repairs"]:
        screen.say(screen.line(("  Repair      ", "bold"), screen.safe(repair["sentence"], 400)))
    notes = [*provenance["notes"], *island_notes(q)]
    screen.notes(notes[:SHOWN_NOTES])
    if len(notes) > SHOWN_NOTES:
        screen.say(
            screen.text(f"  and {len(notes) - SHOWN_NOTES} notes more: bitwright details {screen.safe(output)}", "dim")
        )
