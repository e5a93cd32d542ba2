"""Patterns that a calibration writes and drives: the test pattern, ramps, random vectors, near and far rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cim.chip.encoding import encode_tile
from cim.chip.spec import MacroSpec

LEAST_SHARE = 0.75  # of an even share of the weights that each level has at least, as far as these are enough
RAMP = 4  # every fourth vector belongs to a ramp
BLOCKS = (8, 16, 32, 64)  # rows driven side by side, to tell wires
STEP_SHARE = (0.15, 0.6)  # of every second row, driven alike to tell row drivers: full drive ends few scales


def pattern_levels(spec: MacroSpec, rng: np.random.Generator) -> NDArray[np.int8]:
    """Random levels (logical rows, outputs): mostly positive in even rows, mostly negative in odd ones.

    Driving only even or only odd rows then reaches the ends of a converter's scale. Where chance leaves a level with
    few cells, as in a macro of 32 x 32 one time in nine, levels are dealt out evenly.
    """
    values = np.array(spec.weight_values)
    up, down = values[values >= 0], values[values <= 0][::-1]
    sizes, weights = max(len(up), len(down)), spec.logical_rows * spec.outputs
    size = rng.integers(0, sizes, (spec.logical_rows, spec.outputs))
    if np.bincount(size.ravel(), minlength=sizes).min() < int(LEAST_SHARE * weights / sizes):
        size = rng.permutation(np.arange(weights) % sizes).reshape(size.shape)
    sign = np.where(np.arange(spec.logical_rows) % 2 == 0, 1, -1)[:, None]
    flip = np.where(rng.random(size.shape) < 0.2, -1, 1)
    signed = np.where(sign * flip > 0, up[np.minimum(size, len(up) - 1)], down[np.minimum(size, len(down) - 1)])
    return signed.astype(np.int8)


def pattern_targets_us(spec: MacroSpec, levels: NDArray[np.int8]) -> NDArray[np.float32]:
    """Targets (rows, columns) of a pattern that fills the macro; NaN in rows out of service."""
    targets = np.full((spec.rows, spec.columns), np.nan, np.float32)
    tile = encode_tile(levels, spec, 0, 0)
    targets[np.ix_(tile.word_lines, tile.bit_lines)] = tile.targets_us
    return targets


def transfer_vectors(spec: MacroSpec, count: int, rng: np.random.Generator) -> NDArray[np.int16]:
    """Input codes of one read, (count, logical rows), over the whole scale of the converters.

    Every fourth vector is a step of a ramp: n rows driven, even ones only or odd ones only, n
    from 1 to all of them. The others drive a random share of the even and of the odd rows, every
    second of them few rows: there read noise is small and offsets show. Each vector drives at least one row:
    without noise to blur the rounding, an offset would be known to half a code only.
    """
    rows = spec.logical_rows
    number = np.arange(count)
    most = np.where(number % 2 == 0, 1.0, 0.2)[:, None]
    share = (most * rng.random((count, 2)))[:, np.arange(rows) % 2]
    on = rng.random((count, rows)) < share
    ramp = number % RAMP == RAMP - 1
    half = -(-rows // 2)
    driven = 1 + (number // RAMP // 2) * 7 % half  # 7 and half have no common divisor but 1 for usual arrays
    rank = rng.random((count, rows)).argsort(1).argsort(1) + rows * (
        np.arange(rows) % 2 != (number // RAMP % 2)[:, None]
    )
    on[ramp] = (rank.argsort(1).argsort(1) < np.minimum(driven, rows // 2)[:, None])[ramp]
    on[number, rng.integers(0, rows, count)] |= ~on.any(1)
    return _coded(spec, on, rng)


def block_vectors(spec: MacroSpec, count: int, rng: np.random.Generator) -> NDArray[np.int16]:
    """Input codes of one read, (count, logical rows): rows side by side, near one end or near the other.

    Blocks of 8 to 64 rows somewhere along the array, every second or all of their rows driven:
    what is lost on the lines depends on where they lie, what gain and offset do does not.
    """
    rows = spec.logical_rows
    length = np.minimum(np.array(BLOCKS)[np.arange(count) % len(BLOCKS)], rows)
    first = (rng.random(count) * (rows - length + 1)).astype(np.int64)
    place = np.arange(rows)
    inside = (place >= first[:, None]) & (place < (first + length)[:, None])
    kind = rng.integers(0, 3, count)[:, None]  # even rows, odd rows, all
    return _coded(spec, inside & ((kind == 2) | (place % 2 == kind)), rng)


def step_vectors(spec: MacroSpec, subsets: int, rng: np.random.Generator) -> NDArray[np.int16]:
    """Input codes of one read, (subsets · largest unit, logical rows): the same rows at each unit from 1 on.

    Every subset is a random share of the even rows or of the odd ones, so that sums reach both ends of the scale.
    What is wrong about its cells or columns is common to all units.
    """
    rows, top = spec.logical_rows, (1 << spec.inputs.bits_per_cycle) - 1
    parity = np.arange(subsets)[:, None] % 2
    share = rng.uniform(*STEP_SHARE, (subsets, 1))
    on = (rng.random((subsets, rows)) < share) & (np.arange(rows) % 2 == parity)
    on[np.arange(subsets), np.arange(subsets) % 2 % rows] |= ~on.any(1)
    return np.asarray(on[:, None, :] * np.arange(1, top + 1)[:, None], np.int16).reshape(-1, rows)


def zero_vectors(spec: MacroSpec, count: int, rng: np.random.Generator) -> NDArray[np.int16]:
    """Input codes of one read, (count, logical rows): one row at the smallest input, all rows in turn, in random order.

    Conversions whose cells of that row nearly cancel see next to no input, but the read's noise.
    """
    rows = spec.logical_rows
    turn = np.concatenate([rng.permutation(rows) for _ in range(-(-count // rows))])[:count]
    return np.asarray(np.arange(rows) == turn[:, None], np.int16)


def network_vectors(spec: MacroSpec, count: int, rng: np.random.Generator) -> NDArray[np.int16]:
    """Input codes like a network's activations after a rectifier, (count, logical rows).

    Half of them zero, the rest exponential, so that few come near the largest code.
    """
    top = (1 << spec.inputs.bits) - 1
    size = np.ceil(rng.exponential(top / 5.0, (count, spec.logical_rows)))
    on = rng.random(size.shape) < 0.5
    return np.where(on, np.minimum(size, top), 0).astype(np.int16)


def wide_range(spec: MacroSpec) -> int:
    """The ADC range that half of all cells at the top level just fill."""
    unit = (1 << spec.inputs.bits_per_cycle) - 1
    reach = spec.logical_rows / 4 * (spec.levels_us[-1] - spec.levels_us[0]) * unit / 2
    wide = [i for i, scale in enumerate(spec.adc.full_scales_us) if scale >= reach]
    return wide[0] if wide else len(spec.adc.full_scales_us) - 1


def _coded(spec: MacroSpec, on: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.int16]:
    codes = rng.integers(1, 1 << spec.inputs.bits_per_cycle, on.shape)
    return np.where(on, codes, 0).astype(np.int16)
