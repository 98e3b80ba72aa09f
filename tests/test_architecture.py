"""The shape of the source: who may import whom, what is loaded when, how long a file may be."""

from __future__ import annotations

import ast
import itertools
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "bitwright"

# Lower levels know nothing of higher ones.  Members of one level are independent, or depend one way.
LEVELS = (
    ("errors", "progress", "shown"),
    ("number",),
    ("program",),
    ("ops",),
    ("network",),
    ("data", "targets"),
    ("calibrate",),
    ("passes",),
    ("lower",),
    ("simulate",),
    ("metrics",),
    ("model", "layer_rows"),
    ("taken",),
    ("measured",),
    ("quantized",),
    ("mend",),
    ("explain",),
    ("export", "mcu", "fpga"),
    ("boards",),
    ("choosing", "compiling", "deploying", "estimating", "validating"),
    ("api",),
    ("tensors",),
    ("inspection", "detailing", "comparing", "flipping"),
    ("familiar",),
    ("view",),
    ("commands",),
    ("cli", "app"),
)
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}

# The package's own __init__ is the public face: it re-exports the api, and errors.
FACE = "__init__"

# Data only: read by the command line and the api, and imports nothing.
DATA = {"demo"}

# Slow to import.  numba's decorators stand before functions, so a module of kernels imports it at once, and who needs
# the kernels imports them late: the tests of --help see to that.
SLOW = {"amaranth", "keras", "onnx", "onnx_ir", "onnxruntime", "ray", "tensorflow", "torch"}
NOT_FOR_HELP = SLOW | {"PIL", "numba", "numpy", "safetensors"}

# Who may speak ONNX at all: the loader, the engine (it builds a graph for ONNX Runtime) and the exporters.
ONNX = {"network", "simulate", "export"}

SOFT_LINES, HARD_LINES = 400, 600


@dataclass(frozen=True)
class Import:
    """One import of a file: the module asked for, and whether it happens when the file is loaded."""

    file: Path
    line: int
    module: str
    at_once: bool

    @property
    def where(self) -> str:
        return f"{self.file.relative_to(SOURCE.parent)}:{self.line}"


def files() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def part(file: Path) -> str:
    """The member of LEVELS that a file belongs to."""
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(file: Path) -> Iterator[Import]:
    package = ("bitwright", *file.relative_to(SOURCE).parent.parts)

    def walk(node: ast.AST, at_once: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            late = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            types_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(file, child.lineno, alias.name, at_once)
            elif isinstance(child, ast.ImportFrom):
                base = package[: len(package) - child.level + 1] if child.level else ()
                module = ".".join((*base, child.module) if child.module else base)
                yield Import(file, child.lineno, module, at_once)
                if module == "bitwright":  # from bitwright import api
                    for alias in child.names:
                        yield Import(file, child.lineno, f"bitwright.{alias.name}", at_once)
            yield from walk(child, at_once and not late and not types_only)

    yield from walk(ast.parse(file.read_text()), True)


ALL_IMPORTS = [found for file in files() for found in imports(file)]


def test_every_file_has_a_level() -> None:
    unknown = {part(file) for file in files()} - LEVEL.keys() - DATA - {FACE, "__main__"}
    assert not unknown, f"give these a place in LEVELS: {sorted(unknown)}"


def test_imports_go_one_way() -> None:
    wrong, sideways = [], {}
    for found in ALL_IMPORTS:
        own, other = part(found.file), found.module.split(".")
        if own in {FACE, "__main__"} or other[0] != "bitwright" or len(other) == 1:
            continue
        if other[1] not in LEVEL and other[1] not in DATA:
            continue  # a name of the package's face, checked below
        if own != other[1] and LEVEL[own] < LEVEL.get(other[1], 0):
            wrong.append(f"{found.where}: {own} is below {other[1]}")
        elif own != other[1] and LEVEL[own] == LEVEL.get(other[1], 0):
            sideways.setdefault((own, other[1]), found.where)
    wrong += [f"{sideways[pair]} and {sideways[pair[::-1]]}: a circle" for pair in sideways if pair[::-1] in sideways]
    assert not wrong, "\n".join(wrong)


def test_only_the_outermost_layers_import_the_public_face() -> None:
    """`import bitwright` inside the package would be a circle, and loads what the api loads."""
    wrong = [
        found.where
        for found in ALL_IMPORTS
        if found.module == "bitwright" and found.at_once and part(found.file) not in {"view", "cli", "app", FACE}
    ]
    assert not wrong, wrong


def test_only_a_few_packages_speak_onnx() -> None:
    wrong = [
        f"{found.where}: {found.module}"
        for found in ALL_IMPORTS
        if found.module.split(".")[0] in {"onnx", "onnx_ir"}
        and part(found.file) not in ONNX
        # A name for the type checker costs nothing and binds nothing.
        and not is_types_only(found)
    ]
    assert not wrong, "\n".join(wrong)


def is_types_only(found: Import) -> bool:
    for node in ast.walk(ast.parse(found.file.read_text())):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            last = node.body[-1].end_lineno or node.lineno
            if node.lineno <= found.line <= last:
                return True
    return False


def _is_hardware(found: Import) -> bool:
    """A module that is a description of hardware is Amaranth from its first line; who elaborates it imports it late."""
    return "rtl" in found.file.parts and found.module.split(".")[0] == "amaranth"


def test_slow_libraries_are_imported_where_they_are_used() -> None:
    wrong = [
        f"{found.where}: {found.module}"
        for found in ALL_IMPORTS
        if found.at_once and found.module.split(".")[0] in SLOW and not _is_hardware(found)
    ]
    assert not wrong, "import these inside the functions that use them:\n" + "\n".join(wrong)


# What is executed there is our own text about an expression of integers: names and numbers of a file are arguments.
COMPILES_ITS_OWN_TEXT = {"simulate/compiled.py"}


def test_no_pickle_no_eval() -> None:
    wrong = [
        found.where for found in ALL_IMPORTS if found.module.split(".")[0] in {"pickle", "marshal", "shelve", "dill"}
    ]
    for file in files():
        own_text = str(file.relative_to(SOURCE)) in COMPILES_ITS_OWN_TEXT
        for node in ast.walk(ast.parse(file.read_text())):
            named = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"eval", "exec"}
            if named and not own_text:
                wrong.append(f"{file}:{node.lineno}")
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert isinstance(node.value, ast.Constant), f"{file}:{node.value.lineno}"
                assert node.value.value is False, f"{file}:{node.value.lineno}"
    assert not wrong, wrong


