"""Runs that survive an interruption or a failure: the chip's answers are kept, the resuming command is named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hil.deployment.run_settings import SETTINGS_FILE
from hil.errors import HilError, Interrupted, MismatchError
from hil.report.run_folder import PARENT, RunFolder
from hil.report.run_index import INDEX, write_run_index
from hil.transports.journal import Journal
from hil.watch import Watch

JOURNAL_FILE = "journal"


@contextmanager
def resumable(folder: RunFolder, watch: Watch, consent: str = "", *, anew: bool = True) -> Iterator[Journal]:
    """The journal of the run in ``folder``, for the time of the block.

    ``consent``: options that the resuming command needs, each after a space. ``anew``: a chip that lost its clock since
    may begin the run anew, which writes it again.

    Whatever ends the block early leaves the folder, unfinished, if the journal holds a measurement.

    Raises:
        Interrupted: by Ctrl-C, where there is something to go on with; ``KeyboardInterrupt`` where there is not.
    """
    journal = Journal(folder.part / JOURNAL_FILE)
    journal.may_begin_anew = anew
    if journal.answers:
        watch.say(f"{journal.answers} answers of the chip are kept; it is asked for the rest")
    try:
        yield journal
    except BaseException as error:
        if not journal.measured:
            raise
        folder.keep = True
        kept, go_on = (
            f"what the chip answered is kept in {shown_part(folder)}",
            f"hil resume {shown_part(folder)}{consent}",
        )
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted(f"interrupted; {kept}", hint=go_on) from None
        if not isinstance(error, HilError):
            watch.say(f"{kept}; {go_on} goes on")
        elif not isinstance(error, MismatchError):  # with another chip or network there is no going on
            error.hint = "; then ".join(text for text in (error.hint, f"{go_on} ({kept})") if text)
        raise
    finally:
        journal.close()


def shown_part(folder: RunFolder) -> Path:
    """The unfinished folder as the user named it."""
    return folder.final.with_name(folder.part.name)


def clear_working_files(run: Path) -> None:
    """Remove what only an unfinished run needs."""
    for name in (JOURNAL_FILE, SETTINGS_FILE):
        (run / name).unlink(missing_ok=True)


def close_run(folder: RunFolder, watch: Watch) -> None:
    """Remove what only an unfinished run needs, and show the run among those below runs/."""
    clear_working_files(folder.final)
    if folder.final.absolute().parent == PARENT.absolute():
        try:
            write_run_index(PARENT)
        except HilError as error:  # the run itself is complete
            watch.say(f"{PARENT / INDEX} was not written: {error}")
