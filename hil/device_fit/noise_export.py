"""A calibration record as a noise model of another simulator: one Python file that needs nothing of ours.

What a record knows of its cells (programming, relaxation until an age, tails, stuck and missed cells) becomes a table
of errors by level and rank. Columns (gain, offset, converters, wires) are no cells and stay behind; the file says so.
"""

from __future__ import annotations

import enum
import re
from importlib import resources

import numpy as np

from cim.cells.programming_law import law_at
from cim.chip.spec import ChipSpec
from cim.record.calibration import CalibrationRecord
from cim.record.device import CLIP
from hil.errors import UsageError

RANKS = np.concatenate([np.arange(-5.0, -2.0, 0.1), np.arange(-2.0, 2.0, 0.05), np.arange(2.0, 5.05, 0.1)])
MOST_MISSED = 2000  # measured errors of cells that missed their window
COLUMNS = "Gain, offset, noise and resolution of columns, and wires, are no cells: this file holds none of them."


class Peer(enum.StrEnum):
    """Simulators that a record is written for."""

    AIHWKIT = "aihwkit"
    CROSSSIM = "crosssim"


def noise_model(
    record: CalibrationRecord, spec: ChipSpec, peer: Peer, age_s: float, *, module: str, made: str, source: str
) -> str:
    """Text of a Python module with a class ``MeasuredCells`` for ``peer``.

    Args:
        spec: chip file; its lowest and highest level stand for weight 0 and for the largest weight.
        module, made, source: name of the module; command and source file, for its docstring.

    Raises:
        UsageError: a name that Python cannot import, or an age of 0 or less.
    """
    if not module.isidentifier():
        raise UsageError(f"{module!r} cannot be imported by Python", hint="name the file like my_cells.py")
    if not age_s > 0:
        raise UsageError(
            f"an age of {age_s:g} s: cells are known from their programming on",
            hint="hil chip export RECORD --to aihwkit --age 1h",
        )
    law, (low, high) = record.programming, (spec.macro.levels_us[0], spec.macro.levels_us[-1])
    levels = np.unique(np.clip(np.concatenate([law.levels_us, spec.macro.levels_us]), low, high))
    errors = law_at(law, levels[:, None], age_s).quantile(RANKS)
    missed = np.asarray(law.unreached_us, np.float64)[:MOST_MISSED]
    numbers = "\n".join(
        [
            f"G_MIN_US, G_MAX_US, MOST_US = {low!r}, {high!r}, {CLIP * float(law.levels_us[-1])!r}",
            f"STUCK_LOW, STUCK_HIGH, MISSED_SHARE = {law.stuck_low_share!r}, {law.stuck_high_share!r}, "
            f"{law.unreached_share!r}",
            f"LEVELS_US = np.array({_listed(levels)})",
            f"RANKS = np.array({_listed(RANKS)})",
            f"ERRORS_US = np.array([{', '.join(_listed(row) for row in np.asarray(errors))}])",
            f"MISSED_US = np.array({_listed(missed)})",
        ]
    )
    return _text(f"cells.{peer}.txt").format(
        chip=_plain(record.chip_name),
        age=f"{age_s:g} s",
        age_s=float(age_s),
        made=_plain(made),
        record=_plain(source),
        module=module,
        g_min=f"{low:g}",
        g_max=f"{high:g}",
        columns=COLUMNS,
        numbers=numbers,
        drawing=_text("drawing.txt"),
    )


def _text(name: str) -> str:
    return resources.files("hil.device_fit").joinpath(name).read_text("utf-8")


def _listed(values: np.ndarray) -> str:
    return "[" + ", ".join(f"{float(v):.6g}" for v in values) + "]"


def _plain(text: str) -> str:
    """Foreign text made safe for a docstring: no quotes, no backslashes, one line, bounded."""
    return re.sub(r"[^\w .,:+/()=-]", "_", text)[:120]
