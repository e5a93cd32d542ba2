"""Integers after the converters: shift-add, sweeps, loaded layers, repeated reads, each beside the same done here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.chip.converters import code_limits, input_planes, shift_add
from cim.chip.correction import Correction, apply_correction, round_shift
from cim.chip.spec import SignedInput
from cim.chip.windows import Window, unfold
from firmware_protocols.messages import READ_STEP, Capability, LayerTile, LoadLayer, Returns, TileAddress
from hil.driver.chip_driver import ChipDriver
from hil.driver.selftest.bench import Bench, NotTried, expect
from hil.driver.selftest.written_tile import codes_of, first_tile, widest

READS = 16
STANDARD_ERRORS = 6.0  # apart, of means of so many reads; by chance one of 700,000 normal differences
WIDE_READS = 64  # whose sum needs more than 16 bits
MOST_WIDE_ERROR = 0.15  # of it, beside so many times the mean of single reads


def alike(one: Callable[[], NDArray[np.integer]], other: Callable[[], NDArray[np.integer]], what: str = "") -> str:
    """How two ways to the same integers agree; raises ``CheckFailed``.

    Bit by bit where a sample number brings the same noise back, as on an emulated chip. Where noise is new at each
    read: means of ``READS`` reads of both ways in turn, within ``STANDARD_ERRORS`` of them.
    """
    pairs = [(one(), other())]
    if np.array_equal(*pairs[0]):
        return "bit by bit"
    pairs += [(one(), other()) for _ in range(READS - 1)]
    first, second = np.array(pairs, np.float64).swapaxes(0, 1)
    error = np.sqrt((first.var(0, ddof=1) + second.var(0, ddof=1)) / READS)
    wrong = np.abs(first.mean(0) - second.mean(0)) > STANDARD_ERRORS * error
    expect(not wrong.any(), f"{what}{np.count_nonzero(wrong)} of {wrong.size} differ")
    return f"means of {READS} reads"


def _drives(bench: Bench) -> list[tuple[int, bool]]:
    """Widths of input codes, and whether they are signed: the widest and a narrow one."""
    inputs = bench.spec.macro.inputs
    signs = [False, True] if inputs.signed is SignedInput.PLANE else [False]
    return [(bits, signed) for bits in sorted({inputs.bits, min(3, inputs.bits)}) for signed in signs]


def sums_are_shift_added(bench: Bench) -> str:
    """SUMS are the RAW conversions, pairs subtracted, planes shifted and added, the sign plane taken off."""
    tile, macro, told = first_tile(bench), bench.spec.macro, set[str]()
    with bench.driver(Capability.RAW, Capability.SUMS) as driver:
        for bits, signed in _drives(bench):
            codes = codes_of(bench, 5, tile.rows, bits=bits, signed=signed)
            drive: dict[str, Any] = {
                "range_code": widest(bench), "sample": 3, "input_bits": bits, "input_signed": signed,
            }  # fmt: skip

            def added(codes: NDArray[np.int16] = codes, drive: dict[str, Any] = drive) -> NDArray[np.int32]:
                raw = driver.mvm(tile, codes, **drive, returns=Returns.RAW)
                counted = f"{raw.conversions} conversions counted, {raw.values.size} came"
                expect(raw.conversions == raw.values.size, counted)
                return shift_add(
                    raw.values, macro, input_planes(macro.inputs, drive["input_bits"], drive["input_signed"])
                )

            def given(codes: NDArray[np.int16] = codes, drive: dict[str, Any] = drive) -> NDArray[np.int32]:
                return driver.mvm(tile, codes, **drive).values

            told.add(alike(added, given, f"{bits} bits{', signed' * signed}: "))
    return f"{len(_drives(bench))} kinds of inputs, {', '.join(sorted(told))}"


def saturation_is_counted(bench: Bench) -> str:
    """Conversions that end at the end of the scale are counted."""
    macro, whole = bench.spec.macro, first_tile(bench)
    tile = TileAddress(0, 0, whole.rows, 0, min(2, whole.outputs))
    low, high = code_limits(macro.adc.bits, macro.adc_signed)
    full = np.full((1, tile.rows), (1 << macro.inputs.bits) - 1, np.int16)
    with bench.driver(Capability.RAW) as driver:
        driver.program_tile(tile, np.full((tile.rows, tile.outputs), max(macro.weight_values), np.int8))
        for range_code in range(len(macro.adc.full_scales_us)):
            raw = driver.mvm(tile, full, range_code=range_code, sample=9, returns=Returns.RAW)
            ends = int(np.count_nonzero((raw.values == low) | (raw.values == high)))
            expect(raw.saturated == ends, f"{raw.saturated} counted, {ends} of {raw.values.size} are at an end")
            if ends:
                return f"{ends} of {raw.values.size} in range {range_code}"
    raise NotTried(f"no conversion of {tile.rows} rows at once reaches the end of a scale")


def sweeps_are_products(bench: Bench) -> str:
    """A SWEEP is the product of every window, padding as code 0; a tile may see the later rows of a window."""
    window = Window(2, 5, 4, (3, 3), (2, 1), (1, 1), (1, 1))
    outputs, told = first_tile(bench).outputs, set[str]()
    with bench.driver(Capability.SWEEP, Capability.SUMS) as driver:
        if bench.spec.macro.logical_rows < 18:
            raise NotTried("fewer than 18 rows")
        maps = codes_of(bench, 2, 40).reshape(2, 2, 5, 4)
        unfolded = unfold(maps, window).reshape(-1, 18)
        read: dict[str, Any] = {"range_code": widest(bench), "sample": 4}
        for skip, rows in ((0, 18), (7, 11), (5, 8)):
            tile = TileAddress(0, 0, rows, 0, outputs)
            vectors = np.ascontiguousarray(unfolded[:, skip : skip + rows])

            def each(tile: TileAddress = tile, vectors: NDArray[np.int16] = vectors) -> NDArray[np.int32]:
                return driver.mvm(tile, vectors, vectors_per_sample=window.positions, **read).values

            def swept(tile: TileAddress = tile, skip: int = skip) -> NDArray[np.int32]:
                return driver.sweep(tile, maps, window, row_skip=skip, **read).values

            told.add(alike(each, swept, f"rows {skip} to {skip + rows - 1} of a window: "))
    return f"{len(unfolded)} windows, 3 tiles, {', '.join(sorted(told))}"


# --- layers -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LayerRule:
    """What a layer does to its sums: ranges from which gains are drawn, shifts, and where its codes are clamped."""

    name: str
    gains: tuple[int, int]
    gain_shift: int
    multipliers: tuple[int, int]
    shift: int
    low: int
    high: int
    weight: int = 3  # of a tile's level sums


RULES = (
    LayerRule("as usual", (1 << 16, 1 << 18), 18, (1 << 20, 1 << 22), 25, -128, 127),
    LayerRule("halves", (1 << 17, (1 << 17) + 1), 18, (1, 2), 1, -(1 << 15), (1 << 15) - 1, weight=1),
    LayerRule("wide sums", (1 << 17, 1 << 18), 18, (1 << 12, 1 << 13), 25, -128, 127, weight=2000),
    LayerRule("clamped", (1 << 16, 1 << 18), 18, (1 << 20, 1 << 22), 23, -3, 5),
)


def layers_are_integers(bench: Bench) -> str:
    """A loaded layer is its sums corrected, added to the bias, requantised, halves away from zero, clamped; anew."""
    told = set[str]()
    with bench.driver(Capability.LAYER, Capability.SUMS) as driver:
        for seed, rule in enumerate(RULES, 3):  # all under one number: each takes the place of the one before
            told.add(_layer(driver, bench, rule, seed))
    return f"{len(RULES)} layers of 2 tiles, {', '.join(sorted(told))}"


def _layer(driver: ChipDriver, bench: Bench, rule: LayerRule, seed: int) -> str:
    """Two tiles of one layer: the second takes the later inputs, and gives the later outputs."""
    whole, rng = first_tile(bench), np.random.default_rng(seed)
    half, outputs = whole.rows // 2, whole.outputs
    tiles = (TileAddress(0, 0, half, 0, outputs), TileAddress(0, half, whole.rows - half, 0, outputs - outputs // 4))
    first_outputs, inputs = (0, outputs // 4), whole.rows
    signed = bench.spec.macro.inputs.signed is SignedInput.PLANE
    codes = codes_of(bench, 12, inputs, signed=signed)
    drive: dict[str, Any] = {"range_code": widest(bench), "input_signed": signed, "sample": 5}
    gains = [rng.integers(*rule.gains, tile.outputs).astype(np.int32) for tile in tiles]
    input_gains = [rng.integers(-999, 999, tile.outputs).astype(np.int32) for tile in tiles]
    offsets = [rng.integers(-(1 << 20), 1 << 20, tile.outputs) for tile in tiles]
    if rule.shift == 1:  # exact halves must stay exact
        input_gains, offsets = [0 * one for one in input_gains], [0 * one for one in offsets]
    bias = rng.integers(-400, 400, outputs).astype(np.int32)
    multiplier = rng.integers(*rule.multipliers, outputs).astype(np.int32)
    shift = np.full(outputs, rule.shift, np.int32)
    parts = tuple(
        LayerTile(tile, tile.row0, first_outputs[n], rule.weight, rule.gain_shift, gains[n], offsets[n], input_gains[n])
        for n, tile in enumerate(tiles)
    )

    def by_hand() -> NDArray[np.int64]:
        total = np.zeros((len(codes), outputs), np.int64)
        for n, tile in enumerate(tiles):
            own = np.ascontiguousarray(codes[:, tile.row0 : tile.row0 + tile.rows])
            correction = Correction(gains[n], offsets[n], input_gains[n], rule.gain_shift)
            levels = apply_correction(driver.mvm(tile, own, **drive).values, own.sum(1, dtype=np.int64), correction)
            total[:, first_outputs[n] : first_outputs[n] + tile.outputs] += rule.weight * levels.astype(np.int64)
        return np.clip(round_shift((total + bias) * multiplier.astype(np.int64), rule.shift), rule.low, rule.high)

    driver.load_layer(LoadLayer(7, inputs, outputs, rule.low, rule.high, bias, multiplier, shift, parts))
    return alike(by_hand, lambda: driver.run_layer(7, codes, **drive).values, f"{rule.name}: ")


# --- repeated reads -----------------------------------------------------------------------------------


def reads_are_added(bench: Bench) -> str:
    """Repeated reads are the sums of single ones, in 32 bits, and a loaded layer takes their mean."""
    tile, rng, n, reads = first_tile(bench), np.random.default_rng(6), first_tile(bench).outputs, (4, 2)
    signed = bench.spec.macro.inputs.signed is SignedInput.PLANE
    codes = codes_of(bench, 6, tile.rows, signed=signed)
    gain, zeros = rng.integers(1 << 16, 1 << 18, n).astype(np.int32), np.zeros(n, np.int32)
    offset, bias = rng.integers(-(1 << 20), 1 << 20, n), rng.integers(-400, 400, n).astype(np.int32)
    drive: dict[str, Any] = {"range_code": widest(bench), "input_signed": signed}
    with bench.driver(Capability.REPEATED_READS, Capability.SUMS) as driver:

        def single() -> NDArray[np.int32]:
            return np.stack(
                [driver.mvm(tile, codes, **drive, sample=8 + k * READ_STEP).values for k in range(reads[0])]
            )

        def mean() -> NDArray[np.int64]:
            alone, total = single(), np.zeros((len(codes), n), np.int64)
            for each in reads:
                correction = Correction(gain, offset, zeros, 18).of_reads(each)
                levels = apply_correction(np.sum(alone[:each], 0), np.zeros(len(codes), np.int64), correction)
                total += 3 * (reads[0] // each) * levels.astype(np.int64)
            halves_away = np.sign(total) * ((2 * np.abs(total) + reads[0]) // (2 * reads[0]))
            return np.asarray(np.clip(halves_away + bias, -(1 << 15), (1 << 15) - 1))

        how = alike(
            lambda: np.sum(single(), 0), lambda: driver.mvm(tile, codes, **drive, sample=8, reads=reads[0]).values
        )
        _wide(driver, bench, tile)
        if Capability.LAYER not in driver.capabilities:
            return f"{len(codes) * n} sums, {how}"
        parts = tuple(LayerTile(tile, 0, 0, 3, 18, gain, offset, zeros, each) for each in reads)
        driver.load_layer(LoadLayer(7, tile.rows, n, -(1 << 15), (1 << 15) - 1, bias, zeros + 1, zeros, parts))
        how = alike(mean, lambda: driver.run_layer(7, codes, **drive, sample=8).values)
    return f"{len(codes) * n} sums, as many codes of a layer, {how}"


def _wide(driver: ChipDriver, bench: Bench, tile: TileAddress) -> None:
    """Sums beyond 16 bits are so many times the mean of single ones."""
    top = np.full((1, tile.rows), (1 << bench.spec.macro.inputs.bits) - 1, np.int16)
    single = np.mean([driver.mvm(tile, top, sample=60 + k).values for k in range(4)], 0)
    wide = driver.mvm(tile, top, sample=70, reads=WIDE_READS).values
    largest = int(np.abs(single).argmax())
    wanted, found = WIDE_READS * float(single.flat[largest]), int(wide.flat[largest])
    expect(
        abs(found - wanted) <= MOST_WIDE_ERROR * abs(wanted) + WIDE_READS * 255,
        f"{WIDE_READS} reads add up to {found}, one alone is {single.flat[largest]:.0f}",
    )


DIGITAL = (sums_are_shift_added, saturation_is_counted, sweeps_are_products, layers_are_integers, reads_are_added)
