"""Checks of single values in TOML files: each returns the value, or raises ``ValueError`` with the reason."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

Check = Callable[[Any], Any]


def number(low: float, high: float) -> Check:
    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ValueError(f"{value!r:.60} is not a number from {low:g} to {high:g}")
        return float(value)

    return check


def count(low: int, high: int) -> Check:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"{value!r:.60} is not a whole number from {low} to {high}")
        return value

    return check


def text(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 64:
        raise ValueError(f"{value!r:.60} is not a text of 1 to 64 characters")
    return value


def flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r:.60} is neither true nor false")
    return value


def one_of(kind: type[Any]) -> Check:
    def check(value: Any) -> Any:
        try:
            return kind(value)
        except ValueError:
            raise ValueError(f"{value!r:.60} is none of {', '.join(str(k) for k in kind)}") from None

    return check


def ascending(low: float, high: float, shortest: int) -> Check:
    single = number(low, high)

    def check(value: Any) -> tuple[float, ...]:
        if not isinstance(value, list) or not shortest <= len(value) <= 4096:
            raise ValueError(f"is not a list of at least {shortest} numbers")
        numbers = tuple(single(v) for v in value)
        if any(b <= a for a, b in itertools.pairwise(numbers)):
            raise ValueError("does not rise from each number to the next")
        return numbers

    return check


def list_of(item: Check) -> Check:
    def check(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) > 4096:
            raise ValueError("is not a list of at most 4096 values")
        return tuple(item(v) for v in value)

    return check
