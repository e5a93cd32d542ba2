"""The benchmarks' runners: rows are well told, their commands are there today, and a few of each come out."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from hil.cli import app

from .scripts import benchmark

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "benchmarks"
OWN_ENTRY = {"accuracy.py", "speed.py", "studies.py"}


accuracy, studies = benchmark("accuracy"), benchmark("studies")
STUDIES = studies.read_studies()


def run_benchmark(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, words)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300
    )


def options_of(command: str) -> set[str]:
    found = get_command(app)
    for word in shlex.split(command)[1:]:
        if word not in getattr(found, "commands", {}):
            break
        found = found.commands[word]
    return {option for p in found.params for option in (*p.opts, *p.secondary_opts)}


def test_commands_of_accuracy_rows_have_the_options_that_they_name() -> None:
    rows, files = accuracy.read_rows()
    told = [(row.name, c.format_map(values)) for row in rows.values() for values in row.cases() for c in row.commands]
    for name, command in [*told, *files.items()]:
        asked = {word.split("=", 1)[0] for word in shlex.split(command) if word.startswith("-")}
        assert asked <= options_of(command), f"{name}: {command}"


def test_a_row_of_accuracy_comes_out_and_is_not_run_again(tmp_path: Path) -> None:
    bundled = ROOT / "hil" / "datasets" / "bundled" / "fashion_mnist.pt"
    small = ["--set", f"network={bundled}", f"data={ROOT / 'hil/datasets/bundled/fashion_mnist_test2000.npz'}"]
    small += [
        "images=20",
        "chips=2",
        "scales=rounding",
        "--folder",
        str(tmp_path),
        "--out",
        str(tmp_path / "rows.jsonl"),
    ]
    first = run_benchmark("benchmarks/accuracy.py", "scales", *small)
    assert first.returncode == 0, first.stderr
    (line,) = map(json.loads, (tmp_path / "rows.jsonl").read_text("utf-8").splitlines())
    assert line["scored"] == 20
    assert 0.5 <= line["simulated"] <= line["ideal"] + 0.2
    again = run_benchmark("benchmarks/accuracy.py", "scales", *small)
    assert (again.returncode, again.stdout) == (0, "")
    table = run_benchmark("benchmarks/accuracy.py", "--table", "--out", str(tmp_path / "rows.jsonl"))
    assert table.stdout.splitlines()[-1].startswith("| scales")


def test_rows_of_speed_come_out_beside_their_limits(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    done = run_benchmark(
        "benchmarks/speed.py", "resnet20-estimate", "vit", "--images", "2", "--rounds", "1", "--out", str(out)
    )
    assert done.returncode == 0, done.stderr
    estimate, vit = map(json.loads, out.read_text("utf-8").splitlines())
    assert 0 < estimate["peak_mb"] < 200
    assert set(estimate["limits"]) == {"cpu_s", "peak_mb"}
    assert vit["times_plain"]["digital"] > 0


def test_every_study_has_its_file_or_its_place_in_the_history_and_its_results() -> None:
    kept = {path.name for path in (BENCHMARKS / "results").iterdir()}
    for study in STUDIES.values():
        assert set(study.results) <= kept, study.name
        assert not study.run or (BENCHMARKS / study.run).is_file(), study.name
        assert not study.closed or re.fullmatch(r"[0-9a-f]{8,}:benchmarks/\w+\.py", study.closed), study.name


def test_every_script_with_an_entry_of_its_own_is_a_row() -> None:
    ran = {study.run for study in STUDIES.values()}
    entries = {
        str(path.relative_to(BENCHMARKS))
        for path in BENCHMARKS.rglob("*.py")
        if "argparse" in path.read_text("utf-8") and '__name__ == "__main__"' in path.read_text("utf-8")
    }
    assert entries - ran <= OWN_ENTRY


@pytest.mark.parametrize("name", [study.name for study in STUDIES.values() if study.quick])
def test_a_few_rows_of_a_study_come_out(name: str) -> None:
    done = run_benchmark("benchmarks/studies.py", name, "--quick")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_rows_that_documents_name_are_there() -> None:
    rows, _ = accuracy.read_rows()
    known = {"accuracy": set(rows), "speed": set(benchmark("speed").read_rows()), "studies": set(STUDIES)}
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]:
        for runner, name in re.findall(
            r"python\s+benchmarks/(accuracy|speed|studies)\.py ([\w-]+)", page.read_text("utf-8")
        ):
            assert name.startswith("--") or name in known[runner], f"{page.name}: {runner} {name}"
