from __future__ import annotations

from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from bitwright.errors import BadTargetFile, TargetError, UnknownTarget
from bitwright.number.format import Rounding
from bitwright.targets import target as module
from bitwright.targets.target import FOLDER, OpRule, Target, list_targets, load_target

MINIMAL = 'name = "board"\ntitle = "A board"\nsummary = "A board."\n'


def written(folder: Path, text: str, name: str = "board.toml") -> Path:
    path = folder / name
    path.write_text(MINIMAL + text, "utf-8")
    return path


def refusal(folder: Path, text: str) -> BadTargetFile:
    path = written(folder, text)
    with pytest.raises(BadTargetFile) as caught:
        load_target(path)
    assert str(path) in str(caught.value)
    assert caught.value.path == str(path)
    return caught.value


def test_a_file_that_says_nothing_is_base_under_another_name(tmp_path: Path) -> None:
    board, base = load_target(written(tmp_path, "")), load_target("base")
    assert board.extends == "base"
    assert board.ops == base.ops
    assert board.arithmetic == base.arithmetic
    assert "base" not in list_targets()


def test_a_file_says_only_what_differs(tmp_path: Path) -> None:
    board = load_target(
        written(tmp_path, 'extends = "dpu"\n[activation]\nbits = 16\n[op]\nConcat = {inputs = "best"}\n')
    )
    dpu = load_target("dpu")
    assert board.activation.bits == 16
    assert board.activation.exponent_rule == dpu.activation.exponent_rule == "vitis"
    assert board.op("Concat").inputs == "best"
    assert board.op("Concat").shared_from == dpu.op("Concat").shared_from == "output"
    assert board.weight == dpu.weight


def test_extends_another_file_beside_it(tmp_path: Path) -> None:
    written(tmp_path, 'extends = "dpu"\n[weight]\nbits = 6\n', "mother.toml")
    child = load_target(str(written(tmp_path, 'extends = "mother.toml"\n[bias]\nbits = 16\n')))
    assert (child.weight.bits, child.bias.bits, child.bias_source) == (6, 16, "own")


def test_a_relative_path_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, "")
    monkeypatch.chdir(tmp_path)
    assert load_target("board.toml").name == "board"
    assert load_target(Path("board.toml")).name == "board"


def test_a_prescribed_format_replaces_the_inherited_one_whole(tmp_path: Path) -> None:
    board = load_target(written(tmp_path, 'extends = "mcu-cmsis-nn"\n[op]\nSoftmax = {output = {exponent = -7}}\n'))
    assert str(board.op("Softmax").output) == "int8·2^-7"


def test_none_takes_an_inherited_value_back(tmp_path: Path) -> None:
    board = load_target(written(tmp_path, 'extends = "dpu"\n[arithmetic]\nbias_shift_bits = "none"\n'))
    assert board.arithmetic.bias_shift_bits is None
    assert Target.from_dict(board.to_dict()) == board


def test_circles_are_refused(tmp_path: Path) -> None:
    written(tmp_path, 'extends = "b.toml"\n', "a.toml")
    written(tmp_path, 'extends = "a.toml"\n', "b.toml")
    with pytest.raises(BadTargetFile, match=r"a\.toml → b\.toml → a\.toml") as caught:
        load_target(tmp_path / "a.toml")
    assert caught.value.key == "extends"
    with pytest.raises(BadTargetFile, match="circle"):
        load_target(written(tmp_path, 'extends = "board.toml"\n'))


def test_long_chains_are_refused(tmp_path: Path) -> None:
    for i in range(20):
        written(tmp_path, f'extends = "{i + 1}.toml"\n', f"{i}.toml")
    written(tmp_path, "", "20.toml")
    with pytest.raises(BadTargetFile, match="circle"):
        load_target(tmp_path / "0.toml")
    assert load_target(tmp_path / "10.toml").name == "board"


