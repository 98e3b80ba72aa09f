"""The face for people who come from dlquantizer: its names, tables and result struct."""

from __future__ import annotations

import numpy as np
import pytest

import bitwright as bw
from bitwright.errors import CalibrationError, UnknownTarget
from bitwright.familiar.dlquantizer import COLUMNS, LIBRARIES, TARGETS
from command_line import CALIB, MODEL, VAL


@pytest.fixture(scope="module")
def matlab() -> bw.Quantizer:
    quantizer = bw.Quantizer(MODEL, environment="MATLAB")
    quantizer.calibrate(str(CALIB))
    quantizer.quantize(exponent_scheme="Histogram")
    return quantizer


def test_the_calibration_table_has_the_five_columns_in_order(matlab: bw.Quantizer) -> None:
    rows = matlab.CalibrationStatistics
    assert COLUMNS == ("Optimized Layer Name", "Network Layer Name", "Learnables / Activations", "MinValue", "MaxValue")
    assert all(tuple(row) == COLUMNS for row in rows)
    assert {row[COLUMNS[2]] for row in rows} == {"Weights", "Bias", "Activations"}
    assert all(row["MinValue"] <= row["MaxValue"] for row in rows)
    names = [row[COLUMNS[0]] for row in rows]
    assert "image" in names
    assert "image_normalization" in names  # both rows of the input, always


def test_names_by_environment() -> None:
    """GPU joins the names of what is fused and shows the last; FPGA shows the layer alone."""
    found = {}
    for environment in ("GPU", "FPGA"):
        quantizer = bw.Quantizer(MODEL, environment)
        rows = quantizer.calibrate(str(CALIB), samples=8)
        found[environment] = next(r for r in rows if r["Learnables / Activations"] == "Weights")
    assert found["GPU"]["Optimized Layer Name"] == "stem_conv_stem_norm_stem_relu_Weights"
    assert found["GPU"]["Network Layer Name"] == "stem_relu"
    assert found["FPGA"]["Optimized Layer Name"] == "stem_conv_Weights"
    assert found["FPGA"]["Network Layer Name"] == "stem_conv"


def test_validate_gives_the_result_struct(matlab: bw.Quantizer) -> None:
    def accuracy(predictions: np.ndarray, labels: np.ndarray) -> float:
        return float((predictions.argmax(1) == labels).mean())

    result = matlab.validate(str(VAL), metric_fn=accuracy, samples=100)
    assert result.NumSamples == 100
    table = result.MetricResults.Result
    assert [row["NetworkImplementation"] for row in table] == ["Floating-Point", "Quantized"]
    assert [tuple(row) for row in table] == [
        ("NetworkImplementation", "MetricOutput", "LearnableParameterMemory(bytes)")
    ] * 2
    assert result.QuantizedNetworkFPS is None
    q = matlab.quantized
    assert q is not None
    labels = np.load(VAL)["y"]
    own = bw.validate(q, str(VAL), samples=100)
    assert table[0]["MetricOutput"] == pytest.approx(own.float)
    assert table[1]["MetricOutput"] == pytest.approx(own.quantized)
    assert len(labels) >= 100
    # Float learnables have 4 bytes, integer weights 1 and biases 4: what the documented example shows.
    weights = sum(x.count for x in q.program.learnables if x.parameter == "Weights")
    biases = sum(x.count for x in q.program.learnables if x.parameter == "Bias")
    assert table[0]["LearnableParameterMemory(bytes)"] == 4 * (weights + biases)
    assert table[1]["LearnableParameterMemory(bytes)"] == weights + 4 * biases


def test_fpga_has_frames_per_second_and_no_memory_column() -> None:
    quantizer = bw.Quantizer(MODEL, environment="FPGA")
    quantizer.calibrate(str(CALIB))
    result = quantizer.validate(str(VAL), samples=32)  # quantizes by itself
    assert [tuple(row) for row in result.MetricResults.Result] == [("NetworkImplementation", "MetricOutput")] * 2
    assert quantizer.quantized is not None
    assert result.QuantizedNetworkFPS == bw.estimate(quantizer.quantized, config="dlp512").frames_per_s
    assert result.QuantizedNetworkFPS is not None
    assert result.QuantizedNetworkFPS > 1


def test_details_have_four_fields(matlab: bw.Quantizer) -> None:
    details = matlab.details()
    assert list(vars(details)) == ["IsQuantized", "TargetLibrary", "QuantizedLayerNames", "QuantizedLearnables"]
    assert details.IsQuantized
    assert details.TargetLibrary == "none"
    assert details.QuantizedLayerNames
    learnables = details.QuantizedLearnables
    assert all(tuple(row) == ("Layer", "Parameter", "Value") for row in learnables)
    assert len(learnables) == 2 * len({row["Layer"] for row in learnables})
    for row in learnables:
        assert row["Value"].dtype.kind == "i"
        if row["Parameter"] == "Weights":
            assert np.abs(row["Value"].astype(int)).max() <= 128
    before = bw.Quantizer(MODEL, "GPU").details()
    assert not before.IsQuantized
    assert before.QuantizedLayerNames == ()
    assert before.QuantizedLearnables == ()


def test_schemes_are_those_of_the_library(matlab: bw.Quantizer) -> None:
    for text, name in (("MinMax", "minmax"), ("Histogram", "histogram"), ("histogram", "histogram")):
        q = matlab.quantize(exponent_scheme=text)
        assert q.provenance["schemes"]["weight"] == name
        assert q is matlab.quantized
    with pytest.raises(CalibrationError, match="MinMax and Histogram"):
        matlab.quantize(exponent_scheme="kl")


@pytest.mark.parametrize("environment", TARGETS)
def test_environments_are_targets(environment: str) -> None:
    quantizer = bw.Quantizer(MODEL, environment.lower())
    assert quantizer.environment == environment
    assert quantizer.target in bw.list_targets()
    assert quantizer.details().TargetLibrary == LIBRARIES[environment]
    assert bw.Quantizer(MODEL, environment, target="dpu").target == "dpu"


def test_what_is_missing_is_said() -> None:
    with pytest.raises(UnknownTarget, match="there are FPGA, GPU, CPU, MATLAB"):
        bw.Quantizer(MODEL, environment="TPU")
    quantizer = bw.Quantizer(MODEL)
    for call in (quantizer.quantize, lambda: quantizer.validate(str(VAL)), lambda: quantizer.CalibrationStatistics):
        with pytest.raises(CalibrationError, match=r"call calibrate\(data\) first"):
            call()
