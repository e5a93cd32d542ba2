"""The table of the rooms of the tests: times from a run's JUnit file, lines from its coverage."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
CASES = (
    ("tests.cim.array.test_wires", "test_short_wires", "1.50"),
    ("tests.cim.array.test_wires", "test_long_wires", "3.25"),
    ("tests.hil.driver.test_cells", "test_cells", "2.00"),
    ("tests.test_wheel", "test_wheel", "60.00"),
)
FILES = {"cim/array/wires.py": (40, 30), "cim/units.py": (10, 10), "hil/driver/cells.py": (50, 25)}


def printed(folder: Path, *options: str) -> dict[str, list[str]]:
    """The cells of the table by room, for a run of the tests above."""
    junit = "".join(
        f'<testcase classname="{module}" name="{name}" time="99"><properties>'
        f'<property name="processor_s" value="{spent}"/></properties></testcase>'
        for module, name, spent in CASES
    )
    (folder / "tests.xml").write_text(f"<testsuites><testsuite>{junit}</testsuite></testsuites>", "utf-8")
    command = [sys.executable, "docs/rooms_of_tests.py", "--junit", str(folder / "tests.xml"), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=True)
    rows = [[cell.strip(" `*") for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()[2:]]
    return {room: cells for room, *cells in rows}


def test_each_room_has_a_row_with_its_tests_their_time_and_its_covered_lines(tmp_path: Path) -> None:
    summaries = {p: {"summary": {"num_statements": n, "covered_lines": c}} for p, (n, c) in FILES.items()}
    (tmp_path / "coverage.json").write_text(json.dumps({"files": summaries}), "utf-8")
    assert printed(tmp_path, "--coverage", str(tmp_path / "coverage.json")) == {
        "across rooms": ["1", "60", "60", "", ""],
        "cim": ["2", "5", "3", "50", "80"],
        "hil: driver": ["1", "2", "2", "50", "50"],
        "all": ["4", "67", "60", "100", "65"],
    }


def test_a_run_above_the_ceiling_ends_with_the_numbers_and_one_below_it_does_not(tmp_path: Path) -> None:
    assert printed(tmp_path, "--ceiling").keys() >= {"all"}
    heavy = (tmp_path / "tests.xml").read_text("utf-8").replace("60.00", "900000")
    (tmp_path / "heavy.xml").write_text(heavy, "utf-8")
    command = [sys.executable, "docs/rooms_of_tests.py", "--junit", str(tmp_path / "heavy.xml"), "--ceiling"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 1
    assert "the suite took 900007 s" in done.stderr


def test_a_test_says_its_processor_time_with_its_fixtures_and_children_in_the_junit_file(tmp_path: Path) -> None:
    burn = "import time\nwhile time.process_time() < 0.5: pass\n"
    text = (
        "import subprocess, sys, time\nimport pytest\n\n"
        f"@pytest.fixture\ndef child():\n    subprocess.run([sys.executable, '-c', {burn!r}], check=True)\n\n"
        "def test_burns(child):\n    pass\n\ndef test_sleeps():\n    time.sleep(0.5)\n"
    )
    (tmp_path / "test_times.py").write_text(text, "utf-8")
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text("utf-8"), "utf-8")
    options = ("-q", "-p", "no:cacheprovider", "--junitxml", "tests.xml")
    command = [sys.executable, "-m", "pytest", *options, "test_times.py"]
    subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=600, check=True)
    said = re.findall(r'name="processor_s" value="([0-9.]+)"', (tmp_path / "tests.xml").read_text("utf-8"))
    burnt, slept = map(float, said)
    assert burnt > 0.4  # s; both clocks count in 10 ms
    assert slept < 0.3


def test_the_slow_tests_are_there_and_each_room_keeps_others_for_the_short_run() -> None:
    slow = {name.partition("[")[0] for name in (ROOT / "tests" / "slow.txt").read_text("utf-8").splitlines()}
    there, rooms, left = set(), set(), set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        room = str(path.parent.relative_to(ROOT))
        nodes = ast.walk(ast.parse(path.read_text("utf-8")))
        names = {n.name for n in nodes if isinstance(n, ast.FunctionDef) and n.name.startswith("test_")}
        found = {f"{path.relative_to(ROOT)}::{name}" for name in names}
        there |= found
        rooms |= {room}
        left |= {room} if found - slow else set()
    assert len(slow - there) < len(slow) / 10, "write tests/slow.txt again: many of its tests are renamed or gone"
    assert left == rooms


def test_the_slowest_tests_of_a_run_are_written_down_by_their_names(tmp_path: Path) -> None:
    assert printed(tmp_path, "--slow", "3", "--list", str(tmp_path / "slow.txt"))
    names = ["tests/cim/array/test_wires.py::test_long_wires", "tests/test_wheel.py::test_wheel"]
    assert (tmp_path / "slow.txt").read_text("utf-8").splitlines() == names
