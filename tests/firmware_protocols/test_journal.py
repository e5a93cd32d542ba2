"""What a chip keeps without power, ours in Python and the C firmware: records, answers and images in pieces."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import shutil
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from firmware_protocols.chip import ChipServer
from firmware_protocols.codec import decode, encode
from firmware_protocols.connection import Connection, LinkLimits
from firmware_protocols.errors import LocalProtocolError
from firmware_protocols.extensions.chip_side import Keeping
from firmware_protocols.extensions.memory import SLOT_HEAD, BoardMemory, SlotRing, SupplyFailed
from firmware_protocols.extensions.messages import (
    CHUNK,
    AskJournal,
    ImageBegin,
    ImageChunk,
    ImageCommit,
    ImageStatus,
    ImageTile,
)
from firmware_protocols.messages import (
    Capability,
    CellBlock,
    Describe,
    Done,
    ErrorCode,
    ErrorReply,
    HoldProgram,
    ProgramTile,
    Progress,
    TileProgrammed,
    Wait,
)
from firmware_protocols.request_states import ASIDE, CACHED_REPLIES
from firmware_protocols.sending import BULK
from firmware_protocols.states import Role

from .conftest import CountingChip
from .firmware_bench import FirmwareBench

NONCE, SLOT, PLENTY = 0xC0FFEE, 4096, 1 << 20


def program(row: int = 0) -> ProgramTile:
    targets = np.full((2, 4), 1500, np.uint16)
    return ProgramTile(CellBlock(0, row, 2, 0, 4), 10, 100, 50, 4, 800, 50, 2500, 900, 60, 2800, 1000, row, targets)


class Host:
    """A host of one nonce at a board whose memory outlives its power; ``end`` is the board's end of the line."""

    end: Any
    boots = 0

    def greet(self, nonce: int = NONCE) -> None:
        self.boots += 1
        self.link = Connection(Role.HOST, LinkLimits(), nonce=nonce, session=self.boots * 100)
        self.link.open(0.0)
        self._pump()
        assert self.link.reply is not None

    def _pump(self) -> list[bytes]:
        replies: list[bytes] = []
        for turn in range(2000):
            out = self.link.data_to_send(0.0)
            if out:
                self.end.receive(out, 0.0)
            back = self.end.data_to_send(0.0)
            self.link.receive(back, 0.0)
            replies += [bytes(received.data) for received in self.link.messages()]
            if turn and not out and not back and not self.busy:
                break
        return [reply for reply in replies if not isinstance(decode(reply).message, Progress)]

    @property
    def busy(self) -> bool:
        return bool(self.end.busy)

    def ask_bytes(self, request: Any, request_id: int) -> bytes:
        """The reply as it came; none from a board whose supply failed."""
        self.link.send(encode(request, request_id), BULK)
        replies = self._pump()
        return replies[0] if replies else b""

    def ask(self, request: Any, request_id: int) -> Any:
        return decode(self.ask_bytes(request, request_id)).message

    def send(self, image: bytes, first_id: int, places: Any = None) -> None:
        """The pieces of an image, or those of some places."""
        for number in range(-(-len(image) // CHUNK)) if places is None else places:
            at = int(number) * CHUNK
            self.ask_bytes(ImageChunk(at, image[at : at + CHUNK]), first_id + int(number))


class Python(Host):
    """The chip role over a memory that outlives it."""

    def __init__(self, slots: int = CACHED_REPLIES + 1) -> None:
        self.memory = BoardMemory(1024 + slots * SLOT + (1 << 16))
        self.chip, self.keeping = CountingChip(), Keeping(self.memory, slots, SLOT)
        self.boot()

    def boot(self, nonce: int = NONCE) -> None:
        """Start the firmware, as after power came back, and say hello."""
        self.dark, self.memory.power.steps_left = False, None
        self.end = ChipServer(self.chip, boot_id=self.boots + 1, limits=LinkLimits(), keeping=self.keeping)
        self.greet(nonce)

    def ask_bytes(self, request: Any, request_id: int) -> bytes:
        with contextlib.suppress(SupplyFailed):
            return b"" if self.dark else super().ask_bytes(request, request_id)
        self.dark = True  # until the next boot
        return b""

    def power_for(self, size: int) -> None:
        self.memory.power.steps_left = size

    def bytes_left(self) -> int:
        assert self.memory.power.steps_left is not None
        return self.memory.power.steps_left

    def close(self) -> None:
        """Nothing runs."""


class Firmware(Host):
    """The C firmware on its bench."""

    def __init__(self, life: tuple[float, float] | None = None) -> None:
        self.end = FirmwareBench(life=life)
        self.greet()

    @property
    def busy(self) -> bool:
        return bool(self.end.ask("Q")) and bool(self.end.busy)

    def power_for(self, size: int) -> None:
        """The supply holds for so many bytes of memory."""
        self.end.ask("P", now_s=size * 1e-6)

    def bytes_left(self) -> int:
        return int.from_bytes(self.end.ask("L"), "little")

    def boot(self, nonce: int = NONCE) -> None:
        self.end.ask("B")
        self.greet(nonce)

    def close(self) -> None:
        self.end.close()


C = pytest.param(Firmware, marks=pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc"))


@pytest.fixture(params=[Python, C])
def board(request: pytest.FixtureRequest) -> Iterator[Any]:
    made = request.param()
    yield made
    made.close()


@pytest.fixture
def python() -> Python:
    return Python()


# --- records -------------------------------------------------------------------------------


def test_a_record_is_the_old_or_the_new_one_wherever_the_power_fails() -> None:
    old, new = b"the record before", b"a record after it, longer"
    for slots in (2, 3):
        for cut in range(SLOT_HEAD + len(new)):
            memory = BoardMemory(slots * 64)
            ring = SlotRing(memory, 0, slots, 64)
            for record in (b"an early one", b"another early one", old):
                ring.add(record)
            memory.power.steps_left = cut
            with pytest.raises(SupplyFailed):
                ring.add(new)
            memory.power.steps_left = None
            again = SlotRing(memory, 0, slots, 64)
            assert again.records()[-1] == old
            again.add(new)
            assert SlotRing(memory, 0, slots, 64).records()[-2:] == [old, new]


@pytest.mark.parametrize("board", [C], indirect=True)
def test_a_record_of_the_firmware_is_the_old_or_the_new_one_wherever_the_power_fails(board: Any) -> None:
    for size in (20, 60, 500):
        record = np.random.default_rng(size).bytes(size)
        for slots in (2, 3, 17):
            old, new, other = map(int, board.end.ask("Y", record, slots * 1e-6).split())
            assert (old, new, other) == (12 + size, 1, 0)


def test_a_record_that_was_damaged_is_not_read() -> None:
    memory = BoardMemory(128)
    SlotRing(memory, 0, 2, 64).add(b"whole")
    for at in range(SLOT_HEAD + 5):
        was = memory.read(at, 1)
        memory.write(at, bytes((was[0] ^ 0x40,)))
        assert SlotRing(memory, 0, 2, 64).records() == []
        memory.write(at, was)
    with pytest.raises(LocalProtocolError, match="slot has"):
        SlotRing(memory, 0, 2, 64).add(bytes(64))


# --- the journal ---------------------------------------------------------------------------


def test_what_was_finished_is_answered_by_the_same_bytes_after_the_power_was_lost(board: Any) -> None:
    requests = {1: program(0), 2: Wait(10**9), 3: HoldProgram(bytes(range(32))), 4: program(2)}
    answers = {number: board.ask_bytes(request, number) for number, request in requests.items()}
    board.boot()
    for number, request in requests.items():
        assert board.ask_bytes(request, number) == answers[number]
    entries = board.ask(AskJournal(), 6).entries
    assert [(e.nonce, e.request_id, e.op) for e in entries] == [(NONCE, n, encode(r)[0]) for n, r in requests.items()]
    board.boot(nonce=NONCE + 1)  # another host gets no answer of the one before
    assert board.ask_bytes(requests[1], 1) != answers[1]


def test_what_was_finished_is_not_done_again_and_reads_are_not_journalled(python: Python) -> None:
    for _ in range(2):
        for number, request in enumerate((program(), Wait(5), Describe())):
            python.ask(request, number)
        python.boot()
    assert python.chip.calls == ["program_tile", "programmed", "wait", "describe", "describe"]


def test_an_answer_that_is_asked_for_again_is_the_newest(board: Any) -> None:
    answers = [board.ask_bytes(Wait(10**9), number) for number in range(1, CACHED_REPLIES + 1)]
    assert board.ask_bytes(Wait(10**9), 1) == answers[0]
    for number in range(CACHED_REPLIES + 1, 2 * CACHED_REPLIES):
        board.ask_bytes(Wait(10**9), number)
    assert board.ask_bytes(Wait(10**9), 1) == answers[0]


def test_answers_beside_requests_in_turn_cost_none_that_the_host_may_wait_for(board: Any) -> None:
    answers = [board.ask_bytes(Wait(10**9), number) for number in range(1, CACHED_REPLIES)]
    asides = [board.ask_bytes(Describe(), ASIDE + number) for number in range(40)]
    assert [board.ask_bytes(Wait(10**9), number) for number in range(1, CACHED_REPLIES)] == answers
    assert board.ask_bytes(Describe(), ASIDE + 39) == asides[-1]
    next_one = board.ask_bytes(Wait(10**9), CACHED_REPLIES)
    again = [board.ask_bytes(Wait(10**9), number) for number in range(2, CACHED_REPLIES + 1)]
    assert again == [*answers[1:], next_one]


def test_power_lost_at_any_byte_of_an_entry_costs_that_entry_at_most(board: Any) -> None:
    board.power_for(PLENTY)
    board.ask_bytes(program(2), 2)
    whole = PLENTY - board.bytes_left()
    assert 60 < whole < 200
    for cut in range(whole + 1):
        board.boot(nonce=NONCE + 1 + cut)
        kept = board.ask_bytes(program(0), 1)
        board.power_for(cut)
        said = board.ask_bytes(program(2), 2)
        assert bool(said) == (cut == whole)
        board.boot(nonce=NONCE + 1 + cut)
        assert board.ask_bytes(program(0), 1) == kept
        again = board.ask_bytes(program(2), 2)
        assert isinstance(decode(again).message, TileProgrammed)
        assert (again == said) == (cut == whole)


def test_a_clock_that_begins_anew_goes_on_from_the_journal(python: Python) -> None:
    python.chip.chip_time_ns = 10**12
    python.ask(Wait(5), 1)
    python.chip = CountingChip()
    python.boot()
    assert python.end.chip_time_ns >= 10**12


def test_a_chip_remembers_its_sixteen_replies_from_a_journal_of_seventeen(board: Any) -> None:
    answers = [board.ask_bytes(Wait(request_id), request_id) for request_id in range(1, 20)]
    board.boot()
    assert [board.ask_bytes(Wait(request_id), request_id) for request_id in range(4, 20)] == answers[3:]


def test_a_chip_without_memory_has_none_of_it() -> None:
    server = ChipServer(CountingChip(), boot_id=1)
    assert not server.capabilities & (Capability.JOURNAL | Capability.IMAGES | Capability.AUTHORITY)


# --- images --------------------------------------------------------------------------------


def image(count: int = 30) -> tuple[bytes, bytes]:
    """An image of as many tiles, and its digest."""
    messages = [encode(program(2 * row)) for row in range(count)]
    data = b"".join(struct.pack("<I", len(message)) + message for message in messages)
    return data, hashlib.sha256(data).digest()


PLACE_OF_3 = 3 * len(image(1)[0])


def test_tiles_of_an_image_are_written_by_their_place_once(python: Python) -> None:
    data, digest = image()
    assert not python.ask(ImageBegin(digest, len(data)), 1).received.any()
    python.send(data, 2, reversed(range(-(-len(data) // CHUNK))))
    assert isinstance(python.ask(ImageCommit(digest), 30), Done)
    assert isinstance(python.ask(ImageTile(digest, PLACE_OF_3), 31), TileProgrammed)
    python.boot()
    assert python.ask(ImageStatus(), 32).complete
    assert isinstance(python.ask(ImageTile(digest, PLACE_OF_3), 31), TileProgrammed)
    assert python.chip.calls.count("programmed") == 1


def test_an_image_that_the_power_cut_goes_on_with_what_is_missing_and_takes_the_place_of_another(board: Any) -> None:
    data, digest = image()
    size = len(data)
    for number, cut in enumerate((0, 1, 40, 60, 1500, 2200, size + 60, size + 67)):
        board.boot(nonce=NONCE + number)
        other = bytes((number,)) * 100
        board.ask(ImageBegin(hashlib.sha256(other).digest(), 100), 1)
        board.power_for(cut)
        board.ask_bytes(ImageBegin(digest, size), 2)
        board.send(data, 3)
        board.ask_bytes(ImageCommit(digest), 30)
        board.boot(nonce=NONCE + number)
        state = board.ask(ImageBegin(digest, size), 40)
        assert abs(int(state.received.sum()) - max(cut - 48, 0) // (CHUNK + 1)) <= 1
        board.send(data, 50, np.flatnonzero(~state.received))
        assert isinstance(board.ask(ImageCommit(digest), 80), Done)
        assert board.ask(ImageStatus(), 81).complete
        assert board.ask(ImageTile(hashlib.sha256(other).digest(), 0), 82).code is ErrorCode.OUT_OF_RANGE
        reply = board.ask(ImageTile(digest, PLACE_OF_3), 83)
        assert isinstance(reply, TileProgrammed)
        assert reply.reached.all()


def test_what_does_not_fit_an_image_is_refused(board: Any) -> None:
    data, digest = image()
    room = board.ask(ImageStatus(), 1).room
    assert board.ask(ImageBegin(digest, room + 1), 2).code is ErrorCode.LIMIT
    assert board.ask(ImageBegin(digest, 0), 3).code is ErrorCode.LIMIT
    assert board.ask(ImageBegin(digest, len(data)), 4).size == len(data)
    wrong = (ImageChunk(len(data), b"x"), ImageChunk(7, bytes(CHUNK)), ImageChunk(0, bytes(CHUNK - 1)))
    for number, piece in enumerate(wrong):
        assert board.ask(piece, 10 + number).code is ErrorCode.OUT_OF_RANGE
    assert board.ask(ImageCommit(digest), 20).code is ErrorCode.OUT_OF_RANGE
    assert board.ask(ImageTile(digest, 0), 21).code is ErrorCode.OUT_OF_RANGE
    board.send(bytes(len(data)), 22)
    assert board.ask(ImageCommit(digest), 30).code is ErrorCode.MALFORMED
    assert not board.ask(ImageStatus(), 31).received.any()
    board.send(data, 32)
    assert isinstance(board.ask(ImageCommit(digest), 40), Done)
    for number, offset in enumerate((1, 3, len(data) - 3, len(data), 1 << 31, 0xFFFFFFFF)):
        assert board.ask(ImageTile(digest, offset), 41 + number).code in (ErrorCode.MALFORMED, ErrorCode.OUT_OF_RANGE)
    assert board.ask(ImageTile(bytes(32), 0), 60).code is ErrorCode.OUT_OF_RANGE
    assert isinstance(board.ask(ImageTile(digest, 0), 61), TileProgrammed)


def test_an_image_of_nonsense_writes_nothing(python: Python) -> None:
    nonsense = struct.pack("<I", 4) + encode(Describe()) + struct.pack("<I", 1 << 30)
    digest = hashlib.sha256(nonsense).digest()
    python.ask(ImageBegin(digest, len(nonsense)), 32)
    python.ask(ImageChunk(0, nonsense), 33)
    assert isinstance(python.ask(ImageCommit(digest), 34), Done)
    for number, offset in enumerate((0, 8, 9, 3, len(nonsense) - 2, 1 << 31)):
        assert isinstance(python.ask(ImageTile(digest, offset), 35 + number), ErrorReply)
    assert python.chip.calls == []


def test_a_macro_is_pulsed_no_more_than_its_cells_bear_in_their_life_also_after_a_restart() -> None:
    """128 x 128 cells of one pulse each: 8 cells may take 1,000 once and again, but not 17 at once."""
    board = Firmware(life=(1.0, 1.0))
    most = dataclasses.replace(program(), max_pulses=1000)
    wide = dataclasses.replace(most, cells=CellBlock(0, 0, 1, 0, 17), targets=np.full((1, 17), 1500, np.uint16))
    refused = board.ask(wide, 1)
    assert (refused.code, refused.value, refused.limit) == (ErrorCode.LIMIT, 17_000.0, 128.0 * 128.0)
    assert isinstance(board.ask(most, 2), TileProgrammed)
    board.boot()
    again = board.ask(wide, 3)
    assert again.code is ErrorCode.LIMIT
    assert again.value > refused.value
    board.close()
