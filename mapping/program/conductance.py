"""A compiled network: integer levels on macros, digital steps between them, and digests.

``program.h5`` alone is enough to run, simulate and cost a network; the float network is
needed only for the float column of a report. Writing and reading of the file is in
``mapping.program.file``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from cim.chip.spec import ChipSpec
from cim.chip.windows import Window
from mapping.network.file import NO_KEYS
from mapping.network.graph import Output, Preprocess
from mapping.network.task import TaskKind, default_task
from mapping.operators.fused import matrix_work
from mapping.operators.integer.requantise import Ints, Requantise
from mapping.operators.step import Shape, Step
from mapping.operators.work import WorkForm


@dataclass(frozen=True, slots=True)
class Tile:
    """One slice of a layer's weight matrix placed on one macro.

    ``rows`` are logical rows of the macro from ``row0``; ``outputs`` logical columns from
    ``output0``. ``inputs`` are the positions of the layer's unfolded input vector that
    drive those rows. ``multiplier`` is the weight of a bit slice (1 for a single slice).
    ``levels``: int8 (rows, outputs), each one of the macro's ``weight_values``: the weights as intended,
    which the ideal product multiplies with. ``copy``: which copy of the layer it belongs to
    (``mapping.program.copies``); ``round``: when it is written (``mapping.program.rounds``).

    ``cells``: int8 (2, rows, outputs), the levels that plus and minus cells are written to; None
    is the sign form of ``levels``. They may differ from ``levels`` where cells are stuck.
    ``signs``: int8 (outputs,), −1 where plus and minus cells of a column change roles, so that its
    cells hold −levels and its correction a negative gain; None: +1 everywhere.
    """

    later: ClassVar[Mapping[str, Any]] = {"copy": 0, "round": 0}  # fields that 1.0 of the files did not have

    macro: int
    row0: int
    output0: int
    inputs: range
    outputs: range
    multiplier: int
    levels: NDArray[np.int8]
    copy: int = 0
    round: int = 0
    cells: NDArray[np.int8] | None = None
    signs: NDArray[np.int8] | None = None

    @property
    def held(self) -> NDArray[np.int16]:
        """Levels of the cells by their targets, int16 (rows, outputs): plus − minus."""
        if self.cells is None:
            return self.levels.astype(np.int16)
        held: NDArray[np.int16] = self.cells[0].astype(np.int16) - self.cells[1]
        return held


def shared_reads(multipliers: Sequence[int], most: int) -> tuple[int, ...]:
    """Reads of tiles for one product, of which those of the largest multiplier have ``most``.

    About in proportion to the multiplier m: noise of r reads counts m² / r, so that noise is least in all. Each divides
    the most, so that chips divide once.
    """
    top, most = max(multipliers), max(1, most)
    whole = [n for n in range(1, most + 1) if most % n == 0]
    return tuple(max(n for n in whole if n == 1 or n * top <= most * m) for m in multipliers)


@dataclass(frozen=True, slots=True)
class TileGroup:
    """All tiles of one layer: y = W x in integers, W being the tiles of one copy added at their places.

    ``window`` is None for a vector input. ``range_code`` selects the ADC range of every
    tile; ``saturated_share`` is the share of simulated conversions that hit its end.
    ``residual_reads``: lower slices are written to take up what the cells of the highest missed, and each product with
    the highest is the mean of so many reads (``mapping.tune.residual``), with lower ones of fewer (``reads``); 0: all
    slices are written at once, and ``mean_reads`` takes its place.
    """

    later: ClassVar[Mapping[str, Any]] = {"groups": 1, "residual_reads": 0, "mean_reads": 1}

    layer: str
    window: Window | None
    inputs: int
    outputs: int
    input_bits: int
    input_signed: bool
    range_code: int
    saturated_share: float
    tiles: tuple[Tile, ...]  # by copy, then by round
    groups: int = 1  # blocks on the diagonal of the layer's matrix
    residual_reads: int = 0
    mean_reads: int = 1

    @property
    def reads(self) -> tuple[int, ...]:
        """How often each tile is read for one product; above 1 the mean counts."""
        return shared_reads([t.multiplier for t in self.tiles], self.residual_reads or self.mean_reads)

    @property
    def copies(self) -> int:
        """Number of times that the layer's matrix stands on the chip."""
        return 1 + max(t.copy for t in self.tiles)

    @property
    def averages(self) -> int:
        """Number of times that a copy's matrix stands there, its sums added (``mapping.tune.averaged``)."""
        return max(Counter((t.copy, t.inputs.start, t.outputs.start, t.multiplier) for t in self.tiles).values())

    @property
    def pieces(self) -> tuple[Tile, ...]:
        """The first copy's tiles, each standing once: how the layer's matrix is cut."""
        found: dict[tuple[int, int, int], Tile] = {}
        for tile in self.matrix_tiles:
            found.setdefault((tile.inputs.start, tile.outputs.start, tile.multiplier), tile)
        return tuple(found.values())

    @property
    def weights(self) -> int:
        """Weights of the layer's matrix, each counted once."""
        return sum(t.levels.size for t in self.pieces)

    @property
    def matrix_tiles(self) -> tuple[Tile, ...]:
        """The tiles whose sums make the first copy: the layer's matrix, ``averages`` times."""
        return tuple(t for t in self.tiles if t.copy == 0)


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """Low-rank digital term of a layer's sums: acc += wide(up · narrow(down · x)), x the layer's unfolded inputs.

    ``down`` int8 (rank, inputs), ``up`` int8 (outputs, rank); ``narrow`` gives 16 bits, a rule of rank channels,
    ``wide`` 32 bits, a rule of the layer's outputs. Executed by the host (``mapping.program.adapter``).
    """

    down: NDArray[np.int8]
    up: NDArray[np.int8]
    narrow: Requantise
    wide: Requantise


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixStep(Step):
    """acc = group(x[input_order]) + bias (int32, (outputs,)); output[output_order] = requantise(acc).

    ``adapter`` adds its term to the group's sums.

    Tiles, bias and requantisation are in the order of places: place c of the group's input holds
    channel (of a vector: feature) ``input_order[c]``, place j of its output is output
    ``output_order[j]``. None is the identity.
    """

    kind = "matrix"

    group: TileGroup
    bias: Ints
    requantise: Requantise
    input_order: Ints | None = None
    output_order: Ints | None = None
    adapter: Adapter | None = None

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        window = self.group.window
        return (self.group.outputs,) if window is None else (self.group.outputs, window.out_height, window.out_width)

    def work(self, inputs: Sequence[Shape], after: Shape) -> WorkForm:
        return matrix_work(self.group.window)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgainStep(Step):
    """The matrix step ``layer``, which stands before, on another input: its cells are read once more.

    Bias, requantisation and orders are that step's. ``turn`` counts the uses of a layer from 1, its own being 0.
    """

    kind = "again"

    layer: str
    turn: int


