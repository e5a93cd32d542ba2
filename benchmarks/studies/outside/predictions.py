"""Predictions that are fixed before anybody looks: a file under a lock, which scoring checks.

A locked file stands in the folder ``predictions`` of the results. Beside its rows it holds the SHA-256 of the belief
that made them, of each file of the program and the commit of the code. Scoring refuses it unless file and belief are
committed as they are, the commit is an ancestor of the one that holds them, the program is that of the commit still,
and every row that names a belief or a commit names these. What was locked before under the same name stays as a row of
its drafts, and a name that was scored can only be locked again as a retrodiction.

    python benchmarks/studies.py predictions lock NAME DRAFT --belief FILE --program FILE …  [--known]
    python benchmarks/studies.py predictions score NAME TRUTH   # by ``score`` of the first file of the program
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from cached_rows import cache_row, cached_rows, made_by

ROOT = Path(__file__).parents[3]
FOLDER = "benchmarks/results/predictions"
SCORES = f"{FOLDER}/scores.jsonl"


class Refused(ValueError):
    """A prediction that is not what was fixed, or a lock that would not hold."""


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git(root: Path, *words: str) -> bytes | None:
    """What git prints, or None where it fails."""
    done = subprocess.run(["git", *words], cwd=root, capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None


def digests_of_rows(part: Any, key: str) -> Iterator[str]:
    """Values of a key in rows at any depth."""
    if isinstance(part, dict):
        if key in part:
            yield part[key]
        part = [value for name, value in part.items() if name != "drafts"]
    if isinstance(part, list):
        for inner in part:
            yield from digests_of_rows(inner, key)


def refuse_foreign_rows(rows: Any, made: dict[str, Any]) -> None:
    for key in ("belief_digest", "commit"):
        if foreign := sorted({found for found in digests_of_rows(rows, key) if found != made[key]}):
            raise Refused(f"rows have {key} {', '.join(foreign)}, the file {made[key]}: make them again")


def lock(
    name: str, draft: Path, belief: str, program: list[str], *, known: bool, root: Path, made: dict[str, str]
) -> Path:
    """Write the draft as a locked file.

    Args:
        known: whoever made it knew the measured values, or could.
        belief, program: paths within the repository.
        made: date and commit of the code.

    Raises:
        Refused: rows name another belief or commit.
    """
    path = root / FOLDER / f"{name}.json"
    rows = json.loads(draft.read_text("utf-8"))
    drafts: list[dict[str, str]] = []
    if path.exists():
        old = json.loads(path.read_text("utf-8"))
        kept = {key: old[key] for key in ("date", "commit", "belief_digest")}
        drafts = [*old["drafts"], {**kept, "sha256": digest(path.read_bytes())}]
    known = known or any(row["prediction"] == name for row in cached_rows(root / SCORES))
    head = {
        "called": "retrodicted" if known else "predicted",
        **made,
        "belief": belief,
        "belief_digest": digest((root / belief).read_bytes()),
        "program": {file: digest((root / file).read_bytes()) for file in program},
        "drafts": drafts,
    }
    refuse_foreign_rows(rows, head)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(head | rows, indent=None) + "\n", encoding="utf-8")
    return path


def locked(name: str, root: Path) -> dict[str, Any]:
    """The file under its lock.

    Raises:
        Refused: it, its belief or its program is not what was committed, or rows are of another belief.
    """
    file = f"{FOLDER}/{name}.json"
    content = (root / file).read_bytes()
    found: dict[str, Any] = json.loads(content)
    holding = (git(root, "log", "-1", "--format=%H", "--", file) or b"").decode().strip()
    if not holding or git(root, "show", f"{holding}:{file}") != content:
        raise Refused(f"{file} is not committed as it is: commit it before it is scored")
    if git(root, "merge-base", "--is-ancestor", found["commit"], holding) is None:
        raise Refused(f"commit {found['commit']} of the code is not an ancestor of {holding}, which holds {file}")
    for commit, path, wanted in [
        (holding, found["belief"], found["belief_digest"]),
        *((found["commit"], path, wanted) for path, wanted in found["program"].items()),
    ]:
        if digest(git(root, "show", f"{commit}:{path}") or b"") != wanted:
            raise Refused(f"{path} at {commit} is not the one that made {file}, whose SHA-256 is {wanted}")
        if digest((root / path).read_bytes()) != wanted:
            raise Refused(f"{path} changed after {file} was fixed: lock again, and the old file stays as a draft")
    refuse_foreign_rows({key: value for key, value in found.items() if key != "commit"}, found)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("lock", "score"))
    parser.add_argument("name")
    parser.add_argument("file", type=Path, help="DRAFT, or TRUTH")
    parser.add_argument("--belief")
    parser.add_argument("--program", nargs="+", default=[])
    parser.add_argument("--known", action="store_true")
    given = parser.parse_args()
    try:
        if given.what == "lock":
            made = made_by()
            print(lock(given.name, given.file, given.belief, given.program, known=given.known, root=ROOT, made=made))
            return
        found = locked(given.name, ROOT)
        file = ROOT / FOLDER / f"{given.name}.json"
        found_scores = import_module(Path(next(iter(found["program"]))).stem).score(found, given.file)
        row = {"prediction": given.name, "called": found["called"], "sha256": digest(file.read_bytes())}
        cache_row(ROOT / SCORES, row | made_by() | {"scores": found_scores})
    except Refused as error:
        sys.exit(f"refused: {error}")


if __name__ == "__main__":
    main()
