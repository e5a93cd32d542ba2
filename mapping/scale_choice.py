"""Rule of weight scales by what a network keeps of its float answers, and what it lost between float and ideal.

``ScaleRule.OUTPUT`` trades a part of the ideal network for less error on a chip: it clips weights until what clipping
takes is as much as cells and converter add, layer by layer, and each layer's output keeps a share ρ² of its power. Over
fifty layers 0.96 each is nothing. So ideal is compared with float on stored images, and where the usual rule has lost
too much of it for any chip, the rule that loses least is taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapping.compile import fitted_step
from mapping.network.file import NetworkFile
from mapping.network.float_run import float_logits
from mapping.program.conductance import ConductanceProgram
from mapping.program.execute import IdealMultiply, run
from mapping.quantise.sharing import shared_ops
from mapping.quantise.weight_scales import ScaleRule

USUAL = ScaleRule.OUTPUT
MOST_LOST = 0.2  # of the answers; ResNet-20 loses 0.08 for 20 points more on a chip
MOST_ERROR = 0.5  # of the outputs' power, without classes; the logits of that ResNet-20 lose 0.16
SAID_FIRST = 0.01  # and more is no rounding of the last digit: whoever compiles must know
IMAGES = 128  # that are compared, at most,
VALUES = 1 << 24  # and at most so many values of the largest map: networks of large maps are slow
HELD_OUT = 16  # stored images beside those that the scales were fitted on; fewer say less than those


@dataclass(frozen=True, slots=True)
class KeptAnswers:
    """What ideal keeps of float on ``images`` stored ones, with weight scales by ``rule``.

    ``alike``: images of the same largest logit; None without classes. ``error``: mean square of ideal − float over the
    variance of float, each output about its mean. ``held_out``: no scale was fitted on these images. ``instead``: what
    the usual rule kept, where another was taken.
    """

    rule: ScaleRule
    images: int
    alike: int | None
    error: float
    held_out: bool
    instead: KeptAnswers | None = None

    @property
    def lost(self) -> float:
        """Share of the answers; of the outputs' power without classes."""
        return self.error if self.alike is None else 1.0 - self.alike / self.images

    @property
    def too_much(self) -> bool:
        """Whether other rules are tried."""
        return self.lost > (MOST_ERROR if self.alike is None else MOST_LOST)

    @property
    def much(self) -> bool:
        """Whether it belongs into the first lines."""
        return self.lost > SAID_FIRST or self.instead is not None

    @property
    def line(self) -> str:
        images = f"{self.images} {'held-out' if self.held_out else 'stored'} images"
        what = f"outputs off by {math.sqrt(self.error):.1%} rms on {images}"
        if self.alike is not None:
            what = f"the answer of float on {self.alike} of {images}, {what.removesuffix(f' on {images}')}"
        line = f"ideal keeps {what} (weight scales: {self.rule})"
        if self.instead is not None:
            before = self.instead
            kept = f"{before.alike} of {before.images}" if before.alike is not None else f"{before.error:.0%} error"
            return f"{line}; the usual rule, {before.rule}, has {kept}"
        return line

    def to_json(self) -> dict[str, Any]:
        return {
            "rule": self.rule.value,
            "images": self.images,
            "held_out": self.held_out,
            "same_answer": self.alike,
            "error": self.error,
            "instead_of": None if self.instead is None else self.instead.to_json(),
        }


def judged_by_float(
    network: NetworkFile,
    program: ConductanceProgram,
    asked: ScaleRule | None,
    compiled: Callable[..., ConductanceProgram],
) -> tuple[ConductanceProgram, KeptAnswers]:
    """The program and what it keeps; where ideal loses too much (``KeptAnswers.too_much``) and no rule was asked for,
    the program that loses least instead.

    Args:
        program: of the rule that was asked for, else of the usual one.
        compiled: gives the program of another, named ``scale_rule``.
    """
    images, held_out = compared_images(network)
    floats = float_logits(network.graph, images)

    def kept(program: ConductanceProgram, rule: ScaleRule) -> KeptAnswers:
        ideal = run(program, images, IdealMultiply(program)) * program.logit_scale
        return _kept(floats, ideal, rule, held_out, bool(network.graph.classes))

    first = kept(program, asked or USUAL)
    if asked is not None or not first.too_much:
        return program, first
    found = [(first, program)]
    for rule in (ScaleRule.ROUNDING, ScaleRule.LARGEST):
        tried = compiled(scale_rule=rule)
        found.append((kept(tried, rule), tried))
    best, program = min(found, key=lambda pair: (pair[0].lost, pair[0].error))
    return program, best if best is first else replace(best, instead=first)


def compared_images(network: NetworkFile) -> tuple[NDArray[np.uint8], bool]:
    """Stored images that ideal and float are compared on, and whether they are held out from the fit of the scales."""
    stored, ops = network.calibration_images, shared_ops(network.graph)
    step = fitted_step(len(stored), ops)
    fitted, others = np.arange(len(stored))[::step], np.delete(np.arange(len(stored)), slice(None, None, step))
    most = max(1, min(IMAGES, VALUES // max(math.prod(op.output_shape) for op in ops)))
    held_out = len(others) >= HELD_OUT
    at = others if held_out else fitted
    return stored[at[np.linspace(0, len(at) - 1, min(most, len(at))).astype(np.intp)]], held_out


def _kept(
    floats: NDArray[np.float32], ideal: NDArray[np.floating], rule: ScaleRule, held_out: bool, classes: bool
) -> KeptAnswers:
    about = floats - floats.mean(0)
    square, power = float(((ideal - floats) ** 2).mean()), float((about**2).mean())
    error = square / power if power > 0 else float(square > 0)
    alike = int((ideal.argmax(1) == floats.argmax(1)).sum()) if classes else None
    return KeptAnswers(rule, len(floats), alike, error, held_out)
