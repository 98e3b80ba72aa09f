"""One expression, five readings: Python's unbounded integers, NumPy, numba, C under the sanitizers, ONNX Runtime."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from bitwright.number.arithmetic import SEMANTICS, Arithmetic
from bitwright.number.expr import (
    EXACT,
    Expr,
    Op,
    const,
    divide,
    evaluate,
    from_rows,
    maximum,
    minimum,
    round_shift,
    saturate,
    scale_float32,
    to_rows,
    var,
)
from bitwright.number.format import Rounding
from bitwright.number.render import C_PRELUDE, c_statements, c_type, numpy_value, onnx_dtype, onnx_value, python_source
from bitwright.number.requantize import rescale
from bitwright.simulate.graph import GraphWriter

Ints = NDArray[np.int64]
SAMPLES = 160
SCALES = (Op.SCALE32_EVEN, Op.SCALE32_AWAY)


@dataclass(frozen=True)
class Case:
    """An expression, values of its variables as equally long columns, and what it must give."""

    name: str
    expr: Expr
    columns: Mapping[str, Ints]

    def exact(self) -> list[int]:
        """By Python's own integers, where the expression has no float in it."""
        table = {op: (lambda _, a, b, f=f: [f(x, y) for x, y in zip(a, b, strict=True)]) for op, f in EXACT.items()}
        count = len(next(iter(self.columns.values())))

        def leaf(node: Expr) -> list[int]:
            return [node.value] * count if node.op is Op.CONST else self.columns[node.name].tolist()

        return evaluate(self.expr, leaf, table)

    def numpy(self) -> list[int]:
        count = len(next(iter(self.columns.values())))
        return np.broadcast_to(numpy_value(self.expr, self.columns), (count,)).tolist()


def columns(expr: Expr, rng: random.Random, fixed: Mapping[str, Ints] | None = None) -> dict[str, Ints]:
    """Values over each variable's range: both ends, their neighbors, around zero, and random ones."""
    made: dict[str, Ints] = {}
    variables = {node.name: node for node in expr.walk() if node.op is Op.VAR}
    for name, node in variables.items():
        if fixed is not None and name in fixed:
            choices = np.ravel(fixed[name]).tolist()
            made[name] = np.array([rng.choice(choices) for _ in range(SAMPLES)], np.int64)
            continue
        special = [v for v in (node.lo, node.lo + 1, -1, 0, 1, node.hi - 1, node.hi) if node.lo <= v <= node.hi]
        made[name] = np.array(
            [rng.choice(special) if rng.random() < 0.4 else rng.randint(node.lo, node.hi) for _ in range(SAMPLES)],
            np.int64,
        )
    return made or {"unused": np.zeros(SAMPLES, np.int64)}


def combined(rng: random.Random, x: Expr, y: Expr, by: Expr, over: Expr) -> Expr:
    """One operation on some of the operands."""
    rounding = rng.choice(list(Rounding))
    makers: list[Callable[[], Expr]] = [
        lambda: x + y,
        lambda: x - y,
        lambda: x * y,
        lambda: x * x,
        lambda: x >> by,
        lambda: x << const(rng.randint(0, 4)),
        lambda: const(rng.randint(1, 3)) << by,
        lambda: x // over,
        lambda: minimum(x, y),
        lambda: maximum(x, y),
        lambda: saturate(x, -128, 127),
        lambda: round_shift(x, by, rounding),
        lambda: divide(x, over, rounding),
    ]
    return rng.choice(makers)()


def random_expression(rng: random.Random, reach: int) -> Expr:
    """A tree of up to a dozen operations that stays within ``reach``."""
    pool: list[Expr] = [
        var("a", -128, 127),
        var("b", -40000, 30000),
        var("c", 0, 255),
        const(rng.randint(-300, 300)),
        const(rng.randint(-70000, 70000)),
    ]
    shift, divisor = var("s", 0, rng.choice([3, 7, 31])), var("d", 1, rng.choice([1, 9, 4000]))
    for _ in range(rng.randint(3, 12)):
        x, y = rng.choice(pool), rng.choice(pool)
        by = rng.choice([shift, const(rng.randint(0, 12))])
        over = rng.choice([divisor, const(rng.randint(1, 300))])
        try:
            made = combined(rng, x, y, by, over)
        except OverflowError:
            continue
        if max(max(abs(n.lo), abs(n.hi)) for n in made.walk()) < reach:
            pool.append(made)
    return max(reversed(pool), key=lambda expr: len(list(expr.walk())))


