"""Whether what a command says fits a terminal: no line too wide, no number broken or cut."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable
from typing import Any

import pytest

from hil.pages.summary import Summary
from hil.report.terminal import answers, lines
from hil.report.terminal.lines import printable, wrapped

WIDTHS = (60, 80, 120)
NUMBER = re.compile(r"[−+±]?\d[\d.,]*(?: (?:%|points|µJ|mJ|nJ|ms|µs|s|h|d|images|chips|macros|mJ·ms|µS))?(?![\w.])")


class Terminal(io.StringIO):
    """A stream of an encoding, of no width of its own."""

    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding


def too_wide(text: str, width: int) -> list[str]:
    return [line for line in text.splitlines() if len(line) > width]


def broken_numbers(narrow: str, wide: str) -> set[str]:
    """Numbers with their units of a wide rendering that no line of the narrow one holds whole."""
    found = {n for line in wide.splitlines() for n in NUMBER.findall(line) if not re.match(r"\s*accuracy\b", line)}
    return {n for n in found if not any(n in line for line in narrow.splitlines())}


def misfits(summary: Summary) -> list[str]:
    """What of a summary does not fit 60, 80 or 120 columns; a path or a word that is longer alone may go beyond."""
    found, wide = [], answers.shown(summary, Terminal(), 200)
    scaled = re.compile(r"^\s*\S+( \S+)?\s+[\d−. ]+( \S+)?$")  # ticks of a scale, which have another step there
    wide = "\n".join(line for line in wide.splitlines() if not scaled.match(line))
    for width in WIDTHS:
        text = answers.shown(summary, Terminal(), width)
        long = [line for line in too_wide(text, width) if len(max(line.split(), key=len)) < width - 8]
        found += [f"{width} columns: {line!r}" for line in long]
        found += [f"{width} columns: {number} is broken" for number in broken_numbers(text, wide)]
        found += [f"{width} columns: cut: {line!r}" for line in text.splitlines() if line.endswith("…")]
    return found


def misfits_of_error(text: str) -> list[str]:
    """Lines of an error that a terminal would have to break; commands to try stay whole, to be copied."""
    lines = [line for line in printable(text).split("\n") if not line.startswith("  try ")]
    parts = [(width, part) for width in WIDTHS for line in lines for part in wrapped(line, width)]
    return [f"{w} columns: {p!r}" for w, p in parts if len(p) > w and len(max(p.split(), key=len)) < w - 8]


def watching(show_answer: Callable[..., None]) -> Callable[..., None]:
    """``show_answer`` of the terminal that also looks at every summary it is given."""

    def looked_at(*parts: Any, **more: Any) -> None:
        found = [words for part in parts if isinstance(part, Summary) for words in misfits(part)]
        if found:
            sys.stderr.write("\n".join(found))
        assert not found, found
        show_answer(*parts, **more)

    return looked_at


@pytest.fixture(autouse=True)
def every_answer_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Summaries and errors of every command that a test runs, and summaries whose lines it asks for, whatever came of
    it: agree, a loss, a failure."""
    complain, plain = lines.complain, Summary.lines

    def looked_at(text: str) -> None:
        found = misfits_of_error(text)
        assert not found, found
        complain(text)

    def fitting(summary: Summary) -> list[str]:
        found = misfits(summary)
        assert not found, found
        return plain(summary)

    monkeypatch.setattr("hil.cli.show.show_answer", watching(answers.show_answer))
    monkeypatch.setattr(answers, "show_answer", watching(answers.show_answer))
    monkeypatch.setattr("hil.cli.complain", looked_at)
    monkeypatch.setattr(Summary, "lines", fitting)
