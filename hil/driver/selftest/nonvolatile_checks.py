"""Checks of memory that outlasts a reset, and of requests that the chip refuses without its key."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import numpy as np

from firmware_protocols.codec import Op, encode
from firmware_protocols.extensions.authority import MOST_STEP, Sealer
from firmware_protocols.extensions.messages import (
    CHUNK,
    AskJournal,
    Authorise,
    Challenge,
    Challenged,
    ImageBegin,
    ImageChunk,
    ImageCommit,
    ImageStatus,
    ImageTile,
    Level,
)
from firmware_protocols.messages import (
    Capability,
    CellBlock,
    Describe,
    Done,
    ErrorCode,
    ErrorReply,
    HoldProgram,
    Mvm,
    Request,
    Reset,
    Returns,
    TileAddress,
    Wait,
)
from firmware_protocols.sending import CONTROL
from hil.driver.program_image import ProgramImage
from hil.driver.requests import program_requests
from hil.driver.selftest.limit_checks import layer_of, masked_write
from hil.driver.selftest.line import Bench, CheckFailed, MessageLine, NotThere, NotTried, expect
from hil.driver.selftest.safety_checks import ACKNOWLEDGES_S, READ, after_reset, known_status

# --- journal and images -----------------------------------------------------------------------------


def an_answer_outlives_a_reset(bench: Bench) -> str:
    """A request finished before a reset gets the same answer bytes afterwards, and is not carried out again."""
    bench.needs(Capability.JOURNAL, Capability.WAIT, Capability.RESET)
    wait = encode(Wait(2_000_000), 21)
    with bench.messages() as line:
        (first,) = line.ask(wait)
        boot, nonce, session = line.hello.boot_id, line.nonce, line.session  # after the reset there may be none yet
        line.get(Reset(), channel=CONTROL)
        line.settle(ACKNOWLEDGES_S)
    with after_reset(bench, boot, nonce, session) as line:
        (again,) = line.ask(wait)
        expect(again == first, "the reply differs")
        state = line.get(AskJournal())
    expect((nonce, 21, Op.WAIT) in [dataclasses.astuple(e) for e in state.entries], "the journal does not list it")
    expect(state.depth >= 1, f"a depth of {state.depth}")
    with bench.messages() as line:
        (other,) = line.ask(wait)
    expect(other != first, "another host was given the same answer")
    return f"depth {state.depth}"


def an_image_is_held_and_written(bench: Bench) -> str:
    """An image comes in pieces in any order, is compared with its digest, outlives a reset, and writes its tiles."""
    bench.needs(Capability.IMAGES, Capability.PROGRAM_TILE)
    macro = bench.spec.macro
    targets = np.full((macro.rows, macro.columns), np.nan, np.float32)
    targets[: min(40, macro.rows), : min(32, macro.columns)] = macro.levels_us[0]
    image = ProgramImage.of(program_requests(bench.spec, 0, targets, 12, 1024))
    with bench.messages() as line:
        line.get(ImageBegin(image.digest, len(image.data)))
        line.answer(ImageBegin(hashlib.sha256(image.data[:-1]).digest(), len(image.data)))
        pieces = list(image.missing(line.get(ImageBegin(image.digest, len(image.data))), 1024))
        line.refused(ImageCommit(image.digest), ErrorCode.OUT_OF_RANGE, what="a commit without chunks")
        for piece in (*reversed(pieces), pieces[0]):
            line.get(piece)
        line.get(ImageCommit(image.digest))
        line.refused(ImageTile(bytes(32), 0), what="a tile of another image")
        for place in image.places.values():
            line.get(ImageTile(image.digest, place))
        _another_digest_is_refused(line, image)
        beyond = ImageChunk(len(image.data) // 1024 * 1024 + 1024, b"x")
        line.refused(beyond, ErrorCode.OUT_OF_RANGE, what="a piece beyond the image")
    with bench.messages() as line:
        expect(line.get(ImageStatus()).complete, "another session does not find it")
    return f"{len(image.data):,} bytes, {len(pieces)} pieces, {len(image.places)} tiles"


def _another_digest_is_refused(line: MessageLine, image: ProgramImage) -> None:
    """Check that an image is not committed if its bytes do not match the announced digest, and is if they do."""
    wrong = hashlib.sha256(image.data + b"?").digest()
    for digest in (wrong, image.digest):
        line.answer(ImageBegin(digest, len(image.data)))
        for at in range(0, len(image.data), CHUNK):
            line.answer(ImageChunk(at, image.data[at : at + CHUNK]))
        if digest == wrong:
            line.refused(ImageCommit(wrong), what="an image of another digest")
    line.get(ImageCommit(image.digest))


JOURNAL = (an_answer_outlives_a_reset, an_image_is_held_and_written)

# --- authority --------------------------------------------------------------------------------------


def _guarded(bench: Bench) -> None:
    with bench.messages(authorised=False) as line:
        said = line.answer(Challenge()).message
    if isinstance(said, ErrorReply) and said.code is ErrorCode.UNSUPPORTED:
        raise NotThere("no AUTHORITY: it wants no key")
    if not isinstance(said, Challenged):
        raise CheckFailed(f"CHALLENGE was answered {said}"[:200])
    if bench.key is None:
        raise NotTried("no key at hand: hil --key-file FILE selftest …")


def _refused(line: MessageLine, message: bytes | Request[Any], what: str = "") -> None:
    line.refused(message, ErrorCode.NOT_AUTHORISED, what=what, plain=True)


def nothing_without_a_key(bench: Bench) -> str:
    """Without proof of a key a host may ask for status, but not read cells, write or reset."""
    _guarded(bench)
    requests = _all_that_need_the_key(bench)
    with bench.messages(authorised=False) as line:
        line.get(Describe())
        known_status(line)
        for request in requests:
            _refused(line, request)
    return f"{len(requests)} of {len(requests)}"


def _all_that_need_the_key(bench: Bench) -> list[Request[Any]]:
    """One request of each kind that needs the key, among those the chip supports; all are harmless to its cells."""
    can, macro, cell = bench.needs(), bench.spec.macro, CellBlock(0, 0, 1, 0, 1)
    rows = min(8, macro.logical_rows)
    tile, codes = TileAddress(0, 0, rows, 0, 1), np.zeros((1, rows), np.int16)
    returns = Returns.SUMS if Capability.SUMS in can else Returns.RAW
    requests: list[Request[Any]] = [READ, Mvm(returns, tile, 0, 0, macro.inputs.bits, False, 0, 1, 0, codes)]
    extra: dict[Capability, list[Request[Any]]] = {
        Capability.PROGRAM_TILE: [masked_write(bench, cell)],
        Capability.PULSE: [bench.pulse(cell, 1)],
        Capability.LAYER: [layer_of(tile, rows, np.zeros(1, np.int32))],
        Capability.HELD_PROGRAM: [HoldProgram(bytes(32))],
        Capability.WAIT: [Wait(1)],
        Capability.IMAGES: [ImageBegin(bytes(32), 1), ImageChunk(0, b"?"), ImageCommit(bytes(32))],
        Capability.RESET: [Reset()],
    }
    for capability, members in extra.items():
        requests += members if capability in can else []
    return requests


def rights_end_with_the_host(bench: Bench) -> str:
    """The rights of one host end when the next one connects; no challenge comes twice."""
    _guarded(bench)
    requests = _all_that_need_the_key(bench)
    with bench.messages() as line:
        line.get(READ)
    with bench.messages(authorised=False) as line:
        for request in requests:
            _refused(line, request, f"{type(request).__name__} of the next host")
        nonces = {line.get(Challenge()).nonce for _ in range(3)}
    expect(len(nonces) == 3, f"3 challenges brought {len(nonces)} nonces")
    return "3 challenges"


def seals_are_looked_at(bench: Bench) -> str:
    """A request that changes the chip is refused without a seal, with a changed bit, and when it is repeated."""
    _guarded(bench)
    with bench.messages() as line:
        sealer = line.sealer
        if sealer is None:
            raise CheckFailed("the key was refused")
        _refused(line, HoldProgram(bytes(32)), "a message without a seal")
        for number, at in enumerate((5, -1, -17, -25), 2):
            changed = bytearray(sealer.sealed(encode(HoldProgram(bytes(32)), number)))
            changed[at] ^= 1
            line.refused(bytes(changed), what=f"byte {at} changed", plain=True)
        leaping = Sealer(sealer.key, sealer.counter + MOST_STEP)
        _refused(line, leaping.sealed(encode(HoldProgram(bytes(32)), 9)), "a counter that a forger may have chosen")
        heard = sealer.sealed(encode(HoldProgram(bytes(32)), 10))
        expect(line.answer(heard, plain=True).message == Done(), "a sealed message was refused")
        for _ in range(20):  # until the id is forgotten
            line.get(Describe())
        _refused(line, heard, "a message that was heard and sent again")
    return "7 of 7"


def a_wrong_key_is_counted(bench: Bench) -> str:
    """A wrong proof is refused and counted; a right proof clears the count."""
    _guarded(bench)
    assert bench.key is not None
    with bench.messages(authorised=False) as line:
        before = line.get(Challenge())
        if before.tries < 3:
            raise NotTried("few tries are left before it locks itself")
        _refused(line, Authorise(Level.RUN, bytes(32)), "a wrong proof")
        after = line.get(Challenge())
        expect(after.tries == before.tries - 1, f"{before.tries} tries, then {after.tries}")
        said = line.authorise(bench.key, Level.RUN if bench.key.level is None else bench.key.level)
        expect(said == Done(), f"the right key was answered {said}"[:200])
        last = line.get(Challenge())
        expect(last.tries > before.tries - 1, f"the count stays at {last.tries}")
    return f"{before.tries} tries"


AUTHORITY = (nothing_without_a_key, rights_end_with_the_host, seals_are_looked_at, a_wrong_key_is_counted)
