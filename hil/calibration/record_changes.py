"""Changes between two calibration records that exceed their errors.

Every number with a standard error gives z = (b − a) / √(se_a² + se_b²). A part has changed when
its largest |z| is beyond what m equal numbers would show once in a thousand: the normal quantile of
1 − 0.0005/m (3.3 for one number, 4.8 for 640). Programming laws are compared at the levels of the
first and the ages that both reach, so the two may have been measured at other levels and ages.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from cim.cells.programming_law import ProgrammingLaw, law_at
from cim.record.calibration import CalibrationRecord
from hil.calibration.account import OF_CELLS
from hil.pages.tables import Table, labelled

CHANCE = 1e-3  # of calling a part changed that is not
SAME = 0.001  # ages and temperatures that differ by less than this share are the same
FACTS = ("firmware", "revision", "spec_digest", "temperature_c", "date", "method", "age_s", "pulses")
NOISES = {"read variance": ("variance_us2", "se_us2"), "flicker a decade": ("flicker_us2", "flicker_se_us2")}
THERMAL = {"conductance_per_k": "1/K", "read_variance_per_k": "1/K", "activation_ev": "eV"}
COLUMNS = {
    "column gain": ("gain", "gain_se", ""),
    "column offset": ("offset_codes", "offset_se", "codes"),
    "converter INL": ("inl_codes", "inl_se", "codes"),
}

Floats = NDArray[np.float64]
Numbers = tuple[Any, ...]  # and their standard errors


@dataclass(frozen=True, slots=True)
class Change:
    """One part: ``count`` numbers compared, how far the second record is from the first."""

    part: str
    count: int
    mean: float  # of b − a, in ``unit``
    largest: float  # the b − a of largest |z|
    unit: str
    z: float  # the largest |z|
    beyond: int  # numbers whose |z| is beyond ``limit``
    limit: float

    @property
    def changed(self) -> bool:
        return self.beyond > 0


@dataclass(frozen=True, slots=True)
class RecordDiff:
    """Two records side by side."""

    same_chip: bool
    chip: str  # in words
    facts: dict[str, tuple[Any, Any]]  # what differs in who, when and how
    changes: tuple[Change, ...]
    cells: tuple[tuple[int, int, int], ...]  # macro, cells compared, cells of another state
    notes: tuple[str, ...]

    @property
    def changed(self) -> bool:
        return any(c.changed for c in self.changes)

    def lines(self) -> list[str | Table]:
        """The difference in words."""
        differing = ((name, f"{a} → {b}") for name, (a, b) in self.facts.items())
        notes = (("note", note) for note in self.notes)
        rows = tuple(
            (
                *(c.part, f"{c.count}", f"{c.mean:+.4g}", f"{c.largest:+.4g}", c.unit, f"{c.z:.1f}", f"{c.limit:.1f}"),
                f"CHANGED ({c.beyond} of {c.count})" if c.changed else "within the errors",
            )
            for c in self.changes
        )
        header = ("part", "numbers", "mean change", "largest", "unit", "|z|", "limit", "")
        moved = [f"  cells of macro {m}: {k} of {n} have another state" for m, n, k in self.cells if k]
        verdict = "CHANGED beyond the errors of the records" if self.changed else "no change beyond the errors"
        records = labelled("Records", ("chip", self.chip), *differing, *notes)
        return [records, "", Table("Changes", header, rows), *moved, "", verdict]

    def to_json(self) -> dict[str, Any]:
        changes = [{**asdict(c), "changed": c.changed} for c in self.changes]
        cells = [{"macro": m, "cells": n, "moved": k} for m, n, k in self.cells]
        return {**asdict(self), "changes": changes, "cells": cells, "changed": self.changed}


def diff_records(a: CalibrationRecord, b: CalibrationRecord) -> RecordDiff:
    """Compare the second record with the first, part by part."""
    same = (a.kind, a.chip_name, a.serial) == (b.kind, b.chip_name, b.serial)
    names = [f"{r.kind} {r.chip_name}, serial {r.serial}" for r in (a, b)]
    cells = any(r.kind in OF_CELLS for r in (a, b))
    what = ("the same chip", "ANOTHER chip") if not cells else ("same cells", "OTHER cells")
    facts = {}
    for name in FACTS:
        before, after = getattr(a, name), getattr(b, name)
        close = isinstance(before, float) and abs(before - after) <= SAME * abs(before)
        if before != after and not close:
            facts[name.removesuffix("_c").removesuffix("_s").replace("_", " ")] = (_short(before), _short(after))
    notes = []
    common = sorted(set(a.macros) & set(b.macros))
    alike = [m for m in common if a.macros[m].cells.shape == b.macros[m].cells.shape]
    for which, macros in (("first", set(a.macros) - set(b.macros)), ("second", set(b.macros) - set(a.macros))):
        if macros:
            notes.append(f"macros {', '.join(map(str, sorted(macros)))} are in the {which} record only")
    if len(alike) < len(common):
        notes.append("macros of another size are not compared")
    changes = (_change(*part) for part in _parts(a, b, alike))
    states = ((m, a.macros[m].cells, b.macros[m].cells) for m in alike)
    return RecordDiff(
        same,
        f"{what[0]}: {names[0]}" if same else f"{what[1]}: {names[0]} → {names[1]}",
        facts,
        tuple(change for change in changes if change),
        tuple((m, first.size, int((first != second).sum())) for m, first, second in states),
        tuple(notes),
    )


def _short(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else f"{text[:16]}…"


def _change(part: str, unit: str, first: Numbers, second: Numbers) -> Change | None:
    """Numbers without an error in either record (never measured there, or fixed) are left out."""
    (a, error_a), (b, error_b) = (tuple(np.ravel(x).astype(np.float64) for x in numbers) for numbers in (first, second))
    known = np.isfinite(b - a) & (error_a > 0.0) & (error_b > 0.0)
    if not known.any():
        return None
    moved = (b - a)[known]
    z = np.abs(moved / np.hypot(error_a[known], error_b[known]))
    limit, worst = float(-ndtri(CHANCE / 2 / len(z))), int(z.argmax())
    return Change(
        part, len(z), float(moved.mean()), float(moved[worst]), unit, float(z[worst]), int((z > limit).sum()), limit
    )


def _parts(
    a: CalibrationRecord, b: CalibrationRecord, macros: list[int]
) -> Iterator[tuple[str, str, Numbers, Numbers]]:
    """Name, unit and numbers of each part that both records have."""
    laws, noises, drives = ([getattr(r, name) for r in (a, b)] for name in ("programming", "read_noise", "drive"))
    levels = _common(laws[0].levels_us, laws[1].levels_us, 1.01)
    ages = _common(laws[0].ages_s, laws[1].ages_s, 1.2)
    if len(levels) and len(ages):
        was, now = (_summary(law, levels, ages) for law in laws)
        yield "programming shift", "µS", was[:2], now[:2]
        yield "programming spread", "µS", was[2:], now[2:]
    levels = _common(noises[0].levels_us, noises[1].levels_us, 1.01)
    for name, columns in NOISES.items() if len(levels) else ():
        first, second = (tuple(np.interp(levels, n.levels_us, getattr(n, c)) for c in columns) for n in noises)
        yield name, "µS²", first, second
    yield "wire", "Ω", (a.wire.ohm, a.wire.ohm_se), (b.wire.ohm, b.wire.ohm_se)
    if a.thermal and b.thermal:
        for name, unit in THERMAL.items():
            first, second = ((getattr(t, name), getattr(t, f"{name}_se")) for t in (a.thermal, b.thermal))
            yield name.replace("_", " "), unit, first, second
    if all(drives) and drives[0].units.shape == drives[1].units.shape:  # the ends have no error
        first, second = ((d.units, d.units_se) for d in drives)
        yield "row drivers", "steps", first, second
    for part, (name, error, unit) in COLUMNS.items():
        alike = [m for m in macros if getattr(a.macros[m], name).shape == getattr(b.macros[m], name).shape]
        if alike:
            first, second = (
                tuple(np.concatenate([np.ravel(getattr(r.macros[m], n)) for m in alike]) for n in (name, error))
                for r in (a, b)
            )
            yield part, unit, first, second


def _common(first: Floats, second: Floats, factor: float) -> Floats:
    """Levels or ages of the first that lie within those of the second."""
    return np.asarray(first[(first >= second[0] / factor) & (first <= second[-1] * factor)])


def _summary(law: ProgrammingLaw, levels: Floats, ages: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Median and half distance of the 16 and 84 % quantiles of the errors, with their errors; all (ages · levels,).

    These say the same whatever the tail is. Their errors are taken to be those of loc and scale,
    which is on the safe side: skew and shape make up for part of them.
    """
    by_level = np.stack([np.interp(levels, law.levels_us, e) for e in np.eye(len(law.levels_us))], axis=1)
    by_age = np.stack([np.interp(np.log(ages), np.log(law.ages_s), e) for e in np.eye(len(law.ages_s))], axis=1)
    here = [law_at(law, levels, float(age)) for age in ages]
    spread = np.stack([h.spread_us() for h in here])
    shift_se = np.sqrt(by_age**2 @ law.loc_se_us**2 @ (by_level**2).T)
    share = np.sqrt(by_age**2 @ (law.scale_se_us / law.scale_us) ** 2 @ (by_level**2).T)
    shift = np.stack([h.quantile(np.zeros(len(levels))) for h in here])
    return shift.ravel(), shift_se.ravel(), spread.ravel(), (spread * share).ravel()
