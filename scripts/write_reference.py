"""Writes the parts of the documentation that the code knows best: help texts, operators, schemes, passes, targets.

    python scripts/write_reference.py            # after adding an option, an operator, a scheme, a pass, a target
    python scripts/write_reference.py --check    # only says whether something is out of date

A part lies between ``<!-- generated: NAME -->`` and ``<!-- end -->``; everything else on a page is written by hand.
A test compares, so a page cannot fall behind.
"""

from __future__ import annotations

import dataclasses
import inspect
import os
import random
import re
import sys
import textwrap
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import click

    from bitwright.number.expr import Expr
    from bitwright.program.program import Program, Step

ROOT = Path(__file__).resolve().parent.parent
PART = re.compile(r"(<!-- generated: ([\w-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
WIDTH = 100


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def code(*names: str) -> str:
    """Names set in type of code."""
    return ", ".join(f"`{name}`" for name in names)


# ------------------------------------------------------------------------------------------------- command line


def helps() -> str:
    """What ``--help`` of each command prints."""
    import click

    from bitwright.cli import cli

    os.environ["COLUMNS"] = str(WIDTH)
    parts = [_help(cli, "bitwright", None)]
    top = click.Context(cli, info_name="bitwright")
    for name in cli.list_commands(top):
        command = cli.get_command(top, name)
        assert command is not None
        parts.append(_help(command, f"bitwright {name}", top))
        for inner in sorted(getattr(command, "commands", {})):
            parts.append(
                _help(command.commands[inner], f"bitwright {name} {inner}", click.Context(command, top, info_name=name))  # type: ignore[attr-defined]
            )
    return "\n".join(parts)


def _help(command: click.Command, title: str, parent: click.Context | None) -> str:
    import click

    context = click.Context(
        command,
        parent,
        info_name=title.rsplit(maxsplit=1)[-1],
        terminal_width=WIDTH,
        help_option_names=["-h", "--help"],
    )
    text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
    return f"## `{title}`\n\n```text\n{text}\n```\n"


# ------------------------------------------------------------------------------------------------- operators

RELATIONS = {"own": "own", "input": "as the input", "all": "one for all"}
SAMPLES = ("generic", "fpga")


def operator_table() -> str:
    """A row for each declaration."""
    from bitwright.ops.registry import FAMILIES

    rows = []
    for family in FAMILIES:
        rows += [
            (code(*o.types), o.becomes, RELATIONS[o.relation], f"{o.summary[0].upper()}{o.summary[1:]}.")
            for o in family.OPERATORS
        ]
    return table(("operators", "becomes", "output's format", "what is computed"), rows)


def formulas() -> str:
    """The steps that one example of each declaration becomes on two targets."""
    from bitwright.ops.registry import FAMILIES

    width = max(map(len, SAMPLES))
    parts = []
    for family in FAMILIES:
        for operator in family.OPERATORS:
            name = operator.types[0]
            found = {target: steps_text(example(name, target)) for target in SAMPLES}
            lines = [f"### {name}", "", "```text"]
            if len({tuple(steps) for steps in found.values()}) == 1:
                lines += next(iter(found.values()))
            else:
                for target, steps in found.items():
                    lines += [f"{target if at == 0 else '':<{width}}  {step}" for at, step in enumerate(steps)]
            parts.append("\n".join([*lines, "```", ""]))
    return "\n".join(parts)


def example(op: str, target: str) -> Program:
    """A small network with this operator, in the integers of a target: the first of the tests' examples that has them."""
    tests = str(ROOT / "tests")
    if tests not in sys.path:
        sys.path.append(tests)
    from bitwright.program.forms import Island
    from operator_cases import CASES  # type: ignore[import-not-found]

    drawn = [CASES[op](random.Random(seed)) for seed in range(40)]
    # Two operands say more than one and a constant.
    for case in sorted(drawn, key=lambda case: len(case.model.graph.input) != 2):
        program = None if case.island else integers(case.model, case.feeds, target)
        if program is not None and not any(isinstance(step.form, Island) for step in program.steps):
            return program
    raise LookupError(f"no example of {op} has an integer form on {target}")


def integers(model: Any, feeds: Mapping[str, Any], target: str) -> Program:
    """The program of a network whose formats cover exactly what ``feeds`` make of it."""
    from bitwright.calibrate.assign import RoleSchemes, assign
    from bitwright.calibrate.schemes.minmax import MinMax
    from bitwright.calibrate.spec import read_layers
    from bitwright.calibrate.statistics import Statistics
    from bitwright.calibrate.tensor_stats import TensorStats
    from bitwright.lower import lower
    from bitwright.network.load import load
    from bitwright.passes.prepare import prepare
    from bitwright.targets.target import load_target

    chosen = load_target(target)
    network, _ = prepare(load(model))
    spec = read_layers(network, chosen)
    stats = {name: TensorStats.of(values) for name, values in feeds.items()}
    for name in dict.fromkeys(name for layer in spec.layers for name in layer.outputs):
        rows = [
            network.session((name,)).run([name], {k: v[i : i + 1] for k, v in feeds.items()})[0]
            for i in range(1 if not network.batchable else 2)
        ]
        stats[name] = sum((TensorStats.of(row) for row in rows), TensorStats())
    whole = MinMax()
    schemes = RoleSchemes(input=whole, activation=whole, weight=whole, bias=whole)
    return lower(network, spec, assign(spec, Statistics(activations=stats), chosen, schemes), chosen)


def steps_text(program: Program) -> list[str]:
    """The steps of a program, one or two lines each."""
    names = _names(program)
    lines = []
    for step in program.steps:
        for at, line in enumerate(_step_lines(program, step, names)):
            lines.append(f"{type(step.form).__name__ if at == 0 else '':<8}  {line}")
    return lines


def _names(program: Program) -> dict[str, str]:
    names = {name: "x" if len(program.inputs) == 1 else f"x{i}" for i, name in enumerate(program.inputs)}
    last = {name: "y" if len(program.outputs) == 1 else f"y{i}" for i, name in enumerate(program.outputs)}
    inner = 0
    for step in program.steps:
        for name in step.outputs:
            if name not in last:
                inner += 1
                names[name] = f"t{inner}"
    return names | last


def _step_lines(program: Program, step: Step, names: dict[str, str]) -> list[str]:
    from bitwright.program.forms import Contract, Map, Move, Reduce, Table

    sources = [names[name] for name in step.inputs]
    result = ", ".join(names[name] for name in step.outputs)
    match step.form:
        case Contract() as form:
            bias = "" if form.bias is None else " + bias"
            return _epilogue(f"Σ {_less(sources[0], form.input_zero)} · weight{bias}", form.epilogue.expr, result)
        case Reduce() as form:
            x = _less(sources[0], form.input_zero) if form.combine == "sum" else sources[0]
            return _epilogue(f"{'Σ' if form.combine == 'sum' else form.combine} {x}", form.epilogue.expr, result)
        case Map() as form:
            return [f"{result} = {infix(form.expr, {f'x{i}': name for i, name in enumerate(sources)})}"]
        case Table() as form:
            at = infix_less(sources[0], program.buffers[step.inputs[0]].format.lo)
            return [f"{result} = table[{at}], {program.tensors[form.table].size} entries"]
        case Move() as form:
            words = ", ".join(type(motion).__name__.lower() for motion in form.motions) or "as it is"
            return [f"{result} = {', '.join(sources)}: {words}"]
    raise TypeError(step.form)


def infix_less(name: str, zero: int) -> str:
    """``name - zero`` as people write it."""
    return name if zero == 0 else f"{name} − {zero}" if zero > 0 else f"{name} + {-zero}"


def _less(name: str, zero: int) -> str:
    return f"({infix_less(name, zero)})" if zero else name


def _epilogue(total: str, expr: Expr, result: str) -> list[str]:
    if not expr.args:
        return [f"{result} = {total}"]
    return [f"acc = {total}", f"{result} = {infix(expr, {})}"]


def infix(expr: Expr, names: dict[str, str]) -> str:
    """An expression as people write it; ``clamp(x, lo, hi)`` for a minimum of a maximum."""
    from bitwright.number.expr import Op

    def text(node: Expr) -> str:
        match node.op:
            case Op.CONST:
                return number(node.value)
            case Op.VAR:
                return names.get(node.name, node.name)
            case Op.MIN if node.args[0].op is Op.MAX and node.args[1].op is Op.CONST:
                inner, low = node.args[0].args
                return f"clamp({bare(inner)}, {bare(low)}, {bare(node.args[1])})"
            case Op.MIN | Op.MAX:
                return f"{node.op.value}({bare(node.args[0])}, {bare(node.args[1])})"
            case Op.SCALE32_EVEN | Op.SCALE32_AWAY:
                return f"{node.op.value}({bare(node.args[0])}, {bare(node.args[1])})"
        signs = {Op.ADD: "+", Op.SUB: "−", Op.MUL: "·", Op.SHL: "<<", Op.SHR: ">>", Op.DIV: "div"}
        left, right = node.args
        if node.op in (Op.ADD, Op.SUB) and right.op is Op.CONST and right.value < 0:
            return f"({text(left)} {'−' if node.op is Op.ADD else '+'} {-right.value})"
        return f"({text(left)} {signs[node.op]} {text(right)})"

    def bare(node: Expr) -> str:
        written = text(node)
        return written[1:-1] if _wrapped(written) else written

    return bare(expr)


def number(value: int) -> str:
    """A constant: powers of two as such, and ``m`` for a multiplier, whose digits say nothing."""
    size = abs(value)
    text = str(size)
    if size >= 1 << 10 and size & (size - 1) == 0:
        text = f"2^{size.bit_length() - 1}"
    elif size >= 1 << 12:
        text = "m"
    return text if value >= 0 else f"(−{text})"


def _wrapped(written: str) -> bool:
    """Whether the first bracket closes at the end."""
    if not (written.startswith("(") and written.endswith(")")):
        return False
    depth = 0
    for at, sign in enumerate(written):
        depth += (sign == "(") - (sign == ")")
        if depth == 0:
            return at == len(written) - 1
    return False


# ------------------------------------------------------------------------------------------------- schemes and passes


def paragraphs(kind: type) -> str:
    """A class's own words, without the list of its attributes."""
    text = inspect.cleandoc(kind.__doc__ or "").split("\nAttributes:")[0].strip()
    return plain(text)


def further(kind: type) -> str:
    """A class's own words after the first sentence, which says what its summary says."""
    return paragraphs(kind).partition("\n\n")[2]


def plain(text: str) -> str:
    """A docstring's marks as Markdown has them."""
    return re.sub(r":\w+:`([\w.]+)`", r"`\1`", text.replace("``", "`"))


def options(kind: type) -> str:
    """The fields of a frozen dataclass as a table."""
    fields = dataclasses.fields(kind)
    if not fields:
        return "No options.\n"
    text = inspect.cleandoc(kind.__doc__ or "")
    listed = textwrap.dedent(text.split("Attributes:\n")[1]) if "Attributes:\n" in text else ""
    described = dict(re.findall(r"^(\w+): (.+(?:\n +.+)*)", listed, re.MULTILINE))
    rows = []
    for field in fields:
        what = " ".join(described[field.name].replace("``", "`").split())
        rows.append((f"`{field.name}`", f"`{str(field.default).lower()}`", what))
    return table(("option", "default", "meaning"), rows)


def scheme_list() -> str:
    """A section for each scheme."""
    from bitwright.calibrate.scheme import schemes

    parts = []
    for name, kind in schemes().items():
        words = f"{kind.summary} Also called {code(*kind.aliases)}."
        parts.append("\n\n".join(filter(None, (f"## `{name}`", words, further(kind), options(kind)))))
    return "\n".join(parts)


def pass_list() -> str:
    """A section for each pass, in the order in which loading applies them."""
    from bitwright.passes.registry import passes

    parts = []
    for name, kind in passes().items():
        promise = "Changes what the network computes." if kind.changes_function else "Float outputs stay the same."
        text = paragraphs(kind)  # type: ignore[type-abstract]
        parts.append(f"## `{name}`\n\n{text}\n\n{promise}\n\n{options(kind)}")  # type: ignore[type-abstract]
    return "\n".join(parts)


def repair_list() -> str:
    """A section for each repair."""
    from bitwright.mend.registry import REPAIRS

    parts = []
    for name, kind in REPAIRS.items():
        words = further(kind)  # type: ignore[type-abstract]
        parts.append("\n\n".join(filter(None, (f"## `{name}`", kind.summary, words, options(kind)))))  # type: ignore[type-abstract]
    return "\n".join(parts)


# ------------------------------------------------------------------------------------------------- Python


def function_list() -> str:
    """A section for each public function."""
    import bitwright as bw

    parts = []
    for name in bw.__all__:
        function = inspect.unwrap(getattr(bw, name)) if name != "errors" else None
        if inspect.isfunction(function):
            parts.append(f"## `{name}`\n\n{_signature(name, function)}\n\n{_documented(function)}")
    return "\n".join(parts)


def _signature(name: str, function: Callable[..., Any]) -> str:
    words, named = [], False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not named:
            words.append("*")
            named = True
        words.append(parameter.name + ("" if parameter.default is parameter.empty else f"={parameter.default!r}"))
    call = f"bw.{name}({', '.join(words)})"
    return "```text\n" + textwrap.fill(call, WIDTH, subsequent_indent=" " * (len(name) + 4)) + "\n```"


def _documented(function: Callable[..., Any]) -> str:
    text = plain(inspect.getdoc(function) or "")
    before, _, rest = text.partition("\nArgs:\n")
    before = before.split("\nRaises:\n")[0].split("\nReturns:\n")[0].strip()
    listed = re.split(r"\n\n|\n(?=\S)", rest)[0]
    rows = re.findall(r"^(\w+): (.+(?:\n +.+)*)", textwrap.dedent(listed), re.MULTILINE)
    arguments = table(("argument", "meaning"), [(f"`{name}`", " ".join(what.split())) for name, what in rows])
    return f"{before}\n\n{arguments}" if rows else f"{before}\n"


# ------------------------------------------------------------------------------------------------- targets, errors


def target_table() -> str:
    """Names and titles of the targets that are shipped."""
    rows = []
    for file in sorted((ROOT / "src/bitwright/targets").glob("*.toml")):
        content = tomllib.loads(file.read_text("utf-8"))
        if file.stem != "base":
            rows.append((f"`{file.stem}`", str(content["title"])))
    return table(("target", "stands for"), rows)


def core_table() -> str:
    """The microcontrollers' cores: flags, clock, cycles."""
    from bitwright.mcu.board import board_of_core
    from bitwright.mcu.microcontrollers import microcontrollers

    return table(
        ("core", "flags", "board", "MHz", "cycles per instruction", "from"),
        (
            (
                f"`{name}`",
                f"`{' '.join(core.flags)}`",
                f"`{board.name}`" if (board := board_of_core(name)) is not None else "",
                f"{core.mhz:g}",
                f"{core.cycles:g}",
                core.origin,
            )
            for name, core in microcontrollers().items()
        ),
    )


def processor_configs() -> str:
    """Configurations of the open processor."""
    from bitwright.fpga.config import list_configs, load_config

    found = sorted((load_config(name) for name in list_configs()), key=lambda c: -c.macs)
    rows = [
        (f"`{c.name}`", str(c.macs), f"{c.pp} × {c.icp} × {c.ocp}", f"{c.bus.bytes} bytes", f"{c.clock_hz / 1e6:g} MHz",
         "yes" if c.units.multiply else "no", c.summary)
        for c in found
    ]  # fmt: skip
    head = ("configuration", "multipliers", "rows × in × out", "bus", "clock", "vector unit multiplies", "what it is")
    return table(head, rows)


def fpga_boards() -> str:
    """Boards that bitstreams are built for."""
    from bitwright.fpga.board import list_boards, load_board
    from bitwright.fpga.config import load_config

    rows = []
    for name in list_boards():
        board = load_board(name)
        clock = board.clocks(load_config(board.config))
        rows.append((f"`{name}`", f"`{board.config}`", f"{clock.clock_hz / 1e6:g} MHz", f"{board.memory_bytes >> 10} KiB",
                     f"{board.baud / 1e6:g} Mbaud", board.summary))  # fmt: skip
    return table(("board", "configuration", "clock", "external memory", "serial line", "what it is"), rows)


def bridge_questions() -> str:
    """What is spoken on a board's serial line."""
    from bitwright.fpga.wire import QUESTIONS, WORDS

    rows = [(f"0x{kind:02x}", f"`{kind.name}`", words) for kind, words in QUESTIONS.items()]
    refusals = [(str(int(reason)), words) for reason, words in WORDS.items()]
    return "\n".join([table(("kind", "name", "payload"), rows), table(("refusal", "meaning"), refusals)])


def fit_quantities() -> str:
    """What ``estimate --fit`` knows."""
    from bitwright.fpga.wishes import QUANTITIES

    return table(("quantity", "meaning"), [(f"`{name}`", words) for name, words in QUANTITIES.items()])


def instructions() -> str:
    """Fields of every instruction."""
    from bitwright.fpga.isa import FIELDS, HEADER

    parts = ["### Header\n\n" + _fields(HEADER)]
    parts += [f"### {unit.name}\n\n" + _fields(fields) for unit, fields in FIELDS.items()]
    return "\n".join(parts)


def registers() -> str:
    """Registers of the processor."""
    from bitwright.fpga.registers import BITS, MAP

    rows = [(f"0x{r.offset:02x}", f"`{r.name}`", r.access, r.meaning) for r in MAP]
    bits = [(f"`{b.register}`", str(b.bit), f"`{b.name}`", b.meaning) for b in BITS]
    first = table(("offset", "register", "access", "meaning"), rows)
    return "\n".join([first, table(("register", "bit", "name", "meaning"), bits)])


def _fields(fields: Iterable[Any]) -> str:
    return table(
        ("field", "bits", "meaning"),
        [(f"`{f.name}`", f"{f.bits}{' signed' if f.signed else ''}", f.meaning) for f in fields],
    )


def error_table() -> str:
    """All errors: code, name, exit code, facts."""
    from bitwright import errors

    rows = []
    for kind in error_kinds(errors.BitwrightError):
        facts = [name for name in inspect.signature(kind.__init__).parameters if name not in {"self", "message"}]
        depth = len(kind.__mro__) - len(errors.BitwrightError.__mro__)
        own = facts if "__init__" in vars(kind) else []
        rows.append((f"`{kind.code}`", f"{'– ' * depth}`{kind.__name__}`", str(kind.exit_code), code(*own)))
    return table(("code", "name", "exit code", "facts"), rows)


def error_kinds(kind: type[Any]) -> list[type[Any]]:
    """An error and all below it, in the order of their codes."""
    return sorted({kind, *(e for sub in kind.__subclasses__() for e in error_kinds(sub))}, key=lambda e: e.code)


PARTS: dict[str, Callable[[], str]] = {
    "cores": core_table,
    "processor-configs": processor_configs,
    "bridge-questions": bridge_questions,
    "fit-quantities": fit_quantities,
    "fpga-boards": fpga_boards,
    "instructions": instructions,
    "registers": registers,
    "errors": error_table,
    "formulas": formulas,
    "functions": function_list,
    "help": helps,
    "operators": operator_table,
    "passes": pass_list,
    "repairs": repair_list,
    "schemes": scheme_list,
    "targets": target_table,
}


def renewed(page: str, known: dict[str, str]) -> str:
    """A page with its generated parts as they should be.

    Args:
        page: Its text.
        known: Parts made before, filled in.
    """

    def part(found: re.Match[str]) -> str:
        name = found[2]
        if name not in known:
            known[name] = PARTS[name]()
        return f"{found[1]}\n{known[name]}\n{found[4]}"

    return PART.sub(part, page)


def main() -> None:
    """Write, or with ``--check`` exit with 1 if a page is out of date."""
    sys.path.insert(0, str(ROOT / "src"))
    known: dict[str, str] = {}
    stale = []
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        before = page.read_text("utf-8")
        after = renewed(before, known)
        if after != before:
            stale.append(str(page.relative_to(ROOT)))
            if "--check" not in sys.argv:
                page.write_text(after, "utf-8")
    unused = sorted(set(PARTS) - set(known))
    if unused:
        sys.exit(f"no page has the part {', '.join(unused)}")
    print("\n".join(stale) if stale else "everything is up to date")
    sys.exit(int(bool(stale) and "--check" in sys.argv))


if __name__ == "__main__":
    main()
