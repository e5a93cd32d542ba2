"""What a chip keeps without power, and what it lets nobody do without its key."""

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
    ImageState,
    ImageStatus,
    ImageTile,
    JournalState,
    Level,
)
from firmware_protocols.messages import (
    Capability,
    CellBlock,
    Describe,
    Description,
    Done,
    ErrorCode,
    ErrorReply,
    HoldProgram,
    LayerTile,
    LoadLayer,
    Mvm,
    Request,
    Reset,
    Returns,
    Status,
    TileAddress,
    TileProgrammed,
    Wait,
)
from firmware_protocols.sending import CONTROL
from hil.driver.program_image import ProgramImage
from hil.driver.requests import program_requests
from hil.driver.selftest.limit_checks import masked_write
from hil.driver.selftest.line import Bench, CheckFailed, MessageLine, NotThere, NotTried, expect
from hil.driver.selftest.safety_checks import ACKNOWLEDGES_S, READ, after_reset

# --- journal and images -----------------------------------------------------------------------------


def an_answer_outlives_a_reset(bench: Bench) -> str:
    """What a chip finished before a reset is answered by the same bytes afterwards, and not done again."""
    with bench.driver(Capability.JOURNAL, Capability.WAIT, Capability.RESET):
        pass
    wait = encode(Wait(2_000_000), 21)
    with bench.messages() as line:
        (first,) = line.ask(wait)
        boot, nonce, session = line.hello.boot_id, line.nonce, line.session  # after the reset there may be none yet
        line.ask(encode(Reset(), 22), channel=CONTROL)
        line.settle(ACKNOWLEDGES_S)
    with after_reset(bench, boot, nonce, session) as line:
        (again,) = line.ask(wait)
        expect(again == first, "the reply differs")
        state = line.answer(encode(AskJournal(), 23)).message
    if not isinstance(state, JournalState):
        raise CheckFailed(f"JOURNAL was answered {type(state).__name__}")
    expect((nonce, 21, Op.WAIT) in [dataclasses.astuple(e) for e in state.entries], "the journal does not list it")
    expect(state.depth >= 1, f"a depth of {state.depth}")
    with bench.messages() as line:
        (other,) = line.ask(wait)
    expect(other != first, "another host was given the same answer")
    return f"depth {state.depth}"


