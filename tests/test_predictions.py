"""A prediction under its lock is scored only as it was fixed: file, belief, program, commit and rows."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .scripts import benchmark

predictions = benchmark("predictions")
FILE = f"{predictions.FOLDER}/one.json"


def git(root: Path, *words: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *who, *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()


def committed(root: Path) -> str:
    git(root, "add", "--all")
    git(root, "commit", "-m", "x")
    return git(root, "rev-parse", "HEAD")


def fixed(root: Path, rows: dict[str, Any]) -> None:
    """A repository with a belief, a program and a locked prediction."""
    (root / "benchmarks/results").mkdir(parents=True)
    git(root, "init", "--quiet")
    (root / "belief").write_text("b")
    (root / "program.py").write_text("p")
    again(root, rows, committed(root))


def again(root: Path, rows: dict[str, Any], commit: str) -> None:
    (root / "benchmarks/draft").write_text(json.dumps(rows))
    made = {"date": "2026-01-01", "commit": commit}
    predictions.lock("one", root / "benchmarks/draft", "belief", ["program.py"], known=False, root=root, made=made)
    (root / "benchmarks/draft").unlink()


def test_what_was_committed_is_scored_and_an_older_lock_stays_as_a_draft(tmp_path: Path) -> None:
    fixed(tmp_path, {"rows": [1]})
    first = committed(tmp_path)
    assert predictions.locked("one", tmp_path)["rows"] == [1]
    (tmp_path / predictions.SCORES).write_text('{"prediction": "one"}\n')
    again(tmp_path, {"rows": [2]}, first)
    committed(tmp_path)
    found = predictions.locked("one", tmp_path)
    assert found["called"] == "retrodicted"
    assert len(found["drafts"]) == 1


@pytest.mark.parametrize(
    ("path", "old", "new", "words"),
    [
        (FILE, "[1]", "[2]", "not committed"),
        (FILE, '"commit": "', '"commit": "0', "ancestor"),
        (FILE, '"program.py": "', '"program.py": "0', "program.py at"),
        ("belief", "b", "c", "belief at"),
        ("program.py", "p", "q", "changed after"),
    ],
)
def test_a_changed_file_belief_program_or_commit_is_refused(
    tmp_path: Path, path: str, old: str, new: str, words: str
) -> None:
    fixed(tmp_path, {"rows": [1]})
    place = tmp_path / path
    if words == "not committed":
        committed(tmp_path)
    place.write_text(place.read_text().replace(old, new))
    if words != "not committed":
        committed(tmp_path)
    with pytest.raises(predictions.Refused, match=words):
        predictions.locked("one", tmp_path)


@pytest.mark.parametrize("key", ["belief_digest", "commit"])
def test_rows_of_another_belief_or_commit_are_not_locked(tmp_path: Path, key: str) -> None:
    with pytest.raises(predictions.Refused, match=key):
        fixed(tmp_path, {"rows": [{"chip": 0, key: "0"}]})