@pytest.mark.parametrize(
    ("text", "key", "says"),
    [
        ('sumary = "x"', "sumary", 'Did you mean "summary"?'),
        ("[wieght]\nbits = 8", "wieght", 'Did you mean "weight"?'),
        ("[weight]\nbit = 8", "weight.bit", 'Did you mean "bits"?'),
        ('[weight]\nbits = "8"', "weight.bits", 'a whole number is needed, not "8"'),
        ("[weight]\nbits = true", "weight.bits", "a whole number is needed, not true"),
        ("[weight]\nbits = 8.0", "weight.bits", "a whole number is needed, not 8.0"),
        ("[weight]\nbits = 99", "weight", "bits must lie in 2..32"),
        ("[weight]\nper_channel = 1", "weight.per_channel", "true or false is needed"),
        ('[weight]\nrounding = "half-way"', "weight.rounding", 'Did you mean "half-away"?'),
        ('[weight]\nscaling = "pow2"', "weight.scaling", "power-of-two"),
        ("[weight]\nexponent_range = [1]", "weight.exponent_range", "a list of 2 values"),
        ("[weight]\nexponent_range = [3, 1]", "weight.exponent_range", "lowest exponent stands first"),
        ('[weight]\nsigned = "auto"', "weight", "weights are signed"),
        ('[activation]\nsigned = "yes"', "activation.signed", "auto"),
        ("weight = 8", "weight", "a table is needed, not 8"),
        ('[arithmetic]\nrequantise = "shift"', "arithmetic.requantise", 'Did you mean "requantize"?'),
        ('[arithmetic]\nrequantize = "float32"', "arithmetic", "tflite-single"),
        ('[arithmetic]\nsemantics = "tflite"', "arithmetic", "tflite-double"),
        ("[arithmetic]\nshift_bits = [5, 2]", "arithmetic", "shift_bits must be [lowest, highest]"),
        (
            '[arithmetic]\nrequantize = "shift"\nsemantics = "pow2-halfup"',
            "input.scaling",
            "needs steps that are powers of two",
        ),
        ('[activation]\nscaling = "power-of-two"', "activation.symmetric", "have no zero point"),
        ('bias_source = "own"', "bias_source", 'needs requantize = "shift"'),
        ('bias_source = "acumulator"', "bias_source", 'Did you mean "accumulator"?'),
        ("[op]\nConcatt = {}", "op.Concatt", 'Did you mean "Concat"?'),
        ("[op]\nconv = {}", "op.conv", 'Did you mean "Conv"?'),
        ('[op]\nConcat = {input = "own"}', "op.Concat.input", 'Did you mean "inputs"?'),
        ('[op]\nConcat = {inputs = "all"}', "op.Concat.inputs", "Possible:"),
        ('[op]\nConcat = {method = "exact"}', "op.Concat.method", "Leave the key out."),
        ('[op]\nAveragePool = {method = "exakt"}', "op.AveragePool.method", 'Did you mean "exact"?'),
        ('[op]\nTanh = {output = "fixed"}', "op.Tanh.output", "a table"),
        ("[op]\nTanh = {output = {}}", "op.Tanh.output", "either an exponent or a scale"),
        ("[op]\nTanh = {output = {scale = -1}}", "op.Tanh.output", "positive"),
        ("[op]\nTanh = {output = {scale = 1, zero_point = 200}}", "op.Tanh.output", "zero point outside"),
        ("[op]\nTanh = {output = {exponent = 1, zero_point = 2}}", "op.Tanh.output", "zero_point 0"),
        ("[op]\nTanh = {output = {exponent = 5000}}", "op.Tanh.output", "-128..127"),
        ("[op]\nTanh = {output_exponent = [0, -7]}", "op.Tanh", "[lowest, highest]"),
        ('[schemes]\nweight = "Min Max"', "schemes", "not of the form"),
        ('[schemes]\nweights = "mse"', "schemes.weights", 'Did you mean "weight"?'),
        ("[[rule]]\nweight = {bits = 4}", "rule[0].match", "a rule needs a condition"),
        ('[[rule]]\nmatch = {op = "Conv"}', "rule[0]", "changes nothing"),
        ('[[rule]]\nmatch = {op = "Cnov"}\nweight = {bits = 4}', "rule[0].match.op", 'Did you mean "Conv"?'),
        ('[[rule]]\nmatch = {kind = "Conv"}\nweight = {bits = 4}', "rule[0].match.kind", "unknown"),
        ('[[rule]]\nmatch = {op = "Conv"}\nweigth = {bits = 4}', "rule[0].weigth", 'Did you mean "weight"?'),
        ('[[rule]]\nmatch = {op = "Conv"}\nweight = {bits = 1}', "rule[0].weight", "2..32"),
        ('[[rule]]\nmatch = {op = "Conv"}\nmethod = "exact"', "rule[0].method", "Conv has no method"),
        ('[[rule]]\nmatch = {op = "Tanh"}\ninput_exponent = [2, 1]', "rule[0]", "[lowest, highest]"),
        ('[[rule]]\nmatch = {op = "Conv", kernel = [3, "x"]}\nweight = {bits = 4}', "rule[0].match.kernel[1]", "whole"),
        ("[rule]\nmatch = 1", "rule", "[[rule]]"),
        ('extends = "dppu"', "extends", 'Did you mean "dpu"?'),
        ("extends = 3", "extends", "name or path"),
    ],
)
def test_faults_are_named_with_file_key_and_remedy(tmp_path: Path, text: str, key: str, says: str) -> None:
    error = refusal(tmp_path, text)
    assert error.key == key
    assert says in str(error)
    assert "\n" not in str(error)


