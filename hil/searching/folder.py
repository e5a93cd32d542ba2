"""The folder that a search fills: ``settings.json`` and the names of all other files."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cim.files import read_bytes
from hil.atomic import work_folder, write_text
from hil.deployment.options import USUAL_RECIPE
from hil.errors import FileError, MismatchError, UsageError
from hil.report.work_folder import WorkFolder, is_work, typed
from hil.searching.settings import SearchSettings
from mapping.recipe.idle_copies import IdleCopies
from search.files import read_json
from search.space.file import load_space
from search.space.genes import Space

FORMAT = "hil.search"
VERSION = "1.0"
FREE = ("workers",)  # no answer hangs on their number
MOST_BYTES = 1 << 31


@dataclass(frozen=True, slots=True)
class FolderPart:
    """A file or folder by its name in the folder of a search."""

    name: str

    def __get__(self, folder: SearchFolder, kind: type[SearchFolder]) -> Path:
        return folder.root / self.name


@dataclass(frozen=True, slots=True)
class SearchFolder:
    """Folder of one search. ``allow_code``: operators that its space names as Python may run here."""

    root: Path
    allow_code: bool = False

    settings = FolderPart("settings.json")
    space = FolderPart("space.toml")
    origins = FolderPart("origins.json")  # digests of chip, images and errors that it was begun with
    plan = FolderPart("plan.json")
    teacher = FolderPart("teacher.pt")
    given_teacher = FolderPart("given.pt")  # to be trained further before it teaches
    stages = FolderPart("stages")
    samples = FolderPart("samples")
    candidates = FolderPart("candidates.jsonl")
    significance = FolderPart("significance.json")
    front = FolderPart("front.json")
    own = FolderPart("own.json")  # networks that a user named beside the front
    measured = FolderPart("measured.jsonl")  # pruned networks, a line each
    networks = FolderPart("networks")
    page = FolderPart("front.html")
    table = FolderPart("table.json")

    def load_space(self) -> Space:
        """The space as it was given, before the chip took from it."""
        return load_space(self.space, allow_code=self.allow_code)

    @property
    def known_settings(self) -> SearchSettings:
        """What the search was begun with."""
        return open_folder(self.root, allow_code=self.allow_code, pruned_too=True)[1]


def write_record(path: Path, form: str, data: Mapping[str, object]) -> None:
    """Write a JSON object with its format, whole or not at all."""
    write_text(path, json.dumps({"format": form, "version": VERSION, **data}, indent=1) + "\n")


def begin_folder(
    root: Path,
    settings: SearchSettings,
    space_text: str | None,
    teacher: Path | None = None,
    *,
    allow_code: bool = False,
    restart: bool = False,
) -> SearchFolder:
    """The folder of a search, with settings, space (None: pruned networks of the teacher) and teacher (None: it trains
    one); one that is there goes on.

    Args:
        restart: forget what is there.

    Raises:
        UsageError: no teacher, and no epochs to train one; something else is there.
        MismatchError: it was begun with other settings, another space or teacher. OutputError: it cannot be written.
    """
    folder = SearchFolder(root, allow_code)
    if teacher is None and settings.pruned:
        raise UsageError(
            "pruned networks are those of a teacher, and none is given", hint="hil search run --from net.pt"
        )
    if teacher is None and not settings.teacher_epochs:
        raise UsageError(
            "no teacher is given, and none is trained in 0 epochs", hint="hil search run --teacher-epochs N"
        )
    begun = not restart and is_work(root, folder.settings.name)
    work = WorkFolder(
        root, settings.begun_with, kind=FORMAT, version=VERSION, about=folder.settings.name, free=FREE, restart=restart
    )
    given = folder.given_teacher if settings.teacher_epochs and not settings.pruned else folder.teacher
    files = {} if space_text is None else {folder.space: space_text.encode()}
    files |= {} if teacher is None else {given: teacher.read_bytes()}
    for path, content in files.items():
        if not path.exists():
            work.keep(path.name, content, lambda made, part: part.write_bytes(made))
        elif begun and read_bytes(path, MOST_BYTES) != content:
            raise MismatchError(
                f"{root} was begun with another {path.stem}, which lies there as {path.name}",
                hint="the command that it was begun with resumes it; --restart begins again; or name another --out",
            )
    return folder


def discard_unbegun(folder: SearchFolder) -> None:
    """Remove the folder of a search whose inputs were refused, so that the corrected command may use its name."""
    if folder.origins.exists():
        return
    for path in (folder.settings, folder.space, folder.teacher, folder.given_teacher):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # something else lies there
        folder.root.rmdir()


def open_folder(
    root: Path, *, allow_code: bool = False, pruned_too: bool = False
) -> tuple[SearchFolder, SearchSettings]:
    """The folder of a search that was begun; settings that its version did not know have their defaults.

    Raises:
        FileError: it is none, its settings are broken, or a link in it leads elsewhere.
        UsageError: it holds pruned networks of a teacher, and these are not wanted.
    """
    folder = SearchFolder(root, allow_code)
    if not folder.settings.is_file():
        raise FileError(
            f"{root} is not a folder of a search",
            where=f"no {folder.settings.name} in it" if root.is_dir() else "no such folder",
            hint="hil search run --data NAME --out FOLDER begins one",
        )
    work_folder(root)
    data = read_json(folder.settings, FORMAT, 1)
    if data.get("mirror") is False:  # as version 0.4 called it
        data["symmetry"] = "none"
    if "recipe" not in data:  # begun when costs were of each layer once
        data["recipe"] = str(USUAL_RECIPE.without(IdleCopies.name))
    try:
        settings = typed(SearchSettings, data, edp=tuple(map(float, data.get("edp", ()))))
    except (ValueError, TypeError) as error:
        raise FileError(f"settings of a search are broken: {error}", where=str(folder.settings)) from error
    if settings.pruned and not pruned_too:
        raise UsageError(
            f"{root} holds pruned networks of a teacher, which have no operators and are not trained",
            hint=f"hil search show {root}",
        )
    if not settings.pruned and not folder.space.is_file():
        raise FileError(f"{root} is not a folder of a search", where=f"no {folder.space.name} in it")
    return folder, settings
