"""Caps on what one file and one function ask for: imports of our own, parameters, lines."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from . import sources
from .sources import ROOMS, nodes

MOST_IMPORTS, MOST_PARAMETERS, MOST_LINES = 25, 10, 600
FILES = {sources.place(path): path for path in sources.FILES}

EXAMPLE = re.compile(r"^\n( +)Example:\n(?:\1 {4}.*\n)+", re.MULTILINE)
ONE_LINE = re.compile(r'^( +"{3}.+)\n +"{3}$', re.MULTILINE)  # what is left of a line with an example below it

# What stood above a cap when it was set: kernels that take arrays, public functions, files with two stories. No number
# may rise and no name may join; what falls is taken out.
IMPORTS = {
    "hil/cli/mission.py": 27,
    "hil/deployment/deploy.py": 46,
    "hil/prediction/judge.py": 35,
    "hil/prediction/predict.py": 28,
}
PARAMETERS = {
    "cim/fit/programming.py:fit_programming": 11,
    "cim/simulator/exact/kernels.py:convert_units": 12,
    "cim/simulator/exact/lookup_kernels.py:convert_pairs": 17,
    "cim/simulator/exact/lookup_kernels.py:convert_wide": 17,
    "cim/simulator/exact/lookup_sums.py:_half_sums": 12,
    "cim/simulator/exact/lookup_sums.py:look_up": 12,
    "cim/simulator/exact/lookup_sums.py:look_up_pair": 13,
    "cim/simulator/exact/lookup_tables.py:add_levels": 15,
    "cim/simulator/fast/counts.py:driven_by_plane": 11,
    "cim/simulator/fast/kernels.py:_gather": 14,
    "cim/simulator/fast/kernels.py:convert_tiles": 15,
    "cim/simulator/layer.py:prepare_layer": 13,
    "hil/deployment/deploy.py:deploy_on": 11,
    "hil/deployment/import_weights.py:import_network": 14,
    "hil/driver/open_chip.py:open_chip": 12,
    "hil/emulator/kernels.py:_line": 11,
    "hil/emulator/kernels.py:_pair": 11,
    "hil/improvement/finetuning/on_chip.py:finetune_on_chip": 13,
    "hil/improvement/finetuning/run.py:finetune": 13,
    "hil/prediction/predict.py:predict": 11,
    "hil/verdict/verdict.py:judge": 16,
    "mapping/operators/integer/tensor_kernels.py:norm_rows": 11,
    "search/train/teacher_training.py:_train": 11,
}
LINES: dict[str, int] = {}


def own_imports(path: Path) -> int:
    """Files of ours that a file names."""
    return len({n.module for n in nodes(path) if isinstance(n, ast.ImportFrom) and n.module and _own(n.module)})


def _own(module: str) -> bool:
    return module.split(".")[0] in ROOMS


def parameters(path: Path) -> Iterator[tuple[str, int]]:
    """Functions and how many parameters they take, themselves left out; constructors are their class's fields."""
    for node in nodes(path):
        if isinstance(node, ast.FunctionDef) and node.name != "__init__":
            names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            yield node.name, len(names) - (names[:1] in (["self"], ["cls"]))


def above(found: dict[str, int], cap: int) -> dict[str, int]:
    return {name: count for name, count in found.items() if count > cap}


def check(found: dict[str, int], allowed: dict[str, int]) -> None:
    grown = {name: count for name, count in found.items() if count > allowed.get(name, 0)}
    assert not grown, f"above the cap, and more than before: {grown}"


def test_a_file_imports_at_most_25_others_of_ours() -> None:
    """Of a package's own file nothing is asked: it says the public names."""
    found = {name: own_imports(path) for name, path in FILES.items() if path.name != "__init__.py"}
    check(above(found, MOST_IMPORTS), IMPORTS)


def test_a_function_takes_at_most_10_parameters() -> None:
    """Commands apart: their parameters are the options."""
    files = {name: path for name, path in FILES.items() if not name.startswith("hil/cli/")}
    found = {f"{name}:{function}": count for name, path in files.items() for function, count in parameters(path)}
    check(above(found, MOST_PARAMETERS), PARAMETERS)


def lines(text: str) -> int:
    """Lines of a file; the examples that each public entry must have in its docstring are no part of its story."""
    return len(ONE_LINE.sub(r'\1"""', EXAMPLE.sub("", text)).splitlines())


def test_a_file_has_at_most_600_lines() -> None:
    """Examples in docstrings apart, which tests/test_docstring_examples.py asks of every public class and function."""
    found = {name: lines(path.read_text("utf-8")) for name, path in FILES.items()}
    check(above(found, MOST_LINES), LINES)
