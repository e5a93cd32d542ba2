"""Untrusted JSON: nesting and numbers that would crash Python or whoever walks the result are refused."""

from __future__ import annotations

import json
from typing import Any

MOST_DEPTH = 64


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: no JSON, more than ``MOST_DEPTH`` lists and objects within each other, or a number of thousands of
            digits. ``json.JSONDecodeError`` where the parser knows the line.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(f"more than {MOST_DEPTH} lists and objects within each other") from None
    level, depth = [value], 0
    while level := [part for whole in level for part in _parts(whole)]:
        depth += 1
        if depth > MOST_DEPTH:
            raise ValueError(f"more than {MOST_DEPTH} lists and objects within each other")
    return value


def _parts(value: Any) -> list[Any]:
    """Lists and objects that are direct elements of ``value``, empty ones included."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [part for part in inside if isinstance(part, list | dict)]
