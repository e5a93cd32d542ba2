"""Examples in docstrings of public functions and classes, and in the reference: each runs and prints what it shows.

The words of ``hil`` and their answers go on with what those before them made: ``tests/hil/python/test_reference.py``.
"""

from __future__ import annotations

import contextlib
import doctest
import importlib
import inspect
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .docstring_names import DOORS, EVERYWHERE, names
from .hil.python.test_reference import ANSWERS, WORDS
from .sources import ROOT

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
IN_ORDER = {f"hil.{name}" for name in (*WORDS, *ANSWERS)}
ENTRIES = {
    f"{door}.{name}": value
    for door in DOORS
    for name in importlib.import_module(door).__all__
    if inspect.isfunction(value := getattr(importlib.import_module(door), name)) or inspect.isclass(value)
}
PARSER = doctest.DocTestParser()


@pytest.fixture(scope="module", params=DOORS)
def door(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, dict[str, Any]]]:
    """A package, and the names that its examples take for granted; they run in one folder."""
    folder: Path = tmp_path_factory.mktemp("examples")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield request.param, names(request.param, folder)


def test_the_examples_of_a_package_run_and_print_what_they_show(door: tuple[str, dict[str, Any]]) -> None:
    package, given = door
    told: list[str] = []
    for name, value in ENTRIES.items():
        if name.rpartition(".")[0] != package or name in IN_ORDER:
            continue
        example = PARSER.get_doctest(inspect.getdoc(value) or "", dict(given), name, None, 0)
        with contextlib.redirect_stderr(io.StringIO()):
            doctest.DocTestRunner(optionflags=FLAGS).run(example, out=told.append)
    assert not told, "".join(told)


def test_no_example_is_skipped() -> None:
    assert [name for name, value in ENTRIES.items() if "+SKIP" in (inspect.getdoc(value) or "")] == []


@pytest.mark.parametrize("package", ["firmware_protocols", "cim", "mapping", "hil"])
def test_the_examples_of_a_reference_run(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Topic after topic: each goes on with what those before it made."""
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "reference" / f"{package}.md").read_text("utf-8")
    given: dict[str, Any] = dict(EVERYWHERE)
    for text in re.findall(r"```pycon\n(>>> .*?)```", page, re.DOTALL):
        told: list[str] = []
        example = PARSER.get_doctest(text, given, package, None, None)
        doctest.DocTestRunner(optionflags=FLAGS).run(example, out=told.append, clear_globs=False)
        assert not told, "".join(told)
        given = example.globs
