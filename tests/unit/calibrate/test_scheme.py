from __future__ import annotations

import pytest

from bitwright.calibrate.scheme import load, schemes
from bitwright.calibrate.schemes.histogram import Histogram
from bitwright.calibrate.schemes.kl import Kl
from bitwright.calibrate.schemes.minmax import MinMax
from bitwright.calibrate.schemes.mse import Mse
from bitwright.calibrate.schemes.percentile import Percentile
from bitwright.errors import CalibrationError


def test_all_schemes_are_found() -> None:
    assert list(schemes()) == ["aciq", "histogram", "kl", "minmax", "mse", "percentile"]


@pytest.mark.parametrize(
    ("spec", "want"),
    [
        ("minmax", MinMax()),
        ("MinMax", MinMax()),
        ("max_min", MinMax()),
        ("Histogram", Histogram()),
        ("histogram{overflow=0.01}", Histogram(overflow=0.01)),
        ("histogram{overflow=none}", Histogram()),
        ("percentile{p=99.9}", Percentile(99.9)),
        (" percentile { p = 99 } ", Percentile(99.0)),
        ("kld", Kl()),
        ("entropy{variant=ncnn, constants=true}", Kl(variant="ncnn", constants=True)),
        ("min-diffs{steps=2}", Mse(steps=2)),
        ("mse{}", Mse()),
    ],
)
def test_specs(spec: str, want: object) -> None:
    assert load(spec) == want


def test_a_scheme_passes_through() -> None:
    assert load(Mse(steps=1)) == Mse(steps=1)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("minmaks", "Did you mean 'minmax'"),
        ("percentil{p=1}", "Did you mean 'percentile'"),
        ("zzz", "Known are aciq"),
        ("percentile{q=1}", "Its options are p"),
        ("minmax{p=1}", "no options"),
        ("percentile{p=abc}", "it takes float"),
        ("percentile{p=1}", "p must lie above 50"),
        ("kl{variant=foo}", "auto|tensorrt|ncnn|nnom"),
        ("kl{constants=yes}", "it takes bool"),
        ("mse{steps=1.5}", "it takes int"),
        ("mse{", "not of the form"),
        ("\x1b[2Jmse", "no calibration scheme"),
    ],
)
def test_bad_specs_are_explained(spec: str, words: str) -> None:
    with pytest.raises(CalibrationError) as info:
        load(spec)
    assert words in str(info.value)
    assert "\x1b" not in str(info.value)
