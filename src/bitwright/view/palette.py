"""The colors, once for stylesheet, drawings and terminal.

Blue against orange is told apart with all three color vision deficiencies (OKLab distance ≥ 0.23), text has a contrast
of at least 5.9 (WCAG AA asks for 4.5), and meaning never rests on color alone.
"""

from __future__ import annotations

from typing import NamedTuple


class Color(NamedTuple):
    """One color on a light and on a dark ground."""

    light: str
    dark: str


INSIDE = (
    Color("#c9def4", "#16375c"),
    Color("#9dc4ea", "#1f568f"),
    Color("#5e9fd8", "#357fc7"),
    Color("#2470b8", "#6db0ee"),
    Color("#083f7d", "#c2e1ff"),
)
OVER = (
    Color("#f08a4b", "#d06a22"),
    Color("#e8722c", "#e07a30"),
    Color("#d95a10", "#f08c44"),
    Color("#b94607", "#ffa566"),
    Color("#933503", "#ffc9a1"),
)
UNDER = (
    Color("#c3c7cc", "#3b424b"),
    Color("#a9aeb5", "#4d555f"),
    Color("#8b9199", "#69727d"),
    Color("#6d737b", "#8b949f"),
    Color("#4f555c", "#b4bcc6"),
)
SIGNAL = (
    Color("#9c2f00", "#ffb38a"),
    Color("#dd7326", "#d8691a"),
    Color("#d9bd6a", "#8d8474"),
    Color("#6aa5d2", "#3f76b5"),
    Color("#1a5a98", "#9ad6ff"),
)
"""Signal to noise, from worst to best."""

ROLES = {
    "ground": Color("#ffffff", "#0f1318"),
    "panel": Color("#f6f8fa", "#151a21"),
    "card": Color("#ffffff", "#171d25"),
    "rule": Color("#d9dee4", "#2d353f"),
    "text": Color("#1c2128", "#e4e9ef"),
    "muted": Color("#5b6570", "#97a1ac"),
    "accent": Color("#0b5cad", "#5fa9f5"),
    "on-accent": Color("#ffffff", "#0b1622"),
    "bad": Color("#b03a00", "#ff9a62"),
    "good": Color("#1a6b3c", "#6fcf97"),
    "mark": Color("#fff1dc", "#2b2416"),
    "lane": Color("#eef4fb", "#15202e"),
    "none": Color("#dfe2e6", "#2a3038"),
    "table": Color("#7a5ca8", "#b79be6"),
    "float": Color("#8b9199", "#8b949f"),
}

RAMPS = {"in": INSIDE, "over": OVER, "under": UNDER, "db": SIGNAL}


def tokens() -> dict[str, Color]:
    """Name of the CSS variable → color: ``in1`` to ``in5``, ``over1`` …, and the roles."""
    ramps = {f"{name}{k}": color for name, ramp in RAMPS.items() for k, color in enumerate(ramp, 1)}
    return ramps | ROLES


LIGHT = {name: color.light for name, color in tokens().items()}


def light(token: str) -> str:
    """The color on a light ground, for drawings that no stylesheet reaches.

    Raises:
        KeyError: if there is no such token.
    """
    return LIGHT[token]


def color_rules() -> str:
    """The colors as CSS: variables for light and dark, and a class for each use of each of them.

    Light on paper, dark where the system, the reader (``data-theme``) or the notebook says so.  Classes: ``f-`` fills,
    ``l-`` draws lines, and ``s-``, ``b-``, ``w-`` fill where the graph is colored by signal to noise, bits lost or what
    runs where (``data-color`` of an ancestor, or a checked ``#by-…``).
    """
    names = tokens()
    on_light = "".join(f"--bw-{name}:{color.light};" for name, color in names.items())
    on_dark = "".join(f"--bw-{name}:{color.dark};" for name, color in names.items())
    rules = [
        f".bw{{color-scheme:light;{on_light}}}",
        f"@media screen and (prefers-color-scheme:dark){{.bw:not([data-theme=light]){{color-scheme:dark;{on_dark}}}}}",
        f"@media screen{{.bw[data-theme=dark],body[data-jp-theme-light=false] .bw{{color-scheme:dark;{on_dark}}}}}",
    ]
    for name in names:
        value = f"var(--bw-{name})"
        rules.append(f".bw .f-{name},.bw .s-{name}{{fill:{value}}}.bw .l-{name}{{stroke:{value}}}")
        rules.append(f".bw [data-color=bits] .b-{name},.bw:has(#by-bits:checked) .b-{name}{{fill:{value}}}")
        rules.append(f".bw [data-color=where] .w-{name},.bw:has(#by-where:checked) .w-{name}{{fill:{value}}}")
    return "\n".join(rules) + "\n"
