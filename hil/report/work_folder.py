"""Folder of a long work: the same command goes on in it, and ``--restart`` forgets it.

Folder content: a fingerprint of all inputs of the result, as plain data in one file, and finished parts, each written
whole. A job with another fingerprint is refused. A folder may come from a stranger:
nothing in it may lead elsewhere, sizes are bounded, and no consent to run code is taken from it.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import secrets
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args, get_type_hints

from cim.files import check_regular, read_text
from cim.json_text import parse_json
from hil.atomic import new_file, output_error, work_folder, write_text
from hil.errors import FileError, MismatchError, OutputError, UsageError

T = TypeVar("T")
ABOUT = "about.json"
MAX_JSON_BYTES, MAX_PART_BYTES = 1 << 26, 1 << 31
BEGUN = "begun"  # date of the begin, beside the fingerprint
GO_ON = "the same command resumes; with --restart it begins again"
DAMAGED = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError)


class WorkFolder:
    """Stored parts of a long work in ``root``; None stores nothing.

    Args:
        of: the fingerprint: plain data by name, groups of them too.
        kind: format that the file of the fingerprint says, with its version.
        about: name of that file.
        free: names that may be another when the work goes on, since no answer hangs on them.
        restart: forget what is there.

    Raises:
        MismatchError: the folder is of another work, with both values of what differs.
        UsageError: it is not empty, and of no such work. FileError: damaged, or a link in it leads elsewhere.
        OutputError: it cannot be written.
    """

    def __init__(
        self,
        root: Path | None,
        of: Mapping[str, Any],
        *,
        kind: str = "hil.work",
        version: str = "1.0",
        about: str = ABOUT,
        free: Collection[str] = (),
        restart: bool = False,
    ) -> None:
        self.root, self._about = root, about
        self.begun = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        if root is None:
            return
        there = root.exists() and (not root.is_dir() or any(not _unfinished(path) for path in root.iterdir()))
        if there and not is_work(root, about):
            raise UsageError(f"{root} is not empty and holds no such work", hint="name another folder")
        if there and restart:
            discard(root)
        work_folder(root)
        try:
            found = belongs(root, about, of, {"format": kind, "version": version, BEGUN: self.begun}, free)
        except OutputError:
            if not there:
                discard(root)
            raise
        self.begun = _date(found.get(BEGUN, self.begun), root / about)

    def part(
        self, name: str, load: Callable[[Path], T], compute: Callable[[], T], save: Callable[[Any, Path], object]
    ) -> T:
        """The part of a name as ``load`` reads it; where it is not there, ``compute`` makes and ``save`` writes it."""
        if self.has(name):
            return self.load(name, load)
        made = compute()
        self.keep(name, made, save)
        return made

    def json_part(self, name: str, load: Callable[[Any], T], compute: Callable[[], T]) -> T:
        """A part as plain data: read and checked by ``load``, or made by ``compute`` and written as JSON."""
        return self.part(name, lambda path: load(load_json(path)), compute, save_json)

    def has(self, name: str) -> bool:
        return self.root is not None and (self.root / name).exists()

    def load(self, name: str, load: Callable[[Path], T]) -> T:
        """Read a stored part.

        Raises:
            FileError: it is damaged.
        """
        assert self.root is not None
        path = self.root / name
        try:
            check_regular(path, MAX_PART_BYTES)
            return load(path)
        except FileError:
            raise
        except DAMAGED as error:
            raise _damaged(path, error) from error

    def keep(self, name: str, made: T, save: Callable[[T, Path], object]) -> None:
        """Write a part, whole or not at all."""
        if self.root is None:
            return
        place = self.root / name
        try:
            place.parent.mkdir(0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise output_error(place, error) from error
        with new_file(place) as path:
            save(made, path)

    def keep_json(self, name: str, made: Any) -> None:
        self.keep(name, made, save_json)

    def parts(self, pattern: str) -> list[str]:
        """Names of parts that are there, in order."""
        on_disk = () if self.root is None else (str(p.relative_to(self.root)) for p in self.root.glob(pattern))
        return sorted(on_disk)

    def forget(self, *names: str) -> None:
        """Delete stored parts that are no longer valid."""
        for name in names:
            if self.root is not None:
                (self.root / name).unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove the folder once the work is done and its result is stored elsewhere."""
        if self.root is not None:
            discard(self.root)


