from __future__ import annotations

import pytest

from bitwright.calibrate.statistics import Statistics, TensorStats
from bitwright.errors import StaleCalibration


def one(network: str = "net", data: str = "d") -> Statistics:
    return Statistics(network, (data,), 2, {"x": TensorStats.of([1.0, 2.0])}, {"w": TensorStats.of([3.0])}, {})


def test_tensors_are_found_by_name() -> None:
    stats = one()
    assert stats["x"].hi == 2.0
    assert stats["w"].hi == 3.0
    assert "x" in stats
    assert list(stats) == ["x", "w"]
    with pytest.raises(KeyError, match="no statistics"):
        stats["y"]


def test_adding_keeps_weights_and_unites_sources() -> None:
    both = one() + one(data="e") + one(data="e")
    assert both.samples == 6
    assert both.data == ("d", "e")
    assert both["x"].count == 6
    assert both["w"].count == 1


def test_other_networks_are_refused() -> None:
    with pytest.raises(StaleCalibration) as info:
        one("net") + one("other")
    assert info.value.expected == "net"
    assert info.value.found == "other"


def test_stale_statistics_are_refused() -> None:
    one().check(network="net", data="d")
    with pytest.raises(StaleCalibration, match="another network"):
        one().check(network="other")
    with pytest.raises(StaleCalibration, match="other data"):
        (one() + one(data="e")).check(data="d")


def test_a_partial_run_stays_partial() -> None:
    partial = Statistics("net", ("d",), 1, {}, partial=True)
    assert (one() + partial).partial
    assert not (one() + one()).partial


def test_mappings_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        one().activations["z"] = TensorStats()  # type: ignore[index]
