"""Sections of a file whose values carry their sources: ``key = { value = …, source = "…" }``.

Where a section allows it, a number that is known only roughly carries a range: ``range = [lowest, highest]``.

Every source begins with ``measured:``, ``published:``, ``borrowed from:`` (published, of another chip) or
``assumed``. Chip files and the files of
cost models (``cim.mnsim``) have this form.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cim.chip.field_checks import Check
from cim.toml_file import Fail

SOURCES = ("measured", "published", "borrowed from", "assumed")  # words that a source begins with
SOURCE = re.compile(r"(measured: .+|published: .+|borrowed from: .+|assumed(: .+)?)")


def read_section(
    name: str,
    table: Any,
    checks: Mapping[str, Check],
    provenance: dict[str, str],
    fail: Fail,
    optional: Mapping[str, Any] | None = None,
    ranges: dict[str, tuple[float, float]] | None = None,
) -> dict[str, Any]:
    """Checked values of one section; their sources are added to ``provenance`` by dotted field.

    Args:
        optional: dotted fields that may be missing, with the values they then have.
        ranges: filled with the ranges of values by key; None: no value of this section may have a range.
    """
    if not isinstance(table, dict):
        raise fail(name, "section is missing")
    for key in table:
        if key not in checks:
            raise fail(f"{name}.{key}", f"unknown field; [{name}] has {', '.join(checks)}")
    values = {}
    for key, check in checks.items():
        field, entry = f"{name}.{key}", table.get(key)
        if entry is not None:
            if ranges is not None and isinstance(entry, dict) and "range" in entry:
                ranges[key] = _range(field, entry, check, fail)
                entry = {name: entry[name] for name in entry if name != "range"}
            values[key] = _value(field, entry, check, fail)
            provenance[field] = entry["source"]
        elif optional is not None and field in optional:
            values[key] = optional[field]
        else:
            raise fail(field, "is missing")
    return values


def _range(field: str, entry: dict[str, Any], check: Check, fail: Fail) -> tuple[float, float]:
    ends = entry["range"]
    try:
        if not isinstance(ends, list) or len(ends) != 2:
            raise ValueError(f"range {ends!r:.60} is not a lowest and a highest number")
        value, low, high = (check(number) for number in (entry.get("value"), *ends))
        if not all(isinstance(number, float) for number in (value, low, high)):
            raise ValueError("only a single number has a range")
        if not low <= value <= high or low == high:
            raise ValueError(f"range {low:g} to {high:g} does not hold the value {value:g}, or is empty")
    except ValueError as error:
        raise fail(field, str(error)) from None
    return low, high


def _value(field: str, entry: Any, check: Check, fail: Fail) -> Any:
    if not isinstance(entry, dict) or set(entry) != {"value", "source"}:
        raise fail(field, 'must be { value = …, source = "…" }')
    if not isinstance(entry["source"], str) or not SOURCE.fullmatch(entry["source"]):
        raise fail(
            field, f"source {entry['source']!r:.60} must begin with measured:, published:, borrowed from: or assumed"
        )
    try:
        return check(entry["value"])
    except ValueError as error:
        raise fail(field, str(error)) from None
