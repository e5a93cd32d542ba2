"""Bugs planted on purpose: does the link simulation (``tests.line_simulation``) find each within a minute?

Each bug is one replacement in a copy of the sources (``planted_bugs.toml``), or two where the sources guard against
it twice. The simulation runs on that copy until
something does not hold. A bug is a line of the results; those that stand there are not planted again, but for what is
named. Prints a JSON line at the end; exit code 1 when one is not found.

    python benchmarks/studies.py planted-bugs [--seed 0] [--seconds 60] [--only NAME] [--list]
    python benchmarks/studies.py planted-bugs --table  # the table of what stands there
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[3]
ROOMS = ("firmware_protocols", "hil", "tests/line_simulation")  # that are copied


class Change(NamedTuple):
    """One replacement in one file; ``old`` stands there once."""

    file: str
    old: str
    new: str

    def path(self, root: Path) -> Path:
        return root / self.file if self.file.startswith("hil/") else root / "firmware_protocols" / self.file

    def make(self, root: Path) -> None:
        text = self.path(root).read_text("utf-8")
        if text.count(self.old) != 1:
            raise SystemExit(f"{self.file} holds {text.count(self.old)} times, not once: {self.old!r}")
        self.path(root).write_text(text.replace(self.old, self.new), "utf-8")


class Bug(NamedTuple):
    """What is changed to plant it; ``kind`` as the head of the table of bugs says."""

    kind: str
    changes: tuple[Change, ...]


def bugs() -> dict[str, Bug]:
    listed = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))["bug"]
    return {
        bug["name"]: Bug(
            bug["kind"], tuple(Change(**each) for each in bug.get("change") or [{at: bug[at] for at in Change._fields}])
        )
        for bug in listed
    }


BUGS = bugs()
KINDS = ("when it was new", "tried", "endangers a die", "loses or misleads")
RUN = """
import json, sys, time
from tests.line_simulation.floors import below_floors
from tests.line_simulation.firmware_floor import below_firmware_floor
from tests.line_simulation.simulation import run_simulation
found = run_simulation(int(sys.argv[1]), float(sys.argv[2]), clock=time.process_time)
slow = [] if found.failed else [[0, text] for text in [*below_floors(), *below_firmware_floor()]]
print(json.dumps([time.process_time(), found.open_s, slow or found.failed]))
"""


def planted(bug: Bug | None, folder: Path) -> Path:
    """A copy of the sources with the bug in it."""
    for room in ROOMS:
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__", "bundled"))
    for change in () if bug is None else bug.changes:
        change.make(folder)
    return folder


def simulate(bug: Bug | None, seed: int, seconds: float) -> tuple[float, float, list[tuple[int, str]]]:
    """CPU seconds, line seconds, and what was found, of the simulation of a copy with ``bug``."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPATH": str(planted(bug, Path(folder)))}
        command = [sys.executable, "-c", RUN, str(seed), str(seconds)]
        said = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if said.returncode:
        return 0.0, 0.0, [(0, said.stderr.strip().splitlines()[-1])]
    cpu_s, open_s, failed = json.loads(said.stdout)
    return cpu_s, open_s, [(number, text) for number, text in failed]


def rows_of(path: Path, seed: int) -> dict[str, dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []
    return {row["bug"]: row for row in rows if row["seed"] == seed and row["bug"] in BUGS}


def table(rows: dict[str, dict[str, Any]]) -> str:
    lines = ["| bug | found after CPU time | of line | by |", "|---|---|---|---|"]
    for name in BUGS:
        row = rows.get(name)
        if row is None:
            lines.append(f"| {name} | not planted | | |")
        else:
            what = f"{row['cpu_s']:.1f} s" if row["found"] else f"not in {row['cpu_s']:.0f} s"
            lines.append(f"| {name} | {what} | {row['open_s']:,.0f} s | {row['found'].replace('|', '/')} |")
    return "\n".join(lines)


def in_short(text: str) -> str:
    """What did not hold, without its time; of an exception its last line."""
    first, *rest = text.split(" s: ", 1)[-1].splitlines()
    return (f"{first} {rest[-1].strip()}" if rest else first)[:120]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=60.0, help="CPU time for each bug")
    parser.add_argument("--only", help="bugs whose name holds this")
    parser.add_argument("--list", action="store_true", help="only say their names")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "planted_bugs.jsonl")
    parser.add_argument("--table", action="store_true", help="print the table of what is stored; nothing is planted")
    asked = parser.parse_args()
    rows = rows_of(asked.out, asked.seed)
    if asked.list:
        print("\n".join(BUGS))
        return 0
    if asked.table:
        print(table(rows))
        return 0
    for name, bug in BUGS.items():
        if name in rows if asked.only is None else asked.only not in name:
            continue
        cpu_s, open_s, failed = simulate(bug, asked.seed, asked.seconds)
        found = in_short(failed[0][1]) if failed else ""
        rows[name] = {
            "bug": name, "seed": asked.seed, "cpu_s": round(cpu_s, 1), "open_s": round(open_s), "found": found,
        }  # fmt: skip
        print(json.dumps(rows[name]), flush=True)
        with asked.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(rows[name]) + "\n")
    missed = [name for name, row in rows.items() if not row["found"]]
    print(json.dumps({"bugs": len(rows), "of": len(BUGS), "seed": asked.seed, "missed": missed}))
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
