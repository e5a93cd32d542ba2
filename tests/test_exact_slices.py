"""Bit slices side by side or apart, with every encoding: the chip gives the integer product bit for bit."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from cim.chip.file import idealised, load_chip, render_chip
from cim.chip.spec import ChipSpec, Encoding
from mapping.bits import BitWidths
from mapping.compile import CannotMap, LayoutOptions, compile_network, lay_out
from mapping.layout.tile import MatrixShape, SlicePlacement, cut, cut_bundles
from mapping.program.conductance import ConductanceProgram
from mapping.program.execute import IdealMultiply, run

from .mapping.small_networks import every_node, network
from .test_exact import DIGITAL, chip, exact

CHIPS = {
    "column pairs": chip(),
    "row pairs": chip(encoding=Encoding.ROW_PAIRS),
    "offset column": chip(encoding=Encoding.OFFSET_COLUMN, **DIGITAL),
    "single-ended": chip(encoding=Encoding.SINGLE_ENDED, **DIGITAL),
}


def compiled(spec: ChipSpec, slices: SlicePlacement) -> ConductanceProgram:
    rng = np.random.default_rng(3)
    return compile_network(network(every_node(rng), rng, 8, images=8), spec, options=LayoutOptions(slices=slices))


@pytest.mark.parametrize("kind", CHIPS)
@pytest.mark.parametrize("slices", list(SlicePlacement))
def test_slices_are_exact_in_every_mode(slices: SlicePlacement, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(render_chip(CHIPS[kind]))
    program = compiled(idealised(load_chip(path, macros=CHIPS[kind].macros)), slices)
    assert max(t.multiplier for m in program.matrices for t in m.group.tiles) > 1
    address = f"emulated:{path}?ideal=1&macros={CHIPS[kind].macros}"
    result = exact.compare(program, program.calibration_images[:2], address, raw=True)
    assert result["equal"], result["differs"]
    assert result["modes"] == "layer+sums+raw"


@pytest.mark.parametrize("kind", CHIPS)
def test_slices_on_columns_share_macro_and_rows_and_do_not_overlap(kind: str) -> None:
    program = compiled(CHIPS[kind], SlicePlacement.COLUMNS)
    for step in program.matrices:
        by_weight: dict[tuple[range, range], list] = {}
        for tile in step.group.tiles:
            by_weight.setdefault((tile.inputs, tile.outputs), []).append(tile)
        for (_, outputs), tiles in by_weight.items():
            assert len({(t.macro, t.row0) for t in tiles}) == 1
            starts = [t.output0 for t in sorted(tiles, key=lambda t: t.multiplier)]
            assert starts == [starts[0] + len(outputs) * i for i in range(len(tiles))]
            assert starts[-1] + len(outputs) <= program.spec.macro.outputs


def test_both_placements_give_the_same_integers() -> None:
    a, b = (compiled(CHIPS["column pairs"], slices) for slices in SlicePlacement)
    images = a.calibration_images
    assert np.array_equal(run(a, images, IdealMultiply(a)), run(b, images, IdealMultiply(b)))


def test_a_bundle_is_as_wide_as_its_slices_and_covers_the_matrix() -> None:
    macro = load_chip("lab-128").macro
    shape = MatrixShape("conv", 288, 100, kernel=9)
    bundles = cut_bundles(shape, macro, 3, SlicePlacement.COLUMNS)
    covered = np.zeros((3, 288, 100), int)
    for bundle in bundles:
        assert len(bundle.outputs) == 3 * len(bundle.pieces[0].outputs) <= macro.outputs
        for piece in bundle.pieces:
            covered[piece.slice, piece.inputs.start : piece.inputs.stop, piece.outputs.start : piece.outputs.stop] += 1
    assert (covered == 1).all()
    apart = cut_bundles(shape, macro, 3, SlicePlacement.MACROS)
    assert tuple(p for b in apart for p in b.pieces) == cut(shape, macro, 3)


def test_more_slices_than_outputs_are_refused() -> None:
    narrow = dataclasses.replace(CHIPS["column pairs"].macro, columns=4, column_order=(0, 1, 2, 3))
    spec = dataclasses.replace(CHIPS["column pairs"], macro=narrow)
    with pytest.raises(CannotMap, match="3 slices do not fit side by side on 2 outputs"):
        lay_out([MatrixShape("fc", 8, 2)], spec, BitWidths(8, 8), LayoutOptions(slices=SlicePlacement.COLUMNS))
