"""Runs that survive an interruption or a failure: the same command goes on with what the chip has answered."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hil.atomic import work_folder
from hil.datasets.image_set import Dataset
from hil.deployment.run_settings import RunSettings
from hil.errors import FileError, HilError, Interrupted, MismatchError
from hil.report.run_folder import PARENT, RunFolder, new_run_folder, part_of, unfinished_run_folder
from hil.report.work_folder import GO_ON, WorkFolder, belongs, discard, is_work
from hil.transports.journal import Journal
from hil.watch import Watch
from mapping.program.conductance import ConductanceProgram

JOURNAL_FILE, SETTINGS_FILE, CONTENT_FILE, FOUND_FILE = "journal", "run.json", "content.json", "found_record.json"
AGE_FILE = "age.json"  # what was chosen on a chip that is waited for by the clock
FORMAT = "hil.deployment"
HEAD = {"format": FORMAT, "version": "1.0"}
FREE = ("address", "reconnect_timeout_s")  # a port may have another name since; serials tell chips


@contextmanager
def run_folder(
    out: Path | None, settings: RunSettings, watch: Watch, *, restart: bool = False
) -> Iterator[tuple[RunFolder, WorkFolder]]:
    """The folder of a run: that of the same settings that was interrupted or failed, else a new one.

    Args:
        out: its name; None: the next number below runs/, or the newest unfinished run there of the same settings.
        restart: forget an unfinished one.

    Raises:
        OutputError: the folder is complete, or cannot be written. MismatchError: it was begun with other settings.
        FileError: damaged, or a link in it leads elsewhere.
    """
    of = settings.fingerprint()
    part = _same_run(PARENT, of) if out is None else part_of(out)
    if restart and part is not None and part.is_dir():
        with contextlib.suppress(FileError), _idle(part):  # a damaged journal is forgotten too
            pass
        discard(part)
    begun = part is not None and part.is_dir()
    with unfinished_run_folder(part) if part is not None and begun else new_run_folder(out) as folder:
        work = WorkFolder(folder.part, of, kind=FORMAT, about=SETTINGS_FILE, free=FREE)
        if begun:
            watch.note(f"resumes {shown_part(folder)}, begun {work.begun} (--restart begins again)")
        yield folder, work


def _same_run(parent: Path, of: dict[str, object]) -> Path | None:
    """The newest unfinished run with this fingerprint that no process works on; None on systems without file locks."""
    if os.name != "posix":
        return None
    places = [path.parent for path in parent.glob(f"*/{JOURNAL_FILE}") if is_work(path.parent, SETTINGS_FILE)]
    for place in sorted(places, reverse=True):
        with contextlib.suppress(HilError):
            work_folder(place)
            belongs(place, SETTINGS_FILE, of, HEAD)
            with _idle(place):
                return place
    return None


@contextmanager
def _idle(place: Path) -> Iterator[None]:
    """Holds a run's lock for the block; raises ``UsageError`` if another process works on the run."""
    journal = place / JOURNAL_FILE
    with contextlib.closing(Journal(journal)) if journal.exists() else contextlib.nullcontext():
        yield


def check_content(work: WorkFolder, program: ConductanceProgram, images: Dataset) -> None:
    """Refuse a run that was begun with another network, data set or chip file.

    Raises:
        MismatchError: with both digests.
    """
    assert work.root is not None
    belongs(work.root, CONTENT_FILE, {"network or chip file": program.digest, "data set": images.digest}, HEAD)


@contextmanager
def resumable(folder: RunFolder, watch: Watch, *, anew: bool = True) -> Iterator[Journal]:
    """The journal of the run in ``folder``, for the time of the block.

    ``anew``: a chip that lost its clock since may begin the run anew, which writes it again.

    Whatever ends the block early leaves the folder, unfinished, if the journal holds a measurement.

    Raises:
        Interrupted: by Ctrl-C, where there is something to go on with; ``KeyboardInterrupt`` where there is not.
    """
    journal = Journal(folder.part / JOURNAL_FILE)
    journal.may_begin_anew = anew
    if journal.answers:
        watch.message(f"{journal.answers} answers of the chip are kept; the rest follows")
    try:
        yield journal
    except BaseException as error:
        if not journal.measured:
            raise
        folder.keep = True
        kept = f"what the chip answered is kept in {shown_part(folder)}"
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted(f"interrupted; {kept}", hint=GO_ON) from None
        if not isinstance(error, HilError):
            watch.message(f"{kept}; {GO_ON}")
        elif not isinstance(error, MismatchError):  # with another chip or network there is no going on
            error.hint = "; then ".join(text for text in (error.hint, f"{GO_ON} ({kept})") if text)
        raise
    finally:
        journal.close()


def shown_part(folder: RunFolder) -> Path:
    """The unfinished folder as the user named it."""
    return folder.final.with_name(folder.part.name)


def clear_working_files(run: Path) -> None:
    """Remove what only an unfinished run needs."""
    for name in (JOURNAL_FILE, SETTINGS_FILE, CONTENT_FILE, FOUND_FILE, AGE_FILE):
        (run / name).unlink(missing_ok=True)