def test_every_module_says_what_it_is() -> None:
    silent = [
        str(file.relative_to(SOURCE))
        for file in files()
        if file.read_text().strip() and ast.get_docstring(ast.parse(file.read_text())) is None
    ]
    assert not silent, silent


def test_all_files_postpone_annotations() -> None:
    wrong = []
    for file in files():
        text = file.read_text()
        code = [node for node in ast.parse(text).body if not (isinstance(node, ast.Expr) and node.col_offset == 0)]
        if code and not any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in code):
            wrong.append(str(file.relative_to(SOURCE)))
    assert not wrong, wrong


def test_files_are_for_one_thing() -> None:
    lengths = {str(file.relative_to(SOURCE)): len(file.read_text().splitlines()) for file in files()}
    too_long = {name: n for name, n in lengths.items() if n > HARD_LINES}
    long = {name: n for name, n in lengths.items() if n > SOFT_LINES}
    assert not too_long, too_long
    assert len(long) * 10 <= len(lengths), f"more than one file in ten is longer than {SOFT_LINES} lines: {long}"


def loaded_by(statement: str) -> set[str]:
    """The modules in memory after a statement, in a fresh interpreter."""
    script = f"import sys\nsys.path.insert(0, {str(SOURCE.parent)!r})\n{statement}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return {line.split(".")[0] for line in done.stdout.splitlines()}


@pytest.mark.parametrize("arguments", ["--help", "quantize --help", "validate --help"])
def test_help_loads_nothing_slow(arguments: str) -> None:
    loaded = loaded_by(
        f"import contextlib, io, sys\nsys.argv = ['bitwright', *{arguments.split()!r}]\n"
        "from bitwright.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):\n    main()\n"
        "assert 'Usage' in out.getvalue(), out.getvalue()"
    )
    assert not loaded & NOT_FOR_HELP, loaded & NOT_FOR_HELP


def test_importing_the_package_loads_nothing_slow() -> None:
    loaded = loaded_by("import bitwright")
    assert not loaded & NOT_FOR_HELP, loaded & NOT_FOR_HELP


def test_the_check_itself_sees_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A walker that finds nothing would pass every test above."""
    monkeypatch.setattr(sys.modules[__name__], "SOURCE", tmp_path)
    file = tmp_path / "number" / "wrong.py"
    file.parent.mkdir()
    file.write_text(
        "from __future__ import annotations\n"
        "import onnx.helper\n"
        "from ..ops import x\n"
        "from bitwright import api\n"
        "if TYPE_CHECKING:\n    import torch\n"
        "def f():\n    import numba\n"
    )
    found = {(one.module, one.at_once) for one in imports(file)}
    assert {("onnx.helper", True), ("bitwright.ops", True), ("bitwright.api", True)} <= found
    assert {("torch", False), ("numba", False)} <= found
    assert [is_types_only(one) for one in imports(file) if one.module == "torch"] == [True]
    assert [is_types_only(one) for one in imports(file) if one.module == "onnx.helper"] == [False]


def test_levels_name_each_part_once() -> None:
    names = list(itertools.chain.from_iterable(LEVELS))
    assert len(names) == len(set(names))
