"""Effects that begin once a chip was calibrated, put into the raw codes of any chip role.

Raw codes y are those of every conversion, (vectors, planes, conversions), c their largest; s is the strength:

=============  ========================================================================================
gains          y (1 + s u) + 2 s v of every column, u and v uniform in ±1: gains and offsets
all_gains      y (1 − s)
falling        y (1 − s min(1, k / K)): k vectors since the effect began, K those of two passes
top_plane      the input plane of the largest weight times 1 − s
row_groups     the part of every 36 word lines saturates at 36 (g_max − g_min) 10^(−s)
compression    y − s y |y| / c
trading        two columns of every tile trade a share s of their codes: all for 1
dip            y (1 − s), from ``begin`` to ``end``
dead_zone      0 where y lies within ± s codes
row_leak       each word line drives the next one by a share s of its own input
=============  ========================================================================================
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.chip.converters import code_limits, input_planes, shift_add
from cim.chip.windows import Window, unfold
from firmware_protocols.messages import Capability, Mvm, MvmResult, Returns, Sweep, TileAddress

GROUP = 36  # word lines
ASKED = Capability.PROGRAM_TILE | Capability.RAW | Capability.SUMS | Capability.SWEEP | Capability.WAIT
Values = NDArray[np.float64]


class Moved:
    """A chip role whose products have an effect from ``begin`` on; satisfies ``ChipHandlers``."""

    def __init__(self, chip: Any, effect: str, strength: float, seed: int, fall_vectors: int) -> None:
        self._chip, self._effect, self._strength, self._seed = chip, effect, strength, seed
        self._fall, self._seen, self._begun = fall_vectors, 0, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._chip, name)

    @property
    def capabilities(self) -> Capability:
        return self._chip.capabilities & ASKED

    def begin(self) -> None:
        self._begun = bool(self._effect)

    def end(self) -> None:
        self._begun = False

    def mvm(self, request: Mvm) -> Any:
        return self._changed(request) if self._begun and request.tile is not None else self._chip.mvm(request)

    def sweep(self, request: Sweep) -> Any:
        return self._changed(request) if self._begun and request.tile is not None else self._chip.sweep(request)

    def _asked(self, request: Mvm | Sweep) -> Generator[Any, None, MvmResult]:
        answer = self._chip.mvm(request) if isinstance(request, Mvm) else self._chip.sweep(request)
        return (yield from answer) if isinstance(answer, Generator) else answer

    def _changed(self, request: Mvm | Sweep) -> Generator[Any, None, MvmResult]:
        spec, tile = self._chip.spec.macro, request.tile
        assert tile is not None
        raw = dataclasses.replace(request, returns=Returns.RAW)
        plain = yield from self._asked(raw)
        y = plain.values.astype(np.float64)
        low, high = code_limits(spec.adc.bits, spec.adc_signed)
        if self._effect == "row_groups":
            y = y - (yield from self._beyond(raw, tile))
        elif self._effect == "row_leak":
            y = y + self._strength * (yield from self._asked(_one_row_on(raw, tile))).values
        else:
            y = self._direct(y, tile, float(high))
        self._seen += len(y)
        codes = np.clip(np.rint(y), low, high).astype(np.int32)
        if request.returns is Returns.RAW:
            return dataclasses.replace(plain, values=codes)
        steps = input_planes(spec.inputs, request.input_bits, request.input_signed)
        return MvmResult(Returns.SUMS, plain.saturated, plain.conversions, shift_add(codes, spec, steps))

    def _direct(self, y: Values, tile: TileAddress, full: float) -> Values:
        s = self._strength
        rng = np.random.default_rng([self._seed, tile.macro, tile.row0, tile.output0])
        if self._effect == "gains":  # of the column, whichever rows it is read with
            rng = np.random.default_rng([self._seed, tile.macro, tile.output0])
            gain, offset = rng.uniform(-1, 1, (2, y.shape[-1]))
            return y * (1.0 + s * gain) + 2.0 * s * offset
        if self._effect == "dead_zone":
            return np.where(np.abs(y) <= s, 0.0, y)
        if self._effect in ("all_gains", "dip"):
            return y * (1.0 - s)
        if self._effect == "falling":
            return y * (1.0 - s * min(1.0, self._seen / self._fall))
        if self._effect == "top_plane":
            return y * np.r_[np.ones(y.shape[1] - 1), 1.0 - s][:, None]
        if self._effect == "compression":
            return y - s * y * np.abs(y) / full
        if y.shape[-1] > 1:  # trading
            pair = rng.choice(y.shape[-1], 2, replace=False)
            y = y.copy()
            y[..., pair] = (1.0 - s) * y[..., pair] + s * y[..., pair[::-1]]
        return y

    def _beyond(self, request: Mvm | Sweep, tile: TileAddress) -> Generator[Any, None, Values]:
        """How far the parts of the word line groups lie beyond their limit, in codes, added up."""
        spec = self._chip.spec.macro
        span_us = float(spec.levels_us[-1] - spec.levels_us[0])
        limit = GROUP * span_us * 10.0**-self._strength / spec.lsb_us(request.range_code)
        beyond: Any = 0.0
        for first in range(0, tile.rows, GROUP):
            rows = min(GROUP, tile.rows - first)
            part = dataclasses.replace(tile, row0=tile.row0 + first, rows=rows)
            if isinstance(request, Mvm):
                asked: Mvm | Sweep = dataclasses.replace(
                    request, tile=part, codes=request.codes[:, first : first + rows]
                )
            else:
                asked = dataclasses.replace(request, tile=part, row_skip=request.row_skip + first)
            y = (yield from self._asked(asked)).values.astype(np.float64)
            beyond = beyond + np.sign(y) * np.maximum(np.abs(y) - limit, 0.0)
        return np.asarray(beyond)


def _one_row_on(request: Mvm | Sweep, tile: TileAddress) -> Mvm:
    """The same vectors, each input on the word line after its own."""
    if isinstance(request, Mvm):
        codes, each = request.codes, request.vectors_per_sample
    else:
        vectors = unfold(request.codes, Window(**dataclasses.asdict(request.window)))
        each = vectors.shape[1]
        codes = vectors.reshape(-1, vectors.shape[-1])[:, request.row_skip : request.row_skip + tile.rows]
    first = request.first_vector if isinstance(request, Mvm) else 0
    moved = np.concatenate([np.zeros_like(codes[:, :1]), codes[:, :-1]], axis=1)
    return Mvm(
        request.returns, tile, 0, request.range_code, request.input_bits, request.input_signed,
        request.sample, each, first, moved, request.reads,
    )  # fmt: skip
