"""The emulated chip behind the chip role: checks a request, runs the physics, advances the clock.

Chip time moves by operations and by ``Wait`` only. The age of cells counts to the
last write or wait: computing and reading between two of them lasts seconds where ages are
minutes to days, and only so does a result not depend on how a request was batched, on
retries, or on the transport.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.chip import windows
from cim.chip.spec import ChipSpec, SignedInput
from firmware_protocols.extensions.authority import RECORD_SPACE
from firmware_protocols.extensions.chip_side import Keeping
from firmware_protocols.extensions.memory import BoardMemory
from firmware_protocols.handlers import DRIVING, Refusal
from firmware_protocols.messages import (
    Capability,
    CellBlock,
    CellReadings,
    Description,
    Done,
    ErrorCode,
    HoldProgram,
    LoadLayer,
    Mvm,
    MvmResult,
    Polarity,
    ProgramTile,
    Progress,
    Pulse,
    ReadCells,
    Request,
    Returns,
    StatusReply,
    Sweep,
    TileProgrammed,
    Wait,
)
from firmware_protocols.plans.messages import LoadPlan, PlanResult, RunPlan
from hil.emulator import checks
from hil.emulator.cells import MacroCells
from hil.emulator.compute import Drive, Places, Tally, TileConverter, chunks
from hil.emulator.noise import TAG
from hil.emulator.plan_run import LoadedPlan, run
from hil.emulator.relaxation import USUAL, load_table
from hil.emulator.sample import ChipSample
from hil.emulator.windows_kernel import unfolded
from hil.emulator.writing import WriteOrder

FIRMWARE = "rram-hil emulator 1"
ALL_CAPABILITIES = (Capability((1 << 14) - 1) | Capability.PLAN) & ~Capability.AUTHORITY  # that comes with a key
JOURNAL_SLOTS, JOURNAL_SLOT_BYTES, IMAGE_BYTES = 17, (1 << 18) + 64, 4 << 20
NOTHING_HELD = bytes(32)
COUNT_MAX = 0xFFFE  # 0xFFFF means "leave alone"


class EmulatedChip:
    """One chip of the kind that ``spec`` describes; ``seed`` chooses which.

    Args:
        spec: the description; its section [sample] says how chips of this kind vary.
        seed: which chip. The same seed gives the same chip and the same noise.
        overrides: values in place of [sample] ones, by name.
        capabilities: what it admits to; fewer, to stand for a simpler board.
        key: 32 bytes that a host must prove before it may change anything; None: everybody may.
        traces: whose measured cells its own follow after a write (``hil.emulator.relaxation.TABLES``).

    Raises:
        hil.emulator.sample.UnknownSampleKey: an override that no chip has.

    Example:
        >>> from cim.chip.file import load_chip
        >>> EmulatedChip(load_chip("yao-2020", macros=1), seed=7).describe().kind
        'emulated'
    """

    def __init__(
        self,
        spec: ChipSpec,
        seed: int,
        overrides: Mapping[str, float] | None = None,
        *,
        capabilities: Capability = ALL_CAPABILITIES,
        key: bytes | None = None,
        traces: str = USUAL,
    ) -> None:
        self._spec = spec
        self._capabilities = capabilities
        self._sample = ChipSample.draw(spec, seed, overrides)
        measured = load_table(traces)
        self._cells = tuple(MacroCells(spec, self._sample, m, measured) for m in range(spec.macros))
        self._converter = TileConverter(spec, self._sample, self._cells)
        self._serial = hashlib.sha256(f"{TAG} serial {spec.name} {seed}".encode()).hexdigest()[:12]
        self._now_ns = 0
        self._settled_ns = 0
        self._power_cuts = 0
        self._layers: dict[int, LoadLayer] = {}
        self._plan = LoadedPlan()
        self._held = NOTHING_HELD
        self._outputs_on = False
        self._keeping: Keeping | None = None
        if Capability.JOURNAL in capabilities or key is not None:
            journal = JOURNAL_SLOTS * JOURNAL_SLOT_BYTES
            images = IMAGE_BYTES if Capability.IMAGES in capabilities else 0
            self._keeping = Keeping(
                BoardMemory(RECORD_SPACE + journal + images), JOURNAL_SLOTS, JOURNAL_SLOT_BYTES, key
            )

    @property
    def keeping(self) -> Keeping | None:
        """BoardMemory that outlives the power: journal, program image and, with a key, the counters of authority."""
        return self._keeping

    @property
    def spec(self) -> ChipSpec:
        return self._spec

    @property
    def capabilities(self) -> Capability:
        return self._capabilities

    @property
    def chip_time_ns(self) -> int:
        return self._now_ns

    def describe(self) -> Description:
        return Description(
            name=self._spec.name,
            revision=self._spec.revision,
            serial=self._serial,
            firmware=FIRMWARE,
            kind="emulated",
            macros=self._spec.macros,
            rows=self._spec.macro.rows,
            columns=self._spec.macro.columns,
            spec_digest=bytes.fromhex(self._spec.digest),
            program_digest=self._held,
        )

    def status(self) -> StatusReply:
        return StatusReply(
            temperature_c=self._sample.parameters.temperature_at(self._now_ns),
            outputs_on=self._outputs_on,
            programmed_cells=sum(c.programmed for c in self._cells),
            pulses_total=sum(int(c.pulses.sum()) for c in self._cells),
        )

    def prepare(self, request: Request[Any]) -> None:
        """Switch the outputs on where a request that begins, or resumes, needs them."""
        self._outputs_on = self._outputs_on or isinstance(request, DRIVING)

    def program_tile(self, request: ProgramTile) -> Generator[Progress | None, None, TileProgrammed]:
        checks.need(self._capabilities, Capability.PROGRAM_TILE)
        checks.cells(request.cells, self._spec, request.targets.shape)
        checks.write_limits(request, self._spec.limits)
        self._check_wear(request.cells, request.targets != 0xFFFF, request.max_pulses)
        unit_us = request.unit_ns * 1e-3
        targets = np.where(request.targets == 0xFFFF, np.nan, request.targets * unit_us).astype(np.float32)
        order = WriteOrder(
            request.cells.row0,
            request.cells.column0,
            targets,
            request.tolerance * unit_us,
            request.max_pulses,
            request.verify_reads,
            (request.set_start_mv / 1e3, request.set_step_mv / 1e3, request.set_stop_mv / 1e3),
            (request.reset_start_mv / 1e3, request.reset_step_mv / 1e3, request.reset_stop_mv / 1e3),
            request.pulse_width_ns,
            request.sample,
        )
        self._begin_write()
        power = self._power_cuts
        outcome = yield from self._cells[request.cells.macro].write(
            self._now_ns, order, lasts=lambda: self._power_cuts == power
        )
        self._now_ns += outcome.lasted_ns
        self._settled_ns = self._now_ns
        return TileProgrammed(
            request.unit_ns,
            _counts(outcome.readings_us, request.unit_ns),
            np.minimum(outcome.pulses, 0xFFFF).astype(np.uint16),
            outcome.reached,
        )

    def pulse(self, request: Pulse) -> Done:
        checks.need(self._capabilities, Capability.PULSE)
        checks.cells(request.cells, self._spec, request.millivolts.shape)
        checks.pulse_limits(request, self._spec.limits)
        self._check_wear(request.cells, request.millivolts > 0, 1)
        self._begin_write()
        self._now_ns += round(np.count_nonzero(request.millivolts) * self._spec.timing.pulse_ns)
        self._cells[request.cells.macro].pulse(
            self._now_ns,
            _slices(request.cells),
            request.millivolts / 1e3,
            request.polarity is Polarity.SET,
            request.width_ns,
            request.sample,
        )
        self._settled_ns = self._now_ns
        return Done()

    def read_cells(self, request: ReadCells) -> CellReadings:
        block = request.cells
        checks.cells(block, self._spec)
        checks.at_least_one(request.reads, "reads")
        checks.at_least_one(request.unit_ns, "unit")
        self._outputs_on = True
        readings = self._cells[block.macro].read(self._settled_ns, _slices(block), request.reads, request.sample)
        self._now_ns += round(block.rows * block.columns * request.reads * self._spec.timing.cell_read_ns)
        for cells in self._cells:
            cells.move_traps(self._now_ns)
        return CellReadings(request.unit_ns, _counts(readings, request.unit_ns))

    def mvm(self, request: Mvm) -> Generator[None, None, MvmResult]:
        codes = checks.vectors(request.codes)
        places = Places(
            request.sample, checks.at_least_one(request.vectors_per_sample, "vectors per sample"), request.first_vector
        )
        return self._compute(request, codes, places)

    def sweep(self, request: Sweep) -> Generator[None, None, MvmResult]:
        checks.need(self._capabilities, Capability.SWEEP)
        codes = _unfolded(request, self._spec)
        if request.returns is not Returns.LAYER and request.tile is not None:
            codes = checks.tile_rows(codes, request.row_skip, request.tile)
        per_sample = max(len(codes) // max(len(request.codes), 1), 1)
        return self._compute(request, codes, Places(request.sample, per_sample, 0))

    def load_layer(self, request: LoadLayer) -> Done:
        checks.need(self._capabilities, Capability.LAYER)
        checks.layer(request, self._spec)
        self._layers[request.layer] = request
        return Done()

    def load_plan(self, request: LoadPlan) -> Done:
        checks.need(self._capabilities, Capability.PLAN)
        self._plan.load(request, self._zeros)
        return Done()

    def run_plan(self, request: RunPlan) -> Generator[Progress | None, None, PlanResult]:
        checks.need(self._capabilities, Capability.PLAN)
        if self._plan.plan is None:
            raise Refusal(ErrorCode.OUT_OF_RANGE, "no plan is loaded")
        self._outputs_on = True
        return run(self._plan.plan, request, self._multiply)

    def hold_program(self, request: HoldProgram) -> Done:
        checks.need(self._capabilities, Capability.HELD_PROGRAM)
        if len(request.digest) != len(NOTHING_HELD):
            raise Refusal(ErrorCode.MALFORMED, "a program digest is 32 bytes", len(request.digest), len(NOTHING_HELD))
        self._held = bytes(request.digest)
        return Done()

    def wait(self, request: Wait) -> Done:
        checks.need(self._capabilities, Capability.WAIT)
        self._now_ns += max(request.duration_ns, 0)
        self._settled_ns = self._now_ns
        return Done()

    def outputs_off(self) -> Done:
        self._outputs_on = False
        return Done()

    def reset(self) -> Done:
        """State after power-on: outputs off, layers and plan forgotten. Cells keep conductance and program digest."""
        self._outputs_on = False
        self._layers.clear()
        self._plan.forget()
        return Done()

    def cut_power(self) -> None:
        """Fail the supply: as ``reset``; a tile being written keeps its cells from before.

        The pulses of a request all happen at its end in chip time. The clock continues from where it stopped.
        """
        self._power_cuts += 1
        self.reset()

    def _check_wear(self, block: CellBlock, chosen: NDArray[np.bool_], pulses: int) -> None:
        """Refuse ``pulses`` more pulses if a chosen cell of the block would exceed its life."""
        worn = int(self._cells[block.macro].pulses[_slices(block)][chosen].max(initial=0))
        checks.wear(worn + pulses, self._spec.life_pulses)

    def _begin_write(self) -> None:
        self._outputs_on = True
        self._held = NOTHING_HELD

    def _loaded(self, number: int, codes: NDArray[np.int16], drive: Drive) -> LoadLayer:
        """The loaded layer of a plan's step, after checks that it accepts these vectors (n, inputs)."""
        checks.drive(codes, drive, self._spec)
        layer = checks.loaded(self._layers, number)
        checks.width(codes, layer.inputs)
        return layer

    def _zeros(
        self, number: int, codes: NDArray[np.int16], drive: Drive, places: Places, tally: Tally
    ) -> Generator[Progress | None, None, NDArray[np.int32]]:
        """Stand-in for ``_multiply`` that returns zeros without reading cells, to check a plan."""
        yield from ()
        return np.zeros((len(codes), self._loaded(number, np.zeros_like(codes), drive).outputs), np.int32)

    def _multiply(
        self, number: int, codes: NDArray[np.int16], drive: Drive, places: Places, tally: Tally
    ) -> Generator[Progress | None, None, NDArray[np.int32]]:
        """Run a loaded layer on vectors (n, inputs), for a step of a plan."""
        layer = self._loaded(number, codes, drive)
        tiles, parts = tuple((t.address, t.reads) for t in layer.tiles), []
        planes = checks.plane_count(drive, self._spec)
        for part in chunks(len(codes), codes.shape[1], planes * max(reads for _, reads in tiles)):
            here = places.skip(part.start)
            parts.append(self._converter.layer(layer, codes[part], drive, here, self._settled_ns, tally))
            yield None
        self._now_ns += len(codes) * self._converter.lasts_ns(tiles, drive)
        return np.concatenate(parts)

    def _compute(
        self, request: Mvm | Sweep, codes: NDArray[np.int16], places: Places
    ) -> Generator[None, None, MvmResult]:
        """Run vectors (n, rows) through the tile or layer of a request, in batches that fit the cache."""
        drive = Drive(request.range_code, request.input_bits, request.input_signed)
        checks.drive(codes, drive, self._spec)
        checks.returns(request.returns, self._capabilities)
        self._outputs_on = True
        planes = checks.plane_count(drive, self._spec)
        tally, parts, raws = Tally(), [], []
        if request.returns is Returns.LAYER:
            layer = checks.loaded(self._layers, request.layer)
            checks.width(codes, layer.inputs)
            tiles = tuple((t.address, t.reads) for t in layer.tiles)
            outputs = layer.outputs
        else:
            tile = checks.tile(request.tile, self._spec)
            checks.width(codes, tile.rows)
            tiles, outputs = ((tile, request.reads),), tile.outputs
        most = max(reads for _, reads in tiles)
        for part in chunks(len(codes), codes.shape[1], planes * most):
            here = places.skip(part.start)
            if request.returns is Returns.LAYER:
                parts.append(self._converter.layer(layer, codes[part], drive, here, self._settled_ns, tally))
            elif request.returns is Returns.SUMS:
                n = request.reads
                parts.append(self._converter.sums(tile, codes[part], drive, here, self._settled_ns, tally, reads=n))
            else:
                count = checks.conversion_count(tile, self._spec)
                raw = np.empty((part.stop - part.start, planes * count), np.int32)
                self._converter.sums(tile, codes[part], drive, here, self._settled_ns, tally, raw)
                raws.append(raw.reshape(-1, planes, count))
            self._now_ns += (part.stop - part.start) * self._converter.lasts_ns(tiles, drive)
            yield None
        empty = np.empty((0, planes, 0) if request.returns is Returns.RAW else (0, outputs), np.int32)
        found = raws if request.returns is Returns.RAW else parts
        values = np.concatenate(found) if found else empty
        return MvmResult(request.returns, tally.saturated, tally.conversions, values)


def _slices(block: CellBlock) -> tuple[slice, slice]:
    return np.s_[block.row0 : block.row0 + block.rows, block.column0 : block.column0 + block.columns]


def _counts(values_us: NDArray[np.float32], unit_ns: int) -> NDArray[np.uint16]:
    """µS as unsigned counts of ``unit_ns`` nanosiemens, clipped to what 16 bits hold."""
    counts: NDArray[np.uint16] = np.clip(np.floor(values_us * (1e3 / unit_ns) + 0.5), 0, COUNT_MAX).astype(np.uint16)
    return counts


def _unfolded(request: Sweep, spec: ChipSpec) -> NDArray[np.int16]:
    """Every window of every image as one vector, (images · positions, rows); padding is the code of zero."""
    try:
        window = windows.Window(**{name: getattr(request.window, name) for name in windows.Window.__dataclass_fields__})
        signed_offset = request.input_signed and spec.macro.inputs.signed is SignedInput.OFFSET
        return unfolded(request.codes, window, 1 << (request.input_bits - 1) if signed_offset else 0)
    except ValueError as error:
        raise Refusal(ErrorCode.MALFORMED, str(error)) from None
