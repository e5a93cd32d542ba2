"""A search begun: settings that suit its data and device, and its folder with the files that it was given."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from hil.datasets.augmentation import augmentation
from hil.errors import FileError
from hil.searching.folder import SearchFolder, begin_folder
from hil.searching.inputs import space_of_data
from hil.searching.settings import SearchSettings
from search.space.file import load_space, space_names, space_text

USUAL = SearchSettings(data="", chip="")


def usual_settings(data: str, device: str, *, teacher: bool) -> SearchSettings:
    """Settings that suit a data set and a device; ``teacher``: one is given, which is not trained further."""
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
        FileError: a teacher or record that is not there. UsageError, MismatchError, OutputError: as ``begin_folder``.
        search.errors.SpaceError: a space that is broken, or that runs code which is not allowed.
    """
    record = Path(settings.calibration) if settings.calibration else None
    for path, what in ((teacher, "teacher"), (record, "record")):
        if path is not None and not path.is_file():
            raise FileError(f"no {what} {path}", hint="name an existing file")
    named = space or space_of_data(settings.data, space_names())
    load_space(named, allow_code=allow_code)  # its errors name the user's file, not the copy in the folder
    return begin_folder(out, settings, space_text(named), teacher, allow_code=allow_code, restart=restart)
