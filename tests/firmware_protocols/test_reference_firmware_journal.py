"""What the C firmware keeps without power: records, answers and images, wherever the supply fails."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from firmware_protocols.codec import decode, encode
from firmware_protocols.connection import Connection, LinkLimits
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
    CellBlock,
    Describe,
    Done,
    ErrorCode,
    HoldProgram,
    ProgramTile,
    Progress,
    TileProgrammed,
    Wait,
)
from firmware_protocols.sending import BULK
from firmware_protocols.states import Role

from .firmware_bench import FirmwareBench

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
NONCE = 0xC0FFEE


def program(row: int = 0) -> ProgramTile:
    targets = np.full((2, 4), 1500, np.uint16)
    return ProgramTile(CellBlock(0, row, 2, 0, 4), 10, 100, 50, 4, 800, 50, 2500, 900, 60, 2800, 1000, row, targets)


class Board:
    """The firmware on its bench, and a host of one nonce that talks to it."""

    def __init__(self, life: tuple[float, float] | None = None) -> None:
        self.bench, self.boots = FirmwareBench(life=life), 0
        self.greet()

    def power_for(self, size: int) -> None:
        """The supply holds for so many bytes of memory."""
        self.bench.ask("P", now_s=size * 1e-6)

    def bytes_left(self) -> int:
        return int.from_bytes(self.bench.ask("L"), "little")

    def boot(self, nonce: int = NONCE) -> None:
        self.bench.ask("B")
        self.greet(nonce)

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
                self.bench.receive(out, 0.0)
            back = self.bench.data_to_send(0.0)
            self.link.receive(back, 0.0)
            replies += [bytes(received.data) for received in self.link.messages()]
            if turn and not out and not back and (not self.bench.ask("Q") or not self.bench.busy):
                break
        return [reply for reply in replies if not isinstance(decode(reply).message, Progress)]

    def ask_bytes(self, request: Any, request_id: int) -> bytes:
        self.link.send(encode(request, request_id), BULK)
        replies = self._pump()
        return replies[0] if replies else b""

    def ask(self, request: Any, request_id: int) -> Any:
        return decode(self.ask_bytes(request, request_id)).message


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board()
    yield made
    made.bench.close()


def test_a_record_is_the_old_or_the_new_one_wherever_the_power_fails(board: Board) -> None:
    for size in (20, 60, 500):
        record = np.random.default_rng(size).bytes(size)
        for slots in (2, 3, 17):
            old, new, other = map(int, board.bench.ask("Y", record, slots * 1e-6).split())
            assert (old, new, other) == (12 + size, 1, 0)


def test_what_was_finished_is_answered_by_the_same_bytes_after_the_power_was_lost(board: Board) -> None:
    requests = {1: program(0), 2: Wait(10**9), 3: HoldProgram(bytes(range(32))), 4: program(2)}
    answers = {number: board.ask_bytes(request, number) for number, request in requests.items()}
    reads = board.ask_bytes(Describe(), 5)
    board.boot()
    for number, request in requests.items():
        assert board.ask_bytes(request, number) == answers[number]
    assert decode(board.ask_bytes(Describe(), 5)).chip_time_ns == decode(reads).chip_time_ns
    entries = board.ask(AskJournal(), 6).entries
    assert [(e.nonce, e.request_id, e.op) for e in entries] == [(NONCE, n, encode(r)[0]) for n, r in requests.items()]
    board.boot(nonce=NONCE + 1)
    assert board.ask_bytes(requests[1], 1) != answers[1]


def test_an_answer_that_is_asked_for_again_is_the_newest(board: Board) -> None:
    answers = [board.ask_bytes(Wait(10**9), number) for number in range(1, 17)]
    assert board.ask_bytes(Wait(10**9), 1) == answers[0]
    for number in range(17, 32):
        board.ask_bytes(Wait(10**9), number)
    assert board.ask_bytes(Wait(10**9), 1) == answers[0]


def test_answers_beside_requests_in_turn_cost_none_that_the_host_may_wait_for(board: Board) -> None:
    answers = [board.ask_bytes(Wait(10**9), number) for number in range(1, 16)]
    asides = [board.ask_bytes(Describe(), 0xF000 + number) for number in range(40)]
    assert [board.ask_bytes(Wait(10**9), number) for number in range(1, 16)] == answers
    assert board.ask_bytes(Describe(), 0xF000 + 39) == asides[-1]
    next_one = board.ask_bytes(Wait(10**9), 16)
    assert [board.ask_bytes(Wait(10**9), number) for number in range(2, 17)] == [*answers[1:], next_one]


def test_power_lost_at_any_byte_of_an_entry_costs_that_entry_at_most(board: Board) -> None:
    board.power_for(1 << 20)
    board.ask_bytes(program(2), 2)
    whole = (1 << 20) - board.bytes_left()
    assert 60 < whole < 200
    kept = board.ask_bytes(program(0), 1)
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


def image(count: int = 30) -> bytes:
    messages = [encode(program(2 * row)) for row in range(count)]
    return b"".join(struct.pack("<I", len(message)) + message for message in messages)


def send(board: Board, data: bytes, first_id: int) -> None:
    for number, at in enumerate(range(0, len(data), CHUNK)):
        board.ask_bytes(ImageChunk(at, data[at : at + CHUNK]), first_id + number)


def test_an_image_that_the_power_cut_goes_on_with_what_is_missing(board: Board) -> None:
    data = image()
    digest, size = hashlib.sha256(data).digest(), len(data)
    place = 3 * (4 + len(encode(program())))
    for number, cut in enumerate((0, 1, 40, 60, 1500, 2200, size + 60, size + 67)):
        board.boot(nonce=NONCE + number)
        other = bytes((number,)) * 100
        board.ask(ImageBegin(hashlib.sha256(other).digest(), 100), 1)  # another one lay there
        board.power_for(cut)
        board.ask_bytes(ImageBegin(digest, size), 2)
        send(board, data, 3)
        board.ask_bytes(ImageCommit(digest), 30)
        board.boot(nonce=NONCE + number)
        state = board.ask(ImageBegin(digest, size), 40)
        assert abs(int(state.received.sum()) - max(cut - 48, 0) // (CHUNK + 1)) <= 1
        for chunk in np.flatnonzero(~state.received):
            board.ask(ImageChunk(int(chunk) * CHUNK, data[chunk * CHUNK : (chunk + 1) * CHUNK]), 50 + int(chunk))
        assert isinstance(board.ask(ImageCommit(digest), 80), Done)
        assert board.ask(ImageStatus(), 81).complete
        reply = board.ask(ImageTile(digest, place), 82)
        assert isinstance(reply, TileProgrammed)
        assert reply.reached.all()


def test_what_does_not_fit_an_image_is_refused(board: Board) -> None:
    data = image(3)
    digest = hashlib.sha256(data).digest()
    room = board.ask(ImageStatus(), 1).room
    assert board.ask(ImageBegin(digest, room + 1), 2).code is ErrorCode.LIMIT
    assert board.ask(ImageBegin(digest, 0), 3).code is ErrorCode.LIMIT
    assert board.ask(ImageBegin(digest, len(data)), 4).size == len(data)
    for number, piece in enumerate((ImageChunk(len(data), b"x"), ImageChunk(7, data), ImageChunk(0, data[:-1]))):
        assert board.ask(piece, 10 + number).code is ErrorCode.OUT_OF_RANGE
    assert board.ask(ImageCommit(digest), 20).code is ErrorCode.OUT_OF_RANGE
    assert board.ask(ImageTile(digest, 0), 21).code is ErrorCode.OUT_OF_RANGE
    send(board, bytes(len(data)), 22)
    assert board.ask(ImageCommit(digest), 30).code is ErrorCode.MALFORMED
    send(board, data, 31)
    assert isinstance(board.ask(ImageCommit(digest), 40), Done)
    for number, offset in enumerate((1, 3, len(data) - 3, len(data), 1 << 31, 0xFFFFFFFF)):
        assert board.ask(ImageTile(digest, offset), 41 + number).code in (ErrorCode.MALFORMED, ErrorCode.OUT_OF_RANGE)
    assert board.ask(ImageTile(bytes(32), 0), 60).code is ErrorCode.OUT_OF_RANGE
    assert isinstance(board.ask(ImageTile(digest, 0), 61), TileProgrammed)


def test_a_macro_is_pulsed_no_more_than_its_cells_bear_in_their_life_also_after_a_restart() -> None:
    """128 x 128 cells of one pulse each: 8 cells may take 1,000 once and again, but not 17 at once."""
    board = Board(life=(1.0, 1.0))
    most = dataclasses.replace(program(), max_pulses=1000)
    wide = dataclasses.replace(most, cells=CellBlock(0, 0, 1, 0, 17), targets=np.full((1, 17), 1500, np.uint16))
    refused = board.ask(wide, 1)
    assert (refused.code, refused.value, refused.limit) == (ErrorCode.LIMIT, 17_000.0, 128.0 * 128.0)
    assert isinstance(board.ask(most, 2), TileProgrammed)
    board.boot()
    again = board.ask(wide, 3)
    assert again.code is ErrorCode.LIMIT
    assert again.value > refused.value
    board.bench.close()
