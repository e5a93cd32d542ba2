"""Size is a budget: lines, words, options and verbs of ``tests/size.toml`` are ceilings, and they only fall.

What is moved counts where it goes: product is all that a wheel ships, and ``examples/plugins``. Processor seconds of
the suite are held by its own report, ``docs/rooms_of_tests.py``, because only a whole run knows them.
"""

from __future__ import annotations

import ast
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from .sources import ROOMS, ROOT, commands, module

EVIDENCE = ("docs/benchmarks.md", "docs/conformance.md", "docs/decisions/", "docs/explanation/")
CEILINGS: dict[str, float] = tomllib.loads((Path(__file__).parent / "size.toml").read_text("utf-8"))


def tracked(*patterns: str) -> list[str]:
    """Files of this checkout, as git lists them; new ones that it does not ignore among them."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    found = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return sorted({name for name in found if (ROOT / name).is_file()})


def product() -> list[str]:
    return tracked(*(f"{room}/*.py" for room in ROOMS), "examples/plugins/*.py")


def link_simulation() -> list[str]:
    """The tool of the tests that simulates bad lines; its own tests count as tests."""
    return [name for name in tracked("tests/line_simulation/*.py") if "/test_" not in name]


def lines(names: list[str]) -> int:
    return sum(len((ROOT / name).read_text("utf-8").splitlines()) for name in names)


def statements(names: list[str]) -> int:
    """Statements of the syntax tree, docstrings apart: what joining or breaking lines does not change."""
    return sum(_statements(module(ROOT / name)) for name in names)


def _statements(tree: ast.Module) -> int:
    found = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    words = [n for n in found if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)]
    return len(found) - sum(isinstance(n.value, ast.Constant) and isinstance(n.value.value, str) for n in words)


def packages() -> dict[str, int]:
    """Lines of each package, its inner ones with it; rooms themselves are no packages here."""
    found: dict[str, int] = {}
    for name in product():
        parts = name.split("/")
        if len(parts) > 2:
            found["/".join(parts[:2])] = found.get("/".join(parts[:2]), 0) + lines([name])
    return found


def words(*, evidence: bool) -> int:
    names = tracked("README.md", "docs/*.md")
    chosen = [n for n in names if n.startswith(EVIDENCE) == evidence]
    return sum(len((ROOT / name).read_text("utf-8").split()) for name in chosen)


def options() -> int:
    return sum(p.param_type_name == "option" for _, command in commands() for p in command.params)


def verbs() -> int:
    return sum(name.count(" ") == 0 for name, _ in commands() if name)


MEASURES: dict[str, Callable[[], int]] = {
    "product_lines": lambda: lines(product()),
    "product_statements": lambda: statements(product()),
    "test_lines": lambda: lines(tracked("tests/*.py")) - lines(link_simulation()),
    "link_simulation_lines": lambda: lines(link_simulation()),
    "user_words": lambda: words(evidence=False),
    "evidence_words": lambda: words(evidence=True),
    "options": options,
    "verbs": verbs,
    "largest_package_lines": lambda: max(packages().values()),
}


@pytest.mark.parametrize("name", MEASURES)
def test_nothing_is_larger_than_its_ceiling(name: str) -> None:
    found = MEASURES[name]()
    assert found <= CEILINGS[name], (
        f"{name} is {found:,}, above {CEILINGS[name]:,} of tests/size.toml: delete what this makes unnecessary"
    )


def test_every_ceiling_is_measured_here_or_by_the_report_of_the_suite() -> None:
    assert CEILINGS.keys() == MEASURES.keys() | {"suite_processor_s", "machine_s"}


def test_statements_are_counted_without_docstrings_and_whatever_their_lines() -> None:
    one = 'def f(x):\n    """Words."""\n    y = x; return y\n'
    two = "def f(\n    x,\n):\n    y = x\n    return y\n"
    assert _statements(ast.parse(one)) == _statements(ast.parse(two)) == 3
