"""Lay a network out on a chip: pieces, copies, rounds and places, before any slow work.

What does not fit is ``CannotMap``, with the numbers and what would fit.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from cim.chip.blocks import blocks
from cim.chip.converters import input_planes
from cim.chip.file import chip_names, load_chip
from cim.chip.spec import ChipSpec
from mapping.bits import BitWidths
from mapping.errors import CannotMap, LayerNeed
from mapping.layout.cutting import Cutting
from mapping.layout.free_cells import MOST_COPIES, Area, Copies, choose_copies_to_average
from mapping.layout.place import LayerCopy, Place, Placement, macros_needed, place
from mapping.layout.replicate import LayerReads, choose_copies, choose_shared_copies
from mapping.layout.tile import Bundle, MatrixShape, Piece, SlicePlacement, blocks_apart
from mapping.program.limits import RESIDUAL_READS


@dataclass(frozen=True, slots=True)
class LayoutOptions:
    """Options of a layout.

    ``copies_budget``: macros that may be used in all, copies of slow layers included; None makes
    no copies. ``rounds``: a network larger than the chip is written part after part. ``averaged``: copies of layers
    stand on cells that would be idle on the network's macros, and on at most ``further_macros`` that hold nothing, and
    their sums are added. ``residual``: copies of each
    layer's highest bit slice, whose errors lower slices take up (``mapping.tune.residual``), with so many
    ``residual_reads`` of every product with it; 0: plain slices, with ``mean_reads``. ``halves``: layers of signed
    inputs may take them in two halves without signs (``mapping.quantise.halves``). ``repeat``: most times that rows
    stand in one array.
    """

    placement: Placement | None = None  # None: spread while macros last, else packed
    copies_budget: int | None = None
    rounds: bool = False
    slices: SlicePlacement = SlicePlacement.MACROS
    averaged: bool = False
    further_macros: int = 0
    residual: int = 0
    residual_reads: int = RESIDUAL_READS
    mean_reads: int = 1
    halves: bool = True
    repeat: int = 1

    @property
    def read_once(self) -> LayoutOptions:
        """These options with the usual number of reads, on the same cells."""
        return replace(self, residual_reads=RESIDUAL_READS, mean_reads=1)


IDLE_COPIES = 4
"""Copies of a layer by default: √4 takes half of its errors away; each is read and converted like the first."""

Layout = tuple[dict[str, tuple[Piece, ...]], dict[str, tuple[Place, ...]]]
"""Pieces and places of every tile of every layer, by name; a layer's copies follow each other."""


def lay_out(
    shapes: Sequence[MatrixShape], spec: ChipSpec, bits: BitWidths, options: LayoutOptions | None = None
) -> Layout:
    """Pieces and places of every layer, by name; raises ``CannotMap`` when there are too few macros."""
    options = options or LayoutOptions()
    cutting = Cutting(bits, options.slices)
    bundles = cutting.bundles(shapes, spec)
    reads = {
        s.layer: len(input_planes(spec.macro.inputs, bits.inputs_of(s.layer), False)) * parts_of(s, bundles[s.layer])
        for s in shapes
    }
    stages = [LayerReads(s.layer, len(bundles[s.layer]), s.out_rows, s.out_width, reads[s.layer]) for s in shapes]
    limited = spec
    if options.copies_budget is not None:
        _check_budget(options.copies_budget, spec)
        limited = replace(spec, macros=options.copies_budget)
    try:
        rounds = _rounds(stages, bundles, limited, options)
    except _Needs as error:
        raise _too_large(shapes, bundles, spec, cutting, options, error.macros, limited.macros) from None
    found: Layout = ({}, {})
    of = {shape.layer: shape for shape in shapes}
    for number, members in enumerate(rounds):
        own, places = _one_round(members, bundles, limited, options)
        for layer in own:
            laid = [
                (
                    part,
                    replace(at, row0=at.row0 + down, output0=bundle.first_output(i, at.output0) + across, round=number),
                )
                for bundle, at in zip(own[layer], places[layer], strict=True)
                for i, piece in enumerate(bundle.pieces)
                for part, down, across in blocks_apart(piece, of[layer])
            ]  # of a layer that goes on from the last round too
            found[0][layer] = found[0].get(layer, ()) + tuple(part for part, _ in laid)
            found[1][layer] = found[1].get(layer, ()) + tuple(at for _, at in laid)
    return found


