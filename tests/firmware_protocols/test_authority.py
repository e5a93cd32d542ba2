"""Keys, levels, seals and locks, by the Python chip role and by the C firmware alike."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
import pytest

from firmware_protocols.chip import ChipServer
from firmware_protocols.codec import decode, encode
from firmware_protocols.connection import Connection, LinkLimits
from firmware_protocols.errors import LocalProtocolError, RemoteProtocolError
from firmware_protocols.extensions.authority import (
    AHEAD,
    LOCK_S,
    MOST_COUNTER,
    MOST_STEP,
    RECORD_SPACE,
    SEALED_BYTES,
    TRIES,
    Sealer,
    chip_key,
    level_key,
    needed,
    proof_of,
    sealer_after,
    session_key,
)
from firmware_protocols.extensions.chip_side import Keeping
from firmware_protocols.extensions.memory import BoardMemory, SlotRing
from firmware_protocols.extensions.messages import (
    AskJournal,
    Authorise,
    Challenge,
    Challenged,
    DropAuthority,
    ImageBegin,
    ImageChunk,
    ImageCommit,
    ImageStatus,
    ImageTile,
    Level,
)
from firmware_protocols.layouts import layout
from firmware_protocols.messages import (
    CellBlock,
    CellReadings,
    Describe,
    Description,
    Done,
    ErrorCode,
    HoldProgram,
    Mvm,
    OutputsOff,
    Polarity,
    ProgramTile,
    Progress,
    Pulse,
    ReadCells,
    Request,
    Reset,
    Returns,
    Status,
    TileAddress,
    TileProgrammed,
    Wait,
)
from firmware_protocols.sending import BULK, CONTROL
from firmware_protocols.states import Role

from .firmware_bench import LIMITS, FirmwareBench

KEY, NONCE = bytes(range(100, 132)), 0xA11CE
TARGETS = np.full((2, 4), 1500, np.uint16)
PROGRAM = ProgramTile(CellBlock(0, 0, 2, 0, 4), 10, 100, 50, 4, 800, 50, 2500, 900, 60, 2800, 1000, 1, TARGETS)
PULSE = Pulse(CellBlock(0, 0, 1, 0, 1), Polarity.SET, 100, 0, np.array([[900]], np.uint16))
READ = ReadCells(CellBlock(0, 0, 1, 0, 1), 10, 1, 0)
PRODUCT = Mvm(Returns.SUMS, TileAddress(0, 0, 4, 0, 2), 0, 0, 8, False, 1, 1, 0, np.ones((1, 4), np.int16))


class Chip(Protocol):
    busy: bool

    def receive(self, data: bytes, now_s: float) -> None: ...

    def data_to_send(self, now_s: float) -> bytes: ...


class Host:
    """Raw messages to a chip that can be restarted, on a clock of its own."""

    def __init__(self, chips: Iterator[Chip], keep: Callable[[bytes], object], memory_bytes: int) -> None:
        self.keep, self.memory_bytes = keep, memory_bytes  # keep: writes the first bytes of the chip's memory
        self.sent: list[bytes] = []
        self.chips, self.now_s, self.greetings, self.ids = chips, 100.0, 0, itertools.count(1)
        self.level: Level | None = None
        self.boot()

    def boot(self, nonce: int = NONCE) -> None:
        self.chip = next(self.chips)
        self.greet(nonce)

    def greet(self, nonce: int = NONCE) -> None:
        self.greetings += 1
        self.nonce = nonce
        self.link = Connection(Role.HOST, LinkLimits(), nonce=nonce, session=self.greetings * 100)
        self.link.open(self.now_s)
        self._pump()
        assert self.link.reply is not None

    def _pump(self) -> list[Any]:
        replies: list[Any] = []
        for turn in range(2000):
            out = self.link.data_to_send(self.now_s)
            self.chip.receive(out, self.now_s)
            back = self.chip.data_to_send(self.now_s)
            self.link.receive(back, self.now_s)
            replies += [decode(received.data).message for received in self.link.messages()]
            if turn and not out and not back and not self.chip.busy:
                break
        return [reply for reply in replies if not isinstance(reply, Progress)]

    def erase(self) -> None:
        """All of the chip's memory, as a new flash has it; then a restart."""
        self.keep(b"\xff" * self.memory_bytes)

    def send(self, message: bytes, channel: int = BULK) -> Any:
        self.sent.append(message)
        self.link.send(message, channel)
        return self._pump()[-1]

    def ask(self, request: Request[Any], sealer: Sealer | None = None) -> Any:
        message = encode(request, next(self.ids))
        channel = CONTROL if isinstance(request, OutputsOff | Reset) else BULK
        return self.send(message if sealer is None else sealer.sealed(message), channel)

    def authorised(self, level: Level, key: bytes = KEY) -> Sealer:
        challenge = self.ask(Challenge())
        own = level_key(key, level)
        assert self.ask(Authorise(level, proof_of(own, challenge.nonce, level, self.nonce))) == Done()
        return Sealer(session_key(own, challenge.nonce, level, self.nonce), challenge.counter)


