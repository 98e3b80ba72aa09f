from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bitwright.calibrate import observe as module
from bitwright.calibrate.file import load_statistics, save_statistics
from bitwright.calibrate.observe import Plan, batch_size, observe, observed_tensors, plan
from bitwright.calibrate.statistics import Statistics
from bitwright.calibrate.tensor_stats import TensorStats
from bitwright.errors import InputMismatch, NoData, NonFinite
from bitwright.network.network import Network
from unit.calibrate.nets import Samples, fire_net, images


@pytest.fixture(scope="module")
def net() -> Network:
    return fire_net()


def in_order(net: Network, tensors: tuple[str, ...], size: int = 3) -> Plan:
    """A plan that looks at every tensor itself."""
    return Plan(tensors, tensors, {}, frozenset(), size)


def small(net: Network, size: int = 2) -> Plan:
    return replace(plan(net), size=size)


def reference(net: Network, x: np.ndarray, size: int = 1) -> dict[str, TensorStats]:
    """Every tensor by a plain session, without any of our ways to be fast."""
    inner = [t for t in observed_tensors(net) if t not in net.inputs]
    session = net.session(inner)
    found = {t: TensorStats() for t in observed_tensors(net)}
    for start in range(0, len(x), size):
        part = x[start : start + size]
        values = dict(zip(inner, session.run(inner, {net.inputs[0]: part}), strict=True)) | {net.inputs[0]: part}
        for t in found:
            found[t] += TensorStats.of(values[t])
    return found


def test_the_default_plan_spares_what_follows_from_others(net: Network) -> None:
    made = plan(net)
    assert made.tensors[0] == "x"
    assert "c1" not in made.tensors, "only what leaves a layer is observed"
    spared = set(made.tensors) - set(made.exposed)
    assert spared == {t for t in made.tensors if net.producer(t) and net.producer(t).op_type in {"Concat", "Flatten"}}  # type: ignore[union-attr]
    assert len(spared) == 2
    assert made.size == batch_size(net, made.exposed) > 1


def test_every_statistic_equals_a_plain_run(net: Network) -> None:
    x = images(8)
    got = observe(net, Samples(x), small(net, 4))
    want = reference(net, x, 4)
    assert got.samples == 8
    assert set(got.activations) == set(want)
    for tensor, stats in want.items():
        mine = got[tensor]
        assert (mine.count, mine.axis) == (stats.count, None)
        # ONNX Runtime may add in another order where outputs are taken elsewhere, so the last bits may differ.
        assert mine.lo == pytest.approx(stats.lo, rel=1e-5, abs=1e-6)
        assert mine.hi == pytest.approx(stats.hi, rel=1e-5, abs=1e-6)
        assert abs(mine.zeros - stats.zeros) <= 2
        assert np.abs(mine.counts - stats.counts).sum() <= 0.01 * stats.count + 4


def test_derived_statistics_equal_looking_at_the_tensor(net: Network) -> None:
    x, tensors = images(6), observed_tensors(net)
    assert observe(net, Samples(x), replace(plan(net), size=3)).activations == dict(
        observe(net, Samples(x), in_order(net, tensors)).activations
    )


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_the_number_of_workers_does_not_show(net: Network, workers: int) -> None:
    source = Samples(images(11))
    assert observe(net, source, small(net), workers=workers) == observe(net, source, small(net), workers=3)


def test_parts_add_up_to_the_whole(net: Network) -> None:
    x, made = images(12), small(net, 3)
    parts = [observe(net, Samples(x[i : i + 3]), made) for i in (6, 0, 9, 3)]
    assert sum(parts, Statistics()) == observe(net, Samples(x), made)


