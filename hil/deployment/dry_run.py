"""What a deployment would cost, before anything is written: bytes, time at this baud, pulses, wear."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from cim.chip.spec import ChipSpec
from cim.record.published import nominal_record
from cim.record.rewriting import rewritten_share
from hil.calibration.plan import PLANS, Budget
from hil.deployment.options import DeployOptions
from hil.driver.chip_driver import ChipDriver
from hil.transports import is_serial
from hil.watch import Watch
from mapping.compile import plan
from mapping.layout.place import macro_targets_us
from mapping.program.conductance import ConductanceProgram, MatrixStep
from mapping.program.counts import tile_counts, total

FRAME_OVERHEAD = 1.045  # framing, header and checksum of 512-byte payloads
LONG_RUN_S = 600.0
PULSES_A_CELL = 9.0  # of an emulated lab-128: hil deploy --emulated --json, cells.pulses / cells.total
CALIBRATION_PULSES = 32.0  # a cell of every macro in use: hil calibrate --emulated, all SET, all RESET, pattern


@dataclass(frozen=True, slots=True)
class DeploymentCost:
    """Cost of one deployment; bytes are both directions together, ``cells`` those written."""

    cells: int
    program_bytes: int
    read_back_bytes: int
    calibrate_bytes: int
    inference_bytes: int  # all images of the first look, all repeats
    images: int
    most_pulses: int
    chip_s: float  # chip time of inference and of the expected pulses
    typical_pulses: int
    calibrate_pulses: int
    rounds: int
    rewrite_pulses: int = 0  # expected, of cells that left their window
    rewrite_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        return (
            self.rewrite_bytes + self.program_bytes + self.read_back_bytes + self.calibrate_bytes + self.inference_bytes
        )

    def wire_s(self, baud: int) -> float:
        """Seconds on a serial line, 10 bits a byte."""
        return self.total_bytes * FRAME_OVERHEAD * 10 / baud

    def lines(self, baud: int, max_pulses: int) -> list[str]:
        parts = (
            ("calibrate", self.calibrate_bytes),
            ("program", self.program_bytes),
            ("read back", self.read_back_bytes),
            (f"{self.images} images", self.inference_bytes),
        )
        lines = [f"{name:<14} {size / 1e6:10.2f} MB" for name, size in parts]
        lines.append(f"{'wire':<14} {self.wire_s(baud):10.0f} s at {baud} baud")
        lines.append(f"{'chip time':<14} {self.chip_s:10.1f} s without the wait for the age")
        lines.append(
            f"{'pulses':<14} {self.typical_pulses:10d} expected for {self.cells} cells, at most {self.most_pulses} "
            f"({max_pulses} a cell)"
        )
        if self.rounds > 1:
            lines.append(f"{'rounds':<14} {self.rounds:10d} times the chip is written and its cells wait for their age")
        if self.rewrite_pulses:
            lines.append(f"{'':<14} {self.rewrite_pulses:10d} expected for cells that are written again")
        if self.calibrate_pulses:
            lines.append(f"{'':<14} {self.calibrate_pulses:10d} expected for the calibration before")
        if self.wire_s(baud) + self.chip_s > LONG_RUN_S:
            lines.append(f"this run takes more than {LONG_RUN_S / 60:.0f} minutes on such a line")
        return lines

    def to_json(self, baud: int) -> dict[str, float]:
        return {**dataclasses.asdict(self), "total_bytes": self.total_bytes, "baud": baud, "wire_s": self.wire_s(baud)}


def estimate(program: ConductanceProgram, options: DeployOptions, *, calibrate: bool = True) -> DeploymentCost:
    """Cost of deploying ``program`` on a chip that runs whole layers; without a record it is calibrated first."""
    spec, macro, macros, slots = program.spec, program.spec.macro, len(program.macros), len(program.slots)
    size = macro.rows * macro.columns
    cells = sum(int(np.isfinite(macro_targets_us(program, slot)).sum()) for slot in program.slots)
    written = (2 + 4) * size + size // 8  # targets out; readings, pulses and outcome back
    plan = PLANS[Budget.DEFAULT]
    readings = 3 + 3 + len(plan.noise_gaps_s) + 1  # after each fill and the pattern; ages; repeats; averaged
    one_read = macro.logical_rows + 2 * macro.outputs
    vectors = plan.idle_vectors + 2 * plan.batch + plan.real_vectors * macro.inputs.bits
    probes = 3 * written + readings * 2 * size + vectors * one_read
    images = min(options.samples, 500) if program.rounds == 1 else options.samples  # rounds: one look at all
    asked, timing = total(tile_counts(program)), spec.timing
    image_ns = asked.reads * (timing.row_setup_ns + timing.conversion_ns * macro.adc.shared_by)
    image_ns += asked.input_cycles * timing.input_cycle_ns
    pulse_ns = one_pulse_ns(spec)
    pulses, calibrate_pulses = round(cells * PULSES_A_CELL), round(macros * size * CALIBRATION_PULSES) * calibrate
    again, again_s = _rewriting(program, options, cells)
    return DeploymentCost(
        cells=cells,
        program_bytes=slots * written,
        read_back_bytes=(2 + options.causes) * slots * 2 * size,
        calibrate_bytes=macros * probes * calibrate,
        inference_bytes=options.repeats * images * sum(image_bytes(step) for step in program.matrices),
        images=images,
        most_pulses=cells * spec.write.max_pulses,
        typical_pulses=pulses,
        calibrate_pulses=calibrate_pulses,
        rounds=program.rounds,
        chip_s=1e-9 * (options.repeats * images * image_ns + (pulses + again + calibrate_pulses) * pulse_ns) + again_s,
        rewrite_pulses=again,
        rewrite_bytes=options.rewrite * slots * (written + 2 * size),
    )


def _rewriting(program: ConductanceProgram, options: DeployOptions, cells: int) -> tuple[int, float]:
    """Expected pulses of all rewrites by the models of the chip file, and seconds of waiting and reading."""
    rewrite, spec = options.rewriting, program.spec
    if rewrite is None:
        return 0, 0.0
    share = 1.0  # without models: as if all were written again
    if spec.models is not None:
        law, levels = nominal_record(spec, []).programming, np.array(spec.macro.levels_us)
        share = float(rewritten_share(law, levels, rewrite.after_s, spec.macro.tolerance_us).mean())
    reads_s = rewrite.reads * spec.macro.rows * spec.macro.columns * spec.timing.cell_read_ns * 1e-9
    chip_s = rewrite.times * (rewrite.after_s + len(program.slots) * reads_s)
    return round(cells * share * rewrite.times * PULSES_A_CELL), chip_s


def one_pulse_ns(spec: ChipSpec) -> float:
    """Chip time of a programming pulse and its verify."""
    return spec.timing.pulse_ns + spec.write.verify_reads * spec.timing.verify_ns


def round_costs(program: ConductanceProgram) -> list[dict[str, float]]:
    """What writing each round is expected to take: cells, pulses (wear), seconds of chip time."""
    costs = []
    for r in plan(program).rounds:
        pulses = round(r.cells * PULSES_A_CELL)
        time_s = pulses * one_pulse_ns(program.spec) * 1e-9
        costs.append({"round": r.number, "cells": r.cells, "pulses": pulses, "chip_s": time_s})
    return costs


def say_if_long(driver: ChipDriver, cost: DeploymentCost, baud: int, options: DeployOptions, watch: Watch) -> None:
    """Note, before anything is written, that a run will take more than ten minutes, and where they go.

    A serial line carries the bytes; real silicon is waited for until its cells have the age.
    """
    parts = []
    if is_serial(driver.address):
        parts.append((cost.wire_s(baud), f"on the line at {baud} baud"))
    if driver.description.kind == "silicon":
        ages = options.age_s * (cost.rounds + (cost.calibrate_bytes > 0))
        parts.append((cost.chip_s + ages, "on the chip, the wait for the age included"))
    total = sum(seconds for seconds, _ in parts)
    if total > LONG_RUN_S:
        words = ", ".join(f"{seconds / 60:.0f} minutes {where}" for seconds, where in parts)
        watch.note(f"this run takes more than {LONG_RUN_S / 60:.0f} minutes: {words} (Ctrl-C ends it at any time)")


def positions(step: MatrixStep) -> int:
    return 1 if step.group.window is None else step.group.window.positions


def image_bytes(step: MatrixStep) -> int:
    """Bytes of one image through one layer: activation codes there and back."""
    group, window = step.group, step.group.window
    there = group.inputs if window is None else window.channels * window.height * window.width
    return there + positions(step) * group.outputs
