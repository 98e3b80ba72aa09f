"""The stylesheet and the report's script, as texts."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files

from bitwright.view.palette import color_rules


@cache
def stylesheet() -> str:
    """All CSS: the colors and ``static/bitwright.css``."""
    return color_rules() + _static("bitwright.css")


@cache
def report_script() -> str:
    """The script of a report."""
    return _static("report.js")


def _static(name: str) -> str:
    return (files("bitwright.view") / "static" / name).read_text("utf-8")


def digest(text: str) -> str:
    """``sha256-…`` of an inline style or script, as a content-security policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
