"""One TOML reader for chip files, spaces and cost models: lines of keys, limits, errors of each room."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cim.chip.file import ChipFileError, load_chip
from cim.mnsim.configfile import load_mnsim
from cim.toml_file import MOST_BYTES, TomlError, parse_toml
from search.errors import SearchFileError
from search.space.file import load_space

TEXT = """# a [comment] with "quotes"
name = "x"

[chip]
macros = { value = 4, source = "assumed" }
text = '''
[not a section]
'''
[[stage]]
layers = 1
[[stage]]
layers = 2
[operators.conv]
kind = "conv"
"""


def test_sections_and_fields_have_their_lines() -> None:
    file = parse_toml(TEXT)
    assert file.data["chip"]["macros"]["value"] == 4
    assert [file.line(f) for f in ("name", "chip", "chip.macros", "stage", "stage.2", "stage.2.layers")] == [
        *(2, 4, 5, 9, 11, 12)
    ]
    assert file.line("operators.conv.kind") == 14
    assert file.line("operators.conv.stride") == 13  # missing: where it would stand
    assert file.line("nowhere") == 1


HOSTILE = {
    "6,001 digits": ("x = 1" + "0" * 6000, 1, "digits"),
    "6,001 digits apart": ("\nx = 1" + "_0" * 6000, 2, "digits"),
    "6,001 digits after the point": ("x = 0." + "0" * 6000, 1, "digits"),
    "nested arrays": ("\n\nx = " + "[" * 100_000 + "]" * 100_000, 3, "within each other"),
    "nested tables": ("x = " + "{a = " * 100_000 + "1" + "}" * 100_000, 1, "within each other"),
    "long dotted key": ("a" + ".a" * 400_000 + " = 1", 1, "parts"),
    "long dotted section": ("[a" + " . a" * 200_000 + "]", 1, "parts"),
    "long quoted key": ('"a"' + ".'b'" * 200_000 + " = 1", 1, "parts"),
    "behind an open string": ('x = "\ny = ' + "[" * 100_000, 2, "within each other"),
    "escaped quotes": ('x = "' + '\\"' * 400_000, 1, "Unterminated|string|line 1"),
    "control characters": ("x = \0", 1, "line 1"),
    "a day that is none": ("x = 2024-13-45", 1, "line 1"),
    "an hour that is none": ("x = 25:61:00", 1, "line 1|time"),
    "twice": ("a = 1\na = 2", 2, "overwrite"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_texts_beyond_the_limits_are_refused_at_once_with_their_line(name: str) -> None:
    text, line, words = HOSTILE[name]
    start = time.process_time()
    with pytest.raises(TomlError, match=words) as error:
        parse_toml(text)
    assert error.value.line == line
    assert time.process_time() - start < 3
    assert len(str(error.value)) < 400


def test_limits_leave_what_people_write() -> None:
    text = f"x = {10**300}\ny = 1.7976931348623157e308\nz = {'[' * 20 + ']' * 20}\n# {'9' * 5000} {'[' * 500}\n"
    text += f'a.b.c.d = "{"[" * 500} {"1" * 5000}"'
    data = parse_toml(text).data
    assert data["x"] == 10**300
    assert data["a"]["b"]["c"]["d"].startswith("[[[")


READERS: dict[str, tuple[Callable[[Path], object], type[Exception]]] = {
    "chip": (load_chip, ChipFileError),
    "space": (load_space, SearchFileError),
    "cost model": (load_mnsim, ChipFileError),
}


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_refuses_in_its_own_words(reader: str, tmp_path: Path) -> None:
    read, kind = READERS[reader]
    path = tmp_path / "own.toml"
    for text, line, _ in HOSTILE.values():
        path.write_text(text)
        with pytest.raises(kind, match=rf"own.toml:{line}: toml: "):
            read(path)
    path.write_bytes(b"#" * (MOST_BYTES + 1))
    with pytest.raises(kind, match="larger than"):
        read(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(kind, match="cannot be read"):
        read(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(kind, match="is a FIFO, not a regular file"):
        read(path)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(kind, match="is a character device, not a regular file"):
        read(path)