def arithmetic(name: str) -> Arithmetic:
    kind, rounding = SEMANTICS[name]
    return Arithmetic(requantize=kind, rounding=rounding, semantics=name)


def requantizer(name: str, rng: random.Random, bits: int) -> tuple[Expr, dict[str, Ints]]:
    """A whole epilogue with constants per channel."""
    ratio = np.array([rng.uniform(2.0**-14, 1.5) for _ in range(6)])
    if SEMANTICS[name][0] == "shift":
        ratio = np.exp2(np.round(np.log2(ratio)))
    scaled = rescale(var("acc", -(1 << (bits - 1)), (1 << (bits - 1)) - 1), ratio, arithmetic(name))
    return saturate(scaled.expr + 5, -128, 127), dict(scaled.params)


def all_cases() -> list[Case]:
    rng = random.Random(7)
    cases = []
    for i in range(60):
        expr = random_expression(rng, rng.choice([1 << 15, 1 << 23, 1 << 31, 1 << 50, 1 << 62]))
        cases.append(Case(f"random{i}", expr, columns(expr, rng)))
    for name in SEMANTICS:
        for bits in (16, 24, 32):
            expr, params = requantizer(name, rng, bits)
            made = columns(expr, rng)
            channel = [rng.randrange(6) for _ in range(SAMPLES)]
            made |= {k: np.broadcast_to(v, (6,))[channel] for k, v in params.items()}
            cases.append(Case(f"{name}-{bits}", expr, made))
    edge = {
        "low32": var("x", -(1 << 31), (1 << 31) - 1) + const(-(1 << 31)),
        "low64": var("x", -1, 0) * const(1 << 62) + const(-(1 << 62)),
        "lowest64": const(-(1 << 63)) + var("x", 0, 9),
        "minus-one-by-31": var("x", -1, 0) << var("s", 0, 31),
        "asr-far": var("x", -5, 5) >> var("s", 0, 63),
        "shift-of-one": const(1) << var("s", 0, 62),
        "constant": const(-17),
        "square": (var("x", -11, 7) - 2) * (var("x", -11, 7) - 2),
    }
    cases += [Case(name, expr, columns(expr, rng)) for name, expr in edge.items()]
    return cases


CASES = all_cases()
IDS = [case.name for case in CASES]


def has_floats(expr: Expr) -> bool:
    return any(node.op in SCALES for node in expr.walk())


