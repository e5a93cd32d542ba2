"""The rooms and their arrows (docs/decisions): imports run one way, and truth never meets belief."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("hil", "search", "mapping", "firmware_protocols", "cim")
MAY_IMPORT = {
    "hil": {"hil", "search", "mapping", "firmware_protocols", "cim"},
    "search": {"search", "mapping", "cim"},
    "mapping": {"mapping", "cim"},
    "firmware_protocols": {"firmware_protocols"},
    "cim": {"cim"},
}
# All of cim that truth and belief share: what a chip is, how levels and codes are written, ideal converters.
SHARED = "cim.chip"
FILES = sorted(p for room in ROOMS for p in (ROOT / room).rglob("*.py"))


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def import_graph() -> dict[str, set[str]]:
    """Files of ours that each file imports, inside functions too, by dotted name."""
    names = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in FILES}
    homes, found = set(names.values()), {}
    for path, name in names.items():
        wanted = set()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                wanted.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                modules = [f"{node.module}.{alias.name}" for alias in node.names]
                wanted.update(module if module in homes else node.module for module in modules)
        found[name] = wanted & homes - {name}
    return found


def names_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    return {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_arrows_between_rooms_go_down_only(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    for name in imports_of(path):
        target = name.split(".")[0]
        if target in ROOMS:
            assert target in MAY_IMPORT[room], f"{path} imports {name}"


def test_the_emulated_chip_imports_nothing_of_belief_and_no_driver() -> None:
    for path in (ROOT / "hil" / "emulator").rglob("*.py"):
        for name in imports_of(path):
            room, _, rest = name.partition(".")
            if room == "cim" and rest:
                assert f"{name}.".startswith(f"{SHARED}."), f"{path} imports {name}"
            assert not name.startswith(("mapping", "search")), f"{path} imports {name}"
            if room == "hil" and rest:
                assert name.startswith(("hil.emulator", "hil.errors")), f"{path} imports {name}"


def test_nobody_but_the_emulated_chip_and_the_words_about_files_reads_the_sample_of_a_chip_file() -> None:
    for path in FILES:
        place = path.relative_to(ROOT).parts
        if place[:2] == ("hil", "emulator") or place in {("cim", "chip", "file.py"), ("hil", "driver", "chip_text.py")}:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr == "sample":
                owner = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
                assert owner not in ("spec", "chip", "_spec"), path


def test_the_emulated_chip_never_reads_the_models_of_a_chip_file() -> None:
    for path in (ROOT / "hil" / "emulator").rglob("*.py"):
        assert "models" not in names_in(path), path


def test_belief_never_imports_the_emulator() -> None:
    for path in FILES:
        parts = path.relative_to(ROOT).parts
        if parts[:2] == ("hil", "emulator"):
            continue
        for name in imports_of(path):
            if name.startswith("hil.emulator"):
                assert parts[-1] in ("emulated.py", "bench.py"), f"{path} imports {name}"


def test_the_protocol_opens_no_port_and_sleeps_never() -> None:
    for path in (ROOT / "firmware_protocols").rglob("*.py"):
        for name in imports_of(path):
            assert name.split(".")[0] not in ("serial", "socket", "time", "torch", "pyvisa", "threading"), (path, name)


def test_only_the_command_line_prints() -> None:
    for path in FILES:
        if path.relative_to(ROOT).parts[:2] == ("hil", "cli"):
            continue
        calls = (n for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.Call))
        assert not [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"], path


def test_a_class_name_means_one_thing_in_the_whole_project() -> None:
    homes: dict[str, list[str]] = {}
    for path in FILES:
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert not {name: places for name, places in homes.items() if len(places) > 1}


def test_no_file_imports_itself_through_others() -> None:
    try:
        graphlib.TopologicalSorter(import_graph()).prepare()
    except graphlib.CycleError as error:
        pytest.fail("a circle of imports: " + " <- ".join(error.args[1]))
