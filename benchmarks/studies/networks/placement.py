"""Macros and bottlenecks: what packing, block-diagonal tiles and copies of slow layers save.

For the built-in architectures and the networks of this repository, on every chip file: macros with
one tile a macro (for depthwise layers also with one channel a tile) and packed, the share of weight
positions in use, and the reads of one image on the busiest macro, without copies and with them,
against the bound "reads of all tiles / macros" (on chips with groups of macros, which run one layer at
a time: of all layers / groups). Chips have the macros of their file, or what one tile a macro takes where that is
more. Nothing is programmed; the layouts are those that ``hil compile`` makes.

    python benchmarks/studies.py placement          # one JSON line, the table on stderr; 1 when a gate fails
    python benchmarks/studies.py placement --markdown --chips a111   # part of the table of docs/my-network.md
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from cim.chip.blocks import blocks
from cim.chip.converters import input_planes
from cim.chip.file import chip_names, load_chip
from cim.chip.spec import ChipSpec
from mapping.bits import BitWidths
from mapping.layout.cutting import Cutting
from mapping.layout.lay_out import Layout, LayoutOptions, lay_out, needed_macros, parts_of
from mapping.layout.place import Placement
from mapping.layout.tile import MatrixShape, cut
from mapping.network.architectures import ARCHITECTURES, build
from mapping.network.file import load_network
from mapping.operators.fused import MatrixOp
from mapping.program.counts import TileCount, busiest_reads
from mapping.quantise.lower import lower, matrix_shape

ROOT = Path(__file__).parents[3]
FILES = {
    "bundled fashion_mnist": "hil/datasets/bundled/fashion_mnist.pt",
    "fashion_small": "examples/networks/fashion_small.pt",
    "mobilenet_fmnist": "examples/networks/mobilenet_fmnist.pt",
}
ALIKE = ("cifar_resnet14", "cifar_resnet32", "cifar_resnet44", "cifar_resnet56")  # left out: as 8 and 20, longer
ACTIVATION_BITS = 8
CUTTING = Cutting(BitWidths(4, ACTIVATION_BITS))
SMALL_LAYERS = 0.5  # a network of small layers: one tile a macro leaves more than half of the macros empty
LEAST_SAVED, LEAST_DEPTHWISE, LEAST_REACHED = 1.5, 4.0, 0.9
ROOM = 2.0  # "the budget allows": macros for each tile


@dataclass(frozen=True, slots=True)
class Row:
    """One network on one chip; reads are of one image on the busiest macro."""

    network: str
    chip: str
    naive: int  # macros, one tile a macro
    channelwise: int  # the same, with one channel of a depthwise layer a tile
    packed: int
    naive_used: float  # share of weight positions in use
    packed_used: float
    macros: int  # of the chip
    reads: int  # one tile a macro
    packed_reads: int
    copied_reads: int  # one tile a macro, copies on all macros
    packed_copied_reads: int  # copies that share macros
    bound: float  # reads that no layout gets below

    @property
    def reached(self) -> float:
        """Share of the bound that the better of the two layouts with copies reaches."""
        return self.bound / min(self.copied_reads, self.packed_copied_reads)


def networks() -> Iterator[tuple[str, list[MatrixShape]]]:
    for name in ARCHITECTURES:
        if not name.startswith(ALIKE):
            graph = build(name, classes=tuple("0123456789"), rng=np.random.default_rng(1))
            yield name, [matrix_shape(op) for op in lower(graph) if isinstance(op, MatrixOp)]
    for name, path in FILES.items():
        yield name, [matrix_shape(op) for op in lower(load_network(ROOT / path).graph) if isinstance(op, MatrixOp)]


def measure(name: str, shapes: Sequence[MatrixShape], chip: str) -> Row:
    spec = load_chip(chip)
    naive = sum(len(p) for p in CUTTING.bundles(shapes, spec).values())
    spread = needed_macros(shapes, spec, CUTTING, Placement.SPREAD)
    spec = replace(spec, macros=max(spec.macros, spread))
    plain = laid_out(shapes, spec, LayoutOptions(Placement.SPREAD))
    packed = laid_out(shapes, spec, LayoutOptions(Placement.PACKED))
    copied = laid_out(shapes, spec, LayoutOptions(Placement.SPREAD, spec.macros))
    shared = laid_out(shapes, spec, LayoutOptions(Placement.PACKED, spec.macros))
    positions = len(spec.macro.word_lines) * spec.macro.outputs
    bundles = CUTTING.bundles(shapes, spec).values()
    cells = sum(len(b.inputs) * len(b.outputs) for own in bundles for b in own)  # off the diagonal too
    return Row(
        network=name,
        chip=chip,
        naive=naive,
        channelwise=channelwise(shapes, spec),
        packed=macros_of(packed),
        naive_used=cells / (naive * positions),
        packed_used=cells / (macros_of(packed) * positions),
        macros=spec.macros,
        reads=busiest_reads(tile_counts(shapes, spec, plain), spec),
        packed_reads=busiest_reads(tile_counts(shapes, spec, packed), spec),
        copied_reads=busiest_reads(tile_counts(shapes, spec, copied), spec),
        packed_copied_reads=busiest_reads(tile_counts(shapes, spec, shared), spec),
        bound=bound(shapes, spec),
    )


def bound(shapes: Sequence[MatrixShape], spec: ChipSpec) -> float:
    """Reads of all tiles / macros; where macros come in groups, of all layers / groups (a group runs one at a time)."""
    size = 1 if spec.groups is None else spec.groups.size
    work = 0
    for shape in shapes:
        tiles = CUTTING.bundles([shape], spec)[shape.layer]
        work += shape.out_rows * shape.out_width * planes(spec) * parts_of(shape, tiles) * -(-len(tiles) // size)
    return work / -(-spec.macros // size)


def laid_out(shapes: Sequence[MatrixShape], spec: ChipSpec, options: LayoutOptions) -> Layout:
    return lay_out(shapes, spec, CUTTING.bits, options)


def planes(spec: ChipSpec) -> int:
    return len(input_planes(spec.macro.inputs, ACTIVATION_BITS, False))


def macros_of(layout: Layout) -> int:
    return len({p.macro for own in layout[1].values() for p in own})


def channelwise(shapes: Sequence[MatrixShape], spec: ChipSpec) -> int:
    """Macros with one channel of a depthwise layer a tile, one tile a macro."""
    count = 0
    for shape in shapes:
        one = replace(shape, inputs=shape.inputs // shape.groups, outputs=shape.outputs // shape.groups, groups=1)
        count += shape.groups * len(cut(one, spec.macro, 1))
    return count


def tile_counts(shapes: Sequence[MatrixShape], spec: ChipSpec, layout: Layout) -> list[TileCount]:
    """Reads of every tile of a layout (cycles and conversions are not asked for)."""
    found = []
    for shape in shapes:
        places = layout[1][shape.layer]
        own = blocks(shape.out_rows, shape.out_width, 1 + max(p.copy for p in places))
        for p in places:
            vectors = len(own[p.copy][0]) * len(own[p.copy][1])
            found.append(TileCount(shape.layer, p.copy, p.round, p.macro, vectors, vectors * planes(spec), 0, 0))
    return found


def gates(rows: Sequence[Row]) -> dict[str, float]:
    """The figures that gates are on.

    On chips with groups packing saves macros of one layer only, no two layers share one.
    """
    saved = [r.naive / r.packed for r in rows if r.naive_used < SMALL_LAYERS and load_chip(r.chip).groups is None]
    depthwise = [r.channelwise / r.packed for r in rows if r.channelwise > r.naive]
    roomy = [r.reached for r in rows if r.macros >= ROOM * r.naive]
    return {
        "saved_least": min(saved),
        "saved_median": statistics.median(saved),
        "depthwise_saved_least": min(depthwise),
        "reached_least": min(roomy),
        "reached_median": statistics.median(roomy),
    }


def markdown(rows: Sequence[Row]) -> list[str]:
    lines = [
        "| network | chip | macros: a channel a tile | a tile a macro | packed | in use | packed "
        "| reads | with copies | packed copies | bound |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for r in rows:
        channelwise = f"{r.channelwise:,}" if r.channelwise > r.naive else ""
        lines.append(
            f"| {r.network} | {r.chip}, {r.macros} | {channelwise} | {r.naive:,} | {r.packed:,} | {r.naive_used:.0%} "
            f"| {r.packed_used:.0%} | {r.reads:,} | {r.copied_reads:,} | {r.packed_copied_reads:,} | {r.bound:,.0f} |"
        )
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markdown", action="store_true", help="print the table only")
    parser.add_argument("--chips", nargs="*", default=chip_names())
    asked = parser.parse_args()
    rows = []
    for name, shapes in networks():
        for chip in asked.chips:
            rows.append(measure(name, shapes, chip))
            print(f"{name} on {chip}", file=sys.stderr)
    print("\n".join(markdown(rows)), file=sys.stdout if asked.markdown else sys.stderr)
    if asked.markdown:
        return 0
    found = gates(rows)
    good = (
        found["saved_least"] >= LEAST_SAVED
        and found["depthwise_saved_least"] >= LEAST_DEPTHWISE
        and found["reached_median"] >= LEAST_REACHED
    )
    print(json.dumps({"benchmark": "placement", "good": good, **found, "rows": [asdict(r) for r in rows]}))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
