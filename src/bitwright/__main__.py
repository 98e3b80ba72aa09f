"""``python -m bitwright``."""

from __future__ import annotations

from bitwright.cli import main

if __name__ == "__main__":
    main()
