"""What writing a program is expected to take: pulses (wear) and chip time, rewrites and lower slices included."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cim.cells.programming_law import ProgrammingLaw
from cim.chip.spec import ChipSpec
from cim.record.published import nominal_record
from cim.record.rewriting import Rewrite, rewritten_share
from mapping.compile import plan
from mapping.program.conductance import ConductanceProgram

PULSES_A_CELL = 9.0  # of an emulated lab-128: hil deploy --emulated --json, cells.pulses / cells.total


@dataclass(frozen=True, slots=True)
class ExpectedWriting:
    """``pulses`` write all ``cells`` once; ``again`` are those of rewrites and of lower slices written anew."""

    cells: int
    pulses: int
    again: int
    pulse_ns: float  # chip time of a pulse and its verify
    rewriting_s: float  # chip time of the waits and readings of rewrites

    @property
    def chip_s(self) -> float:
        """Chip time of all pulses, and of the waits and readings of rewrites; s."""
        return (self.pulses + self.again) * self.pulse_ns * 1e-9 + self.rewriting_s


def expected_writing(
    program: ConductanceProgram, rewrite: Rewrite | None = None, law: ProgrammingLaw | None = None
) -> ExpectedWriting:
    """Of the program with all its rounds.

    Args:
        rewrite: how cells that left their window are written again; None: they are not.
        law: by which they leave it; None: by the models of the chip file, and without models all are written again.
    """
    spec, cells, again, rewriting_s = program.spec, sum(r.cells for r in plan(program).rounds), 0, 0.0
    if rewrite is not None:
        share = _left_share(spec, rewrite, law)
        again = round(cells * share * rewrite.times * PULSES_A_CELL)
        reads_s = rewrite.reads * spec.macro.rows * spec.macro.columns * spec.timing.cell_read_ns * 1e-9
        rewriting_s = rewrite.times * (rewrite.after_s + len(program.slots) * reads_s)
    again += round(_lower_cells(program) * PULSES_A_CELL)
    return ExpectedWriting(cells, round(cells * PULSES_A_CELL), again, _pulse_ns(spec), rewriting_s)


def writing_by_round(program: ConductanceProgram) -> list[dict[str, float]]:
    """What writing each round once is expected to take: cells, pulses (wear), seconds of chip time."""
    costs = []
    for r in plan(program).rounds:
        pulses = round(r.cells * PULSES_A_CELL)
        time_s = pulses * _pulse_ns(program.spec) * 1e-9
        costs.append({"round": r.number, "cells": r.cells, "pulses": pulses, "chip_s": time_s})
    return costs


def _pulse_ns(spec: ChipSpec) -> float:
    """Chip time of a programming pulse and its verify."""
    return spec.timing.pulse_ns + spec.write.verify_reads * spec.timing.verify_ns


def _left_share(spec: ChipSpec, rewrite: Rewrite, law: ProgrammingLaw | None) -> float:
    """Share of cells that left their window, of levels that are equally frequent."""
    if law is None and spec.models is None:
        return 1.0
    law = nominal_record(spec, []).programming if law is None else law
    levels = np.array(spec.macro.levels_us)
    return float(rewritten_share(law, levels, rewrite.after_s, spec.macro.tolerance_us).mean())


def _lower_cells(program: ConductanceProgram) -> int:
    """Cells of residual slices, each as often as it is written again, at most: with every slice above it."""
    weights = 0
    for step in program.matrices if program.residual else ():
        multipliers = sorted({t.multiplier for t in step.group.tiles}, reverse=True)
        weights += sum(t.levels.size * multipliers.index(t.multiplier) for t in step.group.tiles)
    return weights * 2  # pairs of cells
