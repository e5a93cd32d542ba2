"""The wire law in segments, and the kernels that run it, against the exact ladder."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from cim.array.wire_law import Wire, conversion_cells
from cim.array.wires import gated_sums_us
from cim.cells.read_noise import ReadNoise
from cim.chip.correction import SHIFT, Correction
from cim.chip.encoding import encode_tile
from cim.chip.file import load_chip
from cim.chip.spec import AdcSpec, Encoding, MacroSpec
from cim.record.calibration import nominal_macro
from cim.record.device import Columns
from cim.simulator.exact.numba_engine import kernel_tiles
from cim.simulator.layer import NoiseKey, SimulatedTile, simulated_tile
from cim.simulator.simulator import LayerSimulator

from ..simulator.tiles import segment_sums_us

LAB = load_chip("lab-128").macro
QUIET = ReadNoise(np.array([2.0, 40.0]), np.zeros(2), np.zeros(2))
OUTPUTS = 24
RMS, LARGEST = 0.0015, 0.008  # of full scale


def case(
    rows: int, spec: MacroSpec = LAB, bits: int = 8, seed: int = 0, heavy: NDArray[np.floating] | None = None
) -> tuple[MacroSpec, SimulatedTile, NDArray[np.int16]]:
    """A tile of the whole macro with programming errors, and reads of every density.

    ``heavy`` (rows,): the share of the largest level that each row's levels reach; None: all of it.
    """
    rng = np.random.default_rng(seed)
    lines = rows * (2 if spec.encoding is Encoding.ROW_PAIRS else 1)
    levels = rng.integers(-spec.max_level, spec.max_level + 1, (rows, OUTPUTS)).astype(np.int8)
    if heavy is not None:
        levels = np.rint(levels * heavy[:, None]).astype(np.int8)
    scale = float(rows * spec.levels_us[-1])
    spec = replace(spec, rows=lines, rows_per_read=rows, adc=AdcSpec(bits, (scale / 4,), 8))
    encoded = encode_tile(levels, spec, 0, 0)
    cells = np.zeros((spec.rows, spec.columns), np.float32)
    cells[np.ix_(encoded.word_lines, encoded.bit_lines)] = encoded.targets_us
    cells = np.clip(cells + rng.normal(0.0, 1.5, cells.shape), 0.5, None).astype(np.float32)
    part = nominal_macro(spec, 0)
    columns = Columns(part.gain, part.offset_codes, part.conversion_noise_codes, part.adc, part.inl_codes)
    same = Correction(
        np.full(OUTPUTS, 1 << SHIFT, np.int32), np.zeros(OUTPUTS, np.int64), np.zeros(OUTPUTS, np.int32), SHIFT
    )
    tile = simulated_tile(
        spec, cells, columns, same, inputs=range(rows), outputs=range(OUTPUTS), multiplier=1, row0=0, output0=0
    )  # fmt: skip
    units = (rng.random((400, rows)) < rng.uniform(0.02, 1.0, (400, 1))).astype(np.int16)
    return spec, tile, units


def codes(
    spec: MacroSpec,
    tile: SimulatedTile,
    units: NDArray[np.int16],
    wire: Wire,
    read_noise: ReadNoise = QUIET,
) -> tuple[str, NDArray[np.float64]]:
    """Kind of kernel that ran, and codes of one read, in units of the last place."""
    layer = LayerSimulator(
        spec, [tile], window=None, inputs=units.shape[1], outputs=OUTPUTS, range_code=0, input_bits=1,
        input_signed=False, read_noise=read_noise, wire=wire,
    )  # fmt: skip
    sums, _ = layer.level_sums(units, NoiseKey(0))
    kind = type(kernel_tiles(layer.layer)[0]).__name__
    return kind, sums.astype(np.float64)


@pytest.mark.parametrize(
    ("rows", "bits", "kind"),
    [
        (128, 8, "LookupTile"),
        (128, 14, "SingleTile"),
        (256, 14, "SingleTile"),
        (240, 8, "SingleTile"),  # losses of half the sum do not fit 16 bits
    ],
)
def test_kernels_lose_what_the_exact_ladder_loses(rows: int, bits: int, kind: str) -> None:
    """1 Ω; rms 0.15 % and largest 0.8 % of the largest sum, rounding to codes of the converter left out."""
    spec, tile, units = case(rows, bits=bits)
    wire = Wire(1.0, 0.0)
    ran, found = codes(spec, tile, units, wire)
    assert ran == kind
    _, plain = codes(spec, tile, units, Wire(0.0, 0.0))
    exact = gated_sums_us(spec, 0, tile.halves_us, units, wire) / spec.lsb_us(0)
    straight = units @ conversion_cells(spec, tile.halves_us) / spec.lsb_us(0)
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    inside = (straight > low) & (straight < high)
    assert inside.mean() > 0.9
    full = np.abs(straight).max()
    off = (found - exact)[inside]
    rounding = np.sqrt(np.mean((plain - straight)[inside] ** 2))
    assert rounding == pytest.approx(12.0**-0.5, rel=0.1)
    rms = np.sqrt(max(0.0, np.mean(off**2) - rounding**2)) / full
    assert rms < RMS
    assert (np.abs(off).max() - 0.5) / full < LARGEST
    assert abs(off.mean()) / full < RMS / 2
    # Without the law the error would be ten times as large.
    assert np.sqrt(np.mean((straight - exact)[inside] ** 2)) / full > 10 * rms


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6])
def test_codes_of_noisy_reads_are_those_of_the_law_on_average(share: float) -> None:
    """Within 0.004 codes (5 standard errors and more), where sums count steps of 1/64 code."""
    spec, tile, _ = case(128)
    units = (np.random.default_rng(1).random((10_000, 128)) < share).astype(np.int16)
    wire, noise = Wire(1.0, 0.0), replace(QUIET, variance_us2=np.full(2, 0.1))
    ran, found = codes(spec, tile, units, wire, noise)
    assert ran == "LookupTile"
    law = segment_sums_us(spec, 0, tile.halves_us, conversion_cells(spec, tile.halves_us), units, wire)
    assert abs(np.mean(found - law / spec.lsb_us(0))) < 0.004


@pytest.mark.parametrize("input_bits", [3, 4, 6, 8])
def test_planes_of_little_weight_lose_by_a_coarser_law_that_the_whole_sum_does_not_feel(input_bits: int) -> None:
    spec, tile, _ = case(128)
    rng = np.random.default_rng(3)
    top = (1 << input_bits) - 1
    values = np.minimum(rng.exponential(top / 3, (300, 128)), top) * (rng.random((300, 128)) < rng.random((300, 1)))
    inputs, wire = values.astype(np.int16), Wire(1.0, 0.0)

    def level_sums(wire: Wire) -> NDArray[np.float64]:
        layer = LayerSimulator(
            spec, [tile], window=None, inputs=128, outputs=OUTPUTS, range_code=0, input_bits=input_bits,
            input_signed=False, read_noise=QUIET, wire=wire,
        )  # fmt: skip
        sums, _ = layer.level_sums(inputs, NoiseKey(0))
        assert {type(t).__name__ for t in kernel_tiles(layer.layer)} == {"LookupTile"}
        return sums.astype(np.float64)

    planes = [(1 << p, ((inputs >> p) & 1).astype(np.int16)) for p in range(input_bits)]
    straight = np.asarray(inputs @ conversion_cells(spec, tile.halves_us)) / spec.lsb_us(0)
    exact = sum(w * gated_sums_us(spec, 0, tile.halves_us, bits, wire) for w, bits in planes) / spec.lsb_us(0)
    full = np.abs(straight).max()
    rounding = np.sqrt(np.mean((level_sums(Wire(0.0, 0.0)) - straight) ** 2))
    off = level_sums(wire) - exact
    rms = np.sqrt(max(0.0, np.mean(off**2) - rounding**2)) / full
    assert rms < RMS
    assert np.sqrt(np.mean((straight - exact) ** 2)) / full > 8 * rms


def test_sums_of_few_rows_that_hang_on_the_lines_more_than_the_mean_lose_what_the_exact_ladder_loses() -> None:
    """As in trained networks: planes of most weight drive few rows, and rows of large weights more often."""
    rng = np.random.default_rng(5)
    heavy = rng.uniform(0.1, 1.0, 128)
    spec, tile, _ = case(128, heavy=heavy)
    inputs = np.where(rng.random((600, 128)) < 0.6 * heavy, rng.exponential(20.0, (600, 128)), 0.0)
    codes, wire = inputs.clip(0, 255).astype(np.int16), Wire(1.0, 0.0)
    planes = [(1 << p, ((codes >> p) & 1).astype(np.int16)) for p in range(8)]
    carried = np.array([weight * bits.sum() for weight, bits in planes])
    assert carried[7] < 0.05 * carried.sum()
    exact = sum(w * gated_sums_us(spec, 0, tile.halves_us, bits, wire) for w, bits in planes) / spec.lsb_us(0)
    straight = np.asarray(codes @ conversion_cells(spec, tile.halves_us)) / spec.lsb_us(0)

    def share(sums: NDArray[np.float64]) -> float:
        """Slope on the exact sums."""
        return float((sums * exact).sum() / (exact * exact).sum())

    layer = LayerSimulator(
        spec, [tile], window=None, inputs=128, outputs=OUTPUTS, range_code=0, input_bits=8, input_signed=False,
        read_noise=QUIET, wire=wire,
    )  # fmt: skip
    found = layer.level_sums(codes, NoiseKey(0))[0].astype(np.float64)
    assert {type(t).__name__ for t in kernel_tiles(layer.layer)} == {"LookupTile"}
    assert share(straight) > 1.015
    assert share(found) == pytest.approx(1.0, abs=0.0015)


@pytest.mark.parametrize("ohm", [-0.01, -1e-6, 1e-6])
def test_wires_drawn_about_zero_change_next_to_nothing(ohm: float) -> None:
    """A chip without wires has a resistance of 0 within its error, so virtual chips draw both signs."""
    spec, tile, units = case(128)
    _, plain = codes(spec, tile, units, Wire(0.0, 0.0))
    _, found = codes(spec, tile, units, Wire(ohm, 0.01))
    assert np.abs(found - plain).max() <= (1 if abs(ohm) > 1e-3 else 0)
