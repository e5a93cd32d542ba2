"""Begin and end of a search: usual settings for data and device, its folder; finally table, summary and page."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hil.atomic import write_text
from hil.datasets.augmentation import augmentation
from hil.errors import FileError, Interrupted, UsageError
from hil.pages.summary import Summary
from hil.searching.folder import SearchFolder, begin_folder, discard_unbegun
from hil.searching.front import findings_of
from hil.searching.inputs import space_of_data
from hil.searching.page import search_page
from hil.searching.settings import SearchSettings
from hil.searching.summary import search_summary
from hil.searching.table import folder_notes, table_json
from search.space.file import load_space, space_names, space_text

USUAL = SearchSettings(data="", chip="")


def usual_settings(data: str, device: str, *, teacher: bool, pruned: bool = False) -> SearchSettings:
    """Settings that suit a data set and a device; ``teacher``: one is given, which is not trained further."""
    if pruned:
        return replace(USUAL, pruned=True)
    shift, symmetry = augmentation(data)
    on_cpu = device == "cpu"
    return replace(
        USUAL,
        shift=shift,
        symmetry=symmetry,
        teacher_epochs=0 if teacher else USUAL.teacher_epochs,
        workers=os.cpu_count() or 1 if on_cpu else 0,
        precision=USUAL.precision if on_cpu else "bf16-mixed",
    )


def named_place(name_or_path: str) -> str:
    """A path made absolute, so that the search goes on from anywhere; a name stays."""
    path = Path(name_or_path).expanduser()
    return str(path.absolute()) if path.exists() and ("/" in name_or_path or path.suffix) else name_or_path


def begin_search(
    out: Path,
    settings: SearchSettings,
    *,
    space: str | None,
    teacher: Path | None,
    allow_code: bool = False,
    restart: bool = False,
) -> SearchFolder:
    """The folder of a search with its files checked; one that is there goes on. ``space`` None: that of the data set.

    Raises:
        FileError: a teacher or record that is not there. UsageError: a space of pruned networks; as ``begin_folder``.
        MismatchError, OutputError: as ``begin_folder``.
        search.errors.SpaceError: a space that is broken, or that runs code which is not allowed.
    """
    if settings.pruned and space is not None:
        raise UsageError(f"pruned networks are those of a teacher, not of the space {space}", hint="leave space out")
    record = Path(settings.calibration) if settings.calibration else None
    for path, what in ((teacher, "teacher"), (record, "record")):
        if path is not None and not path.is_file():
            raise FileError(f"no {what} {path}", hint="name an existing file")
    text = None
    if not settings.pruned:
        named = space or space_of_data(settings.data, space_names())
        load_space(named, allow_code=allow_code)  # its errors name the user's file, not the copy in the folder
        text = space_text(named)
    return begin_folder(out, settings, text, teacher, allow_code=allow_code, restart=restart)


@contextlib.contextmanager
def refused_goes(folder: SearchFolder) -> Iterator[None]:
    """Context manager: if inputs are refused, the new folder of the search is removed; after Ctrl-C it is kept."""
    try:
        yield
    except Interrupted:
        raise
    except Exception:
        discard_unbegun(folder)
        raise


@dataclass(frozen=True, slots=True)
class Searched:
    """A finished search: its folder, its table (``hil.searching.table.table_json``), and what is told of it."""

    folder: SearchFolder
    table: Mapping[str, Any]
    summary: Summary


def finished(folder: SearchFolder, settings: SearchSettings) -> Searched:
    """What a search has found, with the page of its front written."""
    table = table_json(folder, folder_notes(folder))
    summary = search_summary(table, settings, str(folder.root), str(folder.page))
    write_text(folder.page, search_page(table, summary, findings_of(folder)))
    return Searched(folder, table, summary)
