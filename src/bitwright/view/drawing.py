"""What all SVG drawings have in common: numbers, rectangles, lines and text that are legible without a stylesheet."""

from __future__ import annotations

from bitwright.view.markup import Content, Markup, Value, tag, text
from bitwright.view.palette import light


def short(value: float) -> str:
    """A coordinate without needless digits."""
    shown = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if shown in {"-0", ""} else shown


def svg(width: float, height: float, *content: Content, label: str = "", class_: str = "") -> Markup:
    """A drawing of so many pixels; an empty label hides it from screen readers."""
    w, h = short(width), short(height)
    inner = text(content)
    return tag(
        "svg",
        inner,
        font_family="sans-serif" if "<text" in inner else None,
        width=w,
        height=h,
        viewBox=f"0 0 {w} {h}",
        class_=class_ or None,
        role=("group" if "<a " in inner else "img") if label else None,  # what can be clicked is no picture
        aria_label=label or None,
        aria_hidden=None if label else "true",
    )


def rect(x: float, y: float, width: float, height: float, token: str, *, edge: str = "", **more: Value) -> Markup:
    """A rectangle in a color of the palette, with an outline in another one if ``edge`` names it."""
    return tag(
        "rect", x=short(x), y=short(y), width=short(width), height=short(height), fill=light(token),
        stroke=light(edge) if edge else None, class_=f"f-{token} l-{edge}" if edge else f"f-{token}", **more,
    )  # fmt: skip


def block(boxes: list[tuple[float, float, float, float]], token: str) -> Markup:
    """Several rectangles ``(x, y, width, height)`` in one color, as one path: pages hold thousands of them."""
    path = "".join(f"M{short(x)} {short(y)}h{short(w)}v{short(h)}h{short(-w)}z" for x, y, w, h in boxes)
    return tag("path", d=path, fill=light(token), class_=f"f-{token}")


def line(points: list[tuple[float, float]], token: str, width: float = 1, **more: Value) -> Markup:
    """A line through points."""
    path = "M" + "L".join(f"{short(x)} {short(y)}" for x, y in points)
    return tag("path", d=path, fill="none", stroke=light(token), stroke_width=short(width), class_=f"l-{token}", **more)


def words(x: float, y: float, content: Content, token: str = "muted", size: int = 10, **more: Value) -> Markup:
    """A piece of text at a point."""
    return tag(
        "text", content, x=short(x), y=short(y), fill=light(token), font_size=size,
        class_=f"f-{token}", **more,
    )  # fmt: skip


def power(exponent: int) -> Markup:
    """``2⁻⁴`` for inside a text element."""
    raised = str(exponent).translate(SUPERSCRIPT)
    return Markup(f"2{raised}")


SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