def with_repeated_rows(
    shapes: Sequence[MatrixShape], spec: ChipSpec, bits: BitWidths, options: LayoutOptions, once: Collection[str] = ()
) -> tuple[dict[str, int], Layout]:
    """How often the rows of layers stand in one array, where more than once, and the layout with them: of small layers
    first, as often as an array and ``options`` take them and the chip has room in as many rounds.

    Args:
        once: layers that are not repeated; nor are those of several groups.
    """
    of, layout, times = {s.layer: s for s in shapes}, lay_out(shapes, spec, bits, options), dict[str, int]()
    for shape in sorted(shapes, key=lambda s: s.inputs * s.outputs):
        fixed = shape.groups > 1 or shape.layer in once
        for n in range(1 if fixed else min(options.repeat, spec.macro.logical_rows // shape.inputs), 1, -1):
            more = {**of, shape.layer: replace(shape, inputs=n * shape.inputs)}
            try:
                found = lay_out(list(more.values()), spec, bits, options)
            except CannotMap:
                continue
            if rounds_of(found) == rounds_of(layout):
                of, layout, times[shape.layer] = more, found, n
                break
    return times, layout


def parts_of(shape: MatrixShape, bundles: Sequence[Bundle]) -> int:
    """Parts in which a piece of a layer is read, one after the other, at most."""
    return max(len(blocks_apart(piece, shape)) for bundle in bundles for piece in bundle.pieces)


def area_of(piece: Piece, at: Place) -> Area:
    """The cells of a piece at its place."""
    return Area(at.macro, at.row0, at.output0, len(piece.inputs), len(piece.outputs), at.round)


def rounds_of(layout: Layout) -> int:
    """Times that the chip is written for a run of the network."""
    return 1 + max((at.round for layer in layout[1].values() for at in layer), default=0)


def idle_copies(layout: Layout, spec: ChipSpec, further: int = 0) -> Copies:
    """Further copies of layers on cells that the layout's own macros leave idle, up to ``IDLE_COPIES`` of each.

    A network of several rounds has the whole chip in each.

    Args:
        further: macros that hold nothing, which copies may take too, then up to ``MOST_COPIES`` of each.
    """
    pieces, places = layout
    layers = {
        name: tuple(map(area_of, pieces[name], places[name]))
        for name in pieces
        if not any(at.copy for at in places[name])
    }
    used = {at.macro for spots in places.values() for at in spots}
    allowed: Sequence[int] | None = None
    if rounds_of(layout) > 1:
        allowed = range(spec.macros)
    elif further:
        allowed = sorted(used) + [m for m in range(spec.macros) if m not in used][:further]
    return choose_copies_to_average(layers, spec, allowed=allowed, most=MOST_COPIES if further else IDLE_COPIES)


def with_copies(
    pieces: Sequence[Piece], places: Sequence[Place], copies: Sequence[Sequence[Area]]
) -> tuple[tuple[Piece, ...], tuple[Place, ...]]:
    """Pieces and places of a layer and its further copies, in the order of their rounds, as ``averaged`` has them."""
    every = list(zip(pieces, places, strict=True))
    for areas in copies:
        for piece, at, area in zip(pieces, places, areas, strict=True):
            every.append((piece, replace(at, macro=area.macro, row0=area.row0, output0=area.output0)))
    every.sort(key=lambda item: item[1].round)
    return tuple(piece for piece, _ in every), tuple(at for _, at in every)


@dataclass(frozen=True, slots=True)
class _Member:
    """A layer, or as many of its pieces as a round holds."""

    stage: LayerReads
    pieces: range
    whole: bool = True

    @property
    def as_one_position(self) -> LayerReads:
        """Reads of a stage that is part of a layer and is not copied, as if the layer had one position."""
        reads = self.stage.rows * self.stage.width * self.stage.reads
        return LayerReads(self.stage.layer, len(self.pieces), 1, 1, reads)


def _one_round(
    members: Sequence[_Member], bundles: Mapping[str, tuple[Bundle, ...]], spec: ChipSpec, options: LayoutOptions
) -> tuple[dict[str, tuple[Bundle, ...]], dict[str, tuple[Place, ...]]]:
    """Copies and places of the layers of one round; the caller has made sure that one copy of each fits."""
    copies = {m.stage.layer: 1 for m in members}
    most_reads = float("inf")
    if options.copies_budget is not None:

        def fits(wanted: Mapping[str, int], time: int) -> bool:
            layers = layer_copies(members, bundles, wanted)
            cells = sum(len(p.inputs) * len(p.outputs) for layer in layers for p in layer.bundles)
            if cells > spec.macros * len(spec.macro.word_lines) * spec.macro.outputs:
                return False
            return macros_needed(place(layers, spec, options.placement, most_reads=time)) <= spec.macros

        exact = spec.groups is None and options.placement is Placement.SPREAD
        stages = [m.stage if m.whole else m.as_one_position for m in members]
        if exact:
            chosen = choose_copies(stages, spec.macros)
        else:
            chosen = choose_shared_copies(stages, spec.macros, fits)
        if chosen is not None:
            copies, most_reads = chosen
    layers = layer_copies(members, bundles, copies)
    places = place(layers, spec, options.placement, most_reads=most_reads)
    own: dict[str, tuple[Bundle, ...]] = {}
    where: dict[str, tuple[Place, ...]] = {}
    for layer, spots in zip(layers, places, strict=True):
        own[layer.layer] = own.get(layer.layer, ()) + layer.bundles
        where[layer.layer] = where.get(layer.layer, ()) + spots
    return own, where


def layer_copies(
    members: Sequence[_Member], bundles: Mapping[str, tuple[Bundle, ...]], copies: Mapping[str, int]
) -> list[LayerCopy]:
    found = []
    for m in members:
        own = bundles[m.stage.layer][m.pieces.start : m.pieces.stop]
        for number, (rows, columns) in enumerate(blocks(m.stage.rows, m.stage.width, copies[m.stage.layer])):
            found.append(LayerCopy(m.stage.layer, number, own, len(rows) * len(columns) * m.stage.reads))
    return found


def _rounds(
    stages: Sequence[LayerReads],
    bundles: Mapping[str, tuple[Bundle, ...]],
    spec: ChipSpec,
    options: LayoutOptions,
) -> list[list[_Member]]:
    """Layers of each round, in order: the fewest rounds, of which the fullest takes as few macros as it can.

    So cells are left for copies in every round. A layer that alone is larger than the chip starts a round and goes on
    in the next ones.
    """
    macros = spec.macros
    every = [_Member(s, range(s.tiles)) for s in stages]

    def needed(members: Sequence[_Member]) -> int:
        once = {m.stage.layer: 1 for m in members}
        return macros_needed(place(layer_copies(members, bundles, once), spec, options.placement))

    total = needed(every)
    if total <= macros:
        return [every]
    if not options.rounds:
        raise _Needs(total)

    def packed(most: int) -> list[list[_Member]]:
        found: list[list[_Member]] = []
        for member in every:
            if found and needed([*found[-1], member]) <= most:
                found[-1].append(member)
            elif needed([member]) <= macros:
                found.append([member])
            else:
                found += [[part] for part in _parts(member, needed, macros)]
        return found

    fewest = len(packed(macros))
    return packed(1 + bisect_left(range(1, macros), True, key=lambda most: len(packed(most)) <= fewest))


class _Needs(Exception):
    """One round does not hold the network: it needs so many macros."""

    def __init__(self, macros: int) -> None:
        super().__init__(str(macros))
        self.macros = macros


def _parts(member: _Member, needed: Callable[[Sequence[_Member]], int], macros: int) -> list[_Member]:
    """A layer larger than the chip in parts that fill it."""
    found, start, tiles = [], 0, member.stage.tiles
    while start < tiles:
        low, high = start + 1, tiles  # largest stop that fits, by halves
        while low < high:
            middle = (low + high + 1) // 2
            if needed([_Member(member.stage, range(start, middle), False)]) <= macros:
                low = middle
            else:
                high = middle - 1
        found.append(_Member(member.stage, range(start, low), False))
        start = low
    return found


def needed_macros(
    shapes: Sequence[MatrixShape], spec: ChipSpec, cutting: Cutting, placement: Placement | None = None
) -> int:
    """Macros of a chip of this kind that one copy of every layer takes."""
    bundles = cutting.bundles(shapes, spec)
    return macros_needed(place([LayerCopy(name, 0, own) for name, own in bundles.items()], spec, placement))


def _check_budget(budget: int, spec: ChipSpec) -> None:
    if not 1 <= budget <= spec.macros:
        raise CannotMap(
            f"a budget of {budget} macros, but {spec.name} has {spec.macros}",
            chip=spec.name,
            macros_available=spec.macros,
            would_fit=("hil compile --copies-budget all",),
        )


def _too_large(
    shapes: Sequence[MatrixShape],
    bundles: Mapping[str, tuple[Bundle, ...]],
    spec: ChipSpec,
    cutting: Cutting,
    options: LayoutOptions,
    needed: int,
    macros: int,
) -> CannotMap:
    tiles = {name: sum(len(bundle.pieces) for bundle in layer) for name, layer in bundles.items()}
    needs = [LayerNeed(s.layer, s.inputs, s.outputs, tiles[s.layer]) for s in shapes]
    has = f"{spec.name} has {spec.macros}" if macros == spec.macros else f"the budget is {macros}"
    packed = needed_macros(shapes, spec, cutting, Placement.PACKED)
    sharing_helps = options.placement is Placement.SPREAD and packed <= macros
    return CannotMap(
        f"the network needs {needed} macros at {cutting.bits.weight}-bit weights, {has}",
        chip=spec.name,
        macros_needed=needed,
        macros_available=spec.macros,
        largest=tuple(sorted(needs, key=lambda n: -n.tiles)[:3]),
        would_fit=(
            *([f"hil compile --placement packed ({packed} macros)"] if sharing_helps else []),
            *_fewer_bits(shapes, spec, cutting, options, macros),
            *_other_chips(shapes, spec, cutting, options),
            f"--macros {needed}, for a chip that has them",
            "hil compile --with rounds, which writes the chip again for each part of the network",
        ),
    )


def _fewer_bits(
    shapes: Sequence[MatrixShape], spec: ChipSpec, cutting: Cutting, options: LayoutOptions, macros: int
) -> list[str]:
    spec = replace(spec, macros=macros)
    for bits in range(cutting.bits.weight - 1, 1, -1):
        fewer = replace(cutting, bits=replace(cutting.bits, weight=bits))
        needed = needed_macros(shapes, spec, fewer, options.placement)
        if needed <= macros:
            return [f"hil compile --weight-bits {bits} ({needed} macros)"]
    return []


def _other_chips(shapes: Sequence[MatrixShape], spec: ChipSpec, cutting: Cutting, options: LayoutOptions) -> list[str]:
    found = []
    for name in chip_names():
        other = load_chip(name)
        try:
            needed = needed_macros(shapes, other, cutting, options.placement)
        except CannotMap:  # slices do not fit side by side there
            continue
        if name != spec.name and needed <= other.macros:
            found.append(f"--chip {name} ({needed} of {other.macros} macros)")
    return found
