"""Objects that show themselves: in a notebook, as a table, as a plot.

How they look is drawn far above them, in ``view``, and nothing down here may know of it.  So the way leads through the
public face of the package, which knows where everything is and loads it when it is first used.
"""

from __future__ import annotations

import os
from typing import Any


class Shown:
    """What values get that people look at."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return str(self._faces().html())

    def show(self, path: str | os.PathLike[str] | None = None, *, height: int = 760) -> Any:
        """The whole page, to be looked at in a notebook; interactive, isolated and without a network.

        It makes the notebook larger by the size of the page.  With ``path`` it is written to a file instead.

        Args:
            path: Where to write it.
            height: Of the frame, in pixels.

        Raises:
            ExportError: if the file cannot be written.
        """
        return self._faces().show(path, height=height)

    def to_pandas(self) -> Any:
        """The rows as a pandas ``DataFrame``; the columns are those of the reference.

        Raises:
            ToolMissing: if pandas is not installed.
        """
        return self._faces().to_pandas()

    def to_polars(self) -> Any:
        """The rows as a polars ``DataFrame``.

        Raises:
            ToolMissing: if polars is not installed.
        """
        return self._faces().to_polars()

    @property
    def plot(self) -> Any:
        """Plots with matplotlib: ``plot.profile()``, ``plot.histogram(tensor)``, ``plot.strips()``, ``plot.compare(other)``.

        Each returns the ``Axes``, and takes ``ax=`` to draw into one.

        Raises:
            ToolMissing: if matplotlib is not installed.
        """
        return self._faces().plot

    def _faces(self) -> Any:
        import bitwright  # the public face: what draws lies above every value

        return bitwright.faces(self)
