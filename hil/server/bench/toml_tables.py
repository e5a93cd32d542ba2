"""Tables of TOML files, checked key by key: an error names file, line, key, value and what may stand there."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from cim.chip.field_checks import Check
from cim.files import read_text
from cim.toml_file import MOST_BYTES, TomlError, TomlFile, major_version, parse_toml
from hil.server.bench.faults import BenchFileError


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """One TOML file of a known format."""

    path: str
    file: TomlFile

    @classmethod
    def read(cls, path: Path, form: str, version: tuple[int, int]) -> CheckedFile:
        """Raises ``BenchFileError``: missing, no TOML, another format, or of a newer major version."""
        try:
            return cls.parse(read_text(path, MOST_BYTES), str(path), form, version)
        except (OSError, UnicodeDecodeError) as error:
            raise BenchFileError(str(path), 1, "", f"cannot be read ({error})") from error

    @classmethod
    def parse(cls, text: str, path: str, form: str, version: tuple[int, int]) -> CheckedFile:
        try:
            found = cls(path, parse_toml(text))
        except TomlError as error:
            raise BenchFileError(path, error.line, "toml", error.text) from error
        data = found.file.data
        if data.get("format") != form:
            found.fail("format", f"is {data.get('format')!r:.60}", f'format = "{form}"')
        if major_version(data.get("version"), lambda key, why: found.error(key, why)) > version[0]:
            found.fail("version", f"is {data['version']}, this program reads {version[0]}.x")
        return found

    def error(self, key: str, text: str, hint: str = "") -> BenchFileError:
        return BenchFileError(self.path, self.file.line(key), key, text, hint)

    def fail(self, key: str, text: str, hint: str = "") -> NoReturn:
        raise self.error(key, text, hint)

    def names(self, known: tuple[str, ...]) -> None:
        """Refuse sections that no such file has."""
        self._known("", self.file.data, ("format", "version", *known))

    def table(self, key: str, data: Any, checks: Mapping[str, Check], optional: Mapping[str, Any]) -> dict[str, Any]:
        """The values of one table, those of ``optional`` where they are missing.

        Raises:
            BenchFileError: no table, an unknown key, a missing one, or a value that its check refuses.
        """
        if data is None and not set(checks) - set(optional):
            data = {}
        if not isinstance(data, dict):
            self.fail(key, "is missing" if data is None else f"{data!r:.60} is not a table", f"[{key}]")
        self._known(key, data, tuple(checks))
        found = dict(optional)
        for name, check in checks.items():
            if name not in data:
                if name not in optional:
                    self.fail(f"{key}.{name}", "is missing")
                continue
            try:
                found[name] = check(data[name])
            except ValueError as error:
                self.fail(f"{key}.{name}", str(error))
        return found

    def _known(self, key: str, data: Mapping[str, Any], known: tuple[str, ...]) -> None:
        for name in data:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"write {near[0]}" if near else ""
                self.fail(f"{key}.{name}".strip("."), f"is not known; there are {', '.join(known)}", hint)
