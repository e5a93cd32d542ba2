"""The calibrated simulator: level sums of one layer of a virtual chip, in exact or fast mode.

Exact: every plane of every input is one read. A read of a tile converts, for each column,

    y    = gain / lsb · (Σ G u − wire loss) + offset + σ · N(0, 1)
    σ²   = (gain / lsb)² · v · Σ u² + conversion_noise²,   v the column's mean read variance
    code = clip(⌊y + inl(y) + ½⌋)

with u the drive of a row (``cim.array.input_drive``), G₁ u + G₃ u³ in place of G u for cubic cells whose inputs are
voltages (``cim.array.cell_iv``), and the wire loss of ``cim.array.wire_law``; read noise of all cells of a column is
one Gaussian, new in every conversion, of the variance that so many driven cells of the column have on average (which
cells are driven changes it by a few per cent from read to read). Codes are shift-added, pairs subtracted, corrected
with the record's estimates and added over tiles: the integers that ``mapping.program.execute`` expects. Fast: the same
from one product a tile (``cim.simulator.fast.moments``).

This module chooses the engine; ``cim.simulator.layer`` prepares the layer, and the engines compute.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cim.array.input_drive import InputDrive
from cim.array.wire_law import Wire
from cim.cells.read_noise import ReadNoise
from cim.chip.spec import MacroSpec
from cim.chip.windows import Window
from cim.simulator.layer import LayerEngine, NoiseKey, SimulatedLayer, SimulatedTile, prepare_layer
from cim.simulator.modes import SimulationMode


class LayerSimulator:
    """One layer of one virtual chip; ``level_sums`` is its ``Multiply.sums``.

    Arguments as in ``cim.simulator.layer.prepare_layer``, and ``mode``, an enum or its value. Raises what
    ``prepare_layer`` raises, and ValueError for an unknown mode, or in the exact mode for tiles with several reads,
    since that mode reads once.

    Example: an ideal 128-row tile of ones, all inputs 1 → every level sum 128.
    """

    def __init__(
        self,
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
        mode: SimulationMode | str = SimulationMode.EXACT,
    ) -> None:
        self.mode = SimulationMode(mode)
        if self.mode is SimulationMode.EXACT and any(tile.reads > 1 for tile in tiles):
            raise ValueError("tiles that are read several times, in the exact mode: it reads each once")
        layer = prepare_layer(
            spec,
            tiles,
            window=window,
            inputs=inputs,
            outputs=outputs,
            range_code=range_code,
            input_bits=input_bits,
            input_signed=input_signed,
            read_noise=read_noise,
            wire=wire,
            drive=drive,
            rows_alike=rows_alike,
        )
        self.layer = layer if self.mode is SimulationMode.EXACT else layer.without_tiles()
        self._engine = _engine_of(layer, self.mode)

    def level_sums(self, codes: NDArray[np.int16], key: NoiseKey) -> tuple[NDArray[np.int32], float]:
        """Simulate the layer on a batch.

        Args:
            codes: (n, channels, height, width) with a window, (n, features) without.

        Returns:
            int32 level sums (n, outputs, out height, out width), in fast mode channels last in memory, or
            (n, outputs), without bias; the share of conversions that ended on the last code of the scale, in
            fast mode an estimate (``cim.simulator.fast.moments``).

        Raises:
            ValueError: codes of another shape, or that do not fit their bits (``CodeOutOfRange``).
        """
        layer, shape = self.layer, self.layer.codes_shape
        if codes.ndim != 1 + len(shape) or codes.shape[1:] != shape:
            raise ValueError(f"codes {codes.shape}, expected (n, {', '.join(map(str, shape))})")
        sums, ends = self._engine.layer_sums(codes, key.words(len(codes)))
        share = ends / max(1, self.conversions(len(codes)))
        if layer.window is None:
            return sums.reshape(len(codes), layer.outputs), share
        return sums.reshape(len(codes), layer.outputs, layer.window.out_height, layer.window.out_width), share

    def conversions(self, images: int) -> int:
        """ADC conversions that ``images`` images take in this layer on the chip, whichever mode simulates it."""
        return self.layer.conversions(images)


def _engine_of(layer: SimulatedLayer, mode: SimulationMode) -> LayerEngine:
    """Engines are imported late: numba is large."""
    if mode is SimulationMode.EXACT:
        from cim.simulator.exact.numba_engine import ExactNumba

        return ExactNumba(layer)
    from cim.simulator.fast.numba_engine import FastNumba

    return FastNumba(layer)
