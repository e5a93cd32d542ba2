"""Verbs that multiply: vectors, kernel windows over feature maps, whole layers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from cim.chip.converters import input_planes, shift_add
from cim.chip.windows import Window, unfold
from firmware_protocols.messages import (
    Capability,
    LoadLayer,
    Mvm,
    MvmResult,
    Returns,
    Sweep,
    TileAddress,
)
from hil.driver import requests as make
from hil.driver.checked_chip import OpenChip
from hil.driver.requests import ReadMode
from hil.errors import UsageError


class ProductVerbs(OpenChip):
    """Products of tiles and layers."""

    def mvm(
        self,
        tile: TileAddress,
        codes: NDArray[np.integer],
        *,
        range_code: int = 0,
        input_bits: int | None = None,
        input_signed: bool = False,
        sample: int = 0,
        vectors_per_sample: int = 1,
        first_vector: int = 0,
        returns: Returns = Returns.SUMS,
        reads: int = 1,
    ) -> MvmResult:
        """Multiply input vectors by one tile.

        Args:
            codes: (vectors, rows) as the chip drives them: a chip with offset inputs takes signed
                codes already raised (``mapping.program.driven``).
            range_code: which ADC range.
            input_bits: width of the codes; None takes the chip's widest.
            sample: vector j is observation ``sample + (first_vector + j) // vectors_per_sample``.
            returns: SUMS (vectors, outputs), or RAW (vectors, planes, conversions).
            reads: of every product, whose sums are added up (1 to 256); read k is of the samples k · ``READ_STEP`` on.
        """
        reading = self._reading(range_code, input_bits, input_signed, sample, returns, reads)
        vectors = self._checked(tile, codes, reading, columns=tile.rows)
        requests = functools.partial(
            make.mvm_requests,
            self.spec,
            tile,
            vectors,
            outputs=tile.outputs,
            vectors_per_sample=vectors_per_sample,
            first_vector=first_vector,
            max_message=self._most,
        )
        return self._read(requests, reading)

    def sweep(
        self,
        tile: TileAddress,
        maps: NDArray[np.integer],
        window: Window,
        *,
        row_skip: int = 0,
        range_code: int = 0,
        input_bits: int | None = None,
        input_signed: bool = False,
        sample: int = 0,
        returns: Returns = Returns.SUMS,
        reads: int = 1,
    ) -> MvmResult:
        """Multiply every kernel window of feature maps by one tile.

        Args:
            maps: (images, channels, height, width) codes; image i is observation ``sample + i``.
            row_skip: leading entries of each unfolded vector that this tile does not see.
            reads: as for ``mvm``.

        Returns:
            values (images × positions, outputs), or RAW (images × positions, planes, conversions).
        """
        reading = self._reading(range_code, input_bits, input_signed, sample, returns, reads)
        checked = self._checked_maps(tile, maps, window, reading, last=row_skip + tile.rows)
        if not self._sweeps(checked, window, self._asked(reading), tile.outputs):
            vectors = unfold(checked, window)[:, :, row_skip : row_skip + tile.rows].reshape(-1, tile.rows)
            return self.mvm(
                tile,
                vectors,
                range_code=range_code,
                input_bits=input_bits,
                input_signed=input_signed,
                sample=sample,
                vectors_per_sample=window.positions,
                returns=returns,
                reads=reads,
            )
        requests = functools.partial(
            make.sweep_requests,
            self.spec,
            tile,
            checked,
            window,
            row_skip=row_skip,
            outputs=tile.outputs,
            max_message=self._most,
        )
        return self._read(requests, reading)

    # --- layers ---------------------------------------------------------------------------

    def load_layer(self, layer: LoadLayer) -> None:
        """Give the chip a whole layer (capability LAYER)."""
        if Capability.LAYER not in self.capabilities:
            raise self._unable("layers", "no LAYER")
        self._session.ask(layer)
        self._layer_outputs[layer.layer] = layer.outputs

    def run_layer(
        self,
        layer: int,
        codes: NDArray[np.integer],
        *,
        window: Window | None = None,
        range_code: int = 0,
        input_bits: int | None = None,
        input_signed: bool = False,
        sample: int = 0,
    ) -> MvmResult:
        """Run a loaded layer on vectors (vectors, inputs), or with a window on maps (images, channels, height, width).

        Returns:
            values (vectors or images × positions, outputs): requantised activation codes.
        """
        outputs = self._layer_outputs.get(layer)
        if outputs is None:
            raise UsageError(f"layer {layer} is not loaded", hint="driver.load_layer first")
        reading = self._reading(range_code, input_bits, input_signed, sample, Returns.LAYER)
        positions = 1
        if window is None:
            vectors = self._checked(None, codes, reading, columns=None)
        else:
            maps = self._checked_maps(None, codes, window, reading, last=window.rows)
            if self._sweeps(maps, window, reading, outputs):
                requests = make.sweep_requests(
                    self.spec, None, maps, window, reading, layer=layer, outputs=outputs, max_message=self._most
                )
                return self._joined(requests, Returns.LAYER)
            positions, vectors = window.positions, unfold(maps, window).reshape(-1, window.rows).astype(np.int16)
        return self._joined(
            make.mvm_requests(
                self.spec,
                None,
                vectors,
                reading,
                layer=layer,
                outputs=outputs,
                vectors_per_sample=positions,
                max_message=self._most,
            ),
            Returns.LAYER,
        )

    # --- shared ---------------------------------------------------------------------------

    def _reading(
        self, range_code: int, bits: int | None, signed: bool, sample: int, returns: Returns, reads: int = 1
    ) -> ReadMode:
        bits = self.spec.macro.inputs.bits if bits is None else bits
        return ReadMode(range_code, bits, signed, sample, returns, reads)

    def _checked(
        self, tile: TileAddress | None, codes: NDArray[np.integer], reading: ReadMode, columns: int | None
    ) -> NDArray[np.int16]:
        if codes.ndim != 2 or codes.size == 0 or codes.shape[1] != (columns or codes.shape[1]):
            raise UsageError(f"codes are {codes.shape}, needed are (vectors, {columns or 'inputs'}), at least one")
        return self._drivable(tile, codes, reading)

    def _checked_maps(
        self, tile: TileAddress | None, maps: NDArray[np.integer], window: Window, reading: ReadMode, last: int
    ) -> NDArray[np.int16]:
        wanted = (window.channels, window.height, window.width)
        if maps.ndim != 4 or maps.size == 0 or maps.shape[1:] != wanted:
            raise UsageError(f"maps are {maps.shape}, the window walks over (images, {wanted})")
        if last > window.rows:
            raise UsageError(f"rows up to {last} of unfolded vectors of {window.rows}")
        return self._drivable(tile, maps, reading)

    def _drivable(self, tile: TileAddress | None, codes: NDArray[np.integer], reading: ReadMode) -> NDArray[np.int16]:
        if tile is not None:
            make.check_macro(self.spec, tile.macro)
        make.check_reading(self.spec.macro, tile, codes, reading)
        return np.ascontiguousarray(codes, np.int16)

    def _sweeps(self, maps: NDArray[np.int16], window: Window, reading: ReadMode, outputs: int) -> bool:
        """Whether the chip can step the kernel window itself; if not, a fallback is noted."""
        if Capability.SWEEP not in self.capabilities:
            self.fall_back("sweep: kernel windows unfolded by the host (the chip has no SWEEP)")
            return False
        if not make.sweep_fits(self.spec, maps, window, reading, outputs, self._most):
            self.fall_back(f"sweep: kernel windows unfolded by the host (a map is longer than {self._most} bytes)")
            return False
        return True

    def _read(self, requests: Callable[[ReadMode], Iterator[Mvm] | Iterator[Sweep]], reading: ReadMode) -> MvmResult:
        """Send ``requests`` and join the answers; the host adds up repeated reads for a chip that makes single ones."""
        asked = self._asked(reading)
        if asked.reads == reading.reads:
            return self._summed(self._joined(requests(asked), asked.returns), reading)
        self.fall_back("reads: added up by the host (the chip has no REPEATED_READS)")
        found = [
            self._summed(self._joined(requests(asked.further(number)), asked.returns), reading)
            for number in range(reading.reads)
        ]
        values = np.sum([one.values for one in found], 0, dtype=np.int64)
        low, high = np.iinfo(np.int32).min, np.iinfo(np.int32).max
        return MvmResult(
            Returns.SUMS,
            sum(one.saturated for one in found),
            sum(one.conversions for one in found),
            np.clip(values, low, high).astype(np.int32),
        )

    def _summed(self, result: MvmResult, reading: ReadMode) -> MvmResult:
        """The result as sums or raw codes, as requested; the host makes sums of raw codes if the chip cannot."""
        if result.returns is reading.returns:
            return result
        self.fall_back("sums: bit planes added by the host (the chip has no SUMS)")
        macro = self.spec.macro
        planes = input_planes(macro.inputs, reading.input_bits, reading.input_signed)
        return MvmResult(Returns.SUMS, result.saturated, result.conversions, shift_add(result.values, macro, planes))

    def _asked(self, reading: ReadMode) -> ReadMode:
        """The reading to request: RAW codes from a chip that cannot give sums, single reads if it cannot add them."""
        if reading.returns is Returns.LAYER:
            raise UsageError("a tile gives RAW or SUMS; run_layer gives LAYER")
        can = {Returns.RAW: Capability.RAW, Returns.SUMS: Capability.SUMS}
        if can[reading.returns] in self.capabilities:
            return reading if Capability.REPEATED_READS in self.capabilities else reading.further(0)
        if reading.returns is Returns.RAW or Capability.RAW not in self.capabilities:
            raise self._unable(f"{reading.returns.name} results", f"no {can[reading.returns].name}")
        return reading.returning(Returns.RAW).further(0)

    def _joined(self, requests: Iterator[Mvm] | Iterator[Sweep], returns: Returns) -> MvmResult:
        parts = list(self._session.ask_all(requests))
        for part in parts:
            if part.returns is not returns:
                raise self._unable(f"{returns.name} results", f"it answered {part.returns.name}")
        values = parts[0].values if len(parts) == 1 else np.concatenate([p.values for p in parts])
        return MvmResult(returns, sum(p.saturated for p in parts), sum(p.conversions for p in parts), values)
