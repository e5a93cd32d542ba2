"""Studies, row by row of studies.toml: a question, the file that answers it, and the results that are kept.

    python benchmarks/studies.py                       # all questions
    python benchmarks/studies.py NAME [OPTIONS …]      # runs the study with options of its own; --help names them
    python benchmarks/studies.py NAME --quick          # a few rows of it, as the tests run it

A study whose question is closed has no file any more: its row says what its last result was, and where its script
stands in the history.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROWS = HERE / "studies.toml"


@dataclass(frozen=True, slots=True)
class Study:
    """A question, and either the file that answers it or the commit that did so last.

    Args:
        run: file within this folder.
        results: of the folder ``results``.
        quick: options with which a few of its rows are run.
        closed: the last commit with the file, as "commit:path", of a closed question.
        answer: its last result, in a sentence.
    """

    name: str
    asks: str
    run: str = ""
    results: tuple[str, ...] = ()
    quick: tuple[str, ...] = ()
    closed: str = ""
    answer: str = ""

    def __post_init__(self) -> None:
        if bool(self.run) == bool(self.closed) or bool(self.closed) != bool(self.answer):
            raise ValueError(f"{self.name}: a file that runs, or the commit and the answer of a closed question")

    def __str__(self) -> str:
        kept = "".join(f"\n    benchmarks/results/{name}" for name in self.results)
        if self.closed:
            return f"{self.name}: {self.asks}\n    closed: {self.answer}\n    git show {self.closed}{kept}"
        return f"{self.name}: {self.asks}\n    benchmarks/{self.run}{kept}"


def read_studies(path: Path = ROWS) -> dict[str, Study]:
    told = tomllib.loads(path.read_text("utf-8"))
    lists = ("results", "quick")
    return {n: Study(n, **{k: tuple(v) if k in lists else v for k, v in about.items()}) for n, about in told.items()}


def command_of(study: Study, options: list[str]) -> list[str]:
    """The command that runs a study."""
    chosen = [part for option in options for part in (study.quick if option == "--quick" else (option,))]
    return [sys.executable, str(HERE / study.run), *chosen]


def main() -> int:
    studies = read_studies()
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__, *studies.values(), sep="\n")
        return 0
    name, *options = sys.argv[1:]
    if name not in studies:
        print(f"no study {name!r}: {', '.join(studies)}", file=sys.stderr)
        return 2
    if studies[name].closed:
        print(studies[name])
        return 0
    paths = (str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH"))  # studies import by name
    shared = os.pathsep.join(filter(None, paths))
    return subprocess.run(command_of(studies[name], options), env={**os.environ, "PYTHONPATH": shared}).returncode


if __name__ == "__main__":
    sys.exit(main())
