"""Cells of virtual chips whose lower slices take up errors of those above: written, waited for, read, written again.

What ``hil.deployment.rewriting`` does to a chip is done here to drawn cells, with simulated readings of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cim.cells.history import CellHistory
from cim.cells.programming_law import ProgrammingLaw
from cim.record.calibration import CalibrationRecord
from cim.simulator.layer import NoiseKey
from cim.simulator.simulator import LayerSimulator
from mapping.layout.place import macro_targets_us
from mapping.program.conductance import ConductanceProgram
from mapping.tune.residual import Wanted, around_stuck, residual, writings

READ = 1 << 44  # distance of the noise of two reads of one product, beyond every repeat's own
Cells = Mapping[int, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class ResidualCells:
    """By slot: conductances (rows, columns) µS at the age, what was read of them then, and levels that tiles stand
    for."""

    cells_us: Cells
    readings_us: Cells
    wanted: Wanted


def draw_residual(
    program: ConductanceProgram,
    record: CalibrationRecord,
    *,
    wait_s: float,
    age_s: float,
    reads: int,
    rng: np.random.Generator,
    law: ProgrammingLaw,
    temperature_c: float | None = None,
) -> ResidualCells:
    """Cells programmed again: the highest slices, a wait, a reading, the slices below, and so on; then the age.

    Args:
        wait_s: before lower slices are written, each time.
        reads: averaged in a reading of a cell.
        temperature_c: of waiting and reading; None: that of the record.
    """
    stuck = {slot: record.macro(program.macro_of(slot)).stuck_us for slot in program.slots}
    program = around_stuck(program, stuck)
    used: dict[int, NDArray[np.bool_]] = {}
    cells: dict[int, CellHistory] = {}
    for slot in program.slots:
        targets = macro_targets_us(program, slot)
        here = used[slot] = np.isfinite(targets)
        cells[slot] = CellHistory(targets[here], law, None, rng, stuck_us=stuck[slot][here], thermal=record.thermal)
        if record.thermal is not None and temperature_c is not None:
            cells[slot].set_temperature(0.0, temperature_c)

    def now(time_s: float) -> tuple[dict[int, NDArray[np.float32]], dict[int, NDArray[np.float32]]]:
        true: dict[int, NDArray[np.float32]] = {}
        seen: dict[int, NDArray[np.float32]] = {}
        for slot, mask in used.items():
            g = cells[slot].conductance_us(time_s)
            noise = np.sqrt(record.read_noise.at(g) / reads)
            true[slot], seen[slot] = np.full((2, *mask.shape), np.nan, np.float32)
            true[slot][mask] = g
            seen[slot][mask] = g + noise * rng.standard_normal(g.shape)
        return true, seen

    wanted: Wanted = {}
    for settled in range(1, writings(program) + 1):
        time_s = settled * wait_s
        found = residual(program, now(time_s)[1], settled, stuck)
        for slot, targets in found.targets_us.items():
            again, kept = np.isfinite(targets[used[slot]]), cells[slot]
            kept.targets_us[again] = targets[used[slot]][again]
            kept.refresh(again, time_s)
        program, wanted = found.program, found.wanted
    true, seen = now(writings(program) * wait_s + age_s)
    return ResidualCells(true, seen, wanted)


@dataclass(frozen=True, slots=True)
class RepeatedReads:
    """A layer whose tiles are not all read alike: ``parts`` are simulators of tiles that are, and their reads.

    Sums are those of the parts, each the rounded mean of its reads. It stands where a ``LayerSimulator`` may.
    """

    parts: Sequence[tuple[LayerSimulator, int]]
    layers: int  # distance of the noise of two parts

    def level_sums(self, codes: NDArray[np.int16], key: NoiseKey) -> tuple[NDArray[np.int32], float]:
        """As ``LayerSimulator.level_sums``."""
        found: list[NDArray[np.int32]] = []
        ends = 0.0
        for number, (part, reads) in enumerate(self.parts):
            seen: list[NDArray[np.int32]] = []
            for r in range(reads):
                own = replace(key, layer=key.layer + number * self.layers, first_image=key.first_image + r * READ)
                sums, share = part.level_sums(codes, own)
                seen.append(sums)
                ends += share * part.conversions(len(codes))
            found.append(seen[0] if reads == 1 else np.rint(np.sum(seen, axis=0, dtype=np.int64) / reads))
        return np.asarray(sum(found[1:], found[0]), np.int32), ends / max(1, self.conversions(len(codes)))

    def conversions(self, images: int) -> int:
        return sum(reads * part.conversions(images) for part, reads in self.parts)
