"""A simulated board: the chip role over a chip whose answers follow from the requests, with power that may fail."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Generator, Iterable
from typing import Any

from firmware_protocols.chip import ChipServer
from firmware_protocols.connection import LinkLimits
from firmware_protocols.extensions.authority import RECORD_SPACE, ChipAuthority
from firmware_protocols.extensions.chip_side import Keeping
from firmware_protocols.extensions.memory import BoardMemory, BoardPower, SupplyFailed
from firmware_protocols.handlers import DRIVING, Refusal
from firmware_protocols.messages import (
    Capability,
    CellReadings,
    Description,
    Done,
    ErrorCode,
    HoldProgram,
    LoadLayer,
    Mvm,
    MvmResult,
    ProgramTile,
    Progress,
    Pulse,
    ReadCells,
    Request,
    StatusReply,
    Sweep,
    TileProgrammed,
    Wait,
)
from firmware_protocols.states import State
from tests.line_simulation.proving import KEY
from tests.line_simulation.seen import SeenChip
from tests.line_simulation.sent_requests import answer_of

SLOT_BYTES, IMAGE_SPACE = 4096, 1 << 14  # of a board's memory
OFF_WITHIN_S = 10.0  # after the host was last heard, by the protocol
TRIPPED = Refusal(ErrorCode.FAULT, "the macro tripped", 0.0, 0.0)
LONGEST_CALL_S = 1.0  # of work, in which a chip hears nothing and says nothing
DESCRIPTION = Description("simulated", "A", "1", "1.0", "emulated", 1, 128, 256, bytes(32), bytes(32))


class NotingChip:
    """Handlers whose work takes time and leaves traces.

    ``broken`` is told what must not happen: a request that runs twice or out of turn. Only a host that was told of a
    reset may ask again what it has no answer to (``may_repeat``), and what stands in a journal (``kept``) never.
    ``traces`` is a checksum of all that was written, in order.
    """

    capabilities = Capability.PROGRAM_TILE | Capability.PULSE | Capability.SUMS | Capability.RESET

    def __init__(
        self, power: BoardPower, broken: Callable[[str], None], description: Description = DESCRIPTION
    ) -> None:
        self.power, self._broken, self._description = power, broken, description
        self.chip_time_ns = self.traces = self.executed = 0
        self.outputs_on = False
        self.switched_off = 0  # times
        self.written: dict[int, int] = {}  # tile -> slices of it that were written last
        self.may_repeat: set[int] = set()
        self.finished: set[int] = set()  # writes that ended in this call
        self.at_work: set[int] = set()  # requests that began or went on since somebody looked
        self.trips = 0  # so many requests fail, once each
        self.kept: set[int] = set()  # writes whose answer a journal holds
        self._although_kept: set[int] = set()
        self._last = 0
        self._worked_s = 0.0

    def allow_again(self, places: Iterable[int], although_kept: bool) -> None:
        """Requests at these places, counted from 0, may run once more; ``although_kept``: also what a journal holds."""
        again = {place + 1 for place in places}
        self.may_repeat |= again
        if although_kept:
            self._although_kept |= again

    def boot(self) -> None:
        """Power came back: the outputs are off, what was written stays."""
        self.outputs_on, self._worked_s = False, 0.0
        self.switched_off += 1
        self.finished.clear()

    @property
    def worked(self) -> bool:
        """Whether time of work was not taken yet."""
        return self._worked_s > 0.0

    def take_worked_s(self) -> float:
        """Seconds of work since the last call."""
        worked_s, self._worked_s = self._worked_s, 0.0
        if worked_s > LONGEST_CALL_S:
            self._broken(f"the chip worked for {worked_s:.1f} s in one call, and could say nothing meanwhile")
        return worked_s

    def begin(self, sample: int) -> None:
        """The request of this number is carried out. Raises ``Refusal`` where the macro fails."""
        self.at_work.add(sample)
        if self.trips:
            self.trips -= 1
            raise TRIPPED
        if sample in self._although_kept:  # the answer to it is another host's
            self._although_kept.discard(sample)
            self.kept.discard(sample)
        if sample in self.kept:
            self._broken(f"request {sample} runs again though the journal holds its answer")
        if sample <= self._last:
            if sample not in self.may_repeat:
                self._broken(f"request {sample} runs after {self._last}: twice, or out of turn")
            self.may_repeat.discard(sample)
        self._last = sample
        self.executed += 1

    def work(self, seconds: float) -> None:
        """Let the macros work for ``seconds`` of the chip's time."""
        self._worked_s += seconds
        self.chip_time_ns += round(seconds * 1e9)

    def write(self, sample: int) -> None:
        """Change the cells of a request's macro. Raises ``SupplyFailed`` when the power ends here."""
        if not self.outputs_on:
            self._broken(f"request {sample} continues with the outputs off")
        self.at_work.add(sample)
        self.power.spend()
        self.traces = zlib.crc32(sample.to_bytes(8, "little"), self.traces)

    def prepare(self, request: Request[Any]) -> None:
        self.outputs_on = self.outputs_on or isinstance(request, DRIVING)

    def describe(self) -> Description:
        return self._description

    def program_tile(self, request: ProgramTile) -> Generator[Progress | None, None, TileProgrammed]:
        """Work for ``max_pulses`` slices of ``verify_reads`` ms each, with a change of cells after each slice."""
        self.begin(request.sample)
        for done in range(request.max_pulses):
            self.work(request.verify_reads * 1e-3)
            self.write(request.sample)
            self.written[request.cells.macro] = request.sample
            yield Progress(done + 1, request.max_pulses, 0) if done % 4 == 3 else None
        self.finished.add(request.sample)
        reply = answer_of(request)
        assert isinstance(reply, TileProgrammed)
        return reply

    def pulse(self, request: Pulse) -> Done:
        self.begin(request.sample)
        self.work(1e-4)
        self.write(request.sample)
        self.finished.add(request.sample)
        return Done()

    def read_cells(self, request: ReadCells) -> CellReadings:
        self.begin(request.sample)
        self.work(2e-3)
        reply = answer_of(request)
        assert isinstance(reply, CellReadings)
        return reply

    def mvm(self, request: Mvm) -> MvmResult:
        self.begin(request.sample)
        self.work(1e-6 * request.codes.size)
        reply = answer_of(request)
        assert isinstance(reply, MvmResult)
        return reply

    def outputs_off(self) -> Done:
        self.outputs_on = False
        self.switched_off += 1
        return Done()

    def status(self) -> StatusReply:
        return StatusReply(25.0, self.outputs_on, len(self.written), self.executed)

    def reset(self) -> Done:
        return self.outputs_off()

    def sweep(self, request: Sweep) -> MvmResult:
        raise Refusal(ErrorCode.UNSUPPORTED, "no sweeps here")

    def load_layer(self, request: LoadLayer) -> Done:
        raise Refusal(ErrorCode.UNSUPPORTED, "no layers here")

    def hold_program(self, request: HoldProgram) -> Done:
        raise Refusal(ErrorCode.UNSUPPORTED, "no program here")

    def wait(self, request: Wait) -> Done:
        raise Refusal(ErrorCode.UNSUPPORTED, "no waiting here")


