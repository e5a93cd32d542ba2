"""Operators stand in one place: whoever needs something of an operator asks it, and tells no list of kinds apart."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

from mapping.operators.fused import FusedOp
from mapping.operators.node import DigitalOp, NodeOp, PassOp
from mapping.operators.registry import node_kinds, step_kinds

ROOT = Path(__file__).parents[2]
REGISTRY = "mapping/operators/"
ROLES = {FusedOp, NodeOp, PassOp, DigitalOp}  # what an operation is to the compiler, whatever operator it came from
LEAST = 3  # kinds that make a ladder; two are one question and its opposite


def test_no_function_outside_the_registry_tells_three_operators_apart() -> None:
    names = _operators()
    assert {"Conv", "ClampOp", "SoftmaxStep"} <= names
    assert [f"{place}: {sorted(found)}" for place, found in _ladders(names)] == []


def test_a_ladder_is_seen_as_chain_match_and_table() -> None:
    chain = "def f(x):\n    if isinstance(x, A): pass\n    elif isinstance(x, B): pass\n    return isinstance(x, C)"
    match = "def f(x):\n    match x:\n        case A(): pass\n        case B(y=1): pass\n        case C(): pass"
    table = "T = {A: 1, B: 2, C: 3}"
    one = "def f(x, y):\n    return isinstance(x, A | B) and isinstance(y, C)"
    names = {"A", "B", "C"}
    assert [len(list(_in_tree(ast.parse(text), names))) for text in (chain, match, table, one)] == [1, 1, 1, 0]


def _operators() -> set[str]:
    registered = [*node_kinds().values(), *step_kinds().values()]  # their files are loaded from here on
    below: set[type] = {kind for role in ROLES for kind in role.__subclasses__()}
    fused = {kind for kind in below if kind.__module__ not in {role.__module__ for role in ROLES}}
    return {kind.__name__ for kind in (*registered, *fused)}


def _ladders(names: set[str]) -> Iterator[tuple[str, set[str]]]:
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.split():
        if not name.startswith(("tests/", REGISTRY)):
            for line, found in _in_tree(ast.parse((ROOT / name).read_text()), names):
                yield f"{name}:{line}", found


def _in_tree(tree: ast.Module, names: set[str]) -> Iterator[tuple[int, set[str]]]:
    """Line and kinds of each ladder: arms of one function about one subject, or keys of one table."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            arms: dict[str, set[frozenset[str]]] = {}
            for subject, kinds in _arms(node, names):
                arms.setdefault(subject, set()).add(kinds)
            for told in arms.values():
                if len(told) >= LEAST:
                    yield node.lineno, set().union(*told)
        elif isinstance(node, ast.Dict):
            keys = {name for key in node.keys if key is not None for name in _named(key, names)}
            if len(keys) >= LEAST:
                yield node.lineno, keys


def _arms(function: ast.FunctionDef, names: set[str]) -> Iterator[tuple[str, frozenset[str]]]:
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
            if kinds := _named(node.args[1], names):
                yield ast.unparse(node.args[0]), kinds
        elif isinstance(node, ast.Match):
            for case in node.cases:
                classes = [part.cls for part in ast.walk(case.pattern) if isinstance(part, ast.MatchClass)]
                if kinds := frozenset().union(*(_named(cls, names) for cls in classes)):
                    yield ast.unparse(node.subject), kinds


def _named(node: ast.AST, names: set[str]) -> frozenset[str]:
    parts = (part for part in ast.walk(node) if isinstance(part, ast.Name | ast.Attribute))
    return frozenset({part.id if isinstance(part, ast.Name) else part.attr for part in parts} & names)