def an_image_is_held_and_written(bench: Bench) -> str:
    """An image comes in pieces in any order, is compared with its digest, outlives a reset, and writes its tiles."""
    with bench.driver(Capability.IMAGES, Capability.PROGRAM_TILE):
        pass
    macro = bench.spec.macro
    targets = np.full((macro.rows, macro.columns), np.nan, np.float32)
    targets[: min(40, macro.rows), : min(32, macro.columns)] = macro.levels_us[0]
    image = ProgramImage.of(program_requests(bench.spec, 0, targets, 12, 1024))
    with bench.messages() as line:
        state = line.answer(encode(ImageBegin(image.digest, len(image.data)), 31)).message
        if not isinstance(state, ImageState):
            raise CheckFailed(f"IMAGE_BEGIN was answered {state}"[:200])
        line.answer(encode(ImageBegin(hashlib.sha256(image.data[:-1]).digest(), len(image.data)), 32))
        state = line.answer(encode(ImageBegin(image.digest, len(image.data)), 33)).message
        pieces = list(image.missing(state, 1024)) if isinstance(state, ImageState) else []
        early = line.answer(encode(ImageCommit(image.digest), 34)).message
        expect(_code(early) is ErrorCode.OUT_OF_RANGE, f"a commit without chunks was answered {early}"[:200])
        for number, piece in enumerate(reversed(pieces)):
            expect(line.answer(encode(piece, 40 + number)).message == Done(), f"piece at {piece.offset} was refused")
        expect(line.answer(encode(pieces[0], 90)).message == Done(), "a piece that came again was refused")
        expect(line.answer(encode(ImageCommit(image.digest), 91)).message == Done(), "the commit was refused")
        wrong = line.answer(encode(ImageTile(bytes(32), 0), 92)).message
        expect(isinstance(wrong, ErrorReply), "a tile of another image was written")
        for number, place in enumerate(image.places.values()):
            said = line.answer(encode(ImageTile(image.digest, place), 93 + number)).message
            expect(isinstance(said, TileProgrammed), f"tile {number}: answered {said}"[:200])
        _another_digest_is_refused(line, image)
        beyond = line.answer(encode(ImageChunk(len(image.data) // 1024 * 1024 + 1024, b"x"), 120)).message
        expect(_code(beyond) is ErrorCode.OUT_OF_RANGE, f"a piece beyond the image was answered {beyond}"[:200])
    with bench.messages() as line:
        held = line.answer(encode(ImageStatus(), 1)).message
    expect(isinstance(held, ImageState) and held.complete, "another session does not find it")
    return f"{len(image.data):,} bytes, {len(pieces)} pieces, {len(image.places)} tiles"


def _another_digest_is_refused(line: MessageLine, image: ProgramImage) -> None:
    """Bytes that do not give the digest with which their image was begun are not committed; the right ones then are."""
    wrong = hashlib.sha256(image.data + b"?").digest()
    line.answer(encode(ImageBegin(wrong, len(image.data)), 140))
    _send_pieces(line, image, 141)
    said = line.answer(encode(ImageCommit(wrong), 160)).message
    expect(isinstance(said, ErrorReply), f"an image of another digest was committed: {said}"[:200])
    line.answer(encode(ImageBegin(image.digest, len(image.data)), 161))
    _send_pieces(line, image, 162)
    expect(line.answer(encode(ImageCommit(image.digest), 180)).message == Done(), "the right image was refused")


def _send_pieces(line: MessageLine, image: ProgramImage, first_id: int) -> None:
    for number, at in enumerate(range(0, len(image.data), CHUNK)):
        line.answer(encode(ImageChunk(at, image.data[at : at + CHUNK]), first_id + number))


JOURNAL = (an_answer_outlives_a_reset, an_image_is_held_and_written)

# --- authority --------------------------------------------------------------------------------------


def _code(reply: object) -> ErrorCode | None:
    return reply.code if isinstance(reply, ErrorReply) else None


def _refused(line: MessageLine, message: bytes, what: str) -> None:
    reply = line.answer(message, plain=True).message
    expect(_code(reply) is ErrorCode.NOT_AUTHORISED, f"{what} was answered {reply}"[:200])


def _guarded(bench: Bench) -> None:
    with bench.frames():
        pass
    with bench.messages(authorised=False) as line:
        reply = line.answer(encode(Challenge(), 1)).message
    if _code(reply) is ErrorCode.UNSUPPORTED:
        raise NotThere("no AUTHORITY: it wants no key")
    if not isinstance(reply, Challenged):
        raise CheckFailed(f"CHALLENGE was answered {reply}"[:200])
    if bench.key is None:
        raise NotTried("no key at hand: hil --key-file FILE selftest …")


def nothing_without_a_key(bench: Bench) -> str:
    """Without a proof everybody may look, and neither read, write nor reset."""
    _guarded(bench)
    requests = _all_that_need_the_key(bench)
    with bench.messages(authorised=False) as line:
        expect(isinstance(line.answer(encode(Describe(), 1)).message, Description), "it does not describe itself")
        told = _code(line.answer(encode(Status(), 2)).message)
        expect(told in (None, ErrorCode.UNSUPPORTED), "STATUS was refused")
        for number, request in enumerate(requests, 3):
            _refused(line, encode(request, number), type(request).__name__)
    return f"{len(requests)} of {len(requests)}"


def _all_that_need_the_key(bench: Bench) -> list[Request[Any]]:
    """One request of each kind that the chip can do; none of them would hurt it."""
    can, macro, cell = bench.needs(), bench.spec.macro, CellBlock(0, 0, 1, 0, 1)
    rows, one = min(8, macro.logical_rows), np.ones(1, np.int32)
    tile, codes = TileAddress(0, 0, rows, 0, 1), np.zeros((1, rows), np.int16)
    part = LayerTile(tile, 0, 0, 1, 0, one, np.zeros(1, np.int64), one)
    returns = Returns.SUMS if Capability.SUMS in can else Returns.RAW
    requests: list[Request[Any]] = [READ, Mvm(returns, tile, 0, 0, macro.inputs.bits, False, 0, 1, 0, codes)]
    extra: dict[Capability, list[Request[Any]]] = {
        Capability.PROGRAM_TILE: [masked_write(bench, cell)],
        Capability.PULSE: [bench.pulse(cell, 1)],
        Capability.LAYER: [LoadLayer(9, rows, 1, -128, 127, one, one, one, (part,))],
        Capability.HELD_PROGRAM: [HoldProgram(bytes(32))],
        Capability.WAIT: [Wait(1)],
        Capability.IMAGES: [ImageBegin(bytes(32), 1), ImageChunk(0, b"?"), ImageCommit(bytes(32))],
        Capability.RESET: [Reset()],
    }
    for capability, members in extra.items():
        requests += members if capability in can else []
    return requests


def rights_end_with_the_host(bench: Bench) -> str:
    """What one host has proved, the next one has not; no challenge comes twice."""
    _guarded(bench)
    requests = _all_that_need_the_key(bench)
    with bench.messages() as line:
        expect(_code(line.answer(encode(READ, 1)).message) is None, "a host that proved its key may not read")
    with bench.messages(authorised=False) as line:
        for number, request in enumerate(requests, 2):
            _refused(line, encode(request, number), f"{type(request).__name__} of the next host")
        nonces = [line.answer(encode(Challenge(), 50 + n)).message for n in range(3)]
    said = {one.nonce for one in nonces if isinstance(one, Challenged)}
    expect(len(said) == len(nonces), f"{len(nonces)} challenges brought {len(said)} nonces")
    return f"{len(said)} challenges"


def seals_are_looked_at(bench: Bench) -> str:
    """A message that changes something is refused without a seal, with a changed bit, and when it comes again."""
    _guarded(bench)
    with bench.messages() as line:
        sealer = line.sealer
        if sealer is None:
            raise CheckFailed("the key was refused")
        _refused(line, encode(HoldProgram(bytes(32)), 1), "a message without a seal")
        for number, at in enumerate((5, -1, -17, -25), 2):
            changed = bytearray(sealer.sealed(encode(HoldProgram(bytes(32)), number)))
            changed[at] ^= 1
            reply = line.answer(bytes(changed), plain=True).message
            expect(isinstance(reply, ErrorReply), f"byte {at} changed: answered {reply}"[:200])
        leaping = Sealer(sealer.key, sealer.counter + MOST_STEP)
        _refused(line, leaping.sealed(encode(HoldProgram(bytes(32)), 9)), "a counter that a forger may have chosen")
        heard = sealer.sealed(encode(HoldProgram(bytes(32)), 10))
        expect(line.answer(heard, plain=True).message == Done(), "a sealed message was refused")
        for number in range(20):  # until the id is forgotten
            line.answer(encode(Describe(), 11 + number))
        _refused(line, heard, "a message that was heard and sent again")
    return "7 of 7"


def a_wrong_key_is_counted(bench: Bench) -> str:
    """A wrong proof is refused and counted, a right one ends the count."""
    _guarded(bench)
    assert bench.key is not None
    with bench.messages(authorised=False) as line:
        before = line.answer(encode(Challenge(), 1)).message
        if not isinstance(before, Challenged) or before.tries < 3:
            raise NotTried("few tries are left before it locks itself")
        _refused(line, encode(Authorise(Level.RUN, bytes(32)), 2), "a wrong proof")
        after = line.answer(encode(Challenge(), 3)).message
        expect(
            isinstance(after, Challenged) and after.tries == before.tries - 1,
            f"{before.tries} tries, then {after}"[:200],
        )
        said = line.authorise(bench.key, Level.RUN if bench.key.level is None else bench.key.level)
        expect(said == Done(), f"the right key was answered {said}"[:200])
        last = line.answer(encode(Challenge(), 4)).message
        expect(isinstance(last, Challenged) and last.tries > before.tries - 1, f"the count stays: {last}"[:200])
    return f"{before.tries} tries"


AUTHORITY = (nothing_without_a_key, rights_end_with_the_host, seals_are_looked_at, a_wrong_key_is_counted)
