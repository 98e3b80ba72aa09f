"""Learning ranges looks first where steps cost most."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bitwright.mend.ranges import LearnRanges, coarsest_first
from bitwright.mend.repair import Clock
from bitwright.targets.target import load_target

from .test_blocks import chain, prepared


@pytest.mark.parametrize("target", ["mcu-q7", "generic"])
def test_a_step_far_too_wide_is_found_first(target: str) -> None:
    solution, bench = prepared(chain(), load_target(target))
    (last,) = solution.network.outputs
    old = solution.formats.activations[last]
    coarse = solution.formats.with_activation(last, replace(old, scale=old.scale * 16))
    spoilt = solution.with_formats(coarse, bench.target)
    names = [("activation", name) for name in spoilt.formats.activations]
    names += [("weight", name) for name in spoilt.formats.weights]
    order = coarsest_first(spoilt, bench, names)
    assert sorted(order) == sorted(names)
    assert order[0] == ("activation", last)
    found, text = LearnRanges(rounds=1, most=2, joint=False).apply(spoilt, bench, Clock())
    assert "1 of" in text
    assert found.formats.activations[last].scale < coarse.activations[last].scale
    assert bench.score(found).sqnr > bench.score(spoilt).sqnr + (1 if target == "generic" else 3)
