"""A calibration record in words."""

from __future__ import annotations

import numpy as np

from cim.calibration import CalibrationRecord, CellState, GainKnown


def record_lines(record: CalibrationRecord) -> list[str]:
    """A record in words."""
    law, good = record.programming, record.goodness
    gain = np.concatenate([m.gain for m in record.macros.values()])
    offset = np.concatenate([m.offset_codes for m in record.macros.values()])
    states = np.concatenate([m.cells.ravel() for m in record.macros.values()])
    shares = [float((states == s).mean()) for s in CellState]
    kind = "" if record.kind == "silicon" else "      NOT SILICON"
    sense = all(m.gain_known is GainKnown.SENSE for m in record.macros.values())
    return [
        f"chip           {record.kind} {record.chip_name}, serial {record.serial}{kind}",
        f"macros         {len(record.macros)} measured at {record.age_s:.0f} s and {record.temperature_c:.0f} °C",
        f"cells          stuck low {shares[1]:.2%}, stuck high {shares[2]:.2%}, not reached {shares[3]:.2%}",
        f"programming    shift {law.loc_us[-1].min():+.2f} to {law.loc_us[-1].max():+.2f} µS, scale "
        f"{law.scale_us[-1].min():.2f} to {law.scale_us[-1].max():.2f} µS; held-out KS {good['programming_ks']:.3f}",
        f"read noise     {record.read_noise.variance_us2.mean():.2f} µS² a read",
        f"column gain    {gain.mean():.4f} ± {gain.std():.4f}"
        + ("" if sense else "   (times that of the cell read path: only the product is seen)"),
        f"column offset  {offset.mean():+.2f} ± {offset.std():.2f} codes",
        f"wires          {record.wire.ohm:.2f} ± {record.wire.ohm_se:.2f} Ω a cell",
        f"goodness       held-out R² {good['columns_r2']:.5f}, residual {good['columns_residual_codes']:.2f} codes",
        f"wear           {record.pulses} pulses",
    ]
