"""Configuration files of the model, and changes of single options in MNSIM's own names.

``load_mnsim("mnsim-default")`` gives the shipped default, ``with_options(config, {"Xbar_Size": "128,128"})``
a changed copy. Files have the form of chip files (``cim.chip.file``) and fail in the same way.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cim.chip.file import COST_FORMAT, SOURCE, ChipFileError, NewerChipFile, chip_names, chip_text, field_lines
from cim.mnsim.config import MnsimConfig
from cim.mnsim.options import options_as_fields
from cim.mnsim.schema import SECTIONS, broken_rules

MODEL = "mnsim2"
DEFAULT = "mnsim-default"
VERSION = (1, 0)

Fail = Callable[[str, str], ChipFileError]


def load_mnsim(name_or_path: str | Path = DEFAULT) -> MnsimConfig:
    """Give the shipped configuration, or that of a user's file (a path ending in ``.toml``).

    Raises:
        ChipFileError: unknown name, unreadable file, or a wrong value (with its line).
    """
    return parse_mnsim(*chip_text(str(name_or_path), lambda: [DEFAULT]))


def is_mnsim(name_or_path: str | Path) -> bool:
    """Whether a file, or a shipped one by name, is a configuration of this model rather than a chip file.

    Raises:
        ChipFileError: unknown name or unreadable file.
    """
    text, _ = chip_text(str(name_or_path), lambda: [*chip_names(), DEFAULT])
    return re.search(f'^format = "{re.escape(COST_FORMAT)}"$', text, re.MULTILINE) is not None


def parse_mnsim(text: str, origin: str) -> MnsimConfig:
    """Check the text of a configuration file; ``origin`` names it in errors."""
    lines = field_lines(text)

    def fail(name: str, reason: str) -> ChipFileError:
        return ChipFileError(origin, lines.get(name, lines.get(name.split(".")[0], 1)), name, reason)

    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        raise ChipFileError(origin, int(line[1]) if line else 1, "toml", str(error)) from error
    _check_header(data, origin, lines, fail)
    for name in data:
        if name not in SECTIONS and name not in ("format", "version", "model"):
            raise fail(name, f"unknown section; there are {', '.join(SECTIONS)}")
    provenance: dict[str, str] = {}
    values = {name: _section(name, data.get(name), provenance, fail) for name in SECTIONS}
    return _checked(values, origin, provenance, fail)


def with_options(config: MnsimConfig, options: Mapping[str, Any]) -> MnsimConfig:
    """A copy with some options changed.

    Args:
        options: MNSIM's own names and texts, with or without their section (``"Xbar_Size": "128,128"``,
            ``"Interface level/ADC_Choice": 7``, ``"Pipeline": 0``), or fields of the file (``"tile.pe_rows": 4``).

    Raises:
        ChipFileError: an unknown option or a wrong value; the text names the option.
    """
    values: dict[str, dict[str, Any]] = {
        name: {f.name: getattr(getattr(config, name), f.name) for f in dataclasses.fields(kind)}
        for name, (kind, _) in SECTIONS.items()
    }
    provenance = dict(config.provenance)
    for option, given in options.items():
        try:
            fields = options_as_fields(option, given)
            for name, value in fields.items():
                section, _, key = name.partition(".")
                values[section][key] = SECTIONS[section][1][key](value)
                provenance[name] = f"assumed: option {option}"
        except ValueError as error:
            raise ChipFileError(config.source, 0, "", f"option {option}: {error}") from None

    def fail(name: str, reason: str) -> ChipFileError:
        return ChipFileError(config.source, 0, "", f"with options {', '.join(options)}: {name}: {reason}")

    return _checked(values, config.source, provenance, fail)


def _check_header(data: Mapping[str, Any], origin: str, lines: Mapping[str, int], fail: Fail) -> None:
    if data.get("format") != COST_FORMAT:
        raise fail("format", f"is {data.get('format')!r}, the file of a cost model says {COST_FORMAT!r}")
    if data.get("model") != MODEL:
        raise fail("model", f"is {data.get('model')!r}; this model is {MODEL!r}")
    match = re.fullmatch(r"(\d+)\.(\d+)", str(data.get("version")))
    if match is None:
        raise fail("version", f"{data.get('version')!r} is not major.minor")
    if int(match[1]) > VERSION[0]:
        line = lines.get("version", 1)
        raise NewerChipFile(origin, line, "version", f"{match[0]}; this program reads {VERSION[0]}.x")


def _section(name: str, table: Any, provenance: dict[str, str], fail: Fail) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise fail(name, "section is missing")
    _, checks = SECTIONS[name]
    for key in table:
        if key not in checks:
            raise fail(f"{name}.{key}", f"unknown field; [{name}] has {', '.join(checks)}")
    values = {}
    for key, check in checks.items():
        field, entry = f"{name}.{key}", table.get(key)
        if entry is None:
            raise fail(field, "is missing")
        if not isinstance(entry, dict) or set(entry) != {"value", "source"}:
            raise fail(field, 'must be { value = …, source = "…" }')
        if not isinstance(entry["source"], str) or not SOURCE.fullmatch(entry["source"]):
            raise fail(field, f"source {entry['source']!r} must begin with measured:, published: or assumed")
        try:
            values[key] = check(entry["value"])
        except ValueError as error:
            raise fail(field, str(error)) from None
        provenance[field] = entry["source"]
    return values


def _checked(
    values: Mapping[str, Mapping[str, Any]], source: str, provenance: Mapping[str, str], fail: Fail
) -> MnsimConfig:
    sections: dict[str, Any] = {name: kind(**values[name]) for name, (kind, _) in SECTIONS.items()}
    config = MnsimConfig(**sections, source=source, provenance=provenance)
    for name, reason in broken_rules(config):
        raise fail(name, reason)
    return config
