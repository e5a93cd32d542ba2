"""Mission, orbit and host files: TOML whose errors name file, line and field, and whose facts carry sources.

A section of *facts* has ``key = { value = …, source = "…" }`` for every key, as chip files have; a section of *plain*
values is what a user asks for, which needs no source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cim.chip.field_checks import Check
from cim.chip.sourced_values import read_section
from cim.files import read_text
from cim.toml_file import MOST_BYTES, TomlError, TomlFile, major_version, parse_toml
from hil.errors import FileError, MismatchError


class FactsFileError(FileError):
    """A mission, orbit or pass file is missing or wrong; holds path, line, field and reason."""

    def __init__(self, path: str, line: int, field: str, text: str, hint: str = "") -> None:
        place = f"{path}:{line}: {field}: " if field else f"{path}: "
        super().__init__(place + text, hint=hint)
        self.path, self.line, self.field, self.text = path, line, field, text


class NewerFactsFile(MismatchError):
    """The file was written for a newer major version of its format."""


@dataclass(frozen=True, slots=True)
class FactsFile:
    """A parsed file of one format, its name as errors show it."""

    origin: str
    toml: TomlFile

    def fail(self, field: str, text: str) -> FactsFileError:
        """The error for a dotted field."""
        return FactsFileError(self.origin, self.toml.line(field), field, text)

    def only(self, *sections: str) -> None:
        """Refuse sections that the format does not have."""
        for name in self.toml.data:
            if name not in ("format", "version", *sections):
                raise self.fail(name, f"unknown section; there are {', '.join(sections)}")

    def facts(
        self,
        name: str,
        checks: Mapping[str, Check],
        provenance: dict[str, str],
        optional: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Values of a section whose every value carries a source (``cim.chip.sourced_values``)."""
        return read_section(name, self.toml.data.get(name), checks, provenance, self.fail, optional)

    def plain(self, name: str, checks: Mapping[str, Check], missing: Mapping[str, Any]) -> dict[str, Any]:
        """Checked values of a section without sources; keys of ``missing`` may be left out."""
        return plain_values(name, self.toml.data.get(name), checks, missing, self)

    def tables(self, name: str, checks: Mapping[str, Check], missing: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
        """The ``[[name]]`` tables of a file, in order."""
        found = self.toml.data.get(name, [])
        if not isinstance(found, list):
            raise self.fail(name, f"must be tables [[{name}]]")
        return tuple(plain_values(f"{name}.{n}", table, checks, missing, self) for n, table in enumerate(found, 1))


def plain_values(
    name: str, table: Any, checks: Mapping[str, Check], missing: Mapping[str, Any], file: FactsFile
) -> dict[str, Any]:
    """Checked values of one table."""
    if table is None and set(checks) <= set(missing):
        table = {}
    if not isinstance(table, dict):
        raise file.fail(name, "section is missing")
    for key in table:
        if key not in checks:
            raise file.fail(f"{name}.{key}", f"unknown field; [{name}] has {', '.join(checks)}")
    values = {}
    for key, check in checks.items():
        field = f"{name}.{key}"
        if key not in table:
            if key not in missing:
                raise file.fail(field, "is missing")
            values[key] = missing[key]
            continue
        try:
            values[key] = check(table[key])
        except ValueError as error:
            raise file.fail(field, str(error)) from None
    return values


def open_facts(path: str | Path, kind: str, newest: tuple[int, int]) -> FactsFile:
    """Read a file of format ``kind``.

    Raises:
        FactsFileError: missing, no TOML, or of another format.
        NewerFactsFile: of a newer major version.
    """
    origin = str(path)
    try:
        text = read_text(path, MOST_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        raise FactsFileError(origin, 0, "", f"cannot be read ({error})") from error
    return parse_facts(text, origin, kind, newest)


def parse_facts(text: str, origin: str, kind: str, newest: tuple[int, int]) -> FactsFile:
    """The same of a text; ``origin`` names it in errors."""
    try:
        toml = parse_toml(text)
    except TomlError as error:
        raise FactsFileError(origin, error.line, "toml", error.text) from error
    file = FactsFile(origin, toml)
    given = toml.data.get("format")
    if given != kind:
        raise file.fail("format", f"{given!r:.60} is not {kind!r}")
    major = major_version(toml.data.get("version"), file.fail)
    if major > newest[0]:
        raise NewerFactsFile(
            f"{origin} is of version {toml.data['version']} of {kind}, up to {newest[0]}.{newest[1]} is read",
            hint="update rram-hil",
        )
    return file
