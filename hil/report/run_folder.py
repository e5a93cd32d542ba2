"""Run folders: runs/0001, runs/0002, …; a folder gets its name only when everything in it is complete.

Until then it is called NAME.unfinished, which also keeps its number from other runs; a run that was interrupted
or failed leaves it so, if there is something in it to go on with.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hil.atomic import check_can_fill, output_error, work_folder
from hil.errors import OutputError

PARENT = Path("runs")
UNFINISHED = ".unfinished"


@dataclass(slots=True)
class RunFolder:
    """``part`` is where files are written now, ``final`` the name that the folder will have.

    ``keep``: leave ``part`` when the run ends in an error.
    """

    part: Path
    final: Path
    keep: bool = False


@contextmanager
def new_run_folder(out: Path | None) -> Iterator[RunFolder]:
    """A new run folder: ``out``, or the next free number below runs/, which no other run can take meanwhile.

    Raises:
        OutputError: the folder exists and is not empty, is of an unfinished run, or cannot be written.
    """
    final = out if out else _claim_number(PARENT)
    if out:
        if final.exists() and (not final.is_dir() or any(final.iterdir())):
            raise OutputError(f"{final} exists and is not empty", hint="name another folder: hil deploy --out FOLDER")
        if not _claim(final):
            part = part_of(final)
            raise OutputError(
                f"{part} of a run that was not finished exists",
                hint=f"the hil deploy that began it continues; if none runs, rm -r {part}; or another --out",
            )
    with _finished(RunFolder(part_of(final).absolute(), final)) as folder:
        yield folder


@contextmanager
def unfinished_run_folder(part: Path) -> Iterator[RunFolder]:
    """The folder of a run that was interrupted or failed.

    Raises:
        FileError: a link in it leads elsewhere.
    """
    final = part.with_name(part.name.removesuffix(UNFINISHED))
    work_folder(part)
    check_can_fill(part)
    for leftover in part.glob(".*.part"):  # of a process that was killed
        leftover.unlink(missing_ok=True)
    with _finished(RunFolder(part.absolute(), final, keep=True)) as folder:
        yield folder


@contextmanager
def _finished(folder: RunFolder) -> Iterator[RunFolder]:
    """Give the folder its name when the block ends well; else keep it unfinished, or remove it."""
    try:
        yield folder
        try:
            os.replace(folder.part, folder.final)
        except OSError as error:
            folder.keep = True
            raise output_error(folder.final, error) from error
    except BaseException:
        if not folder.keep:
            shutil.rmtree(folder.part, ignore_errors=True)
        raise


def part_of(final: Path) -> Path:
    return final.with_name(final.name + UNFINISHED)


def _claim_number(parent: Path) -> Path:
    """The next number that no run has, finished or not; its unfinished folder is made."""
    number = _next_number(parent)
    while not _claim(parent / f"{number:04d}"):
        number += 1
    return parent / f"{number:04d}"


def _claim(final: Path) -> bool:
    part = part_of(final)
    try:
        part.mkdir(0o700, parents=True)
    except FileExistsError:
        return False
    except OSError as error:
        raise output_error(final, error) from error
    if final.is_dir() and any(final.iterdir()):  # its run ended just now
        with contextlib.suppress(OSError):
            part.rmdir()
        return False
    return True


def _next_number(parent: Path) -> int:
    names = [p.name.removesuffix(UNFINISHED) for p in parent.iterdir()] if parent.is_dir() else []
    return max((int(name) for name in names if name.isdigit()), default=0) + 1
