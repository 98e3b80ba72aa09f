"""Every rewrite and every repair of a network: one file, one frozen dataclass, one shape (see ``_pass.py``)."""

from __future__ import annotations