def test_channels_are_counted_where_asked(net: Network) -> None:
    x = images(5)
    tensor = "r2" if "r2" in plan(net).tensors else next(t for t in plan(net).tensors if "left" in t)
    made = replace(plan(net, channels={tensor: 1, "x": 1}, histograms=(tensor,)), size=5)
    got = observe(net, Samples(x), made)
    session = net.session([tensor])
    values = session.run([tensor], {"x": x})[0]
    assert got[tensor].axis == 1
    np.testing.assert_allclose(got[tensor].channel_hi, values.max((0, 2, 3)), rtol=1e-5)
    np.testing.assert_array_equal(got["x"].channel_lo, x.min((0, 2, 3)))
    assert got[tensor].channel_hist is not None
    np.testing.assert_array_equal(got[tensor].channel_hist.sum(0), got[tensor].counts)
    assert got["x"].channel_hist is None


def test_weights_and_biases_are_there(net: Network) -> None:
    got = observe(net, Samples(images(2)))
    assert sorted(s.count for s in got.weights.values()) == sorted([16 * 27, 256, 1440, 130])
    assert sorted(s.count for s in got.biases.values()) == [5, 10, 16, 16]
    for name, stats in got.weights.items():
        values = net.constant(name)
        assert values is not None
        np.testing.assert_array_equal(stats.channel_hi, values.reshape(len(values), -1).max(1))


