"""Sections of a file whose values carry their sources: ``key = { value = …, source = "…" }``.

Every source begins with ``measured:``, ``published:`` or ``assumed``. Chip files and the files of
cost models (``cim.mnsim``) have this form.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cim.chip.field_checks import Check
from cim.toml_file import Fail

SOURCE = re.compile(r"(measured: .+|published: .+|assumed(: .+)?)")


def read_section(
    name: str,
    table: Any,
    checks: Mapping[str, Check],
    provenance: dict[str, str],
    fail: Fail,
    optional: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Checked values of one section; their sources are added to ``provenance`` by dotted field.

    Args:
        optional: dotted fields that may be missing, with the values they then have.
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
            values[key] = _value(field, entry, check, fail)
            provenance[field] = entry["source"]
        elif optional is not None and field in optional:
            values[key] = optional[field]
        else:
            raise fail(field, "is missing")
    return values


def _value(field: str, entry: Any, check: Check, fail: Fail) -> Any:
    if not isinstance(entry, dict) or set(entry) != {"value", "source"}:
        raise fail(field, 'must be { value = …, source = "…" }')
    if not isinstance(entry["source"], str) or not SOURCE.fullmatch(entry["source"]):
        raise fail(field, f"source {entry['source']!r:.60} must begin with measured:, published: or assumed")
    try:
        return check(entry["value"])
    except ValueError as error:
        raise fail(field, str(error)) from None
