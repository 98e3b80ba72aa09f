from __future__ import annotations

import numpy as np
import pytest

from bitwright.network import exposed
from bitwright.network.exposed import exposing_session
from unit.calibrate.nets import fire_net, images


@pytest.fixture(scope="module")
def net():  # type: ignore[no-untyped-def]
    return fire_net()


def test_values_are_the_same_in_any_order(net) -> None:  # type: ignore[no-untyped-def]
    tensors = [t for layer in net.layers() for t in layer.outputs]
    plain, x = net.session(tensors), images(3)
    want = plain.run(tensors, {"x": x})
    session, names = exposing_session(net, tensors)
    got = session.run([names[t] for t in tensors], {"x": x})
    for tensor, a, b in zip(tensors, want, got, strict=True):
        assert a.shape == b.shape, tensor
        for one, other in zip(a, b, strict=True):  # samples are not mixed
            np.testing.assert_allclose(np.sort(one.ravel()), np.sort(other.ravel()), rtol=1e-4, atol=1e-6)


def test_tensors_that_must_be_in_order_are(net) -> None:  # type: ignore[no-untyped-def]
    tensors = [t for layer in net.layers() for t in layer.outputs]
    x = images(2)
    session, names = exposing_session(net, tensors, in_order=tensors)
    want = net.session(tensors).run(tensors, {"x": x})
    for a, b in zip(want, session.run([names[t] for t in tensors], {"x": x}), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_any_trouble_leads_to_the_plain_session(net, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    def broken(*_: object) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(exposed, "_blocked", broken)
    tensors = [t for layer in net.layers() for t in layer.outputs]
    session, names = exposing_session(net, tensors)
    assert names == {t: t for t in tensors}
    assert session.run(tensors, {"x": images(1)})[0].shape[0] == 1