def test_progress_counts_samples(net: Network) -> None:
    seen: list[tuple[int, int | None]] = []
    observe(net, Samples(images(7)), small(net), progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (7, 7)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("workers", [1, 4])
def test_a_bad_sample_is_named_the_first_one(net: Network, value: float, workers: int) -> None:
    x = images(9)
    x[4, 0, 3, 3] = x[7] = value
    with pytest.raises(NonFinite) as info:
        observe(net, Samples(x), small(net), workers=workers)
    assert (info.value.tensor, info.value.sample) == ("x", 4)


def test_an_overflow_inside_names_the_tensor(net: Network) -> None:
    x = images(4)
    x[3] = 3e38
    with pytest.raises(NonFinite, match="The network makes it") as info:
        observe(net, Samples(x), small(net))
    assert info.value.sample == 3
    assert info.value.tensor != "x"


def test_nan_in_weights_is_named() -> None:
    import onnx.numpy_helper as helper

    from bitwright.network.load import load
    from unit.calibrate.nets import fire_model

    model = fire_model()
    for initializer in model.graph.initializer:
        if initializer.name == "w3":
            values = helper.to_array(initializer).copy()
            values[2, 1, 0, 0] = np.nan
            initializer.CopyFrom(helper.from_array(values, "w3"))
    with pytest.raises(NonFinite, match="'w3'"):
        observe(load(model), Samples(images(2)))


def test_wrong_samples_are_explained(net: Network) -> None:
    with pytest.raises(InputMismatch, match="shape"):
        observe(net, Samples(np.zeros((2, 3, 11, 12), np.float32)))
    with pytest.raises(NoData):
        observe(net, Samples(images(0)))


def test_ctrl_c_keeps_what_was_counted(net: Network, tmp_path: Path) -> None:
    x, saved = images(10), tmp_path / "run.bwcal"
    cut = observe(net, Samples(x, stop_at=6, error=KeyboardInterrupt()), small(net), checkpoint=saved)
    assert cut.partial
    assert cut.samples == 6
    assert replace(cut, partial=False) == observe(net, Samples(x[:6]), small(net))
    assert load_statistics(saved) == cut
    whole = observe(net, Samples(x), small(net), checkpoint=saved)
    assert whole == observe(net, Samples(x), small(net))
    assert not whole.partial
    assert not saved.exists()


def test_a_killed_run_goes_on_from_its_checkpoint(
    net: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, saved = images(12), tmp_path / "run.bwcal"
    monkeypatch.setattr(module, "CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(RuntimeError):  # anything that is not ours: the file stays as the last checkpoint left it
        observe(net, Samples(x, stop_at=8, error=RuntimeError()), small(net), checkpoint=saved)
    left = load_statistics(saved)
    assert left.partial
    assert 0 < left.samples < 12
    seen: list[int] = []
    whole = observe(net, Samples(x), small(net), checkpoint=saved, progress=lambda done, _: seen.append(done))
    assert whole == observe(net, Samples(x), small(net))
    assert min(seen) > left.samples
    assert not saved.exists()


@pytest.mark.parametrize("change", ["network", "data", "tensors", "batch", "damage"])
def test_a_checkpoint_of_another_run_is_not_used(net: Network, tmp_path: Path, change: str) -> None:
    saved, x = tmp_path / "run.bwcal", images(6)
    left = observe(net, Samples(x[:2]), small(net))
    left = replace(left, partial=True)
    match change:
        case "network":
            left = replace(left, network="other")
        case "data":
            left = replace(left, data=("other",))
        case "tensors":
            left = replace(left, activations={"x": left["x"]})
        case "batch":
            left = replace(left, samples=1)
    save_statistics(left, saved)
    if change == "damage":
        saved.write_bytes(saved.read_bytes()[:-100])
    assert observe(net, Samples(x), small(net), checkpoint=saved) == observe(net, Samples(x), small(net))


def test_no_thread_is_left(net: Network) -> None:
    before = threading.active_count()
    observe(net, Samples(images(4)), small(net))
    assert threading.active_count() == before


def test_a_network_of_one_sample_at_a_time(net: Network) -> None:
    fixed = net.clone()
    fixed.batchable = False
    source = Samples(images(3))
    assert observe(fixed, source).samples == 3
    assert set(source.sizes) == {1}


VICTIM = """
import sys, time
from pathlib import Path
from bitwright.calibrate import observe as module
from unit.calibrate.nets import Samples, fire_net, images
from dataclasses import replace

class Slow(Samples):
    def batches(self, size=16):
        for batch in super().batches(size):
            time.sleep(0.02)
            yield batch

module.CHECKPOINT_SECONDS = 0.0
net = fire_net()
made = replace(module.plan(net), size=2)
module.observe(net, Slow(images(400)), made, checkpoint=Path(sys.argv[1]), progress=lambda done, _: print(done, flush=True))
"""


def test_kill_9_and_again_gives_what_an_unbroken_run_gives(net: Network, tmp_path: Path) -> None:
    saved = tmp_path / "run.bwcal"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", VICTIM, str(saved)], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 20:
                break
        process.kill()
    left = load_statistics(saved)
    assert 0 < left.samples < 400
    x, seen = images(400), []
    source = Samples(x)
    whole = observe(net, source, small(net), checkpoint=saved, progress=lambda done, _: seen.append(done))
    assert min(seen) > left.samples
    assert whole == observe(net, Samples(x), small(net))


@pytest.mark.parametrize("workers", [1, 3])
def test_a_run_that_its_listener_stops_counts_every_sample_once(net: Network, workers: int) -> None:
    """The progress function may end the run, as a cancel button does; what it was told is what is kept."""
    x, told = images(200), list[int]()

    def stop(done: int, total: int | None) -> None:
        told.append(done)
        if len(told) == 3:
            raise KeyboardInterrupt

    cut = observe(net, Samples(x), small(net), progress=stop, workers=workers)
    assert cut.partial
    assert cut.samples == told[-1] < 200
    whole = observe(net, Samples(x[: cut.samples]), small(net))
    assert {t: s.count for t, s in cut.activations.items()} == {t: s.count for t, s in whole.activations.items()}
    assert cut.activations == whole.activations


def test_watching_shows_whole_batches_and_changes_nothing(net: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bitwright.calibrate.observe.WATCH_SECONDS", 0.0)
    monkeypatch.setattr("bitwright.calibrate.observe.WATCH_SHARE", 0)
    x, seen = images(200), list[Statistics]()
    result = observe(net, Samples(x), small(net), watch=seen.append)
    assert len(seen) > 2
    assert all(one.partial for one in seen)
    assert [one.samples for one in seen] == sorted(one.samples for one in seen)
    for one in seen:
        assert one.activations == observe(net, Samples(x[: one.samples]), small(net)).activations
    assert result == observe(net, Samples(x), small(net))