def test_the_fault_is_reported_in_the_file_where_it_stands(tmp_path: Path) -> None:
    mother = written(tmp_path, "[weight]\nbitz = 6\n", "mother.toml")
    with pytest.raises(BadTargetFile) as caught:
        load_target(written(tmp_path, 'extends = "mother.toml"\n'))
    assert caught.value.path == str(mother)


@pytest.mark.parametrize("text", ["= 3", "[weight\n", "a = " + "[" * 5000, "x = 1\nx = 2"])
def test_damaged_toml_is_one_clear_error(tmp_path: Path, text: str) -> None:
    assert "not valid TOML" in str(refusal(tmp_path, text))


def test_other_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(BadTargetFile, match="no such file"):
        load_target(tmp_path / "missing.toml")
    (tmp_path / "latin.toml").write_bytes(b'name = "caf\xe9"')
    with pytest.raises(BadTargetFile, match="UTF-8"):
        load_target(tmp_path / "latin.toml")
    (tmp_path / "huge.toml").write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(BadTargetFile, match="larger than 1 MiB"):
        load_target(tmp_path / "huge.toml")
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(BadTargetFile, match="cannot be read"):
        load_target(tmp_path / "folder.toml")


@pytest.mark.parametrize("name", ["", "../dpu", "DPU", "a b", "x" * 80, "\x1b[31m"])
def test_names_are_plain(tmp_path: Path, name: str) -> None:
    table = load_target("dpu").to_dict() | {"name": name}
    with pytest.raises(BadTargetFile) as caught:
        Target.from_dict(table)
    assert caught.value.key == "name"
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("key", ["name", "title", "arithmetic", "input", "bias_source", "op"])
def test_an_artefact_must_be_complete(key: str) -> None:
    table = load_target("dpu").to_dict()
    del table[key]
    with pytest.raises(BadTargetFile, match="missing") as caught:
        Target.from_dict(table)
    assert caught.value.key == key


def test_an_artefact_must_say_what_happens_to_other_operators() -> None:
    table = load_target("dpu").to_dict()
    del table["op"]["*"]
    with pytest.raises(BadTargetFile, match="operators not named"):
        Target.from_dict(table)


def test_an_unknown_target_names_the_nearest() -> None:
    with pytest.raises(UnknownTarget, match="Did you mean mcu-cmsis-nn") as caught:
        load_target("mcu-cmsisnn")
    assert caught.value.nearest[0] == "mcu-cmsis-nn"
    with pytest.raises(UnknownTarget, match="generic") as caught:
        load_target("zzzz")
    assert caught.value.nearest == ()
    with pytest.raises(UnknownTarget, match="Did you mean dpu"):
        load_target("DPU")


class Entry:
    """What importlib.metadata gives for an installed package, as far as it is used."""

    def __init__(self, name: str, value: object) -> None:
        self.name, self.value, self._loaded = name, f"package:{name}", value

    def load(self) -> object:
        if isinstance(self._loaded, Exception):
            raise self._loaded
        return self._loaded


def install(monkeypatch: pytest.MonkeyPatch, *entries: Entry) -> None:
    def entry_points(*, group: str) -> tuple[Entry, ...]:
        return entries if group == "bitwright.targets" else ()

    monkeypatch.setattr(metadata, "entry_points", entry_points)


def test_packages_can_bring_targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, 'extends = "fpga"\n')
    install(monkeypatch, Entry("board", str(path)), Entry("lazy", lambda: path))
    assert {"board", "lazy", "dpu"} <= set(list_targets())
    assert load_target("board").extends == "fpga"
    assert load_target("lazy") == load_target("board")
    child = load_target(written(tmp_path, 'extends = "board"\n[weight]\nbits = 4\n', "child.toml"))
    assert child.weight.bits == 4


@pytest.mark.parametrize("name", ["dpu", "base"])
def test_a_clash_of_names_is_an_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Entry(name, "x.toml"))
    with pytest.raises(TargetError, match=f'"{name}"'):
        list_targets()


def test_two_packages_with_one_name_clash_too(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Entry("board", "x.toml"), Entry("board", "y.toml"))
    with pytest.raises(TargetError, match="board"):
        load_target("board")


def test_a_broken_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Entry("board", ImportError("no libfoo")), Entry("number", 3))
    with pytest.raises(TargetError, match=r"package:board.*ImportError: no libfoo"):
        load_target("board")
    with pytest.raises(TargetError, match="package:number"):
        load_target("number")


