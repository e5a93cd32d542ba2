"""Run folders: runs/0001, runs/0002, …; a folder gets its name only when everything in it is complete."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hil.atomic import new_folder, output_error
from hil.errors import OutputError

PARENT = Path("runs")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """``part`` is where files are written now, ``final`` the name that the folder will have."""

    part: Path
    final: Path


@contextmanager
def new_run_folder(out: Path | None) -> Iterator[RunFolder]:
    """A new run folder: ``out``, or the next free number below runs/, which no other run can take meanwhile.

    Raises:
        OutputError: the folder exists and is not empty, or cannot be written.
    """
    with contextlib.nullcontext(out) if out else _claimed_number(PARENT) as final:
        if final.exists() and (not final.is_dir() or any(final.iterdir())):
            raise OutputError(f"{final} exists and is not empty", hint="name another folder: --out FOLDER")
        with new_folder(final) as part:
            yield RunFolder(part, final)


@contextmanager
def _claimed_number(parent: Path) -> Iterator[Path]:
    """The next number that neither a folder nor a run under way has, by an empty folder .NNNN.claim."""
    number = _next_number(parent)
    while not _claim(parent, number):
        number += 1
    try:
        yield parent / f"{number:04d}"
    finally:
        with contextlib.suppress(OSError):
            _claim_of(parent, number).rmdir()


def _claim(parent: Path, number: int) -> bool:
    claim = _claim_of(parent, number)
    try:
        claim.mkdir(parents=True)
    except FileExistsError:
        return False
    except OSError as error:
        raise output_error(parent / f"{number:04d}", error) from error
    if (parent / f"{number:04d}").exists():  # its run ended just now
        claim.rmdir()
        return False
    return True


def _claim_of(parent: Path, number: int) -> Path:
    return parent / f".{number:04d}.claim"


def _next_number(parent: Path) -> int:
    taken = [int(p.name) for p in parent.iterdir() if p.name.isdigit()] if parent.is_dir() else []
    return max(taken, default=0) + 1
