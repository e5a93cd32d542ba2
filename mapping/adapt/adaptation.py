"""A program adapted to one chip: the same weights, held by the cells that are left.

``adapt`` takes a compiled program and what calibration found on one chip, and for each layer

1. puts channels and outputs where they lose least (``mapping.adapt.orders``): weights that matter, by the
   mean square of their input and the effect of their output, come to good cells and quiet columns;
2. lets plus and minus cells of a column change roles where that loses less (``mapping.adapt.tile_fit``);
3. chooses cell levels so that each pair, and then each column, comes closest (``mapping.adapt.compensation``).

The integers that the program stands for stay the same: ideal execution gives the same logits.
Fit column corrections afterwards: cells are others, and swapped columns need a negative gain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.chip.spec import MacroSpec
from mapping.adapt.defects import Defects
from mapping.adapt.tile_fit import AdaptOptions, LayerFit, fit_layer, total_cost
from mapping.errors import CannotMap
from mapping.program.conductance import ConductanceProgram, MatrixStep
from mapping.program.file import program_digest
from mapping.quantise.ranges import choose_range

__all__ = ["AdaptOptions", "Adaptation", "LayerAdaptation", "adapt", "check_adaptable"]


@dataclass(frozen=True, slots=True)
class LayerAdaptation:
    """Changes to one layer.

    ``stuck``: stuck cells under its tiles; ``hit``: weights that blind placement would not hold within half a
    level; ``left``: weights that their pair cannot hold now (their column may make up for them).
    ``blind``, ``adapted``: expected squared error of its outputs, over their mean square.
    """

    layer: str
    stuck: int
    hit: int
    left: int
    moved: bool
    swapped: int
    blind: float
    adapted: float


@dataclass(frozen=True, slots=True)
class Adaptation:
    """An adapted program and what was done."""

    program: ConductanceProgram
    layers: tuple[LayerAdaptation, ...]

    @property
    def error(self) -> tuple[float, float]:
        """Relative squared error of a layer's outputs, mean over layers: blind, adapted."""
        blind, adapted = (float(np.mean([getattr(a, name) for a in self.layers])) for name in ("blind", "adapted"))
        return blind, adapted

    def total(self, name: str) -> int:
        return sum(int(getattr(a, name)) for a in self.layers)

    def lines(self) -> list[str]:
        """Summary of the adaptation as lines of text."""
        of, (blind, adapted) = self.total, self.error
        return [
            f"adapted to chip {self.program.adapted_to}: {of('stuck')} stuck cells under weights spoil {of('hit')} "
            f"weights where they would lie; {of('left')} are left",
            f"{of('moved')} of {len(self.layers)} layers in another order, {of('swapped')} columns swapped",
            f"expected error of outputs, mean over layers: {blind:.3%} of their power before, {adapted:.3%} after",
        ]

    def to_json(self) -> dict[str, Any]:
        layers = [{k: getattr(a, k) for k in LayerAdaptation.__dataclass_fields__} for a in self.layers]
        return {"adapted_to": self.program.adapted_to, "layers": layers}


def check_adaptable(program: ConductanceProgram) -> None:
    """Refuse a program that cannot be adapted to a chip, before one is measured for it.

    Raises:
        CannotMap: as ``adapt``.
    """
    spec, chip = program.spec.macro, program.spec.name
    if not spec.paired:
        raise CannotMap(f"{chip} holds one cell a weight: a stuck one has no partner to adapt", chip=chip)
    if not spec.even_levels:
        raise CannotMap(f"{chip} has uneven levels: what a stuck cell lacks is not a whole number of them", chip=chip)
    if program.rounds > 1 or any(m.group.copies > 1 or m.group.averages > 1 for m in program.matrices):
        raise CannotMap(
            "a program with copies or rounds is not adapted: one order would have to suit several sets of cells",
            chip=chip,
            would_fit=("hil compile --without copies, without --copies-budget and --with rounds",),
        )
    if program.adapted_to is not None:
        raise CannotMap(f"the program is adapted to chip {program.adapted_to} already", chip=chip)


def adapt(
    program: ConductanceProgram,
    defects: Defects,
    inputs: Mapping[str, NDArray[np.int16]],
    *,
    serial: str,
    options: AdaptOptions | None = None,
) -> Adaptation:
    """Adapt a program to the chip with these defects.

    Args:
        inputs: input codes of every layer for calibration images.
        serial: of the chip; the program is refused on another.

    Raises:
        CannotMap: the chip holds no pairs or has uneven levels, or the program has copies or rounds
            or is adapted already.
    """
    check_adaptable(program)
    options, spec = options or AdaptOptions(), program.spec.macro
    layers = [fit_layer(step, spec, defects, inputs[step.name], options) for step in program.matrices]
    steps = {layer.step.name: _finished(layer, spec) for layer in layers}
    adapted = replace(
        program,
        steps=tuple(steps[s.name] if isinstance(s, MatrixStep) else s for s in program.steps),
        adapted_to=serial,
    )
    return Adaptation(replace(adapted, digest=program_digest(adapted)), tuple(_summary(layer) for layer in layers))


def _finished(layer: LayerFit, spec: MacroSpec) -> MatrixStep:
    """The step with the converter range that suits its cells."""
    group = replace(layer.step.group, tiles=tuple(t.tile for t in layer.tiles))
    choice = choose_range(group, spec, layer.codes)
    group = replace(group, range_code=choice.range_code, saturated_share=choice.saturated_share)
    return replace(layer.step, group=group)


def _summary(layer: LayerFit) -> LayerAdaptation:
    power = layer.power or 1.0
    return LayerAdaptation(
        layer=layer.step.name,
        stuck=layer.stuck,
        hit=sum(t.lost for t in layer.blind),
        left=sum(t.lost for t in layer.tiles),
        moved=layer.moved,
        swapped=sum(int((t.tile.signs == -1).sum()) for t in layer.tiles if t.tile.signs is not None),
        blind=total_cost(layer.blind) / power,
        adapted=total_cost(layer.tiles) / power,
    )
