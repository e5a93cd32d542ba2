"""What a chip keeps without power: records that are never torn, answers given once, images in pieces."""

from __future__ import annotations

import hashlib
import struct
from types import SimpleNamespace
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
    JournalState,
)
from firmware_protocols.messages import (
    Capability,
    CellBlock,
    Describe,
    Done,
    ErrorCode,
    ErrorReply,
    ProgramTile,
    Progress,
    TileProgrammed,
    Wait,
)
from firmware_protocols.request_states import CACHED_REPLIES
from firmware_protocols.sending import BULK
from firmware_protocols.states import Role

NONCE, SLOT = 0x5EED, 4096
TARGETS = np.arange(64, dtype=np.uint16).reshape(8, 8) + 200


def program(macro: int = 0) -> ProgramTile:
    return ProgramTile(CellBlock(macro, 0, 8, 0, 8), 10, 100, 50, 4, 1, 1, 1, 1, 1, 1, 100, 0, TARGETS)


def image_of(*requests: ProgramTile) -> bytes:
    messages = [encode(request) for request in requests]
    return b"".join(struct.pack("<I", len(message)) + message for message in messages)


class Board:
    """A chip role over a memory that outlives it, and a host of one nonce that talks to it."""

    def __init__(self, chip: Any, slots: int = 3, image_bytes: int = 1 << 16) -> None:
        self.memory = BoardMemory(1024 + slots * SLOT + image_bytes)
        self.chip, self.keeping, self.boots = chip, Keeping(self.memory, slots, SLOT), 0
        self.boot()

    def boot(self, nonce: int = NONCE) -> None:
        """Start the firmware, as after power came back, and say hello."""
        self.memory.power.steps_left = None
        self.boots += 1
        self.server = ChipServer(self.chip, boot_id=self.boots, limits=LinkLimits(), keeping=self.keeping)
        self.greet(nonce)

    def greet(self, nonce: int = NONCE) -> None:
        self.link = Connection(Role.HOST, LinkLimits(), nonce=nonce, session=self.boots * 100)
        self.link.open(0.0)
        self._pump()
        assert self.link.reply is not None

    def _pump(self) -> list[Any]:
        replies = []
        for _ in range(300):
            out = self.link.data_to_send(0.0)
            self.server.receive(out, 0.0)
            back = self.server.data_to_send(0.0)
            self.link.receive(back, 0.0)
            replies += [decode(received.data).message for received in self.link.messages()]
            if not out and not back and not self.server.busy:
                break
        return [reply for reply in replies if not isinstance(reply, Progress)]

    def ask(self, request: Any, request_id: int) -> Any:
        self.link.send(encode(request, request_id), BULK)
        (reply,) = self._pump()
        return reply


@pytest.fixture
def board(kit: SimpleNamespace) -> Board:
    return Board(kit.CountingChip())


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


def test_what_was_finished_is_answered_and_not_done_again_after_the_power_was_lost(board: Board) -> None:
    first = board.ask(program(), 1)
    board.ask(Wait(5), 2)
    board.boot()
    assert board.chip.calls.count("programmed") == 1
    again = board.ask(program(), 1)
    assert np.array_equal(again.readings, first.readings)
    assert isinstance(board.ask(Wait(5), 2), Done)
    assert board.chip.calls == ["program_tile", "programmed", "wait"]
    state = board.ask(AskJournal(), 3)
    assert isinstance(state, JournalState)
    assert [(e.nonce, e.request_id, e.op) for e in state.entries] == [(NONCE, 1, 0x10), (NONCE, 2, 0x04)]


def test_another_host_gets_no_answer_of_the_one_before(board: Board) -> None:
    board.ask(program(), 1)
    board.boot(nonce=NONCE + 1)
    board.ask(program(), 1)
    assert board.chip.calls.count("programmed") == 2


def test_reads_are_not_journalled(board: Board) -> None:
    board.ask(Describe(), 1)
    board.boot()
    board.ask(Describe(), 1)
    assert board.chip.calls == ["describe", "describe"]


def test_power_lost_at_any_byte_of_an_entry_costs_that_entry_at_most(kit: SimpleNamespace) -> None:
    whole = Board(kit.CountingChip())
    before = board_bytes_of_one_entry(whole)
    for cut in range(before + 1):
        board = Board(kit.CountingChip(), slots=2)
        kept = board.ask(program(1), 1)
        board.memory.power.steps_left = cut
        if cut < before:
            with pytest.raises(SupplyFailed):
                board.ask(program(2), 2)
        else:
            board.ask(program(2), 2)
        board.boot()
        done = board.chip.calls.count("programmed")
        assert np.array_equal(board.ask(program(1), 1).readings, kept.readings)
        assert board.chip.calls.count("programmed") == done
        assert isinstance(board.ask(program(2), 2), TileProgrammed)
        assert board.chip.calls.count("programmed") == done + (cut < before)


def board_bytes_of_one_entry(board: Board) -> int:
    board.memory.power.steps_left = 1 << 30
    board.ask(program(2), 2)
    return (1 << 30) - board.memory.power.steps_left


def test_a_clock_that_begins_anew_goes_on_from_the_journal(board: Board, kit: SimpleNamespace) -> None:
    board.chip.chip_time_ns = 10**12
    board.ask(Wait(5), 1)
    board.chip = kit.CountingChip()
    board.boot()
    assert board.server.chip_time_ns >= 10**12


def test_a_chip_remembers_its_sixteen_replies_from_a_journal_of_seventeen(kit: SimpleNamespace) -> None:
    board = Board(kit.CountingChip(), slots=CACHED_REPLIES + 1)
    for request_id in range(1, 20):
        board.ask(Wait(request_id), request_id)
    board.boot()
    waits = board.chip.calls.count("wait")
    for request_id in range(4, 20):
        board.ask(Wait(request_id), request_id)
    assert board.chip.calls.count("wait") == waits


