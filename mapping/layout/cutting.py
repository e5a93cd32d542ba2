"""Cutting of the weights of every layer into pieces: bits by layer, and the place of bit slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cim.chip.spec import ChipSpec
from mapping.bits import BitWidths
from mapping.errors import CannotMap
from mapping.layout.tile import Bundle, MatrixShape, SlicePlacement, cut_bundles, slices_needed


@dataclass(frozen=True, slots=True)
class Cutting:
    """Bits of the layers, and whether bit slices of a weight lie side by side or each where there is room."""

    bits: BitWidths
    slices: SlicePlacement = SlicePlacement.MACROS

    def bundles(self, shapes: Sequence[MatrixShape], spec: ChipSpec) -> dict[str, tuple[Bundle, ...]]:
        """Bundles of every layer: pieces that lie together."""
        found = {}
        for shape in shapes:
            bits = self.bits.weights_of(shape.layer)
            slices = slices_needed((1 << (bits - 1)) - 1, spec.macro.max_level)
            if slices > 1 and not spec.macro.even_levels:
                raise _no_digits(shape.layer, bits, spec, alone=shape.layer in self.bits.different_weights())
            if slices > spec.macro.outputs and self.slices is SlicePlacement.COLUMNS:
                raise CannotMap(
                    f"{shape.layer}: {slices} slices do not fit side by side on {spec.macro.outputs} outputs",
                    chip=spec.name,
                    would_fit=("hil compile --slices macros",),
                )
            found[shape.layer] = cut_bundles(shape, spec.macro, slices, self.slices)
        return found


def _no_digits(layer: str, bits: int, spec: ChipSpec, *, alone: bool) -> CannotMap:
    values, most = spec.macro.values, (spec.macro.max_level + 1).bit_length()
    return CannotMap(
        f"{bits}-bit weights of {layer} need bit slices, and slices need evenly spaced levels: those of {spec.name} "
        f"are {', '.join(map(str, values.values))} of {values.unit_us:.4g} µS",
        chip=spec.name,
        would_fit=(f"hil compile --{f'layer-bits {layer}=W' if alone else 'weight-bits '}{most}",),
    )
