"""Prediction without a chip on the wire: what such a chip, programmed again, will score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.calibration import CalibrationRecord
from hil.agreement import correct_answers
from hil.calibrate import check_macros
from hil.corrections import training_inputs
from hil.data import Dataset
from hil.errors import MismatchError
from hil.job import DeployOptions
from hil.looks import plan_images
from hil.simulate import VirtualChips
from hil.watch import Watch
from mapping.execute import IdealMultiply, run
from mapping.program import ConductanceProgram


@dataclass(frozen=True, slots=True)
class Prediction:
    """Accuracies of virtual chips on the same images; ``chips`` (S,) fractions."""

    ideal: float
    chips: NDArray[np.float64]
    images: int
    age_s: float

    def lines(self) -> list[str]:
        low, high = self.chips.min(), self.chips.max()
        return [
            f"ideal          {self.ideal:.2%} of {self.images} images",
            f"simulated      {self.chips.mean():.2%}, {len(self.chips)} virtual chips from {low:.2%} to {high:.2%} "
            f"(programmed again, age {self.age_s:.0f} s)",
        ]

    def to_json(self) -> dict[str, Any]:
        return {
            "accuracy": {
                "ideal": self.ideal,
                "simulated": {"mean": float(self.chips.mean()), "chips": self.chips.tolist()},
            },
            "images": self.images,
            "age_s": self.age_s,
        }


def predict(
    program: ConductanceProgram, data: Dataset, record: CalibrationRecord, options: DeployOptions, watch: Watch
) -> Prediction:
    """Run virtual chips drawn from ``record`` alone.

    Raises:
        MismatchError: the record is of a chip of another description, or lacks a macro in use.
    """
    if record.spec_digest != program.spec.digest:
        raise MismatchError(
            f"the record is of chip description {record.spec_digest[:16]}…, the program of {program.spec.digest[:16]}…",
            hint="compile for the chip that the record measured",
        )
    check_macros(record, program.macros)
    order, _ = plan_images(data, program, options)
    images, labels = data.images[order], data.labels[order]
    with watch.stage("simulating"):
        chips = VirtualChips(
            program,
            record,
            options.age_s,
            options.virtual_chips,
            options.seed,
            options.read_back_reads,
            inputs=training_inputs(program),
            device=options.device,
        )
        logits = chips.run(images, 0, watch)
    ideal = correct_answers(run(program, images, IdealMultiply(program)), labels)
    return Prediction(float(ideal.mean()), correct_answers(logits, labels).mean(axis=1), len(order), options.age_s)