def test_rules_apply_in_order_and_only_where_they_hold(tmp_path: Path) -> None:
    board = load_target(
        written(
            tmp_path,
            """
[[rule]]
match = { op = ["Conv", "Gemm"] }
weight = { bits = 4 }
[[rule]]
match = { op = "Conv", first = true }
weight = { bits = 16, rounding = "half-even" }
activation = { bits = 12 }
bias = { bits = 24 }
note = "The first layer is precious."
[[rule]]
match = { layer = "head.*" }
supported = false
""",
        )
    )
    assert board.weight_rule("Gemm").bits == 4
    assert board.weight_rule("Conv", first=False).bits == 4
    first = board.weight_rule("Conv", first=True)
    assert (first.bits, first.rounding, first.narrow) == (16, Rounding.HALF_EVEN, board.weight.narrow)
    assert board.activation_rule("Conv", first=True).bits == 12
    assert board.activation_rule("Conv").bits == 8
    assert board.bias_rule("Conv", first=True).bits == 24
    assert board.op("Conv", first=True).note == "The first layer is precious."
    assert board.weight_rule("ConvTranspose", first=True) == board.weight
    assert not board.op("Mul", layer="head.box").supported
    assert board.op("Mul", layer="neck").supported
    assert Target.from_dict(board.to_dict()) == board


def test_a_misspelt_fact_is_a_bug_and_not_a_false_condition() -> None:
    with pytest.raises(TypeError, match="kernels"):
        load_target("ncnn").weight_rule("Conv", kernels=(3, 3))  # type: ignore[call-arg]


def test_unnamed_operators_follow_the_star() -> None:
    assert load_target("generic").op("SomethingNew") == OpRule()
    assert not load_target("dpu").op("Gelu").supported


def test_changes_for_an_experiment_are_checked_like_a_file() -> None:
    fpga = load_target("fpga")
    with pytest.raises(BadTargetFile, match="say semantics = pow2-halfaway"):
        fpga.with_overrides({"arithmetic": {"rounding": "half-away"}})
    other = fpga.with_overrides({"arithmetic": {"rounding": "half-away", "semantics": "pow2-halfaway"}})
    assert other.arithmetic.rounding is Rounding.HALF_AWAY
    assert other.with_overrides({}).name == "fpga-modified"
    assert fpga.with_overrides({"name": "mine"}).name == "mine"
    rule = {"match": {"op": "Conv"}, "weight": {"bits": 4}}
    assert len(load_target("ncnn").with_overrides({"rule": [rule]}).rules) == 2


def test_targets_cannot_be_changed() -> None:
    dpu = load_target("dpu")
    with pytest.raises(AttributeError):
        dpu.name = "x"  # type: ignore[misc]
    with pytest.raises(TypeError):
        dpu.ops["Conv"] = OpRule()  # type: ignore[index]


def test_files_are_where_the_package_is() -> None:
    assert Path(module.__file__).parent == FOLDER


# Facts about the shipped targets that other parts and the documentation rely on.


def test_ncnn_leaves_head_room_for_winograd() -> None:
    facts = {"kernel": (3, 3), "stride": (1, 1), "dilation": (1, 1), "group": 1}
    ncnn = load_target("ncnn")
    assert ncnn.weight_rule("Conv", **facts).bits == 6  # type: ignore[arg-type]
    for name, other in {"kernel": (1, 1), "stride": (2, 2), "dilation": (2, 2), "group": 8}.items():
        assert ncnn.weight_rule("Conv", **(facts | {name: other})).bits == 8  # type: ignore[arg-type]
    assert ncnn.weight_rule("ConvTranspose", **facts).bits == 8  # type: ignore[arg-type]


def test_the_single_rounding_variant_differs_in_arithmetic_only() -> None:
    single, double = load_target("mcu-cmsis-nn-single"), load_target("mcu-cmsis-nn")
    assert single.arithmetic != double.arithmetic
    same = ("input", "activation", "weight", "bias", "bias_source", "ops", "rules", "schemes")
    assert all(getattr(single, name) == getattr(double, name) for name in same)


@pytest.mark.parametrize(
    ("target", "op_type", "lowest", "highest"),
    [
        ("mcu-cmsis-nn", "Softmax", 0.0, 255 / 256),
        ("mcu-cmsis-nn", "Sigmoid", 0.0, 255 / 256),
        ("mcu-cmsis-nn", "Tanh", -1.0, 127 / 128),
        ("mcu-q7", "Softmax", -1.0, 127 / 128),
        ("cpu", "Softmax", 0.0, 255 / 256),
    ],
)
def test_prescribed_outputs(target: str, op_type: str, lowest: float, highest: float) -> None:
    output = load_target(target).op(op_type).output
    assert not isinstance(output, str)
    assert tuple(np.ravel(output.format().real_range)) == (lowest, highest)


def test_fully_connected_kernels_of_cmsis_nn_take_one_multiplier() -> None:
    cmsis = load_target("mcu-cmsis-nn")
    assert cmsis.weight_rule("Conv").per_channel
    assert not cmsis.weight_rule("Gemm").per_channel
