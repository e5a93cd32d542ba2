"""Price list of a technology: energies, rates and areas of a chip file's ``[cost]`` in a TOML file of their own.

    chip = priced_by(load_chip("mnsim-256"), "rram-22nm.toml")

    format = "hil.prices"
    version = "1.0"
    [cost]
    read_pj = { value = 5.0, source = "measured: loops of reads, supply power" }
    …

One chip may be priced by several technologies, and one list may price several chips. Every value has its source.
"""

from __future__ import annotations

from dataclasses import replace

from cim.chip.file import ChipFileError, NewerChipFile, chip_text
from cim.chip.schema import OPTIONAL, SECTIONS
from cim.chip.sourced_values import read_section
from cim.chip.spec import ChipSpec, CostSpec
from cim.toml_file import TomlError, major_version, parse_toml

FORMAT, MAJOR = "hil.prices", 1
SECTION = "cost"


def is_price_list(name_or_path: str) -> bool:
    """Whether a file is a price list, and no chip. Raises ``ChipFileError`` for one that cannot be read."""
    if not name_or_path.endswith(".toml"):
        return False
    text, origin = chip_text(name_or_path)
    try:
        return parse_toml(text).data.get("format") == FORMAT
    except TomlError as error:
        raise ChipFileError(origin, error.line, "toml", error.text) from error


def priced_by(chip: ChipSpec, path: str) -> ChipSpec:
    """The chip with the prices of a list in place of its own.

    Raises:
        ChipFileError: unreadable file, none of prices, or a wrong value (with its line).
    """
    text, origin = chip_text(path)
    try:
        file = parse_toml(text)
    except TomlError as error:
        raise ChipFileError(origin, error.line, "toml", error.text) from error

    def fail(field: str, reason: str) -> ChipFileError:
        return ChipFileError(origin, file.line(field), field, reason)

    data, sources = file.data, dict[str, str]()
    if data.get("format") != FORMAT:
        raise fail("format", f"is {data.get('format')!r:.60}, a price list says {FORMAT!r}")
    if major_version(data.get("version"), fail) > MAJOR:
        text = f"{data['version']}; this program reads {MAJOR}.x"
        raise NewerChipFile(origin, file.line("version"), "version", text)
    if strange := [name for name in data if name not in ("format", "version", SECTION)]:
        raise fail(strange[0], f"unknown section; a price list has [{SECTION}]")
    values = read_section(SECTION, data.get(SECTION), SECTIONS[SECTION], sources, fail, OPTIONAL)
    kept = {field: source for field, source in chip.provenance.items() if not field.startswith(f"{SECTION}.")}
    return replace(chip, cost=CostSpec(**values), provenance={**kept, **sources})