@pytest.fixture(params=["python", "c"])
def host(request: pytest.FixtureRequest, kit: SimpleNamespace) -> Iterator[Host]:
    if request.param == "python":
        keeping = Keeping(BoardMemory(RECORD_SPACE + 3 * 4096 + (1 << 16)), 3, 4096, KEY)
        handlers = kit.CountingChip()
        starts = (ChipServer(handlers, boot_id=n, keeping=keeping) for n in itertools.count(1))
        yield Host(starts, lambda data: keeping.memory.write(0, data), len(keeping.memory))
        return
    if shutil.which("gcc") is None:
        pytest.skip("no gcc")
    bench = FirmwareBench()
    bench.ask("K", KEY)

    def boots() -> Iterator[Chip]:
        while True:
            bench.ask("B")
            yield bench

    yield Host(boots(), lambda data: bench.ask("W", data), LIMITS["MEMORY_BYTES"])
    bench.close()


def is_refused(reply: Any) -> bool:
    return getattr(reply, "code", None) is ErrorCode.NOT_AUTHORISED


def test_everybody_may_observe_and_switch_off_and_nothing_else(host: Host) -> None:
    assert isinstance(host.ask(Describe()), Description)
    for request in (Status(), AskJournal(), ImageStatus(), OutputsOff(), Challenge(), DropAuthority()):
        assert not is_refused(host.ask(request)), request
    changes = (
        READ, PRODUCT, Wait(1), PROGRAM, PULSE, HoldProgram(bytes(32)), Reset(), ImageBegin(bytes(32), 9),
        ImageChunk(0, b"x"), ImageCommit(bytes(32)), ImageTile(bytes(32), 0),
    )  # fmt: skip
    for request in changes:
        assert is_refused(host.ask(request)), request
        assert needed(request) > Level.OBSERVE


def test_each_level_holds_those_below_it(host: Host) -> None:
    host.authorised(Level.RUN)
    assert isinstance(host.ask(READ), CellReadings)
    assert is_refused(host.ask(PROGRAM))
    sealer = host.authorised(Level.PROGRAM)
    assert isinstance(host.ask(READ), CellReadings)
    assert isinstance(host.ask(PROGRAM, sealer), TileProgrammed)
    assert is_refused(host.ask(PULSE, sealer))
    sealer = host.authorised(Level.SERVICE)
    assert host.ask(PULSE, sealer) == Done()
    assert isinstance(host.ask(PROGRAM, sealer), TileProgrammed)
    host.ask(DropAuthority())
    assert is_refused(host.ask(READ))


def test_a_changed_bit_anywhere_in_a_sealed_message_is_refused(host: Host) -> None:
    sealer = host.authorised(Level.PROGRAM)
    whole = sealer.sealed(encode(Wait(5), 1))
    assert len(whole) == len(encode(Wait(5), 1)) + SEALED_BYTES
    size = len(encode(HoldProgram(bytes(32)))) + SEALED_BYTES
    for at in (1, 5, 20, 35, *range(size - SEALED_BYTES, size)):
        damaged = bytearray(sealer.sealed(encode(HoldProgram(bytes(32)), 0x6000 + at)))
        damaged[at] ^= 1 << at % 8
        assert host.send(bytes(damaged)).code in (ErrorCode.NOT_AUTHORISED, ErrorCode.MALFORMED), at
    assert is_refused(host.ask(HoldProgram(bytes(32))))
    assert host.ask(HoldProgram(bytes(32)), sealer) == Done()


