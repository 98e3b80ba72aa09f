"""Which integers flip under another profile, and how targets refer to profiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import bitwright as bw
import zoo
from bitwright.errors import BadTargetFile, TargetError, UnknownTarget
from bitwright.flipping import flips, under_profile
from bitwright.quantized import Quantized
from bitwright.targets.profiles import list_profiles, load_profile
from bitwright.targets.target import Target, list_targets, load_target


def quantized(network: str, target: str) -> Quantized:
    feeds = zoo.feeds(zoo.ZOO[network](), 4)
    (samples,) = feeds.values()
    return bw.quantize(bw.load(zoo.ZOO[network]()), samples, target=target)


@pytest.mark.parametrize("target", ["mcu-cmsis-nn", "mcu-q7", "dpu"])
def test_its_own_profile_flips_nothing(target: str) -> None:
    q = quantized("residual", target)
    found = flips(q, profile=load_target(target).profile)
    assert found.changed == 0
    assert found.layers
    assert all(layer.own == layer.carried == layer.largest == 0 for layer in found.layers)


def test_floor_flips_about_half() -> None:
    q = quantized("residual", "mcu-q7")
    found = flips(q, profile="pow2-floor-q7", samples=4)
    first = found.layers[0]
    assert first.own == first.carried  # nothing came before it
    assert 0.2 < first.own / first.integers < 0.7
    assert first.largest == 1
    assert found.changed > 0
    assert all(layer.own <= layer.integers for layer in found.layers)
    assert "output integers differ" in found.sentence
    assert found.to_json()["changed"] == found.changed


def test_flips_are_those_of_the_two_programs() -> None:
    q = quantized("residual", "mcu-cmsis-nn")
    one, other, target, _ = under_profile(q, "tflite-single")
    assert target.arithmetic.requantize == "multiplier-single"
    x = np.random.default_rng(3).uniform(-1, 1, (3, *q.program.buffers[q.program.inputs[0]].shape[1:]))
    inputs = q.integers(x.astype(np.float32))
    from bitwright.flipping import compared
    from bitwright.simulate import reference

    want = reference.run(one, inputs)
    got = reference.run(other, dict(zip(other.inputs, inputs.values(), strict=True)))
    differing = sum(int((want[a] != got[b]).sum()) for a, b in zip(one.outputs, other.outputs, strict=True))
    assert compared(one, other, inputs, ("a", "b")).changed == differing


def test_two_files_are_compared_by_what_they_compute(tmp_path: Path) -> None:
    a, b = (quantized("residual", t) for t in ("mcu-cmsis-nn", "mcu-cmsis-nn-single"))
    found = flips(a.save(tmp_path / "a.bw"), b.save(tmp_path / "b.bw"))
    assert 0 < found.changed <= found.outputs
    assert found.layers[0].own == found.layers[0].carried > 0
    assert found.b.startswith("mcu-cmsis-nn-single (tflite-single")
    assert flips(a, a).changed == 0


def test_what_cannot_be_compared_says_so() -> None:
    q = quantized("residual", "mcu-cmsis-nn")
    with pytest.raises(TargetError, match="cannot be computed under profile pow2-halfup"):
        flips(q, profile="pow2-halfup")
    with pytest.raises(UnknownTarget, match='Did you mean "tflite-double"'):
        flips(q, profile="tflite-duoble")
    with pytest.raises(TargetError, match="give one of the two"):
        flips(q)
    with pytest.raises(bw.errors.CalibrationError, match="different float networks"):
        flips(q, quantized("fire", "mcu-cmsis-nn"))


@pytest.mark.parametrize("name", list_profiles())
def test_profiles_are_complete(name: str) -> None:
    profile = load_profile(name)
    assert profile.version >= 1
    assert profile.title
    arithmetic = profile.tables["arithmetic"]
    assert {"requantize", "rounding", "semantics"} <= set(arithmetic)
    assert load_profile(profile.label) is profile or load_profile(profile.label) == profile
    with pytest.raises(UnknownTarget, match="This release has"):
        load_profile(f"{name}@999")


def test_targets_refer_to_profiles(tmp_path: Path) -> None:
    for name in list_targets():
        target = load_target(name)
        if target.profile:
            tables = load_profile(target.profile).tables
            assert target.arithmetic.semantics == tables["arithmetic"]["semantics"]
        assert Target.from_dict(target.to_dict()) == target
    file = tmp_path / "own.toml"
    head = 'name = "own"\ntitle = "t"\nsummary = "s"\nextends = "mcu-cmsis-nn"\n'
    file.write_text(f'{head}profile = "tflite-single"\n', "utf-8")
    assert load_target(file).profile == "tflite-single@1"
    assert load_target(file).op("Add").method == "tflite"
    file.write_text(f'{head}profile = "tflite-singel"\n', "utf-8")
    with pytest.raises(BadTargetFile, match="no profile"):
        load_target(file)
    assert load_target("mcu-cmsis-nn").with_profile("tflite-single").arithmetic.requantize == "multiplier-single"
