"""Tuning a chip that holds a program already: in a minute, without labels, without writing a cell.

The cells are read back, columns corrected, and gains and biases fitted to the chip's answers to stored
training images. What it gave is said on stored images that the fit did not see, as the share that the chip
answers like the ideal network: no label is stored with a program.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.record.calibration import CalibrationRecord
from firmware_protocols.messages import Capability
from hil.calibration.procedure import check_record
from hil.deployment.adaptation import check_adapted, refuse_residual
from hil.deployment.running.network_runs import network_run
from hil.deployment.targets.wired import WiredTarget, holds, spot_check
from hil.deployment.tuning import check_untuned
from hil.driver.chip_driver import ChipDriver
from hil.driver.samples import INFER, READ_BEFORE, UNTUNED
from hil.errors import MismatchError, UsageError
from hil.verdict.tune_harm import harms
from hil.watch import Watch
from mapping.network.task import TaskKind
from mapping.program.conductance import ConductanceProgram
from mapping.program.corrections import Corrections
from mapping.program.execute import IdealMultiply, run
from mapping.program.training_inputs import training_inputs
from mapping.recipe.recipe import begun_tune, fit_digital
from mapping.recipe.standing import Standing
from mapping.tune.channel_affine import Tuned, tune_targets

LEAST_HELD_OUT = 8  # stored images that a tune is reported on
READS = 32  # of every cell, averaged


@dataclass(frozen=True, slots=True)
class RetuneReport:
    """Before and after, on stored training images that the tune did not see.

    ``same_before``, ``same_after``: share where the chip predicts the ideal network's class; None where answers
    are not classes. ``error_before`` and ``error_after``: mean square error of the logits as a share of their variance.
    ``layers``: error of each layer's level sums without and with fitted gains and offsets, likewise, on the tune's
    images.
    """

    chip: str
    serial: str
    silicon: bool
    images: int
    held_out: int
    same_before: float | None
    same_after: float | None
    error_before: float
    error_after: float
    layers: tuple[tuple[str, float, float], ...]
    harmful: bool  # its logits are farther from the ideal network's, image by image (``hil.verdict.tune_harm``)
    limited: int
    seconds: float

    def lines(self) -> list[str]:
        """The report in words."""
        same = "answers are not classes"
        if self.same_before is not None and self.same_after is not None:
            before, after = round(self.same_before * self.held_out), round(self.same_after * self.held_out)
            same = f"{before} → {after} of {self.held_out} held-out stored training images"
        worst = max(self.layers, key=lambda layer: layer[1])
        words = "" if self.silicon else "      NOT SILICON"
        return [
            f"chip           {self.chip}, serial {self.serial}{words}",
            f"tuned          with {self.images} stored training images, {self.seconds:.1f} s",
            f"as quantised   {same}",
            f"logits         error {self.error_before:.1%} → {self.error_after:.1%} of their variance",
            f"worst layer    {worst[0]}: error {worst[1]:.1%} → {worst[2]:.1%} of the variance of its sums",
            *(["WARNING        the chip is worse with this tune than without it"] if self.harmful else []),
            *([f"note           {self.limited} channels ended at a limit of the gain"] if self.limited else []),
        ]

    def to_json(self) -> dict[str, Any]:
        names = ("layer", "before", "after")
        layers = [dict(zip(names, layer, strict=True)) for layer in self.layers]
        return {**asdict(self), "layers": layers}


def split_stored(program: ConductanceProgram, most: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Stored training images for the tune (at most ``most`` and three quarters of all), and those held out.

    Raises:
        UsageError: there are too few.
    """
    stored = program.calibration_images
    count = min(most, 3 * len(stored) // 4)
    if count < 2 or len(stored) - count < LEAST_HELD_OUT:
        raise UsageError(
            f"the program stores {len(stored)} training images, too few to tune with and to hold {LEAST_HELD_OUT} out",
            hint="hil import with --images 512",
        )
    return stored[:count], stored[count:]


def retune(
    driver: ChipDriver,
    program: ConductanceProgram,
    record: CalibrationRecord,
    *,
    images: int = 128,
    age_s: float = 3600.0,
    watch: Watch | None = None,
) -> tuple[Tuned, RetuneReport]:
    """Tune the chip behind ``driver``, which holds ``program``, as its cells are now.

    Args:
        record: of this chip (``hil calibrate``), for the column corrections.
        images: most stored training images that it is tuned with.
        age_s: planned age that the cells were written for, where the program has no targets of its own.

    Raises:
        MismatchError: the chip holds another program; program or record are of another chip; the program takes rounds.
        UsageError: residual slices, or too few stored training images.
    """
    refuse_residual(program, "hil tune")
    watch = watch or Watch()
    check_untuned(program)
    check_adapted(program, driver.description.serial)
    if program.rounds > 1:
        raise MismatchError(
            f"the program takes {program.rounds} rounds, and a chip holds one at a time",
            hint="hil deploy tunes every round before it runs",
        )
    check_record(record, driver, program.macros)
    if not _holds(driver, program, age_s, watch):
        raise MismatchError(
            "the chip does not hold this program", hint="hil deploy writes it (and tunes it); then hil tune"
        )
    seen, held_out = split_stored(program, images)
    start, tune = time.monotonic(), begun_tune(program, tune_targets(program, seen))
    target, standing = WiredTarget(driver, record, watch), Standing(program, ())
    written = fit_digital(standing, target, READS, training_inputs(program), tune)
    tuned, corrections = written.tuned, written.corrections
    assert tuned is not None  # a chip on the wire answers
    seconds = time.monotonic() - start
    with watch.stage("measuring"):
        before = _logits(driver, program, corrections, held_out, UNTUNED)
        after = _logits(driver, tuned.program, corrections, held_out, INFER)
    ideal = run(program, held_out, IdealMultiply(program))
    about = driver.description
    return tuned, RetuneReport(
        chip=f"{about.kind} {about.name} rev {about.revision}",
        serial=about.serial,
        silicon=about.kind == "silicon",
        images=len(seen),
        held_out=len(held_out),
        same_before=_same(program, before, ideal),
        same_after=_same(program, after, ideal),
        error_before=float(_errors(before, ideal).mean()),
        error_after=float(_errors(after, ideal).mean()),
        harmful=harms(_errors(before, ideal), _errors(after, ideal), greater=False),
        layers=tuple((fit.layer, fit.before, fit.after) for fit in tuned.fits),
        limited=sum(fit.limited for fit in tuned.fits),
        seconds=seconds,
    )


def _holds(driver: ChipDriver, program: ConductanceProgram, age_s: float, watch: Watch) -> bool:
    """Whether the chip holds the program: by its digest, or, on a chip that stores none, by a check of its cells."""
    if Capability.HELD_PROGRAM in driver.capabilities:
        return holds(driver, program, age_s)
    watch.note("held program: cells are compared with the program by the host (the chip has no HELD_PROGRAM)")
    return spot_check(driver, program, sample=READ_BEFORE)


def _logits(
    driver: ChipDriver,
    program: ConductanceProgram,
    corrections: Corrections,
    images: NDArray[np.uint8],
    sample: int,
) -> NDArray[np.int32]:
    (logits,) = network_run(driver, program, corrections).logits(images, sample)
    return np.asarray(logits)


def _same(program: ConductanceProgram, logits: NDArray[np.int32], ideal: NDArray[np.int32]) -> float | None:
    """Share of images with the ideal network's class; None where the program gives no classes."""
    if program.purpose is not TaskKind.CLASSIFY:
        return None
    return float((logits.argmax(1) == ideal.argmax(1)).mean())


def _errors(logits: NDArray[np.int32], ideal: NDArray[np.int32]) -> NDArray[np.float64]:
    """Mean square error of the logits of each image, as a share of the variance of all logits."""
    wide = ideal.astype(np.float64)
    return np.asarray(((logits - wide) ** 2).mean(axis=1) / max(float(wide.var()), 1e-12))
