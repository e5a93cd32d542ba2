"""Plausible ranges of the numbers of a calibration record; a number outside its range is no measurement of a chip."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from cim.record.calibration import CellState

MAY_BE_NAN = ("stuck_us", "goodness")  # cells that are not stuck; figures that too few cells gave
MOST_US, MOST_S, MOST_CODES = 1e6, 1e12, 1e6  # a cell of 1 S; 30,000 years; a converter of 20 bits
ANY = (-1e12, 1e12)
RANGES: Mapping[str, tuple[float, float]] = {
    "temperature_c": (-273.15, 500.0),
    "reference_c": (-273.15, 500.0),
    "age_s": (0.0, MOST_S),
    "pulses": (0.0, 1e18),
    "seed": (-math.inf, math.inf),
    # converters
    "gain": (-1e3, 1e3),
    "offset_codes": (-MOST_CODES, MOST_CODES),
    "conversion_noise_codes": (0.0, MOST_CODES),
    "inl_codes": (-MOST_CODES, MOST_CODES),
    "cells": (min(CellState), max(CellState)),
    "stuck_us": (0.0, MOST_US),
    # cells
    "ages_s": (0.0, MOST_S),
    "levels_us": (0.0, MOST_US),
    "loc_us": (-MOST_US, MOST_US),
    "scale_us": (0.0, MOST_US),
    "unreached_us": (-MOST_US, MOST_US),
    "stuck_low_share": (0.0, 1.0),
    "stuck_high_share": (0.0, 1.0),
    "unreached_share": (0.0, 1.0),
    "wide_share": (0.0, 1.0),
    "skew": (-10.0, 10.0),
    "wide_ratio": (1.0, 1e6),
    "memory_power": (0.0, 100.0),
    "covariance": (-1e9, 1e9),  # 1e8 where readings say nothing of a law (cim.fit.law_likelihood)
    "variance_us2": (0.0, MOST_US),
    "flicker_us2": (0.0, MOST_US),
    "telegraph_us": (-MOST_US, MOST_US),
    # wires, rows, heat, writing
    "ohm": (-1e4, 1e4),  # within its error of 0 it may be below
    "units": (-1e3, 1e3),
    "conductance_per_k": (-1.0, 1.0),
    "read_variance_per_k": (-10.0, 10.0),
    "activation_ev": (-10.0, 10.0),
    "pulse_points": (0.0, 1.0),
    "reached": (0.0, 1e18),
}
ERRORS = (0.0, 1e9)  # standard errors, whose names hold "_se"
OF_WRITES = {"cells": (0.0, 1e18), "pulses": (0.0, 1e9)}  # counts of ``WriteStatistics``


def check_plausible(record: object) -> None:
    """Raise ``ValueError`` that names the first field with a number that is not finite or not plausible."""
    for place, value in _numbers("", record):
        *_, parent, name = ("", *place.split("."))
        low, high = OF_WRITES.get(name, ANY) if parent == "writes" else RANGES.get(name, ANY)
        if "_se" in name:
            low, high = ERRORS
        may_be_nan = name in MAY_BE_NAN or parent in MAY_BE_NAN
        numbers = np.atleast_1d(np.asarray(value))
        if numbers.dtype.kind == "f":
            numbers = numbers[~np.isnan(numbers)] if may_be_nan else numbers
            if not np.isfinite(numbers).all():
                raise ValueError(f"{place} holds numbers that are none (NaN or infinite)")
        beyond = numbers[(numbers < low) | (numbers > high)]
        if beyond.size:
            raise ValueError(f"{place} holds {beyond.flat[0]:g}; from {low:g} to {high:g} are plausible")


def _numbers(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Every number and array of numbers, with its dotted name."""
    if is_dataclass(value):
        for item in fields(value):
            yield from _numbers(f"{place}.{item.name}".lstrip("."), getattr(value, item.name))
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _numbers(f"{place}.{key}", part)
    elif isinstance(value, int | float) or (isinstance(value, np.ndarray) and value.dtype.kind in "iuf"):
        yield place, value
