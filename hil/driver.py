"""The chip as a Python object: program cells, read them, multiply.

The driver does not know what kind of chip is behind its address. It checks every limit before
it sends, cuts requests to what the chip takes, and does on the host what the chip cannot do;
``fallbacks`` names those things.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self, cast

import numpy as np
from numpy.typing import NDArray

from cim.converters import input_planes, shift_add
from cim.spec import ChipSpec
from cim.windows import Window, unfold
from firmware_protocols.messages import (
    Capability,
    CellReadings,
    Description,
    HoldProgram,
    LoadLayer,
    Mvm,
    MvmResult,
    OutputsOff,
    ProgramTile,
    Progress,
    Reset,
    Returns,
    Status,
    StatusReply,
    Sweep,
    TileAddress,
    TileProgrammed,
    Wait,
)
from hil import driver_requests as make
from hil.driver_requests import Reading
from hil.driver_session import Session
from hil.driver_write import BlockOutcome, write_verify
from hil.errors import DeviceError, UsageError

CellProgress = Callable[[int, int, int], None]
"""Called with (cells done, cells in all, cells failed so far)."""

_LONGEST_WAIT_S, _MOST_WAITS = 60.0, 60  # a wait is cut so that a dead board is noticed
_USEFUL_MESSAGE = 1 << 18  # larger messages gain nothing, but hide that the chip is slow


@dataclass(frozen=True, slots=True)
class CellOutcome:
    """What programming did; arrays (rows, columns) of the whole macro.

    ``readings_us``: last verify readings in µS, NaN where the cell was left alone;
    ``pulses``: uint16; ``reached``: inside the window at the last verify (true where left alone).
    """

    readings_us: NDArray[np.float32]
    pulses: NDArray[np.uint16]
    reached: NDArray[np.bool_]


class ChipDriver:
    """One chip, open. Use it as a context manager: its outputs go off however the block ends.

    Args:
        session: an open session.
        description: what the chip said of itself.
        spec: what its chip file says; the two must agree (``hil.open`` checks).
        sleep: how the host waits when the chip cannot.
    """

    def __init__(
        self,
        session: Session,
        description: Description,
        spec: ChipSpec,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._session, self._sleep = session, sleep
        self.description, self.spec = description, spec
        self.fallbacks: list[str] = []
        self._layer_outputs: dict[int, int] = {}
        self._most = min(session.hello.max_message, _USEFUL_MESSAGE)

    # --- what it is -----------------------------------------------------------------------

    @property
    def address(self) -> str:
        return self._session.transport.address

    @property
    def capabilities(self) -> Capability:
        return self._session.hello.capabilities

    @property
    def max_message(self) -> int:
        """Longest message that is sent, bytes."""
        return self._most

    @property
    def counters(self) -> dict[str, int]:
        """Bytes, frames, retransmissions, requests and so on since the chip was opened."""
        return self._session.counters

    @property
    def chip_time_ns(self) -> int:
        """The chip's own clock at its last reply, ns."""
        return self._session.chip_time_ns

    # --- cells ----------------------------------------------------------------------------

    def program_cells(
        self,
        macro: int,
        targets_us: NDArray[np.floating],
        *,
        sample: int = 0,
        progress: CellProgress | None = None,
    ) -> CellOutcome:
        """Bring cells to their targets by write-verify, on the chip or, pulse by pulse, from here.

        Args:
            targets_us: conductances in µS, (rows, columns) of the macro; NaN leaves a cell alone.
            sample: number of this programming; an emulated chip keys its noise with it.

        Raises:
            UsageError: targets outside the chip's levels; DeviceError: above an absolute limit, or
            refused; LinkError: silent or lost.
        """
        requests = make.program_requests(self.spec, macro, targets_us, sample, self._most)
        readings = np.full(targets_us.shape, np.nan, np.float32)
        pulses = np.zeros(targets_us.shape, np.uint16)
        reached = np.ones(targets_us.shape, np.bool_)
        for request, outcome in zip(requests, self._programmed(requests, progress), strict=True):
            at = make.block_slices(request.cells)
            used = request.targets != make.LEAVE_ALONE
            unit_ns = outcome.unit_ns if isinstance(outcome, TileProgrammed) else request.unit_ns
            readings[at] = np.where(used, make.to_microsiemens(outcome.readings, unit_ns), np.nan)
            pulses[at] = np.where(used, outcome.pulses, 0)
            reached[at] = outcome.reached | ~used
        return CellOutcome(readings, pulses, reached)

    def _programmed(
        self, requests: list[ProgramTile], progress: CellProgress | None
    ) -> Sequence[TileProgrammed | BlockOutcome]:
        sizes = [int((r.targets != make.LEAVE_ALONE).sum()) for r in requests]
        outcomes: list[TileProgrammed | BlockOutcome] = []

        def report(done: int, _: int, failed: int) -> None:
            if progress is not None:
                before = sum(sizes[: len(outcomes)])
                missed = sum(int((~o.reached).sum()) for o in outcomes)
                progress(before + done, sum(sizes), missed + failed)

        if Capability.PROGRAM_TILE in self.capabilities:
            watch: Callable[[Progress], None] = lambda p: report(p.done, p.total, p.failed)  # noqa: E731
            for reply in self._session.ask_all(requests, watch):
                outcomes.append(cast(TileProgrammed, reply))
                report(0, 0, 0)
        elif Capability.PULSE in self.capabilities:
            self._fall_back("write-verify: pulses chosen by the host (the chip has no PROGRAM_TILE)")
            for request in requests:
                outcomes.append(write_verify(request, self.spec, self._session.ask, report))
        else:
            raise self._unable("programming", "neither PROGRAM_TILE nor PULSE")
        return outcomes

    def read_cells(self, macro: int, *, reads: int = 1, sample: int = 0) -> NDArray[np.float32]:
        """Mean of ``reads`` readings of every cell of a macro through its read path, µS, (rows, columns)."""
        requests = make.read_requests(self.spec, macro, reads, sample, self._most)
        cells = np.empty((self.spec.macro.rows, self.spec.macro.columns), np.float32)
        for request, reply in zip(requests, self._session.ask_all(requests), strict=True):
            answer = cast(CellReadings, reply)
            cells[make.block_slices(request.cells)] = make.to_microsiemens(answer.readings, answer.unit_ns)
        return cells

    # --- products -------------------------------------------------------------------------

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
    ) -> MvmResult:
        """Multiply input vectors by one tile.

        Args:
            codes: (vectors, rows) as the chip drives them: a chip with offset inputs takes signed
                codes already raised (``mapping.driven``).
            range_code: which ADC range.
            input_bits: width of the codes; None takes the chip's widest.
            sample: vector j is observation ``sample + (first_vector + j) // vectors_per_sample``.
            returns: SUMS (vectors, outputs), or RAW (vectors, planes, conversions).
        """
        reading = self._reading(range_code, input_bits, input_signed, sample, returns)
        vectors = self._checked(tile, codes, reading, columns=tile.rows)
        return self._computed(
            reading,
            lambda asked: make.mvm_requests(
                self.spec,
                tile,
                vectors,
                asked,
                outputs=tile.outputs,
                vectors_per_sample=vectors_per_sample,
                first_vector=first_vector,
                max_message=self._most,
            ),
        )

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
    ) -> MvmResult:
        """Multiply every kernel window of feature maps by one tile.

        Args:
            maps: (images, channels, height, width) codes; image i is observation ``sample + i``.
            row_skip: leading entries of each unfolded vector that this tile does not see.

        Returns:
            values (images × positions, outputs), or RAW (images × positions, planes, conversions).
        """
        reading = self._reading(range_code, input_bits, input_signed, sample, returns)
        checked = self._checked_maps(tile, maps, window, reading, last=row_skip + tile.rows)
        if not self._sweeps(checked, window, reading, tile.outputs):
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
            )
        return self._computed(
            reading,
            lambda asked: make.sweep_requests(
                self.spec,
                tile,
                checked,
                window,
                asked,
                row_skip=row_skip,
                outputs=tile.outputs,
                max_message=self._most,
            ),
        )

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

    # --- the rest -------------------------------------------------------------------------

    def status(self) -> StatusReply:
        return cast(StatusReply, self._session.ask(Status()))

    def hold_program(self, digest: bytes) -> None:
        """Let the chip remember the 32-byte digest of the program it holds, if it can."""
        if Capability.HELD_PROGRAM in self.capabilities:
            self._session.ask(HoldProgram(digest))

    def held_program(self) -> bytes | None:
        """Digest of the program that the chip held when it was opened; None when none."""
        digest = self.description.program_digest
        return digest if any(digest) else None

    def wait(self, seconds: float) -> None:
        """Let so much chip time pass; a chip without WAIT is waited for here."""
        if not 0 <= seconds < math.inf:
            raise UsageError(f"cannot wait {seconds} s")
        if Capability.WAIT not in self.capabilities:
            self._fall_back("wait: the host sleeps (the chip has no WAIT)")
            self._sleep(seconds)
            return
        left_ns = round(seconds * 1e9)
        longest_ns = round(max(_LONGEST_WAIT_S, seconds / _MOST_WAITS) * 1e9)
        while left_ns > 0:
            part_ns = min(left_ns, longest_ns)
            self._session.ask(Wait(part_ns), allow_s=part_ns * 1e-9)
            left_ns -= part_ns

    def reset(self) -> None:
        if Capability.RESET not in self.capabilities:
            raise self._unable("reset", "no RESET")
        self._session.ask(Reset())

    def outputs_off(self) -> None:
        """Take every voltage off the array."""
        self._session.ask(OutputsOff())

    def close(self) -> None:
        """Outputs off, then close. May be called twice; raises what went wrong on the way."""
        self._leave(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave(error)

    def _leave(self, error: BaseException | None) -> None:
        """Switch off and close; an error that is already on its way is not hidden by another."""
        if self._session.closed:
            return
        try:
            failed = self._session.outputs_off()
        finally:
            self._session.close(ending="" if error is None else f"{type(error).__name__}: {error}"[:500])
        if failed is not None:
            if error is None:
                raise failed
            error.add_note(f"the outputs may still be on: {failed.what}")

    # --- shared ---------------------------------------------------------------------------

    def _reading(self, range_code: int, bits: int | None, signed: bool, sample: int, returns: Returns) -> Reading:
        return Reading(range_code, self.spec.macro.inputs.bits if bits is None else bits, signed, sample, returns)

    def _checked(
        self, tile: TileAddress | None, codes: NDArray[np.integer], reading: Reading, columns: int | None
    ) -> NDArray[np.int16]:
        if codes.ndim != 2 or codes.size == 0 or codes.shape[1] != (columns or codes.shape[1]):
            raise UsageError(f"codes are {codes.shape}, needed are (vectors, {columns or 'inputs'}), at least one")
        return self._drivable(tile, codes, reading)

    def _checked_maps(
        self, tile: TileAddress | None, maps: NDArray[np.integer], window: Window, reading: Reading, last: int
    ) -> NDArray[np.int16]:
        wanted = (window.channels, window.height, window.width)
        if maps.ndim != 4 or maps.size == 0 or maps.shape[1:] != wanted:
            raise UsageError(f"maps are {maps.shape}, the window walks over (images, {wanted})")
        if last > window.rows:
            raise UsageError(f"rows up to {last} of unfolded vectors of {window.rows}")
        return self._drivable(tile, maps, reading)

    def _drivable(self, tile: TileAddress | None, codes: NDArray[np.integer], reading: Reading) -> NDArray[np.int16]:
        if tile is not None:
            make.check_macro(self.spec, tile.macro)
        make.check_reading(self.spec.macro, tile, codes, reading)
        return np.ascontiguousarray(codes, np.int16)

    def _sweeps(self, maps: NDArray[np.int16], window: Window, reading: Reading, outputs: int) -> bool:
        """Whether the chip can step this window itself; if not, that is noted."""
        if Capability.SWEEP not in self.capabilities:
            self._fall_back("sweep: kernel windows unfolded by the host (the chip has no SWEEP)")
            return False
        if not make.sweep_fits(self.spec, maps, window, reading, outputs, self._most):
            self._fall_back(f"sweep: kernel windows unfolded by the host (a map is longer than {self._most} bytes)")
            return False
        return True

    def _computed(self, reading: Reading, requests: Callable[[Reading], Iterator[Mvm] | Iterator[Sweep]]) -> MvmResult:
        """Ask for what the chip can give; sums are made here from raw codes if need be."""
        if reading.returns is Returns.LAYER:
            raise UsageError("a tile gives RAW or SUMS; run_layer gives LAYER")
        can = {Returns.RAW: Capability.RAW, Returns.SUMS: Capability.SUMS}
        if can[reading.returns] in self.capabilities:
            return self._joined(requests(reading), reading.returns)
        if reading.returns is Returns.RAW or Capability.RAW not in self.capabilities:
            raise self._unable(f"{reading.returns.name} results", f"no {can[reading.returns].name}")
        self._fall_back("sums: bit planes added by the host (the chip has no SUMS)")
        raw = self._joined(requests(reading.returning(Returns.RAW)), Returns.RAW)
        macro = self.spec.macro
        planes = input_planes(macro.inputs, reading.input_bits, reading.input_signed)
        return MvmResult(Returns.SUMS, raw.saturated, raw.conversions, shift_add(raw.values, macro, planes))

    def _joined(self, requests: Iterator[Mvm] | Iterator[Sweep], returns: Returns) -> MvmResult:
        parts = [cast(MvmResult, reply) for reply in self._session.ask_all(requests)]
        for part in parts:
            if part.returns is not returns:
                raise self._unable(f"{returns.name} results", f"it answered {part.returns.name}")
        values = parts[0].values if len(parts) == 1 else np.concatenate([p.values for p in parts])
        return MvmResult(returns, sum(p.saturated for p in parts), sum(p.conversions for p in parts), values)

    def _fall_back(self, text: str) -> None:
        if text not in self.fallbacks:
            self.fallbacks.append(text)

    def _unable(self, what: str, why: str) -> DeviceError:
        return DeviceError(
            f"this chip cannot do {what}: {why}",
            where=self.address,
            likely=f"its firmware {self.description.firmware} offers {self.capabilities!r}",
        )
