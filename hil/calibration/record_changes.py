"""Changes between two calibration records that exceed their errors.

Every number with a standard error gives z = (b − a) / √(se_a² + se_b²). A part has changed when
its largest |z| is beyond what m equal numbers would show once in a thousand: the normal quantile of
1 − 0.0005/m (3.3 for one number, 4.8 for 640). Programming laws are compared at the levels of the
first and the ages that both reach, so the two may have been measured at other levels and ages.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from cim.cells.programming_law import ProgrammingLaw, law_at
from cim.cells.read_noise import ReadNoise
from cim.record.calibration import CalibrationRecord
from hil.calibration.account import OF_CELLS
from hil.pages.tables import Table, labelled

CHANCE = 1e-3  # of calling a part changed that is not
SAME = 0.001  # ages and temperatures that differ by less than this share are the same

Floats = NDArray[np.float64]


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
    facts: tuple[tuple[str, str, str], ...]  # what differs in who, when and how
    changes: tuple[Change, ...]
    cells: tuple[tuple[int, int, int], ...]  # macro, cells compared, cells of another state
    notes: tuple[str, ...]

    @property
    def changed(self) -> bool:
        return any(c.changed for c in self.changes)

    def lines(self) -> list[str | Table]:
        """The difference in words."""
        differing = ((name, f"{a} → {b}") for name, a, b in self.facts)
        notes = (("note", note) for note in self.notes)
        lines: list[str | Table] = [labelled("Records", ("chip", self.chip), *differing, *notes)]
        rows = tuple(
            (
                c.part,
                f"{c.count}",
                f"{c.mean:+.4g}",
                f"{c.largest:+.4g}",
                c.unit,
                f"{c.z:.1f}",
                f"{c.limit:.1f}",
                f"CHANGED ({c.beyond} of {c.count})" if c.changed else "within the errors",
            )
            for c in self.changes
        )
        header = ("part", "numbers", "mean change", "largest", "unit", "|z|", "limit", "")
        lines += ["", Table("Changes", header, rows)]
        for macro, count, moved in self.cells:
            if moved:
                lines.append(f"  cells of macro {macro}: {moved} of {count} have another state")
        verdict = "CHANGED beyond the errors of the records" if self.changed else "no change beyond the errors"
        return [*lines, "", verdict]

    def to_json(self) -> dict[str, Any]:
        names = ("part", "count", "mean", "largest", "unit", "z", "beyond", "limit", "changed")
        return {
            "same_chip": self.same_chip,
            "chip": self.chip,
            "facts": {name: [a, b] for name, a, b in self.facts},
            "changes": [{n: getattr(c, n) for n in names} for c in self.changes],
            "cells": [{"macro": m, "cells": n, "moved": k} for m, n, k in self.cells],
            "notes": list(self.notes),
            "changed": self.changed,
        }


def diff_records(a: CalibrationRecord, b: CalibrationRecord) -> RecordDiff:
    """Compare the second record with the first, part by part."""
    same, words = _same_chip(a, b)
    facts = []
    for name in ("firmware", "revision", "spec_digest", "temperature_c", "date", "method", "age_s", "pulses"):
        before, after = getattr(a, name), getattr(b, name)
        close = isinstance(before, float) and abs(before - after) <= SAME * abs(before)
        if before != after and not close:
            facts.append((name.removesuffix("_c").removesuffix("_s").replace("_", " "), _short(before), _short(after)))
    changes = [*_laws(a.programming, b.programming), *_noises(a.read_noise, b.read_noise), *_scalars(a, b)]
    changes += _drives(a, b)
    notes = []
    common = sorted(set(a.macros) & set(b.macros))
    comparable = [m for m in common if a.macros[m].cells.shape == b.macros[m].cells.shape]
    for which, macros in (("first", set(a.macros) - set(b.macros)), ("second", set(b.macros) - set(a.macros))):
        if macros:
            notes.append(f"macros {', '.join(map(str, sorted(macros)))} are in the {which} record only")
    if len(comparable) < len(common):
        notes.append("macros of another size are not compared")
    cells = []
    for name, unit in (("gain", ""), ("offset_codes", "codes"), ("inl_codes", "codes")):
        error = {"gain": "gain_se", "offset_codes": "offset_se", "inl_codes": "inl_se"}[name]
        pairs = [
            (a.macros[m], b.macros[m])
            for m in comparable
            if getattr(a.macros[m], name).shape == getattr(b.macros[m], name).shape
        ]
        if pairs:
            change = _change(
                f"column {name.split('_')[0]}" if name != "inl_codes" else "converter INL",
                np.concatenate([(getattr(y, name) - getattr(x, name)).ravel() for x, y in pairs]),
                np.concatenate([getattr(x, error).ravel() for x, _ in pairs]),
                np.concatenate([getattr(y, error).ravel() for _, y in pairs]),
                unit,
            )
            changes += [change] if change else []
    for m in comparable:
        moved = int((a.macros[m].cells != b.macros[m].cells).sum())
        cells.append((m, a.macros[m].cells.size, moved))
    return RecordDiff(same, words, tuple(facts), tuple(changes), tuple(cells), tuple(notes))


def _same_chip(a: CalibrationRecord, b: CalibrationRecord) -> tuple[bool, str]:
    names = [f"{r.kind} {r.chip_name}, serial {r.serial}" for r in (a, b)]
    same = (a.kind, a.chip_name, a.serial) == (b.kind, b.chip_name, b.serial)
    if any(r.kind in OF_CELLS for r in (a, b)):
        return same, f"same cells: {names[0]}" if same else f"OTHER cells: {names[0]} → {names[1]}"
    return same, f"the same chip: {names[0]}" if same else f"ANOTHER chip: {names[0]} → {names[1]}"


def _short(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else f"{text[:16]}…"


def _change(part: str, moved: Floats, error_a: Floats, error_b: Floats, unit: str) -> Change | None:
    """Numbers without an error in either record (never measured there, or fixed) are left out."""
    known = np.isfinite(moved) & (error_a > 0.0) & (error_b > 0.0)
    if not known.any():
        return None
    moved, z = moved[known], np.abs(moved / np.hypot(error_a, error_b, where=known, out=np.ones_like(moved)))[known]
    limit = float(-ndtri(CHANCE / 2 / len(z)))
    worst = int(z.argmax())
    return Change(
        part, len(z), float(moved.mean()), float(moved[worst]), unit, float(z[worst]), int((z > limit).sum()), limit
    )


def _laws(a: ProgrammingLaw, b: ProgrammingLaw) -> Iterator[Change]:
    """Shift and spread at the first law's levels that lie within the second's, and at ages that both reach."""
    levels = a.levels_us[(a.levels_us >= b.levels_us[0] * 0.99) & (a.levels_us <= b.levels_us[-1] * 1.01)]
    ages = a.ages_s[(a.ages_s >= b.ages_s[0] / 1.2) & (a.ages_s <= b.ages_s[-1] * 1.2)]
    if not len(levels) or not len(ages):
        return
    first, second = (_summary(law, levels, ages) for law in (a, b))
    for k, name in ((0, "programming shift"), (2, "programming spread")):
        change = _change(name, second[k] - first[k], first[k + 1], second[k + 1], "µS")
        if change:
            yield change


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


def _noises(a: ReadNoise, b: ReadNoise) -> Iterator[Change]:
    levels = a.levels_us[(a.levels_us >= b.levels_us[0] * 0.99) & (a.levels_us <= b.levels_us[-1] * 1.01)]
    for name, table, error in (
        ("read variance", "variance_us2", "se_us2"),
        ("flicker a decade", "flicker_us2", "flicker_se_us2"),
    ):
        if len(levels):
            values = [np.interp(levels, n.levels_us, getattr(n, table)) for n in (a, b)]
            errors = [np.interp(levels, n.levels_us, getattr(n, error)) for n in (a, b)]
            change = _change(name, values[1] - values[0], errors[0], errors[1], "µS²")
            if change:
                yield change


def _drives(a: CalibrationRecord, b: CalibrationRecord) -> Iterator[Change]:
    """Row drivers; the ends have no error."""
    if a.drive and b.drive and a.drive.units.shape == b.drive.units.shape:
        change = _change("row drivers", b.drive.units - a.drive.units, a.drive.units_se, b.drive.units_se, "steps")
        if change:
            yield change


def _scalars(a: CalibrationRecord, b: CalibrationRecord) -> Iterator[Change]:
    pairs = [("wire", a.wire.ohm, b.wire.ohm, a.wire.ohm_se, b.wire.ohm_se, "Ω")]
    if a.thermal and b.thermal:
        for name, unit in (("conductance_per_k", "1/K"), ("read_variance_per_k", "1/K"), ("activation_ev", "eV")):
            x, y = (getattr(t, name) for t in (a.thermal, b.thermal))
            pairs.append(
                (name.replace("_", " "), x, y, *(getattr(t, f"{name}_se") for t in (a.thermal, b.thermal)), unit)
            )
    for name, x, y, error_x, error_y, unit in pairs:
        change = _change(name, np.array([y - x]), np.array([error_x]), np.array([error_y]), unit)
        if change:
            yield change
