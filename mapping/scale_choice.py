"""Rule of weight scales by what a network keeps of its float answers, and what it lost between float and ideal.

``ScaleRule.OUTPUT`` trades a part of the ideal network for less error on a chip: it clips weights until what clipping
takes is as much as cells and converter add, layer by layer. In a network of many layers, or of layers whose cells err
much beside their few inputs (depthwise ones), that part is all of it. So ideal is compared with float on stored images,
and where the usual rule has lost too much of it for any chip, the rule that loses least is taken. What is lost then is
said, with bits or a rule that lose less, if they were found.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapping.bits import MOST, LayerBits
from mapping.compile import fitted_step
from mapping.errors import CannotMap
from mapping.network.file import NetworkFile
from mapping.network.float_run import float_logits
from mapping.program.conductance import ConductanceProgram
from mapping.program.execute import IdealMultiply, run
from mapping.quantise.layer_errors import CODES, WEIGHTS, layer_errors
from mapping.quantise.sharing import shared_ops
from mapping.quantise.weight_scales import ScaleRule

USUAL = ScaleRule.OUTPUT
MOST_LOST = 0.1  # of the answers; a small convolutional network loses 0.04 for 8 points more on a chip
MOST_ERROR = 0.1  # of the outputs' power, without classes; the logits of a ResNet-20 lose 0.02
SAID_FIRST = 0.01  # and more is no rounding of the last digit: whoever compiles must know
MUCH_ERROR = 0.02  # of the outputs' power, likewise: ResNets that lose half a point of their answers have less
MORE_BITS = 2  # of weights, that are tried where much is lost
IMAGES = 256  # that are compared, at most,
VALUES = 1 << 26  # and at most so many values of the largest map: networks of large maps are slow
HELD_OUT = 16  # stored images beside those that the scales were fitted on; fewer say less than those


@dataclass(frozen=True, slots=True)
class KeptAnswers:
    """What ideal keeps of float on ``images`` stored ones, with weight scales by ``rule``.

    ``alike``: images of the same largest logit; None without classes. ``error``: mean square of ideal − float over the
    variance of float, each output about its mean. ``held_out``: no scale was fitted on these images. ``right``: images
    on which float and ideal are right, where labels are stored. ``instead``: what the usual rule kept, where another
    was taken. ``worst``: the layer whose rounding takes the largest share of its sums, where too much is lost.
    ``helps``: options that lose less, and what they keep; "" where nothing was tried, or nothing did.
    """

    rule: ScaleRule
    images: int
    alike: int | None
    error: float
    held_out: bool
    right: tuple[int, int] | None = None
    instead: KeptAnswers | None = None
    worst: str = ""
    helps: str = ""

    @property
    def lost(self) -> float:
        """Share of the answers; of the outputs' power without classes."""
        return self.error if self.alike is None else 1.0 - self.alike / self.images

    @property
    def too_much(self) -> bool:
        """Whether so much is lost with this rule that others are tried."""
        return self.lost > (MOST_ERROR if self.alike is None else MOST_LOST)

    @property
    def much(self) -> bool:
        """Whether the loss is so large that the first lines of a command tell it."""
        return self.lost > SAID_FIRST or self.error > MUCH_ERROR or self.instead is not None

    @property
    def fewer_right(self) -> bool:
        """Whether ideal is right more than a point less often than float, as far as the stored images say."""
        return (
            self.lost > SAID_FIRST if self.right is None else self.right[0] - self.right[1] > SAID_FIRST * self.images
        )

    @property
    def line(self) -> str:
        images = f"{self.images} {'held-out' if self.held_out else 'stored'} images"
        if not self.held_out:  # which says less
            images += " that scales were fitted on"
        what = f"outputs off by {math.sqrt(self.error):.1%} rms on {images}"
        if self.alike is not None:
            what = f"the answer of float on {self.alike} of {images}, {what.removesuffix(f' on {images}')}"
        line = f"quantised keeps {what} (weight scales: {self.rule})"
        if self.right is not None:
            line += f"; right: float {self.right[0]}, quantised {self.right[1]}"
        if self.instead is not None:
            line += f"; the usual rule, {self.instead.rule}, has {self.instead.kept}"
        line += f"; rounding takes most in {self.worst}" if self.worst else ""
        return f"{line}; {self.helps}" if self.helps else line

    @property
    def kept(self) -> str:
        return f"{self.alike} of {self.images}" if self.alike is not None else f"{self.error:.0%} error"

    def to_json(self) -> dict[str, Any]:
        return {
            "rule": self.rule.value,
            "images": self.images,
            "held_out": self.held_out,
            "same_answer": self.alike,
            "error": self.error,
            "right": None if self.right is None else {"float": self.right[0], "ideal": self.right[1]},
            "helps": self.helps or None,
            "instead_of": None if self.instead is None else self.instead.to_json(),
        }


