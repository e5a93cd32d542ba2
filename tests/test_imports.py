"""The rooms, their packages and their arrows (docs/decisions): imports run one way, and truth never meets belief."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

from . import sources
from .sources import FILES, ROOMS, ROOT, nodes, place

MAY_IMPORT = {
    "hil": {"hil", "search", "mapping", "firmware_protocols", "cim"},
    "search": {"search", "mapping", "cim"},
    "mapping": {"mapping", "cim"},
    "firmware_protocols": {"firmware_protocols"},
    "cim": {"cim"},
}
# All of cim that truth and belief share: what a chip is, how levels and codes are written, ideal converters.
SHARED = "cim.chip"
MOST_LAYERS = 10  # of a room
MOST_NAMES = 25  # in a folder


def module_of(path: Path) -> str:
    """``cim/chip/spec.py`` -> cim.chip.spec; ``cim/chip/__init__.py`` -> cim.chip."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def running(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes of code that runs, functions included; what only a type checker reads is left out."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield other
                yield from running(other)
            continue
        yield node
        yield from running(node)


def named_imports(path: Path, nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imports_of(path: Path) -> Iterator[str]:
    """All names that a file imports, those for type checkers included."""
    return named_imports(path, nodes(path))


@cache
def run_imports(name: str) -> frozenset[str]:
    """Modules of ours that importing or running a module brings in itself, the packages around them included."""
    found = set()
    for wanted in named_imports(MODULES[name], running(sources.module(MODULES[name]))):
        parts = wanted.split(".")
        found |= {".".join(parts[:n]) for n in range(1, len(parts) + 1)} & MODULES.keys()
    return frozenset(found - {name})


def brought_in(package: str) -> dict[str, str]:
    """Every module that a package brings in, also through others -> the one that asked for it; its own: nobody."""
    asked = {m: "" for m in MODULES if f"{m}.".startswith(f"{package}.")}
    waiting = list(asked)
    while waiting:
        asking = waiting.pop()
        for module in sorted(run_imports(asking) - asked.keys()):
            asked[module] = asking
            waiting.append(module)
    return asked


def trail(asked: dict[str, str], module: str) -> str:
    """How a module was reached: "a <- b <- c"."""
    steps = [module]
    while asked[steps[-1]]:
        steps.append(asked[steps[-1]])
    return " <- ".join(steps)


def whole_imports(name: str) -> set[str]:
    """Files of ours that a file imports, inside functions and for type checkers too, a package only by name."""
    wanted = set[str]()
    for node in nodes(MODULES[name]):
        if isinstance(node, ast.Import):
            wanted.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules = (f"{node.module}.{alias.name}" for alias in node.names)
            wanted.update(file if file in MODULES else node.module for file in modules)
    return wanted & MODULES.keys() - {name}


def calls(path: Path) -> set[str]:
    """Names of all that a file calls, of attributes the last one."""
    called = (n.func for n in nodes(path) if isinstance(n, ast.Call))
    return {f.attr if isinstance(f, ast.Attribute) else getattr(f, "id", "") for f in called}


def test_arrows_between_rooms_go_down_only() -> None:
    for path in FILES:
        room = path.relative_to(ROOT).parts[0]
        for name in imports_of(path):
            assert name.split(".")[0] not in set(ROOMS) - MAY_IMPORT[room], f"{path} imports {name}"


def test_packages_import_lower_layers_only_and_what_they_must_not_know_is_not_brought_in() -> None:
    """The contracts in pyproject.toml, which look through others and leave out what only a type checker reads."""
    pytest.importorskip("importlinter")
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_shape_of_the_rooms_can_be_taken_in_at_a_glance() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    assert all(len(contract.get("layers", ())) <= MOST_LAYERS for contract in contracts)
    for top in (*ROOMS, "docs", "examples", "changelog"):
        for folder in (
            ROOT / top,
            *(p for p in (ROOT / top).rglob("*") if p.is_dir() and p.name not in ("__pycache__", "fragments")),
        ):
            held = [p for p in folder.iterdir() if p.name != "__pycache__" and not p.name.startswith(".")]
            names = sorted(p.name for p in held if p.is_file() or folder == ROOT / "hil")
            assert len(names) <= MOST_NAMES, f"{folder} holds {len(names)}: {names}"


def test_the_emulated_chip_brings_in_nothing_of_belief_and_no_driver_also_through_others() -> None:
    may = {
        "cim": (SHARED, "cim.simd", "cim.errors", "cim.files", "cim.public_names", "cim.toml_file"),
        "hil": ("hil.emulator", "hil.errors"),
        "firmware_protocols": ("firmware_protocols",),
    }
    asked = brought_in("hil.emulator")
    for path in (ROOT / "hil" / "emulator").rglob("*.py"):  # not even for a type checker
        asked |= {name: module_of(path) for name in imports_of(path) if name not in asked}
    for module in asked:
        room, _, rest = module.partition(".")
        if room in ROOMS and rest:
            assert f"{module}.".startswith(tuple(f"{m}." for m in may.get(room, ()))), trail(asked, module)


def test_nobody_but_the_emulated_chip_and_the_words_about_files_reads_the_sample_of_a_chip_file() -> None:
    for path in FILES:
        place = path.relative_to(ROOT).parts
        if place[:2] == ("hil", "emulator") or place in {("cim", "chip", "file.py"), ("hil", "driver", "chip_text.py")}:
            continue
        for node in nodes(path):
            if isinstance(node, ast.Attribute) and node.attr == "sample":
                owner = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
                assert owner not in ("spec", "chip", "_spec"), path


def test_the_emulated_chip_never_reads_the_models_of_a_chip_file() -> None:
    for path in (ROOT / "hil" / "emulator").rglob("*.py"):
        assert "models" not in {n.attr for n in nodes(path) if isinstance(n, ast.Attribute)}, path


def test_missions_come_by_the_entry_points_of_their_commands() -> None:
    points = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["entry-points"]["hil.commands"]
    assert {value.split(":")[0] for value in points.values()} == {"hil.cli.campaign", "hil.cli.mission"}


def test_the_protocol_opens_no_port_and_sleeps_never() -> None:
    for path in (ROOT / "firmware_protocols").rglob("*.py"):
        for name in imports_of(path):
            assert name.split(".")[0] not in ("serial", "socket", "time", "torch", "pyvisa", "threading"), (path, name)


def test_only_the_command_line_and_the_terminal_print() -> None:
    for path in FILES:
        if str(path.relative_to(ROOT)).startswith(("hil/cli/", "hil/report/terminal/")):
            continue
        assert not [n for n in nodes(path) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "print"], path


def test_a_class_name_means_one_thing_in_the_whole_project() -> None:
    homes: dict[str, list[str]] = {}
    for path in FILES:
        for node in sources.module(path).body:
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, []).append(place(path))
    assert not {name: places for name, places in homes.items() if len(places) > 1}