def belongs(
    root: Path, name: str, of: Mapping[str, Any], head: Mapping[str, Any], free: Collection[str] = ()
) -> dict[str, Any]:
    """Write a fingerprint (all inputs of a job), or compare it with the stored one; returns what the file says.

    ``head``: further entries of the file, among them format and version.

    Raises:
        MismatchError: something differs, with both values, or of another version. FileError: damaged.
    """
    path, wanted = root / name, json.loads(json.dumps(dict(of)))
    if not path.exists():
        write_text(path, json.dumps({**head, **wanted}, indent=1) + "\n")
        return dict(head)
    found = load_json(path)
    if not isinstance(found, dict):
        raise _damaged(path, "no object of names and values")
    for key in ("format", "version"):
        if _major(found.get(key)) != _major(head[key]):
            raise MismatchError(
                f"{path}: {key} {found.get(key)!r:.60}, this program resumes {head[key]!r}",
                hint="resume with the version that began it; --restart begins again",
            )
    before, now = _flat(found), _flat(wanted)
    other = [key for key in now if before.get(key) != now[key] and key not in free]
    if other:
        said = ", ".join(f"{key} {_shown(before.get(key))}, now {_shown(now[key])}" for key in other[:4])
        raise MismatchError(
            f"{root} was begun with another {said}",
            hint="the command that it was begun with resumes it; --restart begins again; or name another output",
        )
    return found


def is_work(root: Path, about: str = ABOUT) -> bool:
    """Whether a folder holds an unfinished job."""
    return os.path.lexists(root / about)


def discard(root: Path) -> None:
    """Remove a folder of work; a process that is killed meanwhile leaves none that is half there."""
    away = root.with_name(f".{root.name}.{secrets.token_hex(4)}.part")
    with contextlib.suppress(OSError):
        root.rename(away)
    shutil.rmtree(away, ignore_errors=True)


def _unfinished(path: Path) -> bool:
    """Whether a file was left half-written by a process that was killed."""
    return path.name.startswith(".") and path.suffix == ".part"


def load_json(path: Path) -> Any:
    """Plain data of a file that anybody may have written.

    Raises:
        FileError: missing, too large, damaged.
    """
    try:
        return parse_json(read_text(path, MAX_JSON_BYTES))
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error


def save_json(made: Any, path: Path) -> None:
    path.write_text(json.dumps(made, indent=1) + "\n", "utf-8")


def typed(kind: type[T], record: Any, **more: Any) -> T:
    """A dataclass of plain values from JSON, each of the type that its field says; ``more``: fields given otherwise.

    Raises:
        ValueError: one of another type, or missing.
    """
    hints, values = get_type_hints(kind), dict(more)
    if not isinstance(record, dict):
        raise ValueError(f"no {kind.__name__}: {record!r:.60}")
    for field in fields(kind):  # type: ignore[arg-type]
        if field.name in more:
            continue
        if field.name not in record:
            if field.default is MISSING and field.default_factory is MISSING:
                raise ValueError(f"{field.name} is missing")
            continue
        value, allowed = record[field.name], get_args(hints[field.name]) or (hints[field.name],)
        if float in allowed and type(value) is int:
            value = float(value)
        if type(value) not in allowed and not (value is None and NoneType in allowed):
            raise ValueError(f"{field.name} is {value!r:.60}")
        values[field.name] = value
    return kind(**values)


def _damaged(path: Path, why: object) -> FileError:
    return FileError(
        f"{path} is damaged: {str(why)[:200]}", hint=f"rm {path} repeats that part; --restart begins again"
    )


def _flat(record: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Values of nested mappings in one level; names of a group's values begin with the name of the group."""
    found: dict[str, Any] = {}
    for key, value in record.items():
        found.update(_flat(value, f"{before}{key} ") if isinstance(value, dict) else {f"{before}{key}": value})
    return found


def _shown(value: Any) -> str:
    return f"{value[:12]}…" if isinstance(value, str) and len(value) >= 64 else f"{value!r:.60}"


def _major(value: Any) -> str:
    return str(value).partition(".")[0] if str(value)[:1].isdigit() else str(value)


def _date(text: Any, path: Path) -> str:
    try:
        if datetime.datetime.fromisoformat(text).tzinfo is None:
            raise ValueError("its date has no time zone")
    except (ValueError, TypeError) as error:
        raise _damaged(path, error) from error
    return str(text)