def test_a_message_that_was_heard_cannot_be_sent_again(host: Host) -> None:
    sealer = host.authorised(Level.PROGRAM)
    first = sealer.sealed(encode(PROGRAM, 0x100))
    assert isinstance(host.send(first), TileProgrammed)
    for number in range(20):  # until the chip has forgotten the id
        host.ask(Describe())
        assert host.ask(HoldProgram(bytes((number,)) * 32), sealer) == Done()
    assert is_refused(host.send(first))
    host.greet(NONCE + 1)
    assert is_refused(host.send(first))
    host.authorised(Level.PROGRAM)
    assert is_refused(host.send(first))
    host.boot(NONCE + 2)
    host.authorised(Level.PROGRAM)
    assert is_refused(host.send(first))


def test_an_erased_memory_makes_no_recorded_session_valid_again(host: Host) -> None:
    for _ in range(2):  # the second time it begins as the first one did, from an erased memory
        host.erase()
        host.boot()
        first = len(host.sent)
        sealer = host.authorised(Level.SERVICE)
        assert [host.ask(PULSE, sealer) for _ in range(3)] == [Done()] * 3
        recorded = host.sent[first:]
        host.erase()
        host.boot()  # the same nonce of the host, which was recorded too
        challenged, *replies = [host.send(message) for message in recorded]
        assert isinstance(challenged, Challenged)
        assert challenged.counter == 0
        assert len(replies) == 4
        assert all(is_refused(reply) for reply in replies)
    host.authorised(Level.SERVICE)


