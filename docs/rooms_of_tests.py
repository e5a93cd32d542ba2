"""Times and coverage of the tests, a row a room.

    make test                                  # ends with this table; times are those of the run
    make test FULL=1                           # all tests, also those of tests/slow.txt
    make test FULL=1 COVERAGE=1                # under coverage: two more columns, of covered lines
    python docs/rooms_of_tests.py --write      # of the whole run that ended last, into CONTRIBUTING.md
    python docs/rooms_of_tests.py --slow 1     # its tests of 1 s and more, into tests/slow.txt
    python docs/rooms_of_tests.py --ceiling    # ends with 1 where a whole run took 15 % more than tests/size.toml

Times are processor time, of each test with its fixtures and the processes that it waited for (``tests/conftest.py``):
they hold on a busy machine too. Lines are covered by whatever test ran, of this room or another. Not counted are lines
that numba compiles, which no tool for Python sees, and processes that were killed or left by ``os._exit``.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
import tomllib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "CONTRIBUTING.md"
SLOW = ROOT / "tests" / "slow.txt"
BEGIN, END = "<!-- rooms of the tests: made by docs/rooms_of_tests.py -->", "<!-- end of the rooms -->"
TIME = "processor_s"  # property of a test in the JUnit file
TOLERANCE = 1.15  # processor time of the same tests varies with the machine and what else it does


@dataclass
class Room:
    """What is known about one room: its tests, the seconds of each, and how many of its lines ran."""

    tests_s: dict[str, float] = field(default_factory=dict)
    lines: int = 0
    covered: int = 0


def room_of(parts: list[str]) -> str:
    """The room of a file: packages of ``hil`` have one each; tests beside the rooms are of none."""
    folders = parts[:-1]
    if not folders:
        return "across rooms"
    return ": ".join(folders[:2]) if folders[0] == "hil" else folders[0]


def add_tests(rooms: dict[str, Room], junit: Path) -> None:
    for case in ElementTree.parse(junit).iter("testcase"):
        parts = case.get("classname", "").split(".")
        modules = [name for name in parts if not name.startswith("Test")]
        spent = {p.get("name"): p.get("value") for p in case.iter("property")}
        name = "::".join([f"{'/'.join(modules)}.py", *parts[len(modules) :], case.get("name", "")])
        rooms[room_of(modules[1:])].tests_s[name] = float(spent.get(TIME) or case.get("time") or 0.0)


def add_lines(rooms: dict[str, Room], coverage: Path) -> None:
    for path, found in json.loads(coverage.read_text("utf-8"))["files"].items():
        room = rooms[room_of(list(Path(path).parts))]
        room.lines += found["summary"]["num_statements"]
        room.covered += found["summary"]["covered_lines"]


def table(rooms: dict[str, Room]) -> list[str]:
    """Markdown: rooms by name, the sum last."""
    measured = any(room.lines for room in rooms.values())
    heads = ["room", "tests", "processor time (s)", "slowest test (s)", *(["lines", "covered (%)"] if measured else [])]
    whole = Room(
        {name: spent for room in rooms.values() for name, spent in room.tests_s.items()},
        sum(room.lines for room in rooms.values()),
        sum(room.covered for room in rooms.values()),
    )
    rows = [f"| {' | '.join(heads)} |", "|---|" + "---:|" * (len(heads) - 1)]
    for name, room in [*sorted(rooms.items()), ("**all**", whole)]:
        slowest = f"{max(room.tests_s.values()):.0f}" if room.tests_s else ""
        cells = [name, f"{len(room.tests_s):,}"]
        cells += [f"{sum(room.tests_s.values()):.0f}", slowest]
        if measured:
            cells += [f"{room.lines:,}", f"{100 * room.covered / room.lines:.0f}"] if room.lines else ["", ""]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def rooms_of(junit: Sequence[Path], coverage: Path | None) -> dict[str, Room]:
    rooms: dict[str, Room] = defaultdict(Room)
    for file in junit:
        add_tests(rooms, file)
    if coverage is not None:
        add_lines(rooms, coverage)
    return rooms


def combined() -> Path | None:
    """What the processes of a run under coverage left, as one JSON file; None when there was none."""
    if not list(ROOT.glob(".coverage*")):
        return None
    found = ROOT / ".tests.coverage.json"
    for words in (["combine", "-q"], ["json", "-q", "-i", "-o", str(found)]):
        subprocess.run([sys.executable, "-m", "coverage", *words], cwd=ROOT, check=words[0] != "combine")
    return found


def machine_s() -> float:
    """Processor time of a fixed piece of Python and of arrays, s: how fast this machine is, at its best of seven."""
    found = []
    for _ in range(7):
        begun_s = time.process_time()
        counts: dict[int, int] = {}
        for number in range(400_000):
            counts[number % 977] = counts.get(number % 977, 0) + number
        values = np.arange(400_000, dtype=np.float64)
        for _ in range(20):
            values = np.sqrt(values * 1.000_1 + 1.0)
        found.append(time.process_time() - begun_s)
    return min(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--junit", type=Path, nargs="+", default=[ROOT / ".tests.xml"], help="JUnit files of pytest")
    parser.add_argument("--coverage", type=Path, help="JSON of coverage; without: what the last run left, if anything")
    parser.add_argument("--rooms", nargs="+", help="these rooms only, of a run of their tests alone")
    parser.add_argument("--write", action="store_true", help="put the table into CONTRIBUTING.md")
    parser.add_argument("--slow", type=float, metavar="S", help="put the tests of so many seconds into --list")
    parser.add_argument("--list", type=Path, default=SLOW, help="without: tests/slow.txt")
    parser.add_argument("--ceiling", action="store_true", help="hold the sum of a whole run against tests/size.toml")
    given = parser.parse_args()
    rooms = rooms_of(given.junit, given.coverage or combined())
    rows = table({name: room for name, room in rooms.items() if name in (given.rooms or rooms)})
    print("\n".join(rows))
    if given.write:
        text = PAGE.read_text("utf-8")
        new = "\n".join([BEGIN, *rows, END])
        PAGE.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: new, text, flags=re.DOTALL), "utf-8")
    if given.slow:
        slow = sorted(name for room in rooms.values() for name, spent in room.tests_s.items() if spent >= given.slow)
        given.list.write_text("".join(f"{name}\n" for name in slow), "utf-8")
    spent = sum(sum(room.tests_s.values()) for room in rooms.values())
    ceilings = tomllib.loads((ROOT / "tests" / "size.toml").read_text("utf-8"))
    slower = max(1.0, machine_s() / ceilings["machine_s"]) if given.ceiling else 1.0
    allowed = ceilings["suite_processor_s"] * slower * TOLERANCE
    if given.ceiling and spent > allowed:
        sys.exit(
            f"the suite took {spent:.0f} s of processor time; tests/size.toml, its tolerance and this machine, "
            f"{slower:.2f} times as slow as that of the ceiling, allow {allowed:.0f} s"
        )


if __name__ == "__main__":
    main()
