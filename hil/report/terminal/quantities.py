"""Durations and temperatures as people write them: 1h, 60C."""

from __future__ import annotations

from hil.errors import UsageError


def seconds(text: str) -> float:
    """Seconds of "100ns", "1us", "5ms", "30s", "5m", "1h", "2d" or a plain number."""
    units = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
    ending = next((u for u in units if text.endswith(u)), "")
    number, unit = text.removesuffix(ending), units.get(ending, 1.0)
    try:
        value = float(number) * unit
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1e10:
        raise UsageError(f"{text!r} is not a duration", hint="write 30s, 5m, 1h or 2d")
    return value


def duration(value_s: float) -> str:
    """A duration as an option takes it, with the largest unit that needs no fraction: 3600 s -> "1h"."""
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("m", 60.0)):
        if value_s and value_s % size == 0:
            return f"{value_s / size:g}{unit}"
    return f"{value_s:g}s"


def celsius(text: str) -> float:
    """Degrees of "60", "60C" or "60 °C"; from absolute zero to 500 °C."""
    number = text.strip().removesuffix("C").removesuffix("c").removesuffix("°").strip()
    try:
        value = float(number)
    except ValueError:
        value = -1e9
    if not -273.15 <= value <= 500.0:
        raise UsageError(f"{text!r} is not a temperature", hint="write 60 or 60C, in degrees Celsius")
    return value
