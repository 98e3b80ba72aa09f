"""``bitwright targets``: what there is to quantize for, and every rule of one."""

from __future__ import annotations

import click

from bitwright.commands import options, screen


@click.group(invoke_without_command=True, short_help="List the targets, or show every rule of one.")
@options.as_json
@click.pass_context
def targets(context: click.Context, *, as_json: bool) -> None:
    """List the targets; ``bitwright targets show NAME`` prints every rule of one."""
    if context.invoked_subcommand is not None:
        return
    from bitwright.targets.target import list_targets, load_target

    found = [load_target(name) for name in list_targets()]
    if as_json:
        screen.emit_json(
            [{"name": t.name, "title": t.title, "summary": t.summary, "extends": t.extends} for t in found]
        )
        return
    width = max(len(t.name) for t in found)
    for target in found:
        screen.fact(target.name, screen.safe(target.title), indent=2, width=width + 2)


@targets.command(short_help="Print every rule of a target.")
@click.argument("name")
@options.as_json
def show(name: str, *, as_json: bool) -> None:
    """Print every rule of the target NAME, or of a target file of your own."""
    from bitwright.targets.target import load_target

    target = load_target(name)
    if as_json:
        screen.emit_json(target.to_dict())
    else:
        screen.say(target.describe())
