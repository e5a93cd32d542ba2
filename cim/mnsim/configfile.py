"""Configuration files of the model, and changes of single options in MNSIM's own names.

``load_mnsim("mnsim-default")`` gives the shipped default, ``with_options(config, {"Xbar_Size": "128,128"})``
a changed copy. Files have the form of chip files (``cim.chip.file``) and fail in the same way.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cim.chip.file import COST_FORMAT, ChipFileError, NewerChipFile, chip_text
from cim.chip.sourced_values import read_section
from cim.mnsim.config import MnsimConfig
from cim.mnsim.options import options_as_fields
from cim.mnsim.schema import SECTIONS, broken_rules
from cim.toml_file import Fail, TomlError, TomlFile, major_version, parse_toml

MODEL = "mnsim2"
DEFAULT = "mnsim-default"
VERSION = (1, 0)


def load_mnsim(name_or_path: str | Path = DEFAULT) -> MnsimConfig:
    """Give the shipped configuration, or that of a user's file (a path ending in ``.toml``).

    Args:
        name_or_path: of a shipped configuration, or a path.

    Returns:
        the configuration.

    Raises:
        ChipFileError: unknown name, unreadable file, or a wrong value (with its line).

    Example:
        >>> load_mnsim().array.rows
        256
    """
    return parse_mnsim(*chip_text(str(name_or_path), lambda: [DEFAULT]))


def parse_mnsim(text: str, origin: str) -> MnsimConfig:
    """Check the text of a configuration file; ``origin`` names it in errors."""
    try:
        file = parse_toml(text)
    except TomlError as error:
        raise ChipFileError(origin, error.line, "toml", error.text) from error

    def fail(name: str, reason: str) -> ChipFileError:
        return ChipFileError(origin, file.line(name), name, reason)

    data = file.data
    _check_header(file, origin, fail)
    for name in data:
        if name not in SECTIONS and name not in ("format", "version", "model"):
            raise fail(name, f"unknown section; there are {', '.join(SECTIONS)}")
    provenance: dict[str, str] = {}
    values = {name: read_section(name, data.get(name), SECTIONS[name][1], provenance, fail) for name in SECTIONS}
    return _checked(values, origin, provenance, fail)


def with_options(config: MnsimConfig, options: Mapping[str, Any]) -> MnsimConfig:
    """A copy with some options changed.

    Args:
        config: to copy.
        options: MNSIM's own names and texts, with or without their section (``"Xbar_Size": "128,128"``,
            ``"Interface level/ADC_Choice": 7``, ``"Pipeline": 0``), or fields of the file (``"tile.pe_rows": 4``).

    Returns:
        the changed copy.

    Raises:
        ChipFileError: an unknown option or a wrong value; the text names the option.

    Example:
        >>> with_options(load_mnsim(), {"ADC_Choice": "7"}).adc.choice
        7
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


def _check_header(file: TomlFile, origin: str, fail: Fail) -> None:
    data = file.data
    if data.get("format") != COST_FORMAT:
        raise fail("format", f"is {data.get('format')!r:.60}, the file of a cost model says {COST_FORMAT!r}")
    if data.get("model") != MODEL:
        raise fail("model", f"is {data.get('model')!r:.60}; this model is {MODEL!r}")
    if major_version(data.get("version"), fail) > VERSION[0]:
        text = f"{data['version']}; this program reads {VERSION[0]}.x"
        raise NewerChipFile(origin, file.line("version"), "version", text)


def _checked(
    values: Mapping[str, Mapping[str, Any]], source: str, provenance: Mapping[str, str], fail: Fail
) -> MnsimConfig:
    sections: dict[str, Any] = {name: kind(**values[name]) for name, (kind, _) in SECTIONS.items()}
    config = MnsimConfig(**sections, source=source, provenance=provenance)
    for name, reason in broken_rules(config):
        raise fail(name, reason)
    return config
