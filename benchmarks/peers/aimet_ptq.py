"""AIMET for ONNX: a multiplier per channel, equalization, sequential MSE or AdaRound.

Ways: ``w8``, ``w4``, each with any of ``+cle``, ``+seqmse``, ``+adaround``.
"""

from __future__ import annotations

import _worker
import onnx
from aimet_onnx import QuantizationSimModel, apply_adaround, apply_seq_mse, int4, int8
from aimet_onnx.cross_layer_equalization import equalize_model

ITERATIONS = 1000


def quantize(path: str, name: str, calib: _worker.Samples, way: str) -> _worker.Answer:
    """See :func:`_worker.main`."""
    model = onnx.load(path)
    if "+cle" in way:
        equalize_model(model)
    sim = QuantizationSimModel(
        model, param_type=int4 if "w4" in way else int8, activation_type=int8,
        quant_scheme="min_max" if "+" in way else "tf_enhanced", config_file="default",
        dummy_input={name: calib[:1]},
    )  # fmt: skip
    feeds = [{name: x} for x in _worker.batches(calib)]
    if "+seqmse" in way:
        apply_seq_mse(sim, feeds)
    if "+adaround" in way:
        apply_adaround(sim, feeds, num_iterations=ITERATIONS)
    sim.compute_encodings(feeds)
    return lambda x: sim.session.run(None, {name: x})[0]


if __name__ == "__main__":
    _worker.main("aimet-onnx", quantize)
