"""The reference is complete: adding an option, an operator, a scheme, a target, an error … without its words fails here."""

from __future__ import annotations

import html
import importlib.util
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

import bitwright as bw
from bitwright import errors
from bitwright.calibrate.scheme import schemes
from bitwright.cli import COMMANDS, cli
from bitwright.commands import catalog
from bitwright.data.contract import COLORS, INPUT_KEYS, LAYOUTS, OUTPUT_KEYS, TASKS
from bitwright.mend.registry import REPAIRS
from bitwright.metrics.choose import METRICS, WITH_LABELS
from bitwright.metrics.verdict import Kind
from bitwright.ops.registry import operators
from bitwright.passes.registry import passes
from bitwright.program.file import LARGEST
from bitwright.targets.target import list_targets
from command_line import Line

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"


def load_script(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


WRITER = load_script("write_reference")
KNOWN: dict[str, str] = {}


def read(page: str) -> str:
    return (REFERENCE / page).read_text("utf-8")


def section(text: str, title: str) -> str:
    """What stands under a heading, up to the next of its level."""
    level = re.match("#+", title)
    assert level is not None
    found = re.search(rf"^{re.escape(title)}\n(.*?)(?=^{level[0]} |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"there is no section {title}"
    return found[1]


def first_cells(text: str) -> list[str]:
    """The names in type of code in the first column of all tables."""
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("|") and "---" not in line]
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


# ------------------------------------------------------------------------------------------------- generated parts


def generated() -> Iterator[Path]:
    for page in [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]:
        if WRITER.PART.search(page.read_text("utf-8")):
            yield page


@pytest.mark.parametrize("page", list(generated()), ids=lambda page: page.name)
def test_generated_parts_are_up_to_date(page: Path) -> None:
    text = page.read_text("utf-8")
    assert WRITER.renewed(text, KNOWN) == text, "run: python scripts/write_reference.py"


def test_every_generated_part_has_a_page() -> None:
    used = {found[1] for page in generated() for found in WRITER.PART.findall(page.read_text("utf-8"))}
    assert used == set(WRITER.PARTS)


# ------------------------------------------------------------------------------------------------- names


def all_commands() -> Iterator[tuple[str, click.Command]]:
    top = click.Context(cli, info_name="bitwright")
    for name in COMMANDS:
        command = cli.get_command(top, name)
        assert command is not None
        yield f"bitwright {name}", command
        for inner, found in getattr(command, "commands", {}).items():
            yield f"bitwright {name} {inner}", found


@pytest.mark.parametrize(("name", "command"), [pytest.param(*each, id=each[0]) for each in all_commands()])
def test_every_option_is_in_the_reference(name: str, command: click.Command) -> None:
    text = section(read("command-line.md"), f"## `{name}`")
    for parameter in command.params:
        shown = (
            parameter.opts if isinstance(parameter, click.Option) else [parameter.make_metavar(click.Context(command))]
        )
        assert all(word in text for word in shown), shown


def test_every_operator_is_in_the_reference() -> None:
    listed = first_cells(read("operators.md"))
    assert sorted(listed) == sorted(operators())


@pytest.mark.parametrize(
    ("page", "names"), [("schemes.md", list(schemes())), ("passes.md", list(passes())), ("repairs.md", list(REPAIRS))]
)
def test_every_scheme_pass_and_repair_has_a_section(page: str, names: list[str]) -> None:
    assert re.findall(r"^## `([\w-]+)`$", read(page), re.MULTILINE) == names


def test_the_readme_lists_every_target() -> None:
    assert set(list_targets()) <= set(first_cells((ROOT / "README.md").read_text("utf-8")))


def test_every_metric_is_in_the_reference() -> None:
    text = read("metrics.md")
    assert first_cells(text) == list(METRICS) == list(catalog.METRICS)
    rows = {first_cells(line)[0]: line for line in text.splitlines() if line.startswith("| `")}
    for task, metric in WITH_LABELS.items():
        assert task in rows[metric]


def error_kinds() -> list[type[errors.BitwrightError]]:
    return WRITER.error_kinds(errors.BitwrightError)  # type: ignore[no-any-return]


def test_codes_are_used_once() -> None:
    codes = [kind.code for kind in error_kinds()]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("kind", error_kinds(), ids=lambda kind: kind.__name__)
def test_every_error_has_an_entry(kind: type[errors.BitwrightError]) -> None:
    entry = section(read("errors.md"), f"## {kind.code} {kind.__name__}")
    assert len(entry.split()) > 5
    if "__init__" in vars(kind) and kind is not errors.BitwrightError:
        facts = set(inspect.signature(kind).parameters) - {"message"}
        assert facts <= set(re.findall(r"`(\w+)`", entry))


def test_no_entry_is_left_of_an_error_that_is_gone() -> None:
    listed = re.findall(r"^## (BW\d+) (\w+)$", read("errors.md"), re.MULTILINE)
    assert listed == [(kind.code, kind.__name__) for kind in error_kinds()]


def test_every_key_of_the_input_contract_is_in_the_reference() -> None:
    text = read("input-contract.md")
    assert set(first_cells(section(text, "## `[input]`"))) == set(INPUT_KEYS)
    assert set(first_cells(section(text, "## `[output]`"))) == set(OUTPUT_KEYS)
    assert all(f'`"{word}"`' in text for word in (*LAYOUTS, *COLORS, *TASKS))


def test_every_member_of_a_bw_file_is_in_the_reference() -> None:
    assert set(first_cells(section(read("files.md"), "## `.bw`: a quantized network"))) == set(LARGEST)


def test_every_public_name_is_in_the_reference() -> None:
    text = read("python.md")
    assert all(re.search(rf"`(bw\.)?{name}\b", text) for name in bw.__all__ if name not in {"__version__", "Target"})
    for name in bw.__all__:
        function = inspect.unwrap(getattr(bw, name)) if name != "errors" else None
        if inspect.isfunction(function):
            assert set(inspect.signature(function).parameters) == set(first_cells(section(text, f"## `{name}`")))


def test_every_verdict_is_in_the_reference() -> None:
    assert all(f"`{kind.value}`" in section(read("json.md"), "## `validate`") for kind in Kind)


# ------------------------------------------------------------------------------------------------- JSON


OUTPUTS = {
    "inspect": "inspect bitwright-demo/digits.onnx --target fpga",
    "calibrate": "calibrate bitwright-demo/digits.onnx --data bitwright-demo/digits-calib.npz --samples 8 -o x.bwcal",
    "quantize": "quantize bitwright-demo/digits.onnx --data bitwright-demo/digits.bwcal -o x.bw",
    "validate": "validate bitwright-demo/digits-fpga.bw --data bitwright-demo/digits-val.npz --samples 8",
    "explain": "explain bitwright-demo/digits-fpga.bw --data bitwright-demo/digits-val.npz --samples 24 --time 0",
    "details": "details bitwright-demo/digits-fpga.bw",
    "compare": "compare bitwright-demo/digits-fpga.bw bitwright-demo/digits-generic.bw",
    "targets": "targets",
}


def paths(value: Any, documented: set[str], path: str = "") -> Iterator[str]:
    """The places of a document, as deep as the reference goes."""
    if path in documented or path.removesuffix("[]") in documented:
        yield path if path in documented else path.removesuffix("[]")
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from paths(inner, documented, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value:
        for inner in value:
            yield from paths(inner, documented, f"{path}[]")
    else:
        yield path


@pytest.mark.parametrize("command", OUTPUTS)
def test_json_has_the_keys_of_the_reference(
    command: str, demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    documented = set(first_cells(section(read("json.md"), f"## `{command}`")))
    (tmp_path / "bitwright-demo").symlink_to(demo / "bitwright-demo")
    monkeypatch.chdir(tmp_path)
    done = Line(capsys)(*OUTPUTS[command].split(), "--json")
    assert done.code == 0, done.err
    found = {path.replace("[].[]", "[]") for path in paths(done.json, documented)}
    # Lists that are empty here show nothing of their elements.
    empty = {path for path in found if any(key.startswith(f"{path}[]") for key in documented)}
    assert found - empty - documented == set()
    assert {key for key in documented - found if not any(key.startswith(f"{path}[]") for path in empty)} == set()


# ------------------------------------------------------------------------------------------------- pages


def test_the_changelog_names_commands_targets_and_schemes() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert all(f"`{name}`" in text for name in (*COMMANDS, *list_targets(), *schemes()))


def test_decisions_are_numbered() -> None:
    pages = sorted((DOCS / "decisions").glob("*.md"))
    assert [page.name[:4] for page in pages] == [f"{n:04}" for n in range(1, len(pages) + 1)]
    for number, page in enumerate(pages, 1):
        text = page.read_text("utf-8")
        assert text.startswith(f"# {number}. ")
        assert "\nStatus: " in text


def test_the_architecture_names_every_part() -> None:
    listed = set(first_cells(section((ROOT / "ARCHITECTURE.md").read_text("utf-8"), "## Folders")))
    source = ROOT / "src/bitwright"
    folders = {f"{path.parent.name}/" for path in source.glob("*/*") if path.suffix in {".py", ".onnx"}}
    files = {path.name for path in source.glob("[!_]*.py")}
    assert folders | files == listed


def test_contributing_names_every_folder_of_tests() -> None:
    listed = first_cells(section((ROOT / "CONTRIBUTING.md").read_text("utf-8"), "## Tests"))
    folders = {
        f"tests/{path.name}/" for path in (ROOT / "tests").iterdir() if path.is_dir() and path.name != "__pycache__"
    }
    assert set(listed) == folders


def test_the_picture_shows_what_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Figures that no machine can change: counts of images and bytes."""
    maker = load_script("make_pictures")
    svg = (DOCS / "pictures/validate.svg").read_text("utf-8")
    rows = re.findall(r"<text [^>]*clip-path=\"url\(#bitwright-(line-\d+)\)\"[^>]*>(.*?)</text>", svg)
    lines: dict[str, str] = {}
    for row, text in rows:
        lines[row] = lines.get(row, "") + html.unescape(text).replace("\xa0", " ")
    shown = {" ".join(line.split()) for line in lines.values()}
    for file in (ROOT / "src/bitwright/demo").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    monkeypatch.chdir(tmp_path)
    run = Line(capsys)
    stable = ("top1", "float", "quantized", "→", "agreement", "learnables", "integers")
    compared = 0
    for command in (*maker.PREPARED, *maker.DRAWN):
        done = run(*command.split())
        assert done.code == 0, done.err
        for line in done.out.splitlines() if command.startswith("validate") else ():
            if line.strip().startswith(stable):
                assert " ".join(line.split()) in shown, "run: python scripts/make_pictures.py"
                compared += 1
    assert compared == 2 * len(stable)
