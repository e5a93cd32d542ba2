"""Unlikely values in a valid chip file: wrong units, noise beyond that of circuits, model values without a range.

Impossible values are refused when the file is read (``cim.chip.schema``); only unlikely ones are listed here.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from math import sqrt

from cim.chip.schema import SECTIONS
from cim.chip.spec import ChipSpec, ModelSpec

LEAST_TOP_US, MOST_TOP_US = 0.1, 2000.0  # the highest level of a memristive cell lies between them
MOST_SCALE, LEAST_SCALE = 32.0, 1 / 256  # the highest range of a converter as a share of the largest sum
FEWEST_CELLS = 256  # of all macros: a calibration of fewer does not show how each conductance is written
LONGEST_NS, MOST_OHM, MOST_OF_SCALE = 1e8, 50.0, 0.05
OF_SCALE = {"conversion_noise_codes": "noise", "column_offset_codes": "offset", "inl_codes": "non-linearity"}
TRUTHS = (
    "read_variance_us2",
    "wire_ohm",
    "stuck_low_share",
    "stuck_high_share",
    "unreached_share",
    "column_gain_sigma",
)


def doubts(spec: ChipSpec) -> list[tuple[str, str]]:
    """Field and reason of each value that is unlikely."""
    return [(field, reason) for doubtful, field, reason in (*_units(spec), *_noises(spec)) if doubtful]


def few_cells(spec: ChipSpec) -> bool:
    """Whether all macros together have too few cells to calibrate."""
    return spec.macros * spec.macro.rows * spec.macro.columns < FEWEST_CELLS


def beliefs(spec: ChipSpec) -> dict[str, list[str]]:
    """Numbers of section [models] by evidence: with a range, measured or published, with neither, absent."""
    found: dict[str, list[str]] = {"range": [], "measured or published": [], "no range": [], "not in the file": []}
    for key in () if spec.models is None else SECTIONS["models"]:
        source, value = spec.provenance.get(f"models.{key}", ""), getattr(spec.models, key)
        ranged = spec.models is not None and key in spec.models.ranges
        own = "measured or published" if source.startswith(("measured", "published")) else "no range"
        if isinstance(value, float):
            found["range" if ranged else own if source else "not in the file"].append(f"{key} = {value:g}")
    return found


def _units(spec: ChipSpec) -> Iterator[tuple[bool, str, str]]:
    m, top = spec.macro, spec.macro.levels_us[-1]
    gap = min(high - low for low, high in pairwise(m.levels_us))
    share = m.adc.full_scales_us[-1] / (m.rows_per_read * ((1 << m.inputs.bits_per_cycle) - 1) * top)
    likely = LEAST_TOP_US <= top <= MOST_TOP_US
    yield (
        few_cells(spec),
        "macro.rows",
        f"all macros have fewer than {FEWEST_CELLS} cells, too few to calibrate: hil simulate --chip needs no record",
    )
    yield not likely, "cell.levels_us", f"ends at {top:g} µS, not at {LEAST_TOP_US:g} to {MOST_TOP_US:g}: another unit?"
    yield 2 * m.tolerance_us > gap, "cell.tolerance_us", f"±{m.tolerance_us:g} µS overlaps levels {gap:.3g} µS apart"
    yield (
        not LEAST_SCALE <= share <= MOST_SCALE,
        "adc.full_scales_us",
        f"ends at {share:.3g} of the largest sum of the rows: it is in µS, current divided by v_read_v",
    )
    yield m.v_read_v >= spec.write.set_start_v, "macro.v_read_v", "is no lower than write.set_start_v: reads may write"
    for name in SECTIONS["timing"]:
        ns = getattr(spec.timing, name)
        yield ns > LONGEST_NS, f"timing.{name}", f"is {ns * 1e-9:g} s: is it in ns?"


def _noises(spec: ChipSpec) -> Iterator[tuple[bool, str, str]]:
    if spec.models is None:
        yield True, "models", "is missing: nothing is known of such a chip before it is measured"
        return
    m = spec.macro
    for name, word in OF_SCALE.items():
        most = ends_of(spec.models, name)[1] / float(1 << m.adc.bits)
        yield most > MOST_OF_SCALE, f"models.{name}", f"reaches {most:.1%} of the converter's scale as its {word}"
    spread, apart = sqrt(ends_of(spec.models, "read_variance_us2")[1]), m.level_gap_us
    yield spread > apart, "models.read_variance_us2", f"is a noise of {spread:.3g} µS at levels {apart:.3g} µS apart"
    ohm = ends_of(spec.models, "wire_ohm")[1]
    yield ohm > MOST_OHM, "models.wire_ohm", f"is {ohm:g} Ω: it is that of one cell's pitch, not of a whole line"


def ends_of(models: ModelSpec, name: str) -> tuple[float, float]:
    """Lowest and highest value of field ``name`` in [models]; both are the value itself where it has no range."""
    value = float(getattr(models, name))
    return models.ranges.get(name, (value, value))