def test_the_cases_reach_every_operation() -> None:
    assert {node.op for case in CASES for node in case.expr.walk()} == set(Op)


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_numpy_is_python_and_stays_in_its_range(case: Case) -> None:
    got = case.numpy()
    if not has_floats(case.expr):
        assert got == case.exact()
    assert case.expr.lo <= min(got)
    assert max(got) <= case.expr.hi


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_rows_bring_back_the_expression(case: Case) -> None:
    rows = json.loads(json.dumps(to_rows(case.expr)))
    again = from_rows(rows)
    assert to_rows(again) == to_rows(case.expr)
    assert (again.lo, again.hi) == (case.expr.lo, case.expr.hi)
    assert Case(case.name, again, case.columns).numpy() == case.numpy()


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [[]],
        [["nonsense", 1]],
        [["const"]],
        [["const", 1, 2]],
        [["const", "1"]],
        [["const", 1.5]],
        [["const", True]],
        [["const", 1 << 70]],
        [["var", "x", 2, 1]],
        [["var", "", 0, 1]],
        [["var", 3, 0, 1]],
        [["const", 1], ["add", 0]],
        [["const", 1], ["add", 0, 1]],
        [["const", 1], ["add", 0, -1]],
        [["const", 1], ["const", 0], ["div", 0, 1]],
        [["const", 1], ["const", -1], ["shr", 0, 1]],
        [["const", 1], ["const", 1 << 40], ["shl", 0, 1]],
        [["var", "x", -(1 << 62), 1 << 62], ["mul", 0, 0]],
        [["const", 1], ["const", -5], ["scale32-even", 0, 1, 0, 1]],
        [["const", 1], ["const", 0x7F800000], ["scale32-away", 0, 1, 0, 1]],
    ],
)
def test_rows_that_are_not_ours_are_refused(rows: list[list[object]]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        from_rows(rows)  # type: ignore[arg-type]


def test_a_range_in_rows_is_not_believed() -> None:
    pattern = int(np.float32(1.0).view(np.uint32))
    expr = scale_float32(var("x", -100, 100), var("m", pattern, pattern), 1.0, 1.0, Rounding.HALF_EVEN)
    rows = to_rows(expr)
    rows[-1][-2:] = [0, 1]
    assert (from_rows(rows).lo, from_rows(rows).hi) == (expr.lo, expr.hi)


def c_function(index: int, case: Case) -> str:
    arguments = ", ".join(f"{c_type(n.lo, n.hi)} v_{n.name}" for n in _variables(case.expr)) or "void"
    body = "\n    ".join(c_statements(case.expr, lambda name: f"v_{name}"))
    return f"static int64_t f{index}({arguments})\n{{\n    {body}\n    return (int64_t)result;\n}}\n"


def _variables(expr: Expr) -> list[Expr]:
    return list({node.name: node for node in expr.walk() if node.op is Op.VAR}.values())


def c_table(index: int, case: Case) -> str:
    variables = _variables(case.expr)
    rows = zip(*(case.columns[n.name].tolist() for n in variables), strict=True) if variables else [(0,)] * SAMPLES
    body = ",\n".join("{" + ", ".join("INT64_MIN" if v == -(1 << 63) else f"{v}LL" for v in row) + "}" for row in rows)
    call = ", ".join(f"({c_type(n.lo, n.hi)})row[{k}]" for k, n in enumerate(variables))
    return (
        f"static const int64_t t{index}[{SAMPLES}][{max(1, len(variables))}] = {{{body}}};\n"
        f"static void run{index}(void)\n{{\n"
        f"    for (int i = 0; i < {SAMPLES}; i++) {{\n"
        f"        const int64_t *row = t{index}[i];\n        (void)row;\n"
        f'        printf("%lld\\n", (long long)f{index}({call}));\n    }}\n}}\n'
    )


def test_c_under_the_sanitizers(tmp_path: Path) -> None:
    parts = [C_PRELUDE, "#include <stdio.h>\n"]
    for i, case in enumerate(CASES):
        parts += [c_function(i, case), c_table(i, case)]
    parts.append("int main(void)\n{\n" + "".join(f"    run{i}();\n" for i in range(len(CASES))) + "    return 0;\n}\n")
    source, program = tmp_path / "all.c", tmp_path / "all"
    source.write_text("\n".join(parts))
    options = [
        "-std=c99", "-pedantic", "-O1", "-Wall", "-Wextra", "-Werror", "-fsanitize=undefined,address",
        "-fno-sanitize-recover=all", "-ffp-contract=off",
    ]  # fmt: skip
    built = subprocess.run(
        ["gcc", *options, str(source), "-lm", "-o", str(program)], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr[:4000]
    ran = subprocess.run([str(program)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[:4000]
    printed = [int(line) for line in ran.stdout.split()]
    for i, case in enumerate(CASES):
        assert printed[i * SAMPLES : (i + 1) * SAMPLES] == case.numpy(), case.name


@numba.njit
def scale32_even(x: int, pattern: int) -> int:
    product = np.float32(x) * np.array([pattern], np.int64).astype(np.uint32).view(np.float32)[0]
    return np.int64(np.rint(product))


@numba.njit
def scale32_away(x: int, pattern: int) -> int:
    product = np.float64(np.float32(x) * np.array([pattern], np.int64).astype(np.uint32).view(np.float32)[0])
    return np.int64(-np.floor(0.5 - product) if product < 0 else np.floor(product + 0.5))


def test_numba() -> None:
    lines, names = [], sorted({n.name for case in CASES for n in _variables(case.expr)})
    for i, case in enumerate(CASES[:60:4] + CASES[60:]):
        taken = [n.name for n in _variables(case.expr)]
        lines.append(f"def f{i}(n, {', '.join(f'v_{name}' for name in taken)}):")
        lines.append("    out = np.empty(n, np.int64)")
        lines.append("    for i in range(n):")
        body = python_source(case.expr, lambda name: f"v_{name}[i]")
        lines += [f"        {line}" for line in body]
        lines += ["        out[i] = result", "    return out"]
    scope: dict[str, object] = {"np": np, "scale32_even": scale32_even, "scale32_away": scale32_away}
    exec("\n".join(lines), scope)  # noqa: S102  (the text is what is tested)
    assert names
    for i, case in enumerate(CASES[:60:4] + CASES[60:]):
        compiled = numba.njit(scope[f"f{i}"])
        got = compiled(SAMPLES, *(case.columns[n.name] for n in _variables(case.expr)))
        assert got.tolist() == case.numpy(), case.name


def run_onnx(expr: Expr, tensors: Mapping[str, Ints], params: Mapping[str, Ints]) -> Sequence[int]:
    graph = GraphWriter()
    dtype = onnx_dtype(expr)
    result = graph.node("Identity", onnx_value(expr, {name: name for name in tensors}, params, graph))
    count = len(next(iter(tensors.values())))
    model = graph.model([(name, dtype, [count]) for name in tensors], [(result, dtype, ["n"])])
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feeds = {name: v.astype(dtype) for name, v in tensors.items() if name in {i.name for i in session.get_inputs()}}
    (got,) = session.run(None, feeds)
    assert got.dtype == dtype
    return np.broadcast_to(got, (count,)).astype(np.int64).tolist()


def test_onnx() -> None:
    seen: set[str] = set()
    for case in CASES:
        try:
            dtype = onnx_dtype(case.expr)
        except OverflowError:
            reach = max(max(abs(n.lo), abs(n.hi)) for n in case.expr.walk())
            assert reach >= 1 << 53, case.name
            continue
        seen.add(f"{dtype} {'float32 scaling' if has_floats(case.expr) else 'integers'}")
        # Shifts and multipliers are constants in programs; here each sample has its own, as a channel would.
        constants = {k: v for k, v in case.columns.items() if k not in ("a", "b", "c", "acc", "x", "unused")}
        tensors = {k: v for k, v in case.columns.items() if k not in constants} or {
            "unused": np.zeros(SAMPLES, np.int64)
        }
        assert run_onnx(case.expr, tensors, constants) == case.numpy(), case.name
    assert seen == {"float32 integers", "float64 integers", "float64 float32 scaling"}


def test_onnx_with_shifts_and_divisors_that_are_tensors() -> None:
    for case in CASES[:60]:
        try:
            onnx_dtype(case.expr)
        except OverflowError:
            continue
        assert run_onnx(case.expr, case.columns, {}) == case.numpy(), case.name


def test_onnx_refuses_a_float_multiplier_that_is_a_tensor() -> None:
    pattern = int(np.float32(0.5).view(np.uint32))
    expr = scale_float32(var("acc", -9, 9), var("m", pattern, pattern), 0.5, 0.5, Rounding.HALF_EVEN)
    with pytest.raises(ValueError, match="must be a constant"):
        onnx_value(expr, {"acc": "acc", "m": "m"}, {}, GraphWriter())


def test_types_of_c() -> None:
    assert c_type(-(1 << 31), (1 << 31) - 1) == "int32_t"
    assert c_type(0, 1 << 31) == c_type(-(1 << 31) - 1, 0) == "int64_t"
