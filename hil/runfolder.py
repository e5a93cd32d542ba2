"""Run folders: runs/0001, runs/0002, …; a folder gets its name only when everything in it is complete."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hil.atomic import new_folder
from hil.errors import OutputError

PARENT = Path("runs")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """``part`` is where files are written now, ``final`` the name that the folder will have."""

    part: Path
    final: Path


@contextmanager
def new_run_folder(out: Path | None) -> Iterator[RunFolder]:
    """A new run folder: ``out``, or the next free number below runs/.

    Raises:
        OutputError: the folder exists and is not empty, or cannot be written.
    """
    final = out or next_free(PARENT)
    if final.exists() and (not final.is_dir() or any(final.iterdir())):
        raise OutputError(f"{final} exists and is not empty", hint="name another folder: --out FOLDER")
    with new_folder(final) as part:
        yield RunFolder(part, final)


def next_free(parent: Path) -> Path:
    taken = [int(p.name) for p in parent.iterdir() if p.name.isdigit()] if parent.is_dir() else []
    return parent / f"{max(taken, default=0) + 1:04d}"