def test_a_chip_without_memory_has_none_of_it(kit: SimpleNamespace) -> None:
    server = ChipServer(kit.CountingChip(), boot_id=1)
    assert not server.capabilities & (Capability.JOURNAL | Capability.IMAGES | Capability.AUTHORITY)


# --- images --------------------------------------------------------------------------------

IMAGE = image_of(*(program(macro) for macro in range(20)))
DIGEST = hashlib.sha256(IMAGE).digest()
PLACE_OF_2 = 2 * len(image_of(program()))


def pieces(image: bytes = IMAGE) -> list[ImageChunk]:
    return [ImageChunk(at, image[at : at + CHUNK]) for at in range(0, len(image), CHUNK)]


def test_tiles_of_an_image_are_written_by_their_place(board: Board) -> None:
    state = board.ask(ImageBegin(DIGEST, len(IMAGE)), 1)
    assert not state.received.any()
    for number, piece in enumerate(reversed(pieces())):
        board.ask(piece, 2 + number)
    assert isinstance(board.ask(ImageCommit(DIGEST), 30), Done)
    assert isinstance(board.ask(ImageTile(DIGEST, PLACE_OF_2), 31), TileProgrammed)
    board.boot()
    assert board.ask(ImageStatus(), 32).complete
    assert isinstance(board.ask(ImageTile(DIGEST, PLACE_OF_2), 31), TileProgrammed)
    assert board.chip.calls.count("programmed") == 1


def test_power_lost_at_any_moment_of_an_image_leaves_what_was_whole(kit: SimpleNamespace) -> None:
    for cut in range(0, len(IMAGE) + 200, 97):
        board = Board(kit.CountingChip())
        board.ask(ImageBegin(DIGEST, len(IMAGE)), 1)
        board.memory.power.steps_left = cut
        try:
            for number, piece in enumerate(pieces()):
                board.ask(piece, 2 + number)
            board.ask(ImageCommit(DIGEST), 30)
        except SupplyFailed:
            board.boot()
        board.memory.power.steps_left = None
        state = board.ask(ImageBegin(DIGEST, len(IMAGE)), 40)
        for number in np.flatnonzero(~state.received):
            board.ask(pieces()[number], 50 + int(number))
        assert abs(int(state.received.sum()) - cut // (CHUNK + 1)) <= 1
        assert isinstance(board.ask(ImageCommit(DIGEST), 70), Done)
        assert isinstance(board.ask(ImageTile(DIGEST, PLACE_OF_2), 71), TileProgrammed)


def test_another_image_takes_the_place_of_the_one_that_is_there(board: Board) -> None:
    other = image_of(program(9))
    for number, image in enumerate((IMAGE, other)):
        digest = hashlib.sha256(image).digest()
        board.ask(ImageBegin(digest, len(image)), 100 * number + 1)
        for count, piece in enumerate(pieces(image)):
            board.ask(piece, 100 * number + 2 + count)
        assert isinstance(board.ask(ImageCommit(digest), 100 * number + 60), Done)
    assert board.ask(ImageTile(DIGEST, 0), 300).code is ErrorCode.OUT_OF_RANGE
    assert isinstance(board.ask(ImageTile(hashlib.sha256(other).digest(), 0), 301), TileProgrammed)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (ImageBegin(DIGEST, 1 << 20), ErrorCode.LIMIT),
        (ImageBegin(DIGEST, 0), ErrorCode.LIMIT),
        (ImageChunk(len(IMAGE), b"x"), ErrorCode.OUT_OF_RANGE),
        (ImageChunk(7, bytes(CHUNK)), ErrorCode.OUT_OF_RANGE),
        (ImageChunk(0, bytes(CHUNK - 1)), ErrorCode.OUT_OF_RANGE),
        (ImageCommit(DIGEST), ErrorCode.OUT_OF_RANGE),
        (ImageTile(DIGEST, 0), ErrorCode.OUT_OF_RANGE),
        (ImageTile(bytes(32), 0), ErrorCode.OUT_OF_RANGE),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, ErrorCode) else value.name,
)
def test_what_does_not_fit_an_image_is_refused(board: Board, request_: Any, code: ErrorCode) -> None:
    board.ask(ImageBegin(DIGEST, len(IMAGE)), 1)
    reply = board.ask(request_, 2)
    assert isinstance(reply, ErrorReply)
    assert reply.code is code


def test_an_image_of_another_digest_is_forgotten_and_one_of_nonsense_writes_nothing(board: Board) -> None:
    wrong = bytes(32)
    board.ask(ImageBegin(wrong, len(IMAGE)), 1)
    for number, piece in enumerate(pieces()):
        board.ask(piece, 2 + number)
    assert board.ask(ImageCommit(wrong), 30).code is ErrorCode.MALFORMED
    assert not board.ask(ImageStatus(), 31).received.any()
    nonsense = struct.pack("<I", 4) + encode(Describe()) + struct.pack("<I", 1 << 30)
    digest = hashlib.sha256(nonsense).digest()
    board.ask(ImageBegin(digest, len(nonsense)), 32)
    board.ask(ImageChunk(0, nonsense), 33)
    assert isinstance(board.ask(ImageCommit(digest), 34), Done)
    for number, offset in enumerate((0, 8, 9, 3, len(nonsense) - 2, 1 << 31)):
        assert isinstance(board.ask(ImageTile(digest, offset), 35 + number), ErrorReply)
    assert board.chip.calls == []
