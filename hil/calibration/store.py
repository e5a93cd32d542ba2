"""Finished steps of a calibration, kept beside the record until it is complete.

A folder ``NAME.partial`` holds ``about.json`` (chip, macros, seed, budget, ages) and one HDF5
file a step. Each appears whole or not at all, so an interruption costs the step it met.
"""

from __future__ import annotations

import datetime
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import h5py

from cim.files import read_text
from cim.hdf5_file import open_hdf5
from cim.json_text import parse_json
from cim.record.file import read_fields, write_fields
from hil.atomic import new_file, work_folder
from hil.errors import FileError, MismatchError
from hil.watch import Watch

MAX_STEP_BYTES = 1 << 31
MAX_ABOUT_BYTES = 1 << 20

T = TypeVar("T")


def partial_folder(record: Path) -> Path:
    """Where the steps of a record that is being measured lie: ``chip.h5`` -> ``chip.h5.partial``."""
    return record.with_name(record.name + ".partial")


class StepStore:
    """Keeps what steps measured: what an earlier, interrupted calibration measured is read back.

    Without a folder nothing is kept. ``resume`` was asked for by name, so it is said where there is nothing to go on
    with; ``restart`` forgets what is there.

    Raises:
        MismatchError: the folder is of another chip, plan or seed.
        FileError: it is damaged. OutputError: it cannot be written.
    """

    def __init__(
        self,
        folder: Path | None,
        about: Mapping[str, object],
        *,
        resume: bool = False,
        restart: bool = False,
        watch: Watch,
    ) -> None:
        self.folder, self._watch = folder, watch
        self.done: list[str] = []
        if folder is None:
            return
        if restart:
            discard_steps(folder)
        if not folder.exists():
            if resume:
                watch.note(f"nothing to resume: {folder} does not exist")
            work_folder(folder)
            try:
                with new_file(folder / "about.json") as part:
                    part.write_text(json.dumps(about, indent=1) + "\n", "utf-8")
            except BaseException:
                discard_steps(folder)
                raise
            return
        work_folder(folder)
        self._check(folder, about)
        self.done = sorted(p.stem for p in folder.glob("*.h5"))
        if self.done and not resume:
            begun = datetime.datetime.fromtimestamp((folder / "about.json").stat().st_mtime, datetime.UTC)
            watch.note(
                f"{len(self.done)} finished steps of {folder} are taken, begun {begun:%Y-%m-%d %H:%M} UTC "
                "(--restart measures them anew)"
            )

    def _check(self, folder: Path, about: Mapping[str, object]) -> None:
        try:
            found = dict(parse_json(read_text(folder / "about.json", MAX_ABOUT_BYTES)))
        except (OSError, ValueError, TypeError) as error:
            raise FileError(f"{folder} is damaged: {error}", hint="--restart measures all of it anew") from error
        for name, wanted in json.loads(json.dumps(about)).items():
            if found.get(name) != wanted:
                raise MismatchError(
                    f"{folder} was begun with another {name}: {found.get(name)!r}, now {wanted!r}",
                    hint="give the command that it was begun with, or another -o; --restart forgets what it measured",
                )

    def load(self, name: str, kind: type[T]) -> dict[int, T] | None:
        """What an earlier calibration measured in this step, by macro; None when it did not finish it."""
        if self.folder is None or name not in self.done:
            return None
        path = self.folder / f"{name}.h5"
        try:
            with open_hdf5(path, MAX_STEP_BYTES) as file:
                return {int(macro): kind(**read_fields(file[macro], kind)) for macro in sorted(file, key=int)}
        except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
            raise FileError(f"{path} is damaged: {error}", hint="--restart measures all of it anew") from error

    def keep(self, name: str, parts: Mapping[int, object]) -> None:
        """Keep what a step measured, by macro."""
        if self.folder is not None:
            with new_file(self.folder / f"{name}.h5") as path, h5py.File(path, "w") as file:
                for macro, part in parts.items():
                    write_fields(file.create_group(str(macro)), part)
        self.done.append(name)

    def forget(self, names: tuple[str, ...]) -> None:
        """Drop steps that no longer hold, those whose name begins so."""
        for name in [n for n in self.done if n.startswith(names)]:
            self.done.remove(name)
            if self.folder is not None:
                (self.folder / f"{name}.h5").unlink(missing_ok=True)


def discard_steps(folder: Path) -> None:
    """The record is written: its steps are not needed any more."""
    shutil.rmtree(folder, ignore_errors=True)
