"""Whole pictures to the integers of the input: resized and cropped as the input contract says, without working memory.

The arithmetic is that of Pillow's bilinear resampling of 8-bit pixels, which data/transform.py uses: weights in double
precision, rounded to 22 bits; columns first, rounded to 8 bits, then rows.  So the integers are those that were measured.
"""

from __future__ import annotations

from collections.abc import Sequence

MOST_SHRINK = 32  # weights lie on the stack: two per input pixel and one more
TAPS = 2 * MOST_SHRINK + 2

WEIGHTS = """\
/* Weights of the input pixels from `*first` on for one output pixel, in 2^-22; returns how many. */
static int32_t picture_weights(int32_t at, int32_t size, int32_t wanted, int32_t *weights, int32_t *first)
{
    /* Nothing may be fused into one rounding, so every result is stored. */
    const volatile double scale = (double)size / wanted;
    const double wide = scale < 1.0 ? 1.0 : scale;
    const volatile double middle = (at + 0.5) * scale, slope = 1.0 / wide, low = middle - wide, high = middle + wide;
    int32_t begin = (int32_t)(low + 0.5), end = (int32_t)(high + 0.5);
    volatile double sum = 0.0;
    double kept[@TAPS@];
    begin = begin < 0 ? 0 : begin;
    end = end > size ? size : end;
    for (int32_t i = 0; i < end - begin; i++) {
        const volatile double place = i + begin - middle + 0.5;
        const volatile double far = place * slope;
        const double distance = far < 0.0 ? -far : far;
        kept[i] = distance < 1.0 ? 1.0 - distance : 0.0;
        sum = sum + kept[i];
    }
    for (int32_t i = 0; i < end - begin; i++) {
        const volatile double share = kept[i] / sum;
        const volatile double scaled = share * 4194304.0;
        weights[i] = (int32_t)(scaled + 0.5);
    }
    *first = begin;
    return end - begin;
}
"""


def prototype(prefix: str, suffix: str, kind: str) -> str:
    """The declaration."""
    return f"int {prefix}_quantize_image{suffix}(const uint8_t *pixels, int32_t rows, int32_t columns, {kind} *q)"


def support() -> str:
    """The function that both passes call."""
    return WEIGHTS.replace("@TAPS@", str(TAPS))


def body(
    size: tuple[int, int],
    resize: int | tuple[int, int] | None,
    crops: bool,
    tables: Sequence[str],
    order: Sequence[int],
    places: Sequence[str],
) -> list[str]:
    """The lines of the function.

    Args:
        size: Rows and columns of the input.
        resize: Of the contract.
        crops: Whether the contract has a crop; otherwise the resized picture must have the input's size.
        tables: For each channel of the network the C array that turns a pixel into an integer.
        order: For each channel of the network the channel of the picture.
        places: For each channel the C index of ``(y, x)`` in the input.
    """
    channels = len(order)
    target = ["    int32_t high = rows, wide = columns;"]
    if isinstance(resize, int):
        target += [
            "    if (rows > 0 && columns > 0 && rows <= columns) {",
            f"        high = {resize};",
            f"        wide = (int32_t)((int64_t){resize} * columns / rows);",
            "    } else if (rows > 0 && columns > 0) {",
            f"        high = (int32_t)((int64_t){resize} * rows / columns);",
            f"        wide = {resize};",
            "    }",
        ]
    elif resize is not None:
        target += [f"    high = {resize[0]};", f"    wide = {resize[1]};"]
    wrong = "<" if crops else "!="
    lines = [
        *target,
        f"    if (rows < 1 || columns < 1 || high {wrong} {size[0]} || wide {wrong} {size[1]} ||",
        f"        (int64_t)high * {MOST_SHRINK} < rows ||",
        f"        (int64_t)wide * {MOST_SHRINK} < columns) {{",
        "        return -1;",
        "    }",
        f"    for (int32_t y = 0; y < {size[0]}; y++) {{",
        f"        int32_t down[{TAPS}], across[{TAPS}], top, left;",
        f"        const int32_t taps = picture_weights(y + (high - {size[0]}) / 2, rows, high, down, &top);",
        f"        for (int32_t x = 0; x < {size[1]}; x++) {{",
        f"            const int32_t count = picture_weights(x + (wide - {size[1]}) / 2, columns, wide, across, &left);",
        f"            int32_t total[{channels}];",
        f"            for (int32_t c = 0; c < {channels}; c++) {{",
        "                total[c] = 1 << 21;",
        "                for (int32_t i = 0; i < taps; i++) {",
        f"                    const uint8_t *from = pixels + ((int64_t)(top + i) * columns + left) * {channels} + c;",
        "                    int32_t line = 1 << 21;",
        "                    for (int32_t k = 0; k < count; k++) {",
        f"                        line += across[k] * from[k * {channels}];",
        "                    }",
        "                    line >>= 22;",
        "                    total[c] += down[i] * (line > 255 ? 255 : line);",
        "                }",
        "                total[c] >>= 22;",
        "                total[c] = total[c] > 255 ? 255 : total[c];",
        "            }",
    ]
    for c in range(channels):
        lines.append(f"            q[{places[c]}] = {tables[c]}[total[{order[c]}]];")
    return [*lines, "        }", "    }", "    return 0;"]
