"""One layer of one virtual chip in the form that all engines use: cells in ADC codes, geometry, drive, noise keys.

Modes and engines import this module; it imports none of them. Conductances and converters of the virtual chip
come from ``cim.record.device``; the correction comes from the caller, as the real chip's does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cim.array.cell_iv import line_halves_us, unit_parts
from cim.array.input_drive import InputDrive, check_drive, driven_units
from cim.array.wire_law import Wire, conversion_cells, conversion_load, line_gaps, max_unit
from cim.array.wires import row_driven_halves_us
from cim.cells.read_noise import ReadNoise
from cim.chip.converters import Plane, code_limits, input_planes, split_planes, to_offset
from cim.chip.correction import Correction
from cim.chip.encoding import tile_halves_us
from cim.chip.spec import MacroSpec, PairSubtraction, Sensing, SignedInput, WordLine
from cim.chip.windows import Window
from cim.record.calibration import tile_conversions
from cim.record.device import Columns

PURPOSE = 0x51B  # first word of every noise key of the simulator


@dataclass(frozen=True, slots=True)
class NoiseKey:
    """Key of one noise stream; image i of a call uses ``first_image`` + i, or ``first_image`` + ``chosen[i]``.

    The same key gives the same noise whatever the batch; another ``seed``, ``chip``
    (virtual chip), ``layer`` or image gives noise independent of it.
    """

    seed: int
    chip: int = 0
    layer: int = 0
    first_image: int = 0
    chosen: tuple[int, ...] | None = None

    def words(self, images: int) -> NDArray[np.uint32]:
        """Keys of the images of a call, two 32-bit words each: (images, 2).

        The stream's 64-bit key comes from ``SeedSequence``; images step through splitmix64
        (Steele, Lea and Flood, doi:10.1145/2660193.2660195).
        """
        stream = np.random.SeedSequence((PURPOSE, self.seed, self.chip, self.layer)).generate_state(1, np.uint64)[0]
        each = range(images) if self.chosen is None else self.chosen
        if len(each) != images:
            raise ValueError(f"{images} images, {len(each)} chosen")
        number = np.array(each, dtype=np.uint64) + np.uint64(self.first_image)
        x = number * np.uint64(0x9E3779B97F4A7C15) + stream
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.ascontiguousarray(x ^ (x >> np.uint64(31)))[:, None].view(np.uint32)


@dataclass(frozen=True, slots=True)
class SimulatedTile:
    """One tile as one virtual chip holds it.

    ``inputs`` are positions of the layer's unfolded input vector, ``outputs`` of its outputs, ``row0`` and ``output0``
    the tile's place on the macro. ``halves_us`` (2, rows, outputs) µS. Converter arrays are (conversions,) in raw
    order, ``inl_codes`` (conversions, nodes); meaning as in ``cim.record.calibration.MacroCalibration``. ``reads``:
    repeated reads of each product, which are averaged: in the fast mode by smaller errors; the exact mode reads once.
    """

    inputs: range
    outputs: range
    multiplier: int
    row0: int
    halves_us: NDArray[np.float32]
    gain: NDArray[np.float64]
    offset_codes: NDArray[np.float64]
    conversion_noise_codes: NDArray[np.float64]
    inl_codes: NDArray[np.float64]
    correction: Correction
    output0: int = 0
    reads: int = 1


def simulated_tile(
    spec: MacroSpec,
    cells_us: NDArray[np.floating],
    columns: Columns,
    correction: Correction,
    *,
    inputs: range,
    outputs: range,
    multiplier: int,
    row0: int,
    output0: int,
    reads: int = 1,
) -> SimulatedTile:
    """Give one tile of a virtual macro.

    Args:
        cells_us: the whole macro, (rows, columns) µS (``cim.record.device.draw_programming``).
        columns: its converters (``cim.record.device.draw_columns``).
        row0, output0: the tile's place, as in ``mapping.program.conductance.Tile``.
    """
    at = tile_conversions(spec, output0, len(outputs))
    halves = tile_halves_us(cells_us, spec, row0, len(inputs), output0, len(outputs))
    return SimulatedTile(
        inputs=inputs,
        outputs=outputs,
        multiplier=multiplier,
        row0=row0,
        halves_us=halves,
        gain=columns.gain[at] * sensing_factor(spec, halves),
        offset_codes=columns.offset_codes[at],
        conversion_noise_codes=columns.conversion_noise_codes[at],
        inl_codes=columns.inl_codes[columns.adc[at]],
        correction=correction,
        output0=output0,
        reads=reads,
    )


@dataclass(frozen=True, slots=True)
class PreparedTile:
    """A tile in units of ADC codes, rows ordered along the line: the input of all engines.

    ``cells`` float64 (rows, conversions), gain / lsb · G, on a binary grid so fine that a single-precision sum over
    rows of whole units is exact (then no order of addition changes a bit); ``cubic`` None, or what u³ is multiplied
    with (``cim.array.cell_iv.unit_parts``), like ``cells``, which then are gain / lsb · G₁; ``variance`` float64 (rows,
    conversions), codes², of one read of each cell, and ``mean_variance`` of a column's cells: σ² = mean_variance · Σ u²
    + conversion_noise²; ``order`` (rows,) the unfolded input position of each row; ``gaps`` (rows,) pitches from each
    row to the next. Of the wires, the coarse law of ``cim.simulator.fast.moments``: ``wire`` (conversions,) codes that
    a code of the converted sum and a driven unit lose per pitch. Exact engines take ``cim.array.wire_segments`` where
    ``wire`` is not zero. ``tile`` holds the cells as loads of the lines: the given conductances, except for cubic cells
    (``line_halves_us``) and cells that already contain the wires.
    """

    order: NDArray[np.int64]
    gaps: NDArray[np.float64]
    cells: NDArray[np.float64]
    variance: NDArray[np.float64]
    wire: NDArray[np.float64]
    tile: SimulatedTile
    cubic: NDArray[np.float64] | None = None

    @property
    def mean_variance(self) -> NDArray[np.float64]:
        """Read variance of a driven unit on average over a column's cells, codes²: (conversions,)."""
        return np.asarray(self.variance.mean(0))


