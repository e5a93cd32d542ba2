"""Bench files for tests, with a chip file of a macro of 32 x 32 cells whose currents are measured to 16 bits."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

BENCH = """\
format = "hil.bench"
version = "1.0"

[bench]
name = "row board"
chip = "macro-32.toml"
serial = "die 4"

[instruments.board]
model = "row-board"
port = "PORT"

[wiring]
rows_at_once = 1
columns_at_once = 32

[read]
averages = 1

[safety]
current_a = 5e-4
off_within_s = 0.5
"""


def chip_text(side: int = 32, macros: int = 1, **other: str) -> str:
    """lab-128 with macros of another size; ``other``: values of keys in TOML."""
    text = resources.files("cim").joinpath("chips", "lab-128.toml").read_text("utf-8")
    values = {
        "name": f'"macro-{side}"', "macros": str(macros), "rows": str(side), "columns": str(side),
        "rows_per_read": str(side), "shared_by": "1", **other,
    }  # fmt: skip
    for key, value in values.items():
        text, count = re.subn(
            rf"^{key} = {{ value = [^\n]*?, source", f"{key} = {{ value = {value}, source", text, count=1, flags=re.M
        )
        assert count == 1, key
    return text.replace(
        'bits = { value = 8, source = "published: 8-bit converters',
        'bits = { value = 16, source = "published: 8-bit converters',
    )


def write_bench(folder: Path, *, port: str = "/dev/none", edit: dict[str, str] | None = None) -> Path:
    """A bench file and its chip file in a folder; ``edit``: texts of the bench file and what stands in their place."""
    (folder / "macro-32.toml").write_text(chip_text())
    text = BENCH.replace("PORT", port)
    for old, new in (edit or {}).items():
        assert old in text, old
        text = text.replace(old, new)
    path = folder / "bench.toml"
    path.write_text(text)
    return path
