"""Base of answers in a notebook: a summary as a table, and frames and figures by the libraries of one extra."""

from __future__ import annotations

import functools
import importlib
import io
from dataclasses import fields
from typing import Any, Self

from hil.errors import UsageError
from hil.pages.summary import Summary
from hil.python.progress import in_notebook

MORE = "pip install 'rram-hil[notebook]'"


class Shown:
    """Base of results that display in a notebook what their command prints."""

    __slots__ = ()

    @classmethod
    def of(cls, found: Any, **more: Any) -> Self:
        """A result made from ``found``, with further fields ``more``."""
        return cls(**{f.name: getattr(found, f.name) for f in fields(found)}, **more)

    def summary_shown(self) -> Summary:
        """The summary that its command prints."""
        raise NotImplementedError

    def _repr_html_(self) -> str:
        return self.summary_shown().html()

    def show(self) -> None:
        """Show what the command of the same name prints; as a table in a notebook.

        Returns:
            nothing; it is printed.

        Raises:
            hil.UsageError: IPython is not installed, in a notebook.
        """
        summary = self.summary_shown()
        if in_notebook():
            needed("IPython.display").display(needed("IPython.display").HTML(summary.html()))
            return
        from hil.report.terminal.answers import show_answer

        show_answer(summary)


def needed(library: str) -> Any:
    """A library of the extra ``notebook``.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise UsageError(f"{library.split('.')[0]} is not installed", hint=MORE) from error


def new_axes(width: float = 6.0, height: float = 3.6) -> tuple[Any, Any]:
    """A matplotlib figure without a window, and its axes; a notebook displays it as a picture."""
    needed("matplotlib")
    figure = _figure_class()(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


@functools.cache
def _figure_class() -> Any:
    """matplotlib's figure class, extended to display itself in notebooks without pyplot."""
    from matplotlib import figure

    class Figure(figure.Figure):
        def _repr_png_(self) -> bytes:
            drawn = io.BytesIO()
            self.savefig(drawn, format="png", dpi=100)
            return drawn.getvalue()

    return Figure
