"""The first batch as the network gets it: pictures, shapes and what the checks have to say."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np

from bitwright.app.session import Session
from bitwright.errors import NoData
from bitwright.model import open_samples
from bitwright.view.markup import Content, Markup, label, tag
from bitwright.view.table import number

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bitwright.data.contract import InputContract

SHOWN = 8
SIDE = 72


def preview(session: Session) -> Markup:
    """The first samples after preprocessing.

    Raises:
        DataError: if they cannot be read or do not fit the network.
    """
    settings = session.settings
    if not settings.data:
        raise NoData("Give samples first.")
    model = session.model()
    source = open_samples(
        model.network, model.contract, settings.data, samples=settings.samples, seed=settings.seed,
        skip_bad=settings.skip_bad,
    )  # fmt: skip
    batch = next(iter(source.batches(SHOWN)))
    arrays = batch.x if isinstance(batch.x, dict) else {model.network.inputs[0]: batch.x}
    count = "an unknown number of" if source.length is None else f"{source.length:,}"
    parts: list[Content] = [
        tag("h3", "The first batch"),
        tag("p", f"{count} samples in ", label(source.source.title, 120), class_="muted"),
    ]
    for name, array in arrays.items():
        x = np.asarray(array)
        shape = "×".join(map(str, x.shape[1:]))
        told = f"{shape}, {x.dtype}, from {number(float(x.min()))} to {number(float(x.max()))}, mean {number(float(x.mean()))}"
        parts.append(tag("p", tag("strong", label(name, 60)), " ", told))
        if name == (model.contract.name or model.network.inputs[0]):
            labels = list(batch.y) if batch.y is not None else [None] * len(x)
            pictures = [
                _picture(sample, model.contract, given) for sample, given in zip(x[:SHOWN], labels, strict=False)
            ]
            parts.append(tag("div", *pictures, class_="pictures"))
    parts += [tag("p", label(note, 500), class_="note") for note in (*model.notes, *source.notes)]
    return tag("section", *parts, class_="preview")


def _picture(sample: NDArray[Any], contract: InputContract, given: object) -> Markup:
    caption = tag("figcaption", label(str(given), 20)) if given is not None and np.ndim(given) == 0 else None  # type: ignore[arg-type]
    pixels = pixels_of(sample, contract)
    if pixels is None:
        return tag("figure", tag("p", "no picture", class_="muted"), caption)
    from PIL import Image

    image = Image.fromarray(pixels)
    scale = SIDE / max(image.size)
    size = tuple(max(1, round(s * scale)) for s in image.size)
    image = image.resize((size[0], size[1]), Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BILINEAR)
    out = io.BytesIO()
    image.save(out, "PNG")
    src = "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
    return tag("figure", tag("img", src=src, alt="sample", width=size[0], height=size[1]), caption)


def pixels_of(sample: NDArray[Any], contract: InputContract) -> NDArray[np.uint8] | None:
    """A sample of the network's input as a picture ``[h, w]`` or ``[h, w, 3]``; None where it is none.

    Mean and deviation are undone; other arrays are stretched from black to white.
    """
    x = np.asarray(sample, np.float64)
    if contract.layout == "raw":
        x = np.squeeze(x)
        if x.ndim == 1:
            x = x[None, :]
        if x.ndim != 2 or min(x.shape) < 1 or max(x.shape) > 4096:
            return None
        low, high = float(x.min()), float(x.max())
        return np.asarray(255 * (x - low) / ((high - low) or 1.0), np.uint8)
    if x.ndim != 3:
        return None
    if contract.layout == "NCHW":
        x = np.moveaxis(x, 0, 2)
    if x.shape[2] not in {1, 3, 4}:
        return None
    x = np.clip(np.rint(x * np.asarray(contract.std) + np.asarray(contract.mean)), 0, 255).astype(np.uint8)
    if contract.color == "BGR" and x.shape[2] == 3:
        x = x[:, :, ::-1]
    return np.ascontiguousarray(x[:, :, 0] if x.shape[2] == 1 else x[:, :, :3])