def _on_grid(values: NDArray[np.float64], unit: int) -> NDArray[np.float64]:
    """Rounded to a power of two that keeps every sum of ``values`` · unit within 24 bits."""
    largest = float(np.abs(values).sum(0).max(initial=0.0)) * unit
    if largest == 0.0:
        return values
    step = 2.0 ** (np.ceil(np.log2(largest)) - 23)
    return np.asarray(np.rint(values / step) * step)


def prepare_tile(
    spec: MacroSpec, tile: SimulatedTile, range_code: int, read_noise: ReadNoise, wire: Wire
) -> PreparedTile:
    """Bring one tile to code units (see ``PreparedTile``).

    Where word lines drive rows, effective conductances replace the cells, and the wire loss is contained in them.
    """
    plus, minus = read_noise.at(tile.halves_us)
    linear, cubic = unit_parts(spec, tile.halves_us)
    if spec.word_line is WordLine.ROW and wire.ohm != 0.0:
        effective = row_driven_halves_us(spec, tile.row0, tile.output0, tile.halves_us, wire)
        left = effective / np.maximum(tile.halves_us, 1e-9)
        plus, minus = plus * left[0] ** 2, minus * left[1] ** 2
        if cubic is None:
            linear = np.asarray(effective, np.float64)
        else:
            linear, cubic = linear * left, cubic * left
        tile, wire = replace(tile, halves_us=effective), Wire(0.0, 0.0, wire.end)
    elif cubic is not None:
        tile = replace(tile, halves_us=line_halves_us(spec, tile.halves_us))
    rows = len(tile.inputs)
    order, gaps = line_gaps(spec, tile.row0, rows, wire.end)
    per_us = tile.gain / spec.lsb_us(range_code)
    unit = max_unit(spec)
    cells = conversion_cells(spec, linear)[order] * per_us
    if spec.paired and spec.pair_subtraction is PairSubtraction.ANALOG:
        minus = -minus  # currents are subtracted, variances add
    variance = conversion_cells(spec, np.stack([plus, minus]))[order] * per_us**2
    return PreparedTile(
        order=order + tile.inputs.start,
        gaps=gaps,
        cells=_on_grid(cells, unit),
        variance=variance,
        wire=conversion_load(spec, tile.halves_us) * (wire.ohm * 1e-6 / unit),
        tile=tile,
        cubic=None if cubic is None else conversion_cells(spec, cubic)[order] * per_us,
    )


@dataclass(frozen=True, eq=False)
class SimulatedLayer:
    """One layer of one virtual chip, its cells in units of ADC codes (``prepare_layer``).

    ``inputs`` rows of the unfolded input, ``outputs``; ``window`` None for a matrix. ``planes`` are the reads that a
    code takes, ``limits`` the first and last code of a converter. ``drive`` None: ideal row drivers. ``rows_alike``:
    inputs of neighbouring rows are similar, as pixels of a picture are; the fast mode then computes wire losses plane
    by plane. ``conversions_a_place``: conversions of all tiles and reads in one plane, known also without tiles
    (``without_tiles``).
    """

    spec: MacroSpec
    tiles: tuple[PreparedTile, ...]
    window: Window | None
    inputs: int
    outputs: int
    range_code: int
    input_bits: int
    input_signed: bool
    planes: tuple[Plane, ...]
    limits: tuple[int, int]
    wire: Wire
    drive: InputDrive | None
    rows_alike: bool
    conversions_a_place: int

    def without_tiles(self) -> SimulatedLayer:
        """This layer without its cell arrays, for engines that hold the cells in a form of their own."""
        return replace(self, tiles=())

    @property
    def map_window(self) -> Window:
        """The window over feature maps; a matrix counts as a kernel of one place."""
        return self.window or Window(self.inputs, 1, 1)

    @property
    def codes_shape(self) -> tuple[int, ...]:
        """Shape of one image's codes."""
        if self.window is None:
            return (self.inputs,)
        return self.window.channels, self.window.height, self.window.width

    @property
    def offset_inputs(self) -> bool:
        """Whether 2^(b−1) is added to every code before it is driven."""
        return self.input_signed and self.spec.inputs.signed is SignedInput.OFFSET

    @property
    def driven_signed(self) -> bool:
        """Whether driven codes may be below zero."""
        return self.input_signed and not self.offset_inputs

    def driven(self, codes: NDArray[np.int16]) -> NDArray[np.int16]:
        """Codes that the row drivers receive: ``codes``, with the offset added on chips with offset inputs."""
        return to_offset(codes, self.input_bits) if self.offset_inputs else codes

    def units(self, driven: NDArray[np.int16]) -> NDArray[np.float32]:
        """Input units of the rows in each plane, for driven codes (…, rows): (planes, …, rows)."""
        units = split_planes(driven, self.spec.inputs, self.input_bits, self.input_signed)
        return driven_units(units, self.drive).astype(np.float32)

    def conversions(self, images: int) -> int:
        """ADC conversions that ``images`` images take on the chip."""
        return images * self.map_window.positions * len(self.planes) * self.conversions_a_place


