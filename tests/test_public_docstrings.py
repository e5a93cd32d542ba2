"""Docstrings of public functions: every argument, what comes back, what is raised, and one example.

Public are the functions that the packages of the five rooms and ``cim.mnsim`` name in ``__all__``.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Callable
from typing import Any

import pytest

DOORS = ("hil", "mapping", "cim", "cim.mnsim", "search", "firmware_protocols")
SECTION = re.compile(r"^(Args|Returns|Yields|Raises|Example):$", re.MULTILINE)
FUNCTIONS = {
    f"{door}.{name}": value
    for door in DOORS
    for name in importlib.import_module(door).__all__
    if inspect.isfunction(value := getattr(importlib.import_module(door), name))
}


def sections(function: Callable[..., Any]) -> dict[str, str]:
    """Sections of a docstring by their titles; what stands before the first is "" of them."""
    parts = SECTION.split(inspect.getdoc(function) or "")
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def lacking(function: Callable[..., Any]) -> list[str]:
    """What a docstring does not say."""
    said, signature = sections(function), inspect.signature(function)
    lines = re.findall(r"^ {4}([\w, *]+):", said.get("Args", ""), re.MULTILINE)
    named = {name.strip(" *") for line in lines for name in line.split(",")}
    found = [f"argument {name}" for name in signature.parameters if name not in named]
    found += [f"{name} is no argument" for name in named - set(signature.parameters)]
    if signature.return_annotation not in (None, "None") and not said.keys() & {"Returns", "Yields"}:
        found.append("what comes back")
    tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function))))
    if any(isinstance(node, ast.Raise) and node.exc for node in ast.walk(tree)) and "Raises" not in "".join(
        f"{title} {text}" for title, text in said.items()
    ):
        found.append("what is raised")
    code = "\n".join(re.findall(r"^ {4}(?:>>>|\.\.\.) ?(.*)$", said.get("Example", ""), re.MULTILINE))
    made = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    threads = [given.value for call in made for given in call.keywords if given.arg == "target"]
    calls = {ast.unparse(called).split(".")[-1] for called in (*(call.func for call in made), *threads)}
    if function.__name__ not in calls:
        found.append("an example that calls it")
    return found


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_public_function_names_every_argument_what_comes_back_what_is_raised_and_an_example(name: str) -> None:
    assert lacking(FUNCTIONS[name]) == []


def test_what_a_docstring_lacks_is_found() -> None:
    def half(first: int, second: int) -> int:
        """One of two.

        Args:
            first: a number.
            third: another.

        Example:
            >>> 1 + 1
        """
        raise ValueError(first + second)

    wanted = [
        "argument second",
        "third is no argument",
        "what comes back",
        "what is raised",
        "an example that calls it",
    ]
    assert lacking(half) == wanted
