"""Mission and orbit files: TOML whose errors name file, line and field, and whose facts carry sources.

Each section is a dataclass whose fields say what they take (``field_of``). In a section of *facts* every key is written
``key = { value = …, source = "…" }``, as in chip files; a section of *plain* values is what a user asks for, which
needs no source.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, TypeVar

from cim.chip.field_checks import Check
from cim.chip.sourced_values import read_section
from cim.files import read_text
from cim.toml_file import MOST_BYTES, TomlError, TomlFile, major_version, parse_toml
from hil.errors import FileError, MismatchError

Section = TypeVar("Section")


class FactsFileError(FileError):
    """A mission, orbit or pass file is missing or wrong; holds path, line, field and reason."""

    def __init__(self, path: str, line: int, field: str, text: str, hint: str = "") -> None:
        place = f"{path}:{line}: {field}: " if field else f"{path}: "
        super().__init__(place + text, hint=hint)
        self.path, self.line, self.field, self.text = path, line, field, text


class NewerFactsFile(MismatchError):
    """The file was written for a newer major version of its format."""


def field_of(check: Check, default: Any = MISSING) -> Any:  # as dataclasses.field
    """A field of a section: the check of its value, and its default if it may be omitted."""
    return dataclasses.field(default=default, metadata={"check": check})


@dataclass(frozen=True, slots=True)
class FactsFile:
    """A parsed file of one format, its name as errors show it, and the SHA-256 (hex) of its text."""

    origin: str
    toml: TomlFile
    digest: str

    def fail(self, field: str, text: str) -> FactsFileError:
        """The error for a dotted field."""
        return FactsFileError(self.origin, self.toml.line(field), field, text)

    def facts(self, name: str, kind: type[Section], sources: dict[str, str]) -> Section:
        """A section whose every value carries a source, which goes into ``sources`` (``cim.chip.sourced_values``)."""
        checks, missing = _fields(kind)
        optional = {f"{name}.{key}": value for key, value in missing.items()}
        return kind(**read_section(name, self.toml.data.get(name), checks, sources, self.fail, optional or None))

    def plain(self, name: str, kind: type[Section]) -> Section:
        """A section without sources."""
        checks, missing = _fields(kind)
        table = self.toml.data.get(name, {} if set(checks) <= set(missing) else None)
        if not isinstance(table, dict):
            raise self.fail(name, "section is missing")
        given = {key: {"value": value, "source": "assumed"} for key, value in table.items()}
        optional = {f"{name}.{key}": value for key, value in missing.items()}
        return kind(**read_section(name, given, checks, {}, self.fail, optional))


def _fields(kind: type[Any]) -> tuple[dict[str, Check], Mapping[str, Any]]:
    """The check of each field of a section, and the defaults of fields that may be omitted."""
    fields = [f for f in dataclasses.fields(kind) if "check" in f.metadata]
    return {f.name: f.metadata["check"] for f in fields}, {
        f.name: f.default for f in fields if f.default is not MISSING
    }


def open_facts(path: str | Path, kind: str, newest: tuple[int, int], sections: tuple[str, ...]) -> FactsFile:
    """Read a file of format ``kind`` with these sections.

    Raises:
        FactsFileError: missing, no TOML, of another format, or with a section that the format does not have.
        NewerFactsFile: of a newer major version.
    """
    origin = str(path)
    try:
        text = read_text(path, MOST_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        raise FactsFileError(origin, 0, "", f"cannot be read ({error})") from error
    try:
        toml = parse_toml(text)
    except TomlError as error:
        raise FactsFileError(origin, error.line, "toml", error.text) from error
    file = FactsFile(origin, toml, hashlib.sha256(text.encode()).hexdigest())
    given = toml.data.get("format")
    if given != kind:
        raise file.fail("format", f"{given!r:.60} is not {kind!r}")
    major = major_version(toml.data.get("version"), file.fail)
    if major > newest[0]:
        raise NewerFactsFile(
            f"{origin} is of version {toml.data['version']} of {kind}, up to {newest[0]}.{newest[1]} is read",
            hint="update rram-hil",
        )
    for name in toml.data:
        if name not in ("format", "version", *sections):
            raise file.fail(name, f"unknown section; there are {', '.join(sections)}")
    return file
