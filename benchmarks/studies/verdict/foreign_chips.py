"""Chips of other physics than the simulator's and the emulator's, as chip roles, and effects that no simulator knows.

``Mirrors`` and ``Filaments`` share nothing with ``cim.cells``, ``hil.emulator`` or the C die but the chip file:

=============  ====================================================  ================================================
               Mirrors                                               Filaments
=============  ====================================================  ================================================
write error    Laplace, one scale for all levels                     log-normal, in proportion to G
ageing         G · (1 − ν ln(1 + t)), ν of the cell                  a share of the cells loses a step at a random time
lasting noise  sixteen sines of random phase and log-spaced period   one two-state defect a cell, dwells of a Pareto law
read noise     normal, in proportion to √G                           uniform, one width
converters     flash: every threshold is off by itself               one amplifier's cubic bend, offset by column
column gain    uniform                                               log-normal, neighbours alike
wires          none                                                  each row loses by its distance
=============  ====================================================  ================================================

``Tampered`` puts an effect into the products of any chip role once it is told to.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT))

from cim.chip.converters import code_limits, conversions, input_planes, shift_add, split_planes  # noqa: E402
from cim.chip.encoding import tile_halves_us  # noqa: E402
from cim.chip.spec import ChipSpec  # noqa: E402
from firmware_protocols.messages import (  # noqa: E402
    Capability,
    CellReadings,
    Mvm,
    MvmResult,
    ProgramTile,
    Progress,
    ReadCells,
    Returns,
    Sweep,
    TileAddress,
    TileProgrammed,
)
from tests.hil.fake_chip import FakeChip  # noqa: E402

ASKED = Capability.PROGRAM_TILE | Capability.RAW | Capability.SUMS | Capability.SWEEP | Capability.WAIT
Floats = NDArray[np.float64]


class ForeignChip(FakeChip):
    """What both have in common: a clock, cells with a time of writing, products plane by plane."""

    def __init__(self, spec: ChipSpec, seed: int, lasting_us: float) -> None:
        super().__init__(spec, ASKED)
        self.rng = np.random.default_rng([0xF03E16, seed])
        self.lasting_us = lasting_us
        shape = self.cells_us.shape
        self.written_s = np.zeros(shape)
        columns = conversions(spec.macro, spec.macro.outputs)
        self.adcs = np.arange(columns) // spec.macro.adc.shared_by
        self.draw(shape, columns)

    def draw(self, shape: tuple[int, ...], columns: int) -> None:
        raise NotImplementedError

    def write_error(self, targets_us: Floats) -> Floats:
        raise NotImplementedError

    def aged(self, macro: int, age_s: Floats, now_s: float) -> Floats:
        """Conductances of a macro, lasting noise included."""
        raise NotImplementedError

    def fresh(self, g_us: Floats, reads: int) -> Floats:
        """Noise of one reading of each cell, mean of ``reads``."""
        raise NotImplementedError

    def product_noise(self, squares: Floats, columns: int) -> Floats:
        raise NotImplementedError

    def convert(self, y: Floats, at: NDArray[np.intp]) -> Floats:
        """Codes of ideal codes ``y`` (…, conversions) at these conversions of the macro."""
        raise NotImplementedError

    def row_share(self, rows: NDArray[np.intp]) -> Floats:
        return np.ones(len(rows))

    def now_us(self, macro: int) -> Floats:
        now_s = self.time_ns * 1e-9
        g = self.aged(macro, np.maximum(now_s - self.written_s[macro], 0.0), now_s)
        return np.maximum(np.where(self.stuck[macro], self.cells_us[macro], g), 0.0)

    def program_tile(self, request: ProgramTile) -> Generator[Progress | None, None, TileProgrammed]:
        at, macro = self._at(request.cells), request.cells.macro
        wanted = (request.targets != 0xFFFF) & ~self.stuck[macro][at]
        targets = request.targets * request.unit_ns / 1000
        self.cells_us[macro][at] = np.where(wanted, targets + self.write_error(targets), self.cells_us[macro][at])
        self.time_ns += 5000 * int(wanted.sum())
        self.written_s[macro][at] = np.where(wanted, self.time_ns * 1e-9, self.written_s[macro][at])
        self.held = bytes(32)
        yield Progress(int(wanted.sum()), int(wanted.sum()), 0)
        counts = self._counts(self.now_us(macro)[at], request.unit_ns)
        return TileProgrammed(request.unit_ns, counts, wanted.astype(np.uint16), wanted)

    def read_cells(self, request: ReadCells) -> CellReadings:
        block = request.cells
        g = self.now_us(block.macro)[self._at(block)]
        readings = g + self.fresh(g, request.reads)
        self.time_ns += round(block.rows * block.columns * request.reads * self.spec.timing.cell_read_ns)
        return CellReadings(request.unit_ns, self._counts(readings, request.unit_ns))

    def _product(self, tile: TileAddress, codes: NDArray[Any], request: Mvm | Sweep) -> MvmResult:
        macro = self.spec.macro
        halves = tile_halves_us(
            self.now_us(tile.macro), macro, tile.row0, tile.rows, tile.output0, tile.outputs
        ).astype(np.float64)
        share = self.row_share(np.arange(tile.row0, tile.row0 + tile.rows))
        planes = split_planes(codes, macro.inputs, request.input_bits, request.input_signed).astype(np.float64)
        driven = (planes * share) @ (halves[0] - halves[1])
        driven += self.product_noise((planes**2).sum(-1)[..., None], driven.shape[-1])
        at = np.arange(tile.output0, tile.output0 + tile.outputs)
        low, high = code_limits(macro.adc.bits, macro.adc_signed)
        raw = np.clip(self.convert(driven / macro.lsb_us(request.range_code), at), low, high)
        raw = np.ascontiguousarray(raw.transpose(1, 0, 2).astype(np.int32))
        made, ended = raw.size, int(((raw == low) | (raw == high)).sum())
        self.time_ns += 300 * made
        if request.returns is Returns.RAW:
            return MvmResult(Returns.RAW, ended, made, raw)
        steps = input_planes(macro.inputs, request.input_bits, request.input_signed)
        return MvmResult(Returns.SUMS, ended, made, shift_add(raw, macro, steps))


class Mirrors(ForeignChip):
    """See the module."""

    def draw(self, shape: tuple[int, ...], columns: int) -> None:
        rng, adcs = self.rng, int(self.adcs[-1]) + 1
        self.stuck = rng.random(shape) < 0.004
        self.cells_us[self.stuck] = rng.choice([1.0, 42.0], int(self.stuck.sum()))
        self.loss = np.abs(rng.laplace(0.0025, 0.002, shape))
        self.periods_s = np.geomspace(1e-2, 1e6, 16)
        phases = rng.uniform(0, 2 * np.pi, (16, *shape)).astype(np.float32).astype(np.float64)
        self.phases = np.moveaxis(np.concatenate([np.cos(phases), np.sin(phases)]), 0, -1)  # (…, 32)
        self.gain = rng.uniform(0.92, 1.08, columns)
        low, high = code_limits(self.spec.macro.adc.bits, self.spec.macro.adc_signed)
        self.edges = np.arange(low, high) + 0.5 + rng.normal(0, 0.25, (adcs, high - low))
        self.edges = np.sort(self.edges + rng.normal(0, 1.5, (adcs, 1)), axis=1)

    def write_error(self, targets_us: Floats) -> Floats:
        return self.rng.laplace(0.0, 0.5, targets_us.shape)

    def aged(self, macro: int, age_s: Floats, now_s: float) -> Floats:
        turned = 2 * np.pi * now_s / self.periods_s
        waves = self.phases[macro] @ np.r_[np.sin(turned), np.cos(turned)]
        # each sine has variance ½, and there are two a decade: lasting_us² a decade
        return self.cells_us[macro] * (1.0 - self.loss[macro] * np.log1p(age_s)) + self.lasting_us * waves

    def fresh(self, g_us: Floats, reads: int) -> Floats:
        return 0.25 * np.sqrt(np.maximum(g_us, 0.0) / reads) * self.rng.standard_normal(g_us.shape)

    def product_noise(self, squares: Floats, columns: int) -> Floats:
        return np.sqrt(0.0625 * 20.0 * 2 * squares) * self.rng.standard_normal((*squares.shape[:-1], columns))

    def convert(self, y: Floats, at: NDArray[np.intp]) -> Floats:
        low, _ = code_limits(self.spec.macro.adc.bits, self.spec.macro.adc_signed)
        codes = np.empty(y.shape)
        for i, column in enumerate(at):
            codes[..., i] = low + np.searchsorted(self.edges[self.adcs[column]], y[..., i] * self.gain[column])
        return codes


class Filaments(ForeignChip):
    """See the module."""

    def draw(self, shape: tuple[int, ...], columns: int) -> None:
        rng = self.rng
        self.stuck = np.repeat(rng.random((shape[0], shape[1], shape[2] // 4)) < 0.002, 4, axis=2)
        self.cells_us[self.stuck] = 0.5
        self.fails_s = 10.0 ** rng.uniform(-1, 7, shape)
        self.falls = rng.gamma(1.0, 1.2, shape)
        self.dwell_s = 1e-3 * (1.0 - rng.random(shape)) ** -0.8  # heavy tail: seconds to years
        self.high = rng.random(shape)
        walk = np.cumsum(rng.normal(0, 0.02, columns))
        self.gain = np.exp(walk - walk.mean() + rng.normal(0, 0.02, columns))
        self.offset = rng.uniform(-2.0, 2.0, columns)
        self.bend = rng.uniform(-1.2, 1.2, columns)
        self.salt = int(rng.integers(1 << 31))

    def write_error(self, targets_us: Floats) -> Floats:
        return targets_us * np.expm1(self.rng.normal(0, 0.03, targets_us.shape))

    def aged(self, macro: int, age_s: Floats, now_s: float) -> Floats:
        g = self.cells_us[macro] - np.where(age_s > self.fails_s[macro], self.falls[macro], 0.0)
        turn = np.floor(now_s / self.dwell_s[macro] + self.high[macro]).astype(np.int64) & 0xFFFFFFFF
        number = np.arange(g.size, dtype=np.int64).reshape(g.shape)
        mixed = (turn * 2654435761 + number * 40503 + self.salt) & 0xFFFFFFFF
        mixed = ((mixed ^ (mixed >> 15)) * 0x2C1B3C6D) & 0xFFFFFFFF
        up = ((mixed ^ (mixed >> 12)) & 1).astype(np.float64)
        return g + 4.0 * self.lasting_us * (up - 0.5)  # variance 4 lasting_us²: some four decades of it

    def fresh(self, g_us: Floats, reads: int) -> Floats:
        return self.rng.uniform(-2.0, 2.0, g_us.shape) / np.sqrt(reads)

    def product_noise(self, squares: Floats, columns: int) -> Floats:
        return np.sqrt(4.0 / 3.0 * 2 * squares) * self.rng.standard_normal((*squares.shape[:-1], columns))

    def convert(self, y: Floats, at: NDArray[np.intp]) -> Floats:
        full = float(code_limits(self.spec.macro.adc.bits, self.spec.macro.adc_signed)[1])
        x = y * self.gain[at]
        noisy = x + self.bend[at] * x / full * ((x / full) ** 2 - 1.0) + self.offset[at]
        return np.floor(noisy + 0.5 + self.rng.normal(0, 0.3, noisy.shape))

    def row_share(self, rows: NDArray[np.intp]) -> Floats:
        return 1.0 - 0.02 * rows / self.spec.macro.logical_rows


Values = NDArray[np.float64]


def gains(v: Values, size: float, rng: np.random.Generator) -> Values:
    """Converters whose gains are others than at calibration."""
    return v * (1.0 + size * rng.standard_normal(v.shape[-1]))


def losses(v: Values, size: float, rng: np.random.Generator) -> Values:
    """Outputs that lose the more, the farther they are."""
    return v * (1.0 - size * np.linspace(0, 1, v.shape[-1]))


def crosstalk(v: Values, size: float, rng: np.random.Generator) -> Values:
    """A column picks up a share of the one beside it."""
    return v + size * np.concatenate([np.zeros_like(v[..., :1]), v[..., :-1]], axis=-1)


def residue(v: Values, size: float, rng: np.random.Generator) -> Values:
    """A converter keeps a share of its last sample."""
    return v + size * np.concatenate([np.zeros_like(v[:1]), v[:-1]])


def compression(v: Values, size: float, rng: np.random.Generator) -> Values:
    """Large sums are too small, in proportion to the largest of the request."""
    return v * (1.0 - size * np.abs(v) / max(float(np.abs(v).max(initial=0.0)), 1.0))


EFFECTS: dict[str, Callable[[Values, float, np.random.Generator], Values]] = {
    f.__name__: f for f in (gains, losses, crosstalk, residue, compression)
}


class Tampered:
    """A chip role whose products have an effect from ``begin`` on; satisfies ``ChipHandlers``."""

    def __init__(self, chip: Any, effect: str, size: float, seed: int) -> None:
        self._chip, self._effect, self._size, self._seed = chip, effect, size, seed
        self.begun = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._chip, name)

    @property
    def capabilities(self) -> Capability:
        return self._chip.capabilities & ASKED

    def begin(self) -> None:
        self.begun = bool(self._effect)

    def mvm(self, request: Mvm) -> Any:
        return self._changed(self._chip.mvm(request), request)

    def sweep(self, request: Sweep) -> Any:
        return self._changed(self._chip.sweep(request), request)

    def _changed(self, answer: Any, request: Mvm | Sweep) -> Generator[None, None, MvmResult]:
        result = (yield from answer) if isinstance(answer, Generator) else answer
        if not self.begun or request.tile is None:
            return result
        rng = np.random.default_rng([self._seed, request.tile.row0, request.tile.output0])
        values = EFFECTS[self._effect](result.values.astype(np.float64), self._size, rng)
        return dataclasses.replace(result, values=np.rint(values).astype(np.int32))
        yield