def test_no_file_imports_itself_through_others() -> None:
    try:
        graphlib.TopologicalSorter({name: whole_imports(name) for name in MODULES}).prepare()
    except graphlib.CycleError as error:
        pytest.fail("a circle of imports: " + " <- ".join(error.args[1]))


PLACES_OF_CALLS: dict[str, tuple[str, ...]] = {
    # Cells of a network are written by the wired target alone; calibration writes patterns of its own.
    "program_cells": ("hil/driver", "hil/calibration", "hil/deployment/targets/wired.py"),
    # Cells of virtual chips are drawn by their target alone.
    "draw_programming": ("cim/record", "hil/simulation/virtual_target.py"),
    "CellHistory": ("cim/cells", "hil/simulation/virtual_target.py"),
    # What is done to them, and in which order, is known to the recipe.
    "treat": ("mapping/recipe/recipe.py",),
    "run_recipe": ("hil/deployment", "hil/simulation", "hil/improvement/finetuning/written_layers.py"),
    "fit_digital": ("mapping/recipe/recipe.py", "hil/improvement/retune.py", "hil/prediction/predict.py"),
    # Targets and tunes act in the files of their techniques.
    "aims_of": ("mapping/tune", "mapping/recipe/aim.py"),
    "Recipe": ("mapping/recipe", "hil/deployment", "hil/cost", "hil/improvement", "hil/searching", "hil/payload/s"),
    "Rewrite": (),
    "ChannelTune": ("mapping/tune", "mapping/recipe"),
    "tune_channels": ("mapping/tune", "hil/simulation/virtual_chip.py", "hil/improvement/context.py"),
    # Virtual chips are made by whoever asks a question of them, and drawn by none of these.
    "VirtualChips": (
        "hil/deployment/deployment.py",
        "hil/prediction/predict.py",
        "hil/payload/radiation",
        "hil/improvement",
    ),
}


def test_the_order_of_what_is_done_to_a_chip_stands_in_the_recipe_alone() -> None:
    for path in FILES:
        for called in calls(path) & PLACES_OF_CALLS.keys():
            assert place(path).startswith(PLACES_OF_CALLS[called]), f"{path} calls {called}"
