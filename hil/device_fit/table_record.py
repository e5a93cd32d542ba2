"""A calibration record of kind ``table``: the laws of its cells are measured, no columns were measured."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Sequence

import numpy as np

from cim.array.wire_law import Wire
from cim.fit.cell_laws import CellLaws
from cim.fit.goodness_of_fit import AgeGoodness
from cim.record.calibration import CalibrationRecord
from hil.device_fit.measured_tables import CellTable


def record_of(
    table: CellTable,
    fitted: CellLaws,
    goodness: Sequence[AgeGoodness],
    *,
    temperature_c: float,
    method: str,
    base: CalibrationRecord | None = None,
) -> CalibrationRecord:
    """A record of kind ``table``: cells measured, no macros; wires and temperature from ``base`` if there is one."""
    scores: dict[str, float] = {}
    for row in goodness:
        name = f"{row.age_s:.3g}s"
        scores[f"programming_ks_{name}"] = row.law
        scores[f"gaussian_ks_{name}"] = row.gaussian
        if row.published is not None:
            scores[f"published_ks_{name}"] = row.published
    if goodness:
        scores["programming_ks"] = goodness[-1].law
    return CalibrationRecord(
        chip_name=table.name,
        revision="",
        serial=digest(table)[:16],
        firmware="",
        kind="table",
        spec_digest="",
        temperature_c=temperature_c,
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        method=method,
        seed=0,
        age_s=float(fitted.programming.ages_s[-1]),
        macros={},
        programming=fitted.programming,
        read_noise=fitted.read_noise,
        wire=base.wire if base else Wire(0.0, 0.0),
        goodness=scores,
        thermal=base.thermal if base else None,
        writes=fitted.writes,
    )


def digest(table: CellTable) -> str:
    """SHA-256 of cells, times, readings and targets."""
    whole = hashlib.sha256()
    for values in (table.cell, table.time_s, table.conductance_us, table.target_us):
        whole.update(np.ascontiguousarray(values).tobytes())
    return whole.hexdigest()