def test_counters_and_nonces_never_come_twice_whenever_the_power_fails(host: Host) -> None:
    nonces, last = set(), 0
    for number in range(12):
        for _ in range(7):
            challenge = host.ask(Challenge())
            assert isinstance(challenge, Challenged)
            assert challenge.nonce not in nonces
            assert challenge.counter >= last
            nonces.add(challenge.nonce)
        sealer = host.authorised(Level.PROGRAM)
        for _ in range(AHEAD // 5):
            assert host.ask(HoldProgram(bytes(32)), sealer) == Done()
        last = sealer.counter
        host.boot(NONCE + 10 + number)


@pytest.mark.parametrize("forged", [MOST_COUNTER - 1, MOST_COUNTER + 9, (1 << 64) - 66, (1 << 64) - 9])
def test_a_counter_that_was_forged_on_the_line_locks_no_chip(host: Host, forged: int) -> None:
    honest = host.authorised(Level.PROGRAM)
    assert host.ask(HoldProgram(bytes(32)), honest) == Done()
    deceived = Sealer(honest.key, forged)  # what a host believes that an older version let a forger choose
    for _ in range(3):
        reply = host.ask(HoldProgram(bytes(32)), deceived)
        assert is_refused(reply)
        assert "too far ahead" in reply.text
    assert host.ask(HoldProgram(bytes(32)), honest) == Done()
    for number in range(2):  # the number was kept over a loss of power
        host.boot(NONCE + 1 + number)
        assert host.ask(HoldProgram(bytes(32)), host.authorised(Level.PROGRAM)) == Done()


def test_a_chip_takes_a_step_over_seals_that_were_lost_and_no_leap(host: Host) -> None:
    sealer = host.authorised(Level.PROGRAM)
    sealer.counter += MOST_STEP - 1
    assert host.ask(HoldProgram(bytes(32)), sealer) == Done()
    sealer.counter += MOST_STEP
    assert is_refused(host.ask(HoldProgram(bytes(32)), sealer))
    sealer.counter -= MOST_STEP + 1
    assert host.ask(HoldProgram(bytes(32)), sealer) == Done()


def test_a_host_that_lost_all_it_knew_gets_in_after_many_others(host: Host) -> None:
    for number in range(5):
        sealer = host.authorised(Level.PROGRAM)
        sealer.counter += MOST_STEP - 1  # as after so many seals
        assert host.ask(HoldProgram(bytes(32)), sealer) == Done()
        host.boot(NONCE + 1 + number)
    assert host.ask(Challenge()).counter > 5 * MOST_STEP - 5
    assert host.ask(HoldProgram(bytes(32)), host.authorised(Level.PROGRAM)) == Done()


def test_a_chip_that_an_older_firmware_let_lock_opens_again(host: Host) -> None:
    memory = BoardMemory(RECORD_SPACE)
    SlotRing(memory, 0, 2, RECORD_SPACE // 2).add(layout("authority_record").pack((1 << 64) - 2, 100, 0))
    host.keep(memory.read(0, RECORD_SPACE))
    host.boot()
    challenge = host.ask(Challenge())
    assert challenge.counter == 0
    sealer = host.authorised(Level.PROGRAM)
    for _ in range(2 * AHEAD):
        assert host.ask(HoldProgram(bytes(32)), sealer) == Done()
    host.boot(NONCE + 1)
    assert 2 * AHEAD <= host.ask(Challenge()).counter <= 3 * AHEAD


def test_a_host_seals_nothing_with_a_counter_that_no_chip_reaches() -> None:
    def told(counter: int) -> Challenged:
        return Challenged(bytes(16), counter, Level.OBSERVE, TRIES)

    assert sealer_after(told(MOST_COUNTER), KEY).counter == MOST_COUNTER
    for forged in (MOST_COUNTER + 1, (1 << 64) - 66, (1 << 64) - 1):
        with pytest.raises(RemoteProtocolError, match="counter of seals"):
            sealer_after(told(forged), KEY)
    before = Sealer(KEY, 1000)
    assert sealer_after(told(1000 + MOST_STEP), KEY, before).counter == 1000 + MOST_STEP
    with pytest.raises(RemoteProtocolError, match="counter of seals"):
        sealer_after(told(1001 + MOST_STEP), KEY, before)


def test_wrong_keys_lock_the_chip_for_longer_and_longer_across_restarts(host: Host) -> None:
    def attempt(key: bytes) -> Any:
        own, challenge = level_key(key, Level.RUN), host.ask(Challenge())
        return host.ask(Authorise(Level.RUN, proof_of(own, challenge.nonce, Level.RUN, host.nonce)))

    for number in range(TRIES):
        assert host.ask(Challenge()).tries == TRIES - number
        reply = attempt(bytes(32))
        assert is_refused(reply)
        assert (reply.value, reply.limit) == (number + 1, TRIES)
    assert "locked" in attempt(KEY).text
    host.now_s += LOCK_S - 1.0
    host.greet()
    assert "locked" in attempt(KEY).text
    host.boot(NONCE + 1)
    assert "locked" in attempt(KEY).text
    host.now_s += LOCK_S + 1.0
    host.greet()
    assert attempt(bytes(32)).text == "wrong key"
    host.now_s += LOCK_S + 1.0
    host.greet()
    assert "locked" in attempt(KEY).text
    host.now_s += LOCK_S
    host.greet()
    assert attempt(KEY) == Done()
    assert host.ask(Challenge()).tries == TRIES


def test_a_proof_is_good_for_one_challenge_one_level_and_one_host(host: Host) -> None:
    key, challenge = level_key(KEY, Level.RUN), host.ask(Challenge())
    proof = proof_of(key, challenge.nonce, Level.RUN, NONCE)
    assert is_refused(host.ask(Authorise(Level.PROGRAM, proof)))
    assert is_refused(host.ask(Authorise(Level.RUN, proof)))  # the challenge is used up
    challenge = host.ask(Challenge())
    assert is_refused(host.ask(Authorise(Level.RUN, proof_of(key, challenge.nonce, Level.RUN, NONCE + 1))))
    challenge = host.ask(Challenge())
    assert is_refused(host.ask(Authorise(Level.PROGRAM, proof_of(key, challenge.nonce, Level.PROGRAM, NONCE))))
    challenge = host.ask(Challenge())
    assert host.ask(Authorise(Level.RUN, proof_of(key, challenge.nonce, Level.RUN, NONCE))) == Done()
    host.greet(NONCE + 1)
    assert is_refused(host.ask(READ))


def test_a_key_is_sixty_four_digits_and_never_shown() -> None:
    assert chip_key("00ff" * 16 + "\n") == b"\x00\xff" * 16
    for text in ("", "secret", "0" * 63, "0" * 65, "g" * 64):
        with pytest.raises(LocalProtocolError) as refused:
            chip_key(text)
        assert not text or text not in str(refused.value)