class VirtualBoard:
    """A board that can be reset, and whose power can fail in the middle of a write.

    Args:
        slots: of its journal, beside which it has room for an image; 0: it has no memory.
        keyed: it wants a key; needs a memory.
        clock_stops: its clock begins anew at each start.
        description: what the chip says that it is.
        failed: told each time that the power failed in a write.
    """

    def __init__(
        self,
        limits: LinkLimits,
        broken: Callable[[str], None],
        *,
        slots: int = 0,
        keyed: bool = False,
        clock_stops: bool = False,
        description: Description = DESCRIPTION,
        failed: Callable[[], None] = lambda: None,
    ) -> None:
        self.limits, self._broken, self._failed, self._clock_stops = limits, broken, failed, clock_stops
        self.power = BoardPower()
        self.chip = NotingChip(self.power, broken, description)
        self.keeping: Keeping | None = None
        if slots:
            memory = BoardMemory(RECORD_SPACE + slots * SLOT_BYTES + IMAGE_SPACE, self.power)
            self.keeping = Keeping(memory, slots, SLOT_BYTES, KEY if keyed else None, lambda: self.boots)
        self.boots = self.commanded = 0  # starts; those of them that a host asked for
        self._was_up = False
        self._now_s = 0.0
        self.boot()

    def boot(self) -> None:
        """Start, or start again: all but what was written is forgotten."""
        self.boots += 1
        self.chip.boot()
        if self._clock_stops:
            self.chip.chip_time_ns = 0
        self.server = self._started()
        self._boot_id = self.server.boot_id
        self._was_up = False

    def _started(self) -> SeenChip:
        """The chip role, as it begins."""
        return ChipServer(self.chip, boot_id=self.boots, limits=self.limits, keeping=self.keeping)

    def receive(self, data: bytes, now_s: float) -> None:
        self._now_s = now_s
        self._notice_reset()
        try:
            self.server.receive(data, now_s)
        except SupplyFailed:
            self._fail()

    def data_to_send(self, now_s: float) -> bytes:
        self._now_s = now_s
        self._notice_reset()
        try:
            data = self.server.data_to_send(now_s)
        except SupplyFailed:
            self._fail()
            return b""
        if self.keeping is not None:
            self.chip.kept |= self.chip.finished
        self.chip.finished.clear()
        self._check_outputs(now_s)
        return data

    @property
    def seals_taken(self) -> int:
        """The counter of seals that its memory holds."""
        if self.keeping is None or self.keeping.key is None:
            return 0
        return ChipAuthority(self.keeping.key, self.keeping.memory, 0, 0).counter

    def _notice_reset(self) -> None:
        """A commanded reset is a start, once what was said before it is on the line."""
        if self.server.boot_id != self._boot_id:
            self._boot_id = self.server.boot_id
            self.boots += 1
            self.commanded += 1
            self._was_up = False

    def next_deadline(self, now_s: float) -> float | None:
        self._notice_reset()
        return self.server.next_deadline(now_s)

    def _fail(self) -> None:
        self._failed()
        self.boot()

    def _check_outputs(self, now_s: float) -> None:
        """Without a host and without work the outputs are off; so they are when a host was not heard for long."""
        heard_s = self.server.connection.last_heard_s
        if self.chip.outputs_on and heard_s is not None and now_s >= heard_s + OFF_WITHIN_S:
            self._broken(f"the outputs are on {now_s - heard_s:.1f} s after the host was last heard")
        if self.server.connection.state is State.UP:
            self._was_up = True
        elif self._was_up and not self.server.busy and self.chip.outputs_on:
            self._broken("the outputs are on though the link is lost and nothing runs")