@dataclass(frozen=True, slots=True)
class InputCodes:
    """Pixels to input codes: code = clamp(round(((pixel / 255 − mean) / std) / scale)), a table per channel.

    ``table``: int16 (channels, 256), so no float stands between pixels and logits.
    """

    shape: tuple[int, int, int]
    bits: int
    signed: bool
    table: NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Aims:
    """Write targets of each level, chosen so that the conductance is right at a planned age.

    ``targets_us``: one a level of the chip, ascending, µS. ``age_s``: time after programming at which the
    mean cell stands on its level. ``source``: the record or model whose mean drift was taken off.
    """

    targets_us: tuple[float, ...]
    age_s: float
    source: str


@dataclass(frozen=True, slots=True, repr=False)
class ConductanceProgram:
    """Everything needed to run one network on one kind of chip.

    ``scales`` maps each step (and ``"input"``) to the float value of one code, for reports
    only. ``outputs``: tensors that the logits hold one after the other, in a program without
    ``classes``. ``task`` is what they are for, None: classes, or what the shapes of the outputs suggest (``purpose``).
    ``preprocess`` is that of the network file, for data sets of values instead of pixels.
    ``calibration_images`` are uint8 (n, height, width, channels) training images; the digests are SHA-256 hex.
    ``adapted_to`` is the serial number of the one chip that the program is for, such as that of a training on
    the chip, None for any chip. ``trained_on`` are keys of images that
    the network was fine-tuned on (``mapping.network.file.image_keys``), ``calibration_keys`` those of the raw values
    behind the calibration images. ``tuned_to`` is the serial number of the chip
    whose answers its gains and biases were fitted to (``mapping.tune``). ``aims`` are targets beside the
    levels (``mapping.tune.aims``), None: the levels themselves. ``held_as`` is the digest under which
    a chip holds these cells, where it is not the program's own: tuning changes no cell, and a newer record's
    aims are no reason to write again. ``recipe`` is what is to be done to it on a chip, as text
    (``mapping.recipe.recipe.Recipe.text``), None: nothing of its own.
    """

    spec: ChipSpec
    input: InputCodes
    steps: tuple[Step, ...]
    classes: tuple[str, ...]
    weight_bits: int
    activation_bits: int
    scales: Mapping[str, float]
    calibration_images: NDArray[np.uint8]
    calibration_digest: str
    network_digest: str
    digest: str
    layer_weight_bits: Mapping[str, int] = field(default_factory=dict)  # of layers that differ from ``weight_bits``

    def weight_bits_of(self, layer: str) -> int:
        return self.layer_weight_bits.get(layer, self.weight_bits)

    adapted_to: str | None = None
    trained_on: NDArray[np.int64] = field(default_factory=lambda: NO_KEYS)
    calibration_keys: NDArray[np.int64] = field(default_factory=lambda: NO_KEYS)
    tuned_to: str | None = None
    aims: Aims | None = None
    held_as: str | None = None
    recipe: str | None = None
    outputs: tuple[Output, ...] = ()
    task: TaskKind | None = None
    preprocess: Preprocess | None = None

    @property
    def purpose(self) -> TaskKind:
        return self.task or default_task(self.input.shape, [output.shape for output in self.outputs])

    @property
    def logit_scale(self) -> float:
        """Value of one logit code."""
        return self.scales[self.steps[-1].name]

    def __repr__(self) -> str:
        size = f"{len(self.matrices)} layers on {len(self.macros)} macros of {self.spec.name}"
        return f"<ConductanceProgram {self.digest[:16]}: W{self.weight_bits}A{self.activation_bits}, {size}>"

    @property
    def width(self) -> int:
        """Number of logits: one a class, or all elements of all outputs."""
        return sum(output.size for output in self.outputs) or len(self.classes)

    @property
    def held_digest(self) -> str:
        """The digest under which a chip holds the cells of this program."""
        return self.held_as or self.digest

    @property
    def matrices(self) -> tuple[MatrixStep, ...]:
        return tuple(s for s in self.steps if isinstance(s, MatrixStep))

    @property
    def layers(self) -> dict[str, MatrixStep]:
        """Matrix steps by name: what an ``AgainStep`` reads."""
        return {m.name: m for m in self.matrices}

    def product_of(self, step: Step) -> MatrixStep | None:
        """The matrix step whose cells a step reads: itself, or the one that it reads again; None for digital steps."""
        if isinstance(step, AgainStep):
            return self.layers[step.layer]
        return step if isinstance(step, MatrixStep) else None

    @property
    def uses(self) -> dict[str, int]:
        """How often one run of the network reads each layer."""
        found = dict.fromkeys(self.layers, 1)
        for step in self.steps:
            if isinstance(step, AgainStep):
                found[step.layer] += 1
        return found

    @property
    def macros(self) -> tuple[int, ...]:
        """Macros in use, ascending."""
        return tuple(sorted({t.macro for m in self.matrices for t in m.group.tiles}))

    @property
    def residual(self) -> bool:
        """Whether lower slices are written to take up errors of the highest (``mapping.tune.residual``)."""
        return any(m.group.residual_reads for m in self.matrices)

    @property
    def rounds(self) -> int:
        """Number of times that the chip is written to run the network once."""
        return 1 + max((t.round for m in self.matrices for t in m.group.tiles), default=0)

    @property
    def slots(self) -> tuple[int, ...]:
        """Slots in use, ascending."""
        return tuple(sorted({self.slot(t) for m in self.matrices for t in m.group.tiles}))

    def slot(self, tile: Tile) -> int:
        """A macro in one round: round · macros of the chip + macro. With one round, the macro's number."""
        return tile.round * self.spec.macros + tile.macro

    def macro_of(self, slot: int) -> int:
        return slot % self.spec.macros