def prepare_layer(
    spec: MacroSpec,
    tiles: Sequence[SimulatedTile],
    *,
    window: Window | None,
    inputs: int,
    outputs: int,
    range_code: int,
    input_bits: int,
    input_signed: bool,
    read_noise: ReadNoise,
    wire: Wire,
    drive: InputDrive | None = None,
    rows_alike: bool = False,
) -> SimulatedLayer:
    """Give a layer with its cells in units of ADC codes.

    Args:
        tiles: tiles of the virtual chip (``simulated_tile``).
        drive: drive of rows by input unit where a read takes several bits; None: ideal row drivers.
        rows_alike: see ``SimulatedLayer``.

    Raises:
        ValueError: tiles or window do not fit the layer, or the drive table has other input units.
    """
    check_drive(spec, drive)
    if window is not None and window.rows != inputs:
        raise ValueError(f"a window of {window.rows} rows for a layer of {inputs} inputs")
    for tile in tiles:
        if tile.halves_us.shape != (2, len(tile.inputs), len(tile.outputs)):
            raise ValueError(f"cells {tile.halves_us.shape} for a tile {len(tile.inputs)} x {len(tile.outputs)}")
        if tile.inputs.stop > inputs or tile.outputs.stop > outputs:
            raise ValueError(f"tile {tile.inputs} x {tile.outputs} in a layer of {inputs} x {outputs}")
    prepared = tuple(prepare_tile(spec, tile, range_code, read_noise, wire) for tile in tiles)
    return SimulatedLayer(
        spec=spec,
        tiles=prepared,
        window=window,
        inputs=inputs,
        outputs=outputs,
        range_code=range_code,
        input_bits=input_bits,
        input_signed=input_signed,
        planes=input_planes(spec.inputs, input_bits, input_signed),
        limits=code_limits(spec.adc.bits, spec.adc_signed),
        wire=wire,
        drive=drive if drive is not None and drive.errors.any() else None,  # without errors it is none
        rows_alike=rows_alike,
        conversions_a_place=sum(t.tile.reads * len(t.wire) for t in prepared),
    )


class LayerEngine(Protocol):
    """A layer prepared by one engine for one mode; the layer itself is not changed."""

    def layer_sums(self, codes: NDArray[np.int16], keys: NDArray[np.uint32]) -> tuple[NDArray[np.int32], int]:
        """Level sums (n, outputs, positions) of codes under the noise keys of their images (``NoiseKey.words``), and
        the number of conversions on the last code of the scale (in the fast mode: expected beyond it).

        Raises:
            CodeOutOfRange: codes do not fit the layer's bits.
        """
        ...


def sensing_factor(spec: MacroSpec, halves_us: NDArray[np.floating]) -> NDArray[np.float64]:
    """Factor on the sum of each conversion of a tile, (conversions,), of its cells (2, rows, outputs) in µS.

        V_j ∝ Σ_i G_ij u_i / Σ_i G_ij,    factor_j = mean_j Σ_i G_ij / Σ_i G_ij

    so that a tile's mean column has the full scale of the chip file: a column of much conductance gives fewer codes
    for the same sum, and the converter's steps and noise weigh more on it. All ones where currents are sensed.

    Example: two columns of 10 and 30 µS in all give factors of 2 and 0.667.
    """
    plus, minus = (np.asarray(half, np.float64) for half in halves_us)
    if spec.paired and spec.pair_subtraction is PairSubtraction.ANALOG:
        minus = -minus  # currents are subtracted there, what loads the line adds
    total = conversion_cells(spec, np.stack([plus, minus])).sum(0)
    if spec.sensing is Sensing.CURRENT or not total.any():
        return np.ones(len(total))
    return np.asarray(total.mean() / np.maximum(total, 1e-3 * total.mean()))
