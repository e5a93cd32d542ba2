"""Accuracy of networks, row by row: each row of accuracy.toml is `hil` commands as a user types them, and their values.

    python benchmarks/accuracy.py --list
    HIL_DATA=… python benchmarks/accuracy.py ROW … [--set images=200 …] [--folder runs/accuracy] [--out FILE]
    python benchmarks/accuracy.py --table
    python benchmarks/accuracy.py --gains --out benchmarks/results/gains.jsonl

A list among the values of a row makes a case for each of its entries, "3000-3019" for each number. Files that a
command names are made first where accuracy.toml has a command for them, and are kept in --folder. The answer of a case
is what its last command prints as --json: shares of right answers, verdicts, price; one JSON line, appended to
--out. Cases that are there already are not run again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import resource
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cached_rows import cache_row, cached_rows

HERE = Path(__file__).parent
ROWS = HERE / "accuracy.toml"
OUT = HERE / "results" / "accuracy.jsonl"
JUDGED = 1  # exit code of a run that ended with another verdict than "agree"
RANGE = re.compile(r"(\d+)-(\d+)")
Values = dict[str, str | int]


@dataclass(frozen=True, slots=True)
class Row:
    """A network, what is done to it and where it is asked: commands with {places} for values."""

    name: str
    title: str
    commands: tuple[str, ...]
    values: dict[str, Any]

    def cases(self) -> Iterator[Values]:
        """Every combination of the values."""
        lists = [_listed(value) for value in self.values.values()]
        for chosen in itertools.product(*lists):
            yield dict(zip(self.values, chosen, strict=True))


def read_rows(path: Path = ROWS) -> tuple[dict[str, Row], dict[str, str]]:
    """Rows by name, and the command that makes each file which they take."""
    told = tomllib.loads(path.read_text("utf-8"))
    files = told.pop("files", {})
    rows = {name: Row(name, about.pop("title"), tuple(about.pop("commands")), about) for name, about in told.items()}
    return rows, files


def run_case(row: Row, values: Values, files: dict[str, str], folder: Path) -> dict[str, Any]:
    """The line of one case."""
    *before, last = (command.format_map(values) for command in row.commands)
    for command in before:
        _run(command, files, folder)
    answer, cpu_s = _run(f"{last} --json", files, folder)
    return {"row": row.name, **values, **found_in(json.loads(answer)), "cpu_s": round(cpu_s, 1)}


def found_in(answer: dict[str, Any]) -> dict[str, Any]:
    """Accuracies, verdicts and price of the answer of ``hil simulate`` or ``hil deploy``."""
    found: dict[str, Any] = {}
    for name, value in answer["accuracy"].items():
        found[name] = value["mean"] if isinstance(value, dict) else value
        if isinstance(value, dict) and "sd" in value:
            found |= {f"{name}_sd": value["sd"], "chips_right": value["chips"], "answers": answer.get("answers", "")}
    for question, verdict in answer.get("questions", {}).items():
        found[question] = verdict["verdict"]
    for name in ("untuned", "tuned_alike"):  # of the same first images, once
        if answer.get(name):
            found[name] = answer[name]["accuracy"]["measured"]["mean"]
    found["scored"] = answer["images"] if "images" in answer else answer["questions"]["this_chip"]["n"]
    found["macros"], found["edp_mj_ms"] = answer["plan"]["macros"], round(answer["plan"]["edp_mj_ms"], 4)
    return found


def table(lines: list[dict[str, Any]], rows: dict[str, Row]) -> list[str]:
    """A Markdown table: a line for each case, those that differ by their seed together."""
    head = [
        "| row | cases | float | ideal | simulated | emulated | verdicts | mJ·ms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    kept: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for line in lines:
        row = rows.get(line["row"])
        varied = [
            f"{k} {line[k]}" for k, v in (row.values if row else {}).items() if len(_listed(v)) > 1 and k != "seed"
        ]
        kept.setdefault((line["row"], *varied), []).append(line)
    for names, some in kept.items():
        cells = [
            _percent([s[k] for s in some if s.get(k) is not None]) for k in ("float", "ideal", "simulated", "measured")
        ]
        said = [s["this_chip"] for s in some if "this_chip" in s]
        counts = ", ".join(f"{v} {said.count(v)}" for v in sorted(set(said)))
        head.append(f"| {', '.join(names)} | {len(some)} | {' | '.join(cells)} | {counts} | {some[0]['edp_mj_ms']} |")
    return head


def gains(lines: list[dict[str, Any]]) -> list[tuple[str, str, float, float]]:
    """Network, technique, points that it gives and half of their 95 % interval, of a row that leaves each out.

    The same images and chips with and without it, so that d_ci = right with − right without, of chip c and image i:

        var(mean d) = var_c(mean_i d) / C + var_i(mean_c d) / N
    """
    kept = {(line["network"], line["without"]): line for line in lines if "without" in line}
    found = []
    for (network, without), line in kept.items():
        if not without:
            continue
        used = kept[network, ""]
        by_chip = np.subtract(used["chips_right"], line["chips_right"])
        images = np.subtract(*([int(k, 36) for k in one["answers"]] for one in (used, line))) / used["chips"]
        variance = by_chip.var(ddof=1) / len(by_chip) + images.var(ddof=1) / len(images)
        found.append((network, without.split()[-1], 100 * float(by_chip.mean()), 196 * float(np.sqrt(variance))))
    return found


def _percent(shares: list[float]) -> str:
    if not shares:
        return ""
    mean = f"{100 * np.mean(shares):.1f}"
    return mean if len(shares) == 1 else f"{mean} ({100 * min(shares):.1f} … {100 * max(shares):.1f})"


def _listed(value: Any) -> list[Any]:
    if isinstance(value, str) and (found := RANGE.fullmatch(value)):
        return list(range(int(found[1]), int(found[2]) + 1))
    return value if isinstance(value, list) else [value]


def _run(command: str, files: dict[str, str], folder: Path) -> tuple[str, float]:
    """Standard output of a command, after the files that it names were made, and its CPU seconds."""
    words = shlex.split(os.path.expandvars(command))
    for word in words:
        if word in files and not (folder / word).exists() and files[word] != command:
            _run(files[word], files, folder)
    if words[0] != "hil":
        raise SystemExit(f"{command!r} is not a command of hil")
    quiet = {**os.environ, "OMP_NUM_THREADS": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-m", *words], cwd=folder, env=quiet, stdout=subprocess.PIPE, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, JUDGED):
        raise SystemExit(f"{command} ended with {done.returncode}")
    return done.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("rows", nargs="*", metavar="ROW")
    ask.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="other values than those of the rows")
    ask.add_argument("--folder", type=Path, default=Path("runs/accuracy"), help="where networks and records are kept")
    ask.add_argument("--out", type=Path, default=OUT)
    ask.add_argument("--list", action="store_true", help="print the rows and their commands")
    ask.add_argument("--table", action="store_true", help="print what is there")
    ask.add_argument("--gains", action="store_true", help="print what each technique gives that was left out")
    given = ask.parse_args()
    os.environ["SOURCES"] = str(HERE.parent)
    rows, files = read_rows()
    if given.list:
        print("\n".join(f"{row.name}: {row.title}\n    " + "\n    ".join(row.commands) for row in rows.values()))
        return 0
    if given.table:
        print("\n".join(table(cached_rows(given.out), rows)))
        return 0
    if given.gains:
        for network, technique, points, half in gains(cached_rows(given.out)):
            print(f"| {network} | {technique} | {points:+.2f} | {points - half:+.2f} … {points + half:+.2f} |")
        return 0
    if unknown := set(given.rows) - set(rows):
        ask.error(f"no row {', '.join(sorted(unknown))}: --list prints them")
    given.folder.mkdir(parents=True, exist_ok=True)
    there = cached_rows(given.out)
    for name in given.rows:
        row = rows[name]
        changed = dict(part.split("=", 1) for part in given.set)
        row = Row(row.name, row.title, row.commands, row.values | {k: v for k, v in changed.items() if k in row.values})
        for values in row.cases():
            if not any(all(str(line.get(k)) == str(v) for k, v in {"row": name, **values}.items()) for line in there):
                cache_row(given.out, run_case(row, values, files, given.folder.resolve()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
