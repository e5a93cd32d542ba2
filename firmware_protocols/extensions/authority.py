"""Who may change a chip: a key proved by challenge, and seals on the messages that change something.

    proof        = HMAC(level key, "prove" | chip's nonce | level u8 | host's nonce u32)
    session key  = HMAC(level key, "session" | chip's nonce | level u8 | host's nonce u32)
    seal         = HMAC(session key, counter u64 | message)[:16]
    level key    = HMAC(key, "level" | level u8)
    chip's nonce = HMAC(key, "nonce" | epoch u64 | number of the challenge u64)[:16]

HMAC is HMAC-SHA256 (RFC 2104, FIPS 180-4). A chip needs no source of random numbers: the number of the challenge and
the counter of seals never go back, because they are kept without power, ahead of their use. Where the memory that keeps
them is erased they begin anew, and the epoch, which does not lie there, still makes the nonces other ones.

The counter that a chip names in CHALLENGED bears no seal, so whoever sits in the line can forge it. A host seals
nothing with a number that no chip reaches, and a chip takes only small steps: a forger costs it a session, never its
last number.
"""

from __future__ import annotations

import hmac
import re
import struct
from dataclasses import dataclass
from typing import Any

from firmware_protocols.errors import LocalProtocolError, RemoteProtocolError
from firmware_protocols.extensions.memory import SLOT_HEAD, BoardMemory, SlotRing
from firmware_protocols.extensions.messages import (
    NONCE_BYTES,
    Authorise,
    Challenged,
    ImageBegin,
    ImageChunk,
    ImageCommit,
    ImageTile,
    Level,
)
from firmware_protocols.handlers import Refusal
from firmware_protocols.layouts import layout
from firmware_protocols.messages import (
    ErrorCode,
    HoldProgram,
    LoadLayer,
    Mvm,
    ProgramTile,
    Pulse,
    ReadCells,
    Request,
    Reset,
    Sweep,
    Wait,
)
from firmware_protocols.plans.messages import LoadPlan, RunPlan

KEY_BYTES = 32
SEAL = 0xA5  # type of the optional field that ends a sealed message: counter u64, 16 bytes of the MAC
MAC_BYTES = 16
TRIES = 5  # wrong proofs before the chip locks itself
LOCK_S, LONGEST_LOCK_S = 60.0, 3600.0  # doubled at each wrong proof more
AHEAD = 64  # numbers kept ahead of their use: one write of the memory for so many messages
MOST_STEP = 1 << 16  # from one counter to the next; between them lie seals that never reached the chip
MOST_COUNTER = 1 << 48  # that a chip reaches: at a message each microsecond nine years
_NEEDED: dict[type, Level] = {
    **dict.fromkeys((ReadCells, Mvm, Sweep, LoadLayer, LoadPlan, RunPlan, Wait), Level.RUN),
    **dict.fromkeys((ProgramTile, HoldProgram, Reset, ImageBegin, ImageChunk, ImageCommit, ImageTile), Level.PROGRAM),
    Pulse: Level.SERVICE,
}
_RECORD = layout("authority_record")
_OPTION = layout("option")
_COUNTER = struct.Struct("<Q")
_CLAIM = struct.Struct("<BI")
_SEAL_BYTES = _COUNTER.size + MAC_BYTES
SEALED_BYTES = _OPTION.size + _SEAL_BYTES  # by which a seal makes a message longer
RECORD_SPACE = 2 * (SLOT_HEAD + _RECORD.size)


def chip_key(text: str) -> bytes:
    """The key in a text of 64 hexadecimal digits. Raises ``LocalProtocolError``, which does not show it.

    Args:
        text: 64 hexadecimal digits.

    Returns:
        32 bytes.

    Example:
        >>> len(chip_key("00" * 32))
        32
    """
    if re.fullmatch(r"[0-9a-fA-F]{64}", text.strip()) is None:
        raise LocalProtocolError(f"a key is {2 * KEY_BYTES} hexadecimal digits")
    return bytes.fromhex(text.strip())


def needed(request: Request[Any]) -> Level:
    """The level that a request takes."""
    return _NEEDED.get(type(request), Level.OBSERVE)


def level_key(key: bytes, level: Level) -> bytes:
    """The key of one level, which can be handed out without the chip's own.

    Args:
        key: of the chip, 32 bytes.
        level: that the holder may prove.

    Returns:
        32 bytes.

    Example:
        >>> level_key(chip_key("00" * 32), Level.PROGRAM).hex()[:8]
        'fea7791e'
    """
    return _mac(key, b"level", bytes((level,)))


def proof_of(key: bytes, nonce: bytes, level: Level, host: int) -> bytes:
    """What ``Authorise`` carries; ``key`` is the level's."""
    return _mac(key, b"prove", nonce, _CLAIM.pack(level, host))


def session_key(key: bytes, nonce: bytes, level: Level, host: int) -> bytes:
    return _mac(key, b"session", nonce, _CLAIM.pack(level, host))


def _mac(key: bytes, *parts: bytes) -> bytes:
    return hmac.digest(key, b"".join(parts), "sha256")


@dataclass
class Sealer:
    """The host's side: seals messages with the key of a session and a counter that only grows."""

    key: bytes
    counter: int

    def sealed(self, message: bytes) -> bytes:
        self.counter += 1
        counter = _COUNTER.pack(self.counter)
        return message + _OPTION.pack(SEAL, _SEAL_BYTES) + counter + _mac(self.key, counter, message)[:MAC_BYTES]


