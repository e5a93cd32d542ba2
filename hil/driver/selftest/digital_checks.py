"""Checks of integers after the converters: shift-add, sweeps, layers, repeated reads, against the host's integers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.chip.converters import code_limits, input_planes, shift_add
from cim.chip.correction import Correction, apply_correction, round_shift
from cim.chip.encoding import encode_tile
from cim.chip.spec import SignedInput
from cim.chip.windows import Window, unfold
from firmware_protocols.messages import (
    MOST_READS,
    READ_STEP,
    Capability,
    LayerTile,
    LoadLayer,
    Returns,
    TileAddress,
)
from firmware_protocols.plans import instructions as plan
from firmware_protocols.plans.arithmetic import apply
from firmware_protocols.plans.instructions import RescaleRule
from firmware_protocols.plans.plan import PIXELS, Plan, PlanStep, PlanValue
from hil.driver.chip_driver import ChipDriver
from hil.driver.selftest.limit_checks import LAYER, layer_of
from hil.driver.selftest.line import Bench, NotTried, expect

ROWS, OUTPUTS = 32, 8  # of the tile, or less on a smaller macro
READS = 16
STANDARD_ERRORS = 6.0  # apart, of means of so many reads; by chance one of 700,000 normal differences
MOST_WIDE_ERROR = 0.15  # of the sum of the most reads, beside so many times the mean of single reads


def first_tile(bench: Bench) -> TileAddress:
    macro = bench.spec.macro
    return TileAddress(0, 0, min(ROWS, macro.logical_rows), 0, min(OUTPUTS, macro.outputs))


def codes_of(
    bench: Bench, vectors: int, rows: int, *, bits: int | None = None, signed: bool = False
) -> NDArray[np.int16]:
    """Random input codes (vectors, rows) of so many bits, first both ends; bits None: the widest."""
    bits = bits or bench.spec.macro.inputs.bits
    codes = np.random.default_rng(2).integers(0, 1 << bits, (vectors, rows))
    codes[0] = np.arange(rows) % 2 * ((1 << bits) - 1)
    return (codes - (signed << (bits - 1))).astype(np.int16)


def widest(bench: Bench) -> int:
    """The converter range that holds every sum."""
    return len(bench.spec.macro.adc.full_scales_us) - 1


def write_tile(driver: ChipDriver, bench: Bench) -> tuple[TileAddress, NDArray[np.float32]]:
    """Write random levels to a tile; returns the tile and the targets of the whole macro, µS."""
    macro, tile = bench.spec.macro, first_tile(bench)
    levels = np.random.default_rng(4).choice(macro.weight_values, (tile.rows, tile.outputs)).astype(np.int8)
    cells = encode_tile(levels, macro, 0, 0)
    targets = np.full((macro.rows, macro.columns), np.nan, np.float32)
    targets[np.ix_(cells.word_lines, cells.bit_lines)] = cells.targets_us
    driver.program_cells(0, targets, sample=11)
    return tile, targets


def alike(one: Callable[[], Any], other: Callable[[], Any], what: str = "") -> str:
    """Compare two ways to compute the same integers (or answers' ``values``); says how they agree.

    Raises ``CheckFailed`` where they differ.

    Bit by bit where a sample number repeats the noise, as on an emulated chip. Where each read has new noise:
    means of ``READS`` reads of both ways in turn, within ``STANDARD_ERRORS`` of them.
    """
    pairs = [_integers(one(), other())]
    if np.array_equal(*pairs[0]):
        return "bit by bit"
    pairs += [_integers(one(), other()) for _ in range(READS - 1)]
    first, second = np.array(pairs, np.float64).swapaxes(0, 1)
    error = np.sqrt((first.var(0, ddof=1) + second.var(0, ddof=1)) / READS)
    wrong = np.abs(first.mean(0) - second.mean(0)) > STANDARD_ERRORS * error
    expect(not wrong.any(), f"{what}{np.count_nonzero(wrong)} of {wrong.size} differ")
    return f"means of {READS} reads"


def _integers(one: Any, other: Any) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    return getattr(one, "values", one), getattr(other, "values", other)


def _drives(bench: Bench) -> list[tuple[int, bool]]:
    """Widths of input codes, and whether they are signed: the widest and a narrow one."""
    inputs = bench.spec.macro.inputs
    signs = [False, True] if inputs.signed is SignedInput.PLANE else [False]
    return [(bits, signed) for bits in sorted({inputs.bits, min(3, inputs.bits)}) for signed in signs]


def sums_are_shift_added(bench: Bench) -> str:
    """SUMS are the RAW conversions, pairs subtracted, planes shifted and added, the sign plane taken off."""
    with bench.driver(Capability.RAW, Capability.SUMS) as driver:
        told = {_shift_added(driver, bench, bits, signed) for bits, signed in _drives(bench)}
    return f"{len(_drives(bench))} kinds of inputs, {', '.join(sorted(told))}"


def _shift_added(driver: ChipDriver, bench: Bench, bits: int, signed: bool) -> str:
    tile, macro = first_tile(bench), bench.spec.macro
    codes = codes_of(bench, 5, tile.rows, bits=bits, signed=signed)
    drive: dict[str, Any] = {"range_code": widest(bench), "sample": 3, "input_bits": bits}
    # where each bit is a plane, unsigned codes of the same bits drive the planes of signed ones
    pattern = (codes & ((1 << bits) - 1), False) if macro.inputs.bits_per_cycle == 1 else (codes, signed)

    def added() -> NDArray[np.int32]:
        raw = driver.mvm(tile, pattern[0], **drive, input_signed=pattern[1], returns=Returns.RAW)
        expect(raw.conversions == raw.values.size, f"{raw.conversions} conversions counted, {raw.values.size} came")
        return shift_add(raw.values, macro, input_planes(macro.inputs, bits, signed))

    given = functools.partial(driver.mvm, tile, codes, **drive, input_signed=signed)
    return alike(added, given, f"{bits} bits{', signed' * signed}: ")


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
            each = functools.partial(driver.mvm, tile, vectors, vectors_per_sample=window.positions, **read)
            swept = functools.partial(driver.sweep, tile, maps, window, row_skip=skip, **read)
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
    reads: tuple[int, int] = (1, 1)  # of the two tiles; their mean counts


RULES = (
    LayerRule("as usual", (1 << 16, 1 << 18), 18, (1 << 20, 1 << 22), 25, -128, 127),
    LayerRule("halves", (1 << 17, (1 << 17) + 1), 18, (1, 2), 1, -(1 << 15), (1 << 15) - 1, weight=1),
    LayerRule("wide sums", (1 << 17, 1 << 18), 18, (1 << 12, 1 << 13), 25, -128, 127, weight=2000),
    LayerRule("clamped", (1 << 16, 1 << 18), 18, (1 << 20, 1 << 22), 23, -3, 5),
)
AVERAGED = LayerRule("averaged", (1 << 16, 1 << 18), 18, (1, 2), 0, -(1 << 15), (1 << 15) - 1, reads=(4, 2))


def layers_are_integers(bench: Bench) -> str:
    """A loaded layer corrects sums, adds bias, requantises (halves away from zero), clamps; reloaded likewise."""
    told = set[str]()
    with bench.driver(Capability.LAYER, Capability.SUMS) as driver:
        for seed, rule in enumerate(RULES, 3):  # all under one number: each takes the place of the one before
            told.add(_layer(driver, bench, rule, seed))
    return f"{len(RULES)} layers of 2 tiles, {', '.join(sorted(told))}"


def _layer(driver: ChipDriver, bench: Bench, rule: LayerRule, seed: int) -> str:
    """Two tiles of one layer, over all outputs: the second takes the later inputs, and gives the later outputs."""
    inputs, outputs, rng = first_tile(bench).rows, bench.spec.macro.outputs, np.random.default_rng(seed)
    half, later, most, parts = inputs // 2, outputs // 4, max(rule.reads), list[LayerTile]()
    tiles = (TileAddress(0, 0, half, 0, outputs), TileAddress(0, half, inputs - half, 0, outputs - later))
    signed = bench.spec.macro.inputs.signed is SignedInput.PLANE
    codes = codes_of(bench, 12, inputs, signed=signed)
    drive: dict[str, Any] = {"range_code": widest(bench), "input_signed": signed}
    bias, shift = rng.integers(-400, 400, outputs).astype(np.int32), np.full(outputs, rule.shift, np.int32)
    multiplier = rng.integers(*rule.multipliers, outputs).astype(np.int32)
    for tile, first_output, reads in zip(tiles, (0, later), rule.reads, strict=True):
        gain = rng.integers(*rule.gains, tile.outputs).astype(np.int32)
        input_gain = rng.integers(-999, 999, tile.outputs).astype(np.int32)
        offset = rng.integers(-(1 << 20), 1 << 20, tile.outputs)
        if rule.shift == 1:  # exact halves must stay exact
            input_gain, offset = 0 * input_gain, 0 * offset
        fixed = (rule.weight, rule.gain_shift, gain, offset, input_gain, reads)
        parts.append(LayerTile(tile, tile.row0, first_output, *fixed))

    def by_hand() -> NDArray[np.int64]:
        total = np.zeros((len(codes), outputs), np.int64)
        for part in parts:
            tile, fixed = part.address, Correction(part.gain, part.offset, part.input_gain, part.shift)
            own = np.ascontiguousarray(codes[:, tile.row0 : tile.row0 + tile.rows])
            sums = _singly(driver, tile, own, part.reads, drive)
            levels = apply_correction(sums, part.reads * own.sum(1, dtype=np.int64), fixed.of_reads(part.reads))
            at = slice(part.first_output, part.first_output + tile.outputs)
            total[:, at] += rule.weight * (most // part.reads) * levels.astype(np.int64)
        total = np.sign(total) * ((2 * np.abs(total) + most) // (2 * most))
        return np.clip(round_shift((total + bias) * multiplier.astype(np.int64), rule.shift), rule.low, rule.high)

    driver.load_layer(LoadLayer(LAYER, inputs, outputs, rule.low, rule.high, bias, multiplier, shift, tuple(parts)))
    return alike(by_hand, lambda: driver.run_layer(LAYER, codes, **drive, sample=8), f"{rule.name}: ")


def _singly(
    driver: ChipDriver, tile: TileAddress, codes: NDArray[np.int16], reads: int, drive: dict[str, Any]
) -> NDArray[np.int32]:
    """Sums of several single reads, added on the host."""
    found = [driver.mvm(tile, codes, **drive, sample=8 + k * READ_STEP).values for k in range(reads)]
    return np.asarray(np.sum(found, 0, dtype=np.int32))


def reads_are_added(bench: Bench) -> str:
    """Repeated reads are the sums of single ones, in 32 bits, and a loaded layer takes their mean."""
    tile, signed = first_tile(bench), bench.spec.macro.inputs.signed is SignedInput.PLANE
    codes = codes_of(bench, 6, tile.rows, signed=signed)
    drive: dict[str, Any] = {"range_code": widest(bench), "input_signed": signed}
    with bench.driver(Capability.REPEATED_READS, Capability.SUMS) as driver:
        how = alike(
            lambda: _singly(driver, tile, codes, 4, drive),
            lambda: driver.mvm(tile, codes, **drive, sample=8, reads=4),
        )
        _wide(driver, bench, tile)
        if Capability.LAYER in driver.capabilities:
            how = _layer(driver, bench, AVERAGED, 6)
    return f"{codes.size} codes, {how}"


def _wide(driver: ChipDriver, bench: Bench, tile: TileAddress) -> None:
    """Check that 16 bits do not limit added reads: their sum is the number of reads times a single read."""
    top = np.full((1, tile.rows), (1 << bench.spec.macro.inputs.bits) - 1, np.int16)
    single = np.mean([driver.mvm(tile, top, sample=60 + k).values for k in range(4)], 0)
    wide = driver.mvm(tile, top, sample=70, reads=MOST_READS).values
    largest = int(np.abs(single).argmax())
    wanted, found = MOST_READS * float(single.flat[largest]), int(wide.flat[largest])
    expect(
        abs(found - wanted) <= MOST_WIDE_ERROR * abs(wanted) + MOST_READS * 255,
        f"{MOST_READS} reads add up to {found}, one alone is {single.flat[largest]:.0f}",
    )


# --- plans of the sequencer, beside the same steps one by one ---

PLANS, IMAGES, PASSES, PASS_STEP = 3, 3, 2, 1 << 20
LOW, HIGH = -100, 90  # where codes are clamped
NONE = np.zeros(0, np.int32)
Shape = tuple[int, ...]


def plans_are_their_steps(bench: Bench) -> str:
    """A plan is its steps, of every kind in an order drawn, for each image of each pass."""
    tile, rng, macro = first_tile(bench), np.random.default_rng(8), bench.spec.macro
    rows, outputs = tile.rows, tile.outputs
    bits, signed = min(macro.inputs.bits, 8), macro.inputs.signed is SignedInput.PLANE
    codes = codes_of(bench, IMAGES, rows, bits=bits, signed=signed)
    pixels = (codes + (signed << (bits - 1))).astype(np.uint8)[:, :, None, None]
    drive: dict[str, Any] = {"range_code": widest(bench), "input_bits": bits, "input_signed": signed}
    table, told = (np.arange(PIXELS) % (1 << bits) - (signed << (bits - 1))).astype(np.int16), set[str]()
    with bench.driver(Capability.PLAN, Capability.LAYER) as driver:
        driver.load_layer(layer_of(tile, rows, _drawn_in(rng, -99, 99, outputs)))
        for number in range(PLANS):
            made = _drawn(rng, table, rows, outputs, drive)
            driver.load_plan(made)
            by_steps = functools.partial(_by_steps, driver, made, codes, drive)
            planned = functools.partial(driver.run_plan, pixels, sample=5, passes=PASSES, pass_step=PASS_STEP)
            told.add(alike(by_steps, planned, f"plan {number}: "))
    return f"{PLANS} plans of {len(made.steps)} steps, {PASSES} passes of {IMAGES} images, {', '.join(sorted(told))}"


def _by_steps(driver: ChipDriver, made: Plan, codes: NDArray[np.int16], drive: dict[str, Any]) -> NDArray[np.int64]:
    """What a plan answers (passes, images, codes): layers by the chip, all else worked out here."""
    passes = []
    for sample in range(5, 5 + PASSES * PASS_STEP, PASS_STEP):
        values: dict[int, NDArray[np.int64]] = {0: codes.astype(np.int64)}
        for step in made.steps:
            one, inputs = step.instruction, [values[number] for number in step.inputs]
            if isinstance(one, plan.RunLayers):
                at = sample + one.turn * plan.TURN
                read = driver.run_layer(LAYER, inputs[0].astype(np.int16), **drive, sample=at)
                values[step.output] = read.values.astype(np.int64)
            else:
                values[step.output] = apply(one, inputs, made.values[step.output].shape)
        passes.append(values[made.steps[-1].output])
    return np.stack(passes)


def _drawn(rng: np.random.Generator, table: NDArray[np.int16], rows: int, outputs: int, drive: dict[str, Any]) -> Plan:
    """A layer read twice, then every other kind of step, in an order drawn; the answer holds what each of them gave."""
    values, steps = [PlanValue(0, 4, (1, rows, 1))], list[PlanStep]()

    def add(instruction: plan.Instruction, inputs: Sequence[int], *shape: int) -> int:
        values.append(PlanValue(values[-1].end, 4, shape))
        steps.append(PlanStep(instruction, tuple(inputs), len(values) - 1))
        return len(values) - 1

    def joined(parts: Sequence[int]) -> int:
        return add(plan.JoinCodes(0, (_rule(rng),) * len(parts)), parts, sum(values[n].size for n in parts))

    how = (drive["range_code"], drive["input_bits"], int(drive["input_signed"]), 0)
    vector, part = add(plan.ReshapeCodes(), (0,), rows), np.array([LAYER, 0, 1, 0, 1], np.int32)
    reads = [add(plan.RunLayers(*how, turn, NONE, NONE, NONE, part), (vector,), outputs) for turn in (0, 1)]
    last = add(plan.ReshapeCodes(), (joined(reads),), outputs, 2, 1)
    given = [last]
    for kind in rng.permutation(len(STEPS)):
        instruction, shape, *other = STEPS[kind](rng, *values[last].shape)
        seen = [last]
        if other:  # the second input: an earlier value of that shape, or the same codes under it
            like = [n for n, value in enumerate(values) if n in given[:-1] and value.shape == other[0]]
            seen.append(like[0] if like else add(plan.ReshapeCodes(), (last,), *other[0]))
        last = add(instruction, seen, *shape)
        given.append(last)
    joined([add(plan.ReshapeCodes(), (number,), values[number].size) for number in given])
    return Plan(values[-1].end, table[None], tuple(values), tuple(steps))


def _rule(rng: np.random.Generator, more: int = 0, channels: int = 1) -> RescaleRule:
    """About 1 to 2 times as much, of so many bits fewer."""
    multiplier, shift = _drawn_in(rng, 1 << 29, 1 << 30, channels), _drawn_in(rng, 29, 30, channels) + np.int32(more)
    return RescaleRule(multiplier, shift, LOW, HIGH)


def _drawn_in(rng: np.random.Generator, low: int, high: int, *shape: int) -> NDArray[np.int32]:
    return rng.integers(low, high, shape).astype(np.int32)


def _scales(rng: np.random.Generator, channels: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Weights and offsets of channels."""
    return _drawn_in(rng, -9, 9, channels, 1, 1), _drawn_in(rng, -99, 99, channels, 1, 1)


def _tables(rng: np.random.Generator, height: int, width: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """To a row more, and as many columns."""
    return _drawn_in(rng, -4, 5, height + 1, height), _drawn_in(rng, -4, 5, width, width)


def _list(*numbers: int) -> NDArray[np.int32]:
    return np.array(numbers, np.int32)


STEPS: tuple[Callable[..., tuple[Any, ...]], ...] = (
    lambda rng, c, h, w: (plan.RescaleCodes(_rule(rng, 0, c)), (c, h, w)),
    lambda rng, c, h, w: (plan.AddCodes(0, _rule(rng), _rule(rng, 1), _rule(rng)), (c, h, w), (c, h, w)),
    lambda rng, c, h, w: (plan.AddCodes(1, _rule(rng), _rule(rng, 1), _rule(rng)), (c, h, w), (c, h, w)),
    lambda rng, c, h, w: (plan.JoinCodes(1, (_rule(rng), _rule(rng, 1))), (c, 2 * h, w), (c, h, w)),
    lambda rng, c, h, w: (plan.PoolLargest(_list(2, 2, 1, 1, 1, 1)), (c, h + 1, w + 1)),
    lambda rng, c, h, w: (plan.PoolMean(_list(2, 1, 1, 1, 1, 0), _rule(rng, 1)), (c, h + 1, w)),
    lambda rng, c, h, w: (plan.PadCodes(_list(0, 1, 0)), (c, h + 1, w + 1)),
    lambda rng, c, h, w: (plan.SliceCodes(_list(c // 2, 0, 0), _list(1, 2, 1)), (c - c // 2, (h + 1) // 2, w)),
    lambda rng, c, h, w: (plan.LookUpCodes(-50, _drawn_in(rng, LOW, HIGH, 99)), (c, h, w)),
    lambda rng, c, h, w: (plan.ScaleCodes(*_scales(rng, c), _drawn_in(rng, -9, 9, 1, 1, 1), _rule(rng, 3)), (c, h, w)),
    lambda rng, c, h, w: (plan.MultiplyCodes(_rule(rng, 5)), (c, h, w), (c, h, w)),
    lambda rng, c, h, w: (plan.MultiplyMatrices(2, _rule(rng, 5)), (c, h, h), (c, w, h)),
    lambda rng, c, h, w: (plan.SumCodes(_list(2), 1, _rule(rng)), (c, h, 1)),
    lambda rng, c, h, w: (plan.ExtremeCodes(_list(1), int(rng.integers(2))), (c, 1, w)),
    lambda rng, c, h, w: (plan.PermuteAxes(_list(0, 2, 1)), (c, w, h)),
    lambda rng, c, h, w: (plan.TakeCodes(2, -7, _list(*range(w - 1, -2, -1))), (c, h, w + 1)),
    lambda rng, c, h, w: (plan.ResampleMaps(*_tables(rng, h, w), 2, _rule(rng)), (c, h + 1, w)),
    lambda rng, c, h, w: (plan.NormaliseCodes(_list(1, 2), 1, 4, 5, 6, *_scales(rng, c), _rule(rng, 8)), (c, h, w)),
    lambda rng, c, h, w: (plan.SoftmaxCodes(0, _list(*range(64000, 0, -999)), _rule(rng, 20)), (c, h, w)),
)
"""Of each kind: the step, the shape it gives of one (c, h, w), and that of its second input, if it has one."""


DIGITAL = (
    sums_are_shift_added, saturation_is_counted, sweeps_are_products, layers_are_integers, reads_are_added,
    plans_are_their_steps,
)  # fmt: skip
