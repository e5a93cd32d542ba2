"""Examples in the reference of a package: topic after topic, each goes on with what those before it made."""

from __future__ import annotations

import doctest
import importlib
import inspect
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
# Functions that serve until they are stopped, or that take minutes and files of one's own.
ELSEWHERE = {
    "hil.serve_tcp": "examples/bridge.py", "hil.serve_unix": "tests/hil/transports",
    "hil.config_header": "docs/how-to/port-the-firmware.md", "hil.import_network": "tests/hil/deployment",
    "hil.prune": "docs/how-to/search.md", "mapping.import_graph": "tests/mapping/network",
}  # fmt: skip


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


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_function_has_an_example(package: str) -> None:
    module, said = importlib.import_module(package), "\n".join(text for name in PACKAGES for text in examples(name))
    functions = [name for name in module.__all__ if inspect.isfunction(getattr(module, name))]
    without = [
        name
        for name in functions
        if f"{package}.{name}(" not in said
        and f"{package}.{name}" not in ELSEWHERE
        and ">>>" not in (inspect.getdoc(getattr(module, name)) or "")
    ]
    assert without == []