def sealer_after(challenge: Challenged, key: bytes, before: Sealer | None = None) -> Sealer:
    """The seals of a new session, from the counter on that the chip names.

    Args:
        challenge: the chip's; its counter may have been forged on the line.
        key: the session's.
        before: the seals of this host's last session with the same chip, whose counter nobody can have forged.

    Raises:
        RemoteProtocolError: no chip can have come to that counter.
    """
    most = MOST_COUNTER if before is None else before.counter + MOST_STEP
    if challenge.counter > most:
        raise RemoteProtocolError(f"the chip names {challenge.counter} as its counter of seals, {most} is the most")
    return Sealer(key, challenge.counter)


class ChipAuthority:
    """The chip's side: what the host of the session may do, and what is kept of it without power.

    Args:
        key: the chip's, 32 bytes.
        memory: where the counters and wrong proofs are kept, ``RECORD_SPACE`` bytes from ``at`` on.
        epoch: u64 that no start of this chip had before.
    """

    def __init__(self, key: bytes, memory: BoardMemory, at: int, epoch: int) -> None:
        if len(key) != KEY_BYTES:
            raise LocalProtocolError(f"a key has {KEY_BYTES} bytes, not {len(key)}")
        self._key, self._epoch = key, _COUNTER.pack(epoch)
        self._ring = SlotRing(memory, at, 2, RECORD_SPACE // 2)
        record = self._ring.records()[-1:]
        counter, self._challenges, self._failures = _RECORD.unpack(record[0]) if record else (0, 0, 0)
        # One that no host goes on from is a forger's. It may begin anew: no key of a session comes twice.
        self._counter = counter if counter <= MOST_COUNTER else 0
        self._kept = (self._counter, self._challenges)
        self._locked_until_s: float | None = None  # None: not known, the clock began anew
        self._nonce = self._session = b""
        self.level = Level.OBSERVE

    @property
    def counter(self) -> int:
        """Counter of the last seal that was accepted; later seals must have higher ones."""
        return self._counter

    def challenge(self) -> Challenged:
        self._challenges += 1
        self._keep()
        self._nonce = _mac(self._key, b"nonce", self._epoch, _COUNTER.pack(self._challenges))[:NONCE_BYTES]
        return Challenged(self._nonce, self._counter, self.level, max(TRIES - self._failures, 0))

    def authorise(self, request: Authorise, host: int, now_s: float) -> None:
        """Raises ``Refusal`` for a wrong proof, without a challenge, and while the chip is locked."""
        if self._failures >= TRIES:
            self._wait_for_lock(now_s)
        nonce, self._nonce = self._nonce, b""
        key = level_key(self._key, request.level)
        if not nonce:
            raise Refusal(ErrorCode.NOT_AUTHORISED, "a challenge comes first")
        if not hmac.compare_digest(request.proof, proof_of(key, nonce, request.level, host)):
            self._failures = min(self._failures + 1, 0xFFFF)
            self._locked_until_s = now_s + self._lock_s()
            self._keep(now=True)
            raise Refusal(ErrorCode.NOT_AUTHORISED, "wrong key", self._failures, TRIES)
        if self._failures:
            self._failures = 0
            self._keep(now=True)
        self.level, self._session = request.level, session_key(key, nonce, request.level, host)

    def drop(self) -> None:
        """Drop the granted level: only requests that need no key remain."""
        self.level, self._session, self._nonce = Level.OBSERVE, b"", b""

    def check(self, request: Request[Any], data: bytes) -> int:
        """The counter of a sealed request, 0 where none is needed; raises ``Refusal`` for one that may not be asked."""
        level = needed(request)
        if level > self.level:
            raise Refusal(ErrorCode.NOT_AUTHORISED, f"level {level.name} is needed", level, self.level)
        if level < Level.PROGRAM:
            return 0
        message, seal = data[:-SEALED_BYTES], data[-SEALED_BYTES:]
        counter, mac = seal[_OPTION.size : -MAC_BYTES], seal[-MAC_BYTES:]
        if len(data) <= SEALED_BYTES or seal[: _OPTION.size] != _OPTION.pack(SEAL, _SEAL_BYTES):
            raise Refusal(ErrorCode.NOT_AUTHORISED, "the message bears no seal")
        if not hmac.compare_digest(mac, _mac(self._session, counter, message)[:MAC_BYTES]):
            raise Refusal(ErrorCode.NOT_AUTHORISED, "the seal is wrong")
        return int(_COUNTER.unpack(counter)[0])

    def take(self, counter: int) -> None:
        """Use a counter up as its request begins; raises ``Refusal`` for one that was used or leaps. 0: of no seal."""
        if not counter:
            return
        if counter <= self._counter:
            raise Refusal(ErrorCode.NOT_AUTHORISED, "this counter was used before", counter, self._counter)
        if counter > self._counter + MOST_STEP:
            text = "this counter is too far ahead, as after a forged CHALLENGED"
            raise Refusal(ErrorCode.NOT_AUTHORISED, text, counter, self._counter + MOST_STEP)
        self._counter = counter
        self._keep()

    def _keep(self, *, now: bool = False) -> None:
        """Write the numbers, ``AHEAD`` of their use, when those that are kept do not cover them."""
        if now or self._counter >= self._kept[0] or self._challenges >= self._kept[1]:
            self._kept = (self._counter + AHEAD, self._challenges + AHEAD)
            self._ring.add(_RECORD.pack(*self._kept, self._failures))

    def _lock_s(self) -> float:
        over = self._failures - TRIES
        return min(LOCK_S * 2.0 ** min(over, 16), LONGEST_LOCK_S) if over >= 0 else 0.0

    def _wait_for_lock(self, now_s: float) -> None:
        if self._locked_until_s is None:  # restarted meanwhile: the whole time again
            self._locked_until_s = now_s + self._lock_s()
        if now_s < self._locked_until_s:
            left_s = self._locked_until_s - now_s
            raise Refusal(ErrorCode.NOT_AUTHORISED, "locked after wrong keys, for so many seconds more", left_s)