def judged_by_float(
    network: NetworkFile, compiled: Callable[..., ConductanceProgram], asked: ScaleRule | None = None
) -> tuple[ConductanceProgram, KeptAnswers]:
    """The program of the rule that was asked for, else of the usual one, and what it keeps; where ideal loses too much
    (``KeptAnswers.too_much``) and no rule was asked for, the program that loses least instead.

    Args:
        compiled: gives the program of a ``scale_rule``, and of other ``weight_bits``.
    """
    program = compiled(scale_rule=asked or USUAL)
    kept = compared(network)
    first = kept(program, asked or USUAL)
    if not (first.too_much or first.fewer_right):
        return program, first
    rounded = compiled(scale_rule=ScaleRule.ROUNDING) if first.rule is not ScaleRule.ROUNDING else program
    other = kept(rounded, ScaleRule.ROUNDING) if rounded is not program else first
    if asked is None and first.too_much and (other.lost, other.error) < (first.lost, first.error):
        program, best = rounded, replace(other, instead=first)
    else:
        best = first
    worst, bits = _worst_layer(network, program)
    widest = LayerBits(MOST, program.spec.macro.inputs.bits)
    wider = None if bits[worst] == widest else {**bits, worst: widest}
    return program, replace(best, worst=worst, helps=_helps(best, other, program, compiled, kept, worst, wider))


def _worst_layer(network: NetworkFile, program: ConductanceProgram) -> tuple[str, dict[str, LayerBits]]:
    """The layer whose rounding takes the largest share of the power of its sums, and the bits of all layers."""
    images, steps = network.calibration_images, {step.name: step for step in program.matrices}
    images = images[:: fitted_step(len(images), shared_ops(network.graph))]
    errors = layer_errors(network.graph, images, program.spec)
    bits = {name: LayerBits(program.weight_bits_of(name), steps[name].group.input_bits) for name in errors}

    def share(name: str) -> float:
        of_weights, of_codes = errors[name]
        asked = ((WEIGHTS, bits[name].weight), (CODES, bits[name].activation))
        w, a = (int(np.searchsorted(known[:-1], own or known[-1])) for known, own in asked)
        return float(of_weights[w] + of_codes[a])

    return max(errors, key=share), bits


def compared(network: NetworkFile) -> Callable[[ConductanceProgram, ScaleRule], KeptAnswers]:
    """Share of the float network's answers that programs keep, by the rule that chooses weight scales."""
    at, held_out = compared_images(network)
    images, labels = network.calibration_images[at], network.calibration_labels
    floats = float_logits(network.graph, images)

    def kept(program: ConductanceProgram, rule: ScaleRule) -> KeptAnswers:
        ideal = run(program, images, IdealMultiply(program)) * program.logit_scale
        found = _kept(floats, ideal, rule, held_out, bool(network.graph.classes))
        if labels is None or found.alike is None:
            return found
        hits = [int((logits.argmax(1) == labels[at]).sum()) for logits in (floats, ideal)]
        return replace(found, right=(hits[0], hits[1]))

    return kept


def _helps(
    best: KeptAnswers,
    rounded: KeptAnswers,
    program: ConductanceProgram,
    compiled: Callable[..., ConductanceProgram],
    kept: Callable[[ConductanceProgram, ScaleRule], KeptAnswers],
    worst: str,
    layer_bits: Mapping[str, LayerBits] | None,
) -> str:
    """Options of ``hil compile`` that lose less than ``best``, if any of those tried does.

    Args:
        layer_bits: bits of all layers with those of ``worst`` at their most; None: they are that already.
    """
    found = []
    if best.rule is not ScaleRule.ROUNDING:
        found.append((rounded, f"hil compile --weight-scales {ScaleRule.ROUNDING}"))
    if layer_bits is not None:
        try:
            wider = kept(compiled(scale_rule=best.rule, layer_bits=layer_bits), best.rule)
            found.append((wider, f"hil compile --layer-bits {worst}=W{MOST}A{layer_bits[worst].activation}"))
        except CannotMap:
            pass  # the chip has no room for them
    bits = min(MOST, program.weight_bits + MORE_BITS)
    if bits > program.weight_bits and min(best.lost, rounded.lost) > SAID_FIRST:
        try:
            wider = kept(compiled(scale_rule=ScaleRule.ROUNDING, weight_bits=bits), ScaleRule.ROUNDING)
            found.append((wider, f"hil compile --weight-bits {bits} --weight-scales {ScaleRule.ROUNDING}"))
        except CannotMap:
            pass  # the chip has no room for them
    least, option = min(found, key=lambda pair: pair[0].lost, default=(best, ""))
    has = "has" if least.alike is None else "keeps"
    return f"{option} {has} {least.kept}" if option and least.lost < best.lost else ""


def compared_images(network: NetworkFile) -> tuple[NDArray[np.intp], bool]:
    """Places of the stored images that ideal and float are compared on, and whether no scale was fitted on these."""
    stored, ops = network.calibration_images, shared_ops(network.graph)
    step = fitted_step(len(stored), ops)
    fitted, others = np.arange(len(stored))[::step], np.delete(np.arange(len(stored)), slice(None, None, step))
    most = max(1, min(IMAGES, VALUES // max(math.prod(op.output_shape) for op in ops)))
    held_out = len(others) >= HELD_OUT
    at = others if held_out else fitted
    return at[np.linspace(0, len(at) - 1, min(most, len(at))).astype(np.intp)], held_out


def _kept(
    floats: NDArray[np.float32], ideal: NDArray[np.floating], rule: ScaleRule, held_out: bool, classes: bool
) -> KeptAnswers:
    about = floats - floats.mean(0)
    square, power = float(((ideal - floats) ** 2).mean()), float((about**2).mean())
    error = square / power if power > 0 else float(square > 0)
    alike = int((ideal.argmax(1) == floats.argmax(1)).sum()) if classes else None
    return KeptAnswers(rule, len(floats), alike, error, held_out)
