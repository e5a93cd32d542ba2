"""Examples in the reference of a package: topic after topic, each goes on with what those before it made.

Those of single entries are in their docstrings: tests/test_docstring_examples.py.
"""

from __future__ import annotations

import doctest
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import cim
import firmware_protocols
import hil
import mapping

ROOT = Path(__file__).parent.parent
PACKAGES = ("firmware_protocols", "cim", "mapping", "hil")
BEFORE = {
    "np": np, "torch": torch, "Path": Path, "cim": cim, "firmware_protocols": firmware_protocols, "hil": hil,
    "mapping": mapping,
}  # fmt: skip
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def examples(package: str) -> list[str]:
    page = (ROOT / "docs" / "reference" / f"{package}.md").read_text("utf-8")
    return re.findall(r"```pycon\n(>>> .*?)```", page, re.DOTALL)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_examples_of_a_reference_run(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = dict(BEFORE)
    for text in examples(package):
        told: list[str] = []
        test = doctest.DocTestParser().get_doctest(text, names, package, None, None)
        doctest.DocTestRunner(optionflags=FLAGS).run(test, out=told.append, clear_globs=False)
        assert not told, "".join(told)
        names = test.globs
