from __future__ import annotations

import numpy as np

from bitwright.calibrate.derive import derivable, derived
from bitwright.calibrate.tensor_stats import TensorStats
from bitwright.network.network import Network
from unit.calibrate.nets import fire_net


def joined(net: Network) -> tuple[str, list[str]]:
    node = next(node for node in net.nodes() if node.op_type == "Concat")
    return str(node.outputs[0].name), [str(v.name) for v in node.inputs if v is not None]


def test_a_concatenation_follows_if_all_its_parts_are_wanted() -> None:
    net = fire_net()
    cat, parts = joined(net)
    assert derivable(net, [cat, *parts], ()) == {cat}
    assert derivable(net, [cat, parts[0]], ()) == set()
    assert derivable(net, [cat, *parts], {cat}) == set(), "channels are not known from the parts"


def test_the_sum_of_the_parts_is_exact() -> None:
    net = fire_net()
    cat, parts = joined(net)
    rng = np.random.default_rng(0)
    values = [rng.normal(size=(2, n, 3)).astype(np.float32) for n in (4, 7)]
    counted = {name: TensorStats.of(v) for name, v in zip(parts, values, strict=True)}
    got = derived(net, [cat, *parts], counted)
    assert got[cat] == TensorStats.of(np.concatenate(values, 1))
    assert list(got) == [cat, *parts]
