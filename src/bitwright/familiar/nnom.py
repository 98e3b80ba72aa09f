"""``generate_model``: the one call of people who come from NNoM, which writes ``weights.h``.

Name, arguments and their meaning: majianjia/nnom, ``scripts/nnom.py`` and ``scripts/nnom_utils.py``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from bitwright.errors import CalibrationError, ExportError, printable

if TYPE_CHECKING:
    from bitwright.quantized import Quantized

METHODS = {"max_min": "minmax", "kld": "kl"}
TARGET = "mcu-q7"


def generate_model(
    model: Any,
    x_test: Any,
    per_channel_quant: bool = False,
    name: str | os.PathLike[str] = "weights.h",
    format: str = "hwc",
    quantize_method: str = "max_min",
    *,
    kld: bool | None = None,
) -> Quantized:
    """Quantize ``model`` for NNoM and write its weights, formats and shifts as C macros.

    Args:
        model: What :func:`bitwright.load` takes: a Keras model, a file.
        x_test: Samples as the network takes them, ``[n, ...]``, normalized already; they calibrate.
        per_channel_quant: One format per output channel; NNoM's header has it, this export has not.
        name: The header to write.
        format: Order of axes on the device; ``hwc``.
        quantize_method: ``max_min`` or ``kld``.
        kld: As older scripts spell it: True is ``kld``, False ``max_min``; writes their macros (``_SHIFT``).

    Returns:
        The quantized network, which bitwright validates, explains and exports on.

    Raises:
        ExportError: if an argument asks for what the header does not hold, or a layer has no form in NNoM.
        CalibrationError: if there is no such method.
    """
    from bitwright.api import export, load, quantize

    if per_channel_quant:
        raise ExportError("The header of this export has one format per tensor: leave out per_channel_quant.")
    if format != "hwc":
        raise ExportError(f"The header is in the order hwc, not '{printable(format, 40)}'.")
    if quantize_method not in METHODS:
        raise CalibrationError(
            f"There is no method '{printable(quantize_method, 40)}'; there are {' and '.join(METHODS)}."
        )
    scheme = METHODS[quantize_method if kld is None else "kld" if kld else "max_min"]
    net = load(model, input_spec={"input": {"layout": "raw"}})
    q = quantize(net, x_test, TARGET, scheme=scheme)
    export(q, "nnom", name, dialect="new" if kld is None else "old")
    return q
