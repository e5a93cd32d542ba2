"""Replies of every kind with a field, byte, class or time forged: the host ends in an error of its own, or goes on."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cim.chip.file import load_chip
from cim.chip.windows import Window
from firmware_protocols.codec import Op, decode, encode
from firmware_protocols.errors import LocalProtocolError, RemoteProtocolError
from firmware_protocols.extensions.messages import Challenged, ImageState, JournalState, Level
from firmware_protocols.messages import (
    CellReadings,
    Description,
    Done,
    ErrorCode,
    ErrorReply,
    HelloReply,
    MvmResult,
    Progress,
    Reply,
    Returns,
    StatusReply,
    TileAddress,
    TileProgrammed,
)
from hil.driver.chip_driver import ChipDriver
from hil.driver.keys import HostKey
from hil.driver.open_chip import connect
from hil.driver.session import Session
from hil.emulator.chip import EmulatedChip
from hil.errors import HilError
from hil.transports.in_process import InProcessTransport
from hil.transports.journal import Journal

from ..forging_line import ForgingLine

SPEC = load_chip("lab-128", macros=1)
KEY = bytes(range(32))
TILE = TileAddress(0, 0, 9, 0, 5)
CODES = np.arange(27, dtype=np.int16).reshape(3, 9) % 16
NUMBERS = (0, 1, 255, 0xFFFF, 0x10000, 0xFFFFFFFF, 1 << 40, 1 << 63, (1 << 64) - 66, (1 << 64) - 1)
REALS = (0.0, -1.0, 1e308, -1e300, float("nan"), float("inf"), 5e-324)
MOST_REPLIES = 20  # of a tour, about
REPLIES = [int(op) for op in Op if op & 0x80]
Forged = Callable[[random.Random, Reply, bytes, int, int], bytes]


def other_value(rng: random.Random, value: Any) -> Any:
    if isinstance(value, np.ndarray):
        turned = np.ascontiguousarray(np.swapaxes(value, 0, -1))
        return rng.choice((turned, value[:1], np.full_like(value, value.max()), np.zeros_like(value)))
    if isinstance(value, bool):
        return not value
    if isinstance(value, enum.Enum):
        return rng.choice(list(type(value)))
    choices: dict[type, Any] = {int: NUMBERS, float: REALS, str: ("", "x" * 300, "\x1b[2J", "lab-64")}
    if isinstance(value, bytes):
        return rng.randbytes(len(value))
    return rng.choice(choices[type(value)]) if type(value) in choices else value


def another_field(rng: random.Random, said: Reply, data: bytes, request_id: int, time_ns: int) -> bytes:
    names = [field.name for field in dataclasses.fields(said)]
    changed = {name: other_value(rng, getattr(said, name)) for name in rng.sample(names, min(1, len(names)))}
    return encode(dataclasses.replace(said, **changed), request_id, time_ns)


def another_time(rng: random.Random, said: Reply, data: bytes, request_id: int, time_ns: int) -> bytes:
    return encode(said, request_id, rng.choice(NUMBERS))


def other_bytes(rng: random.Random, said: Reply, data: bytes, request_id: int, time_ns: int) -> bytes:
    changed = bytearray(data)
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed[: rng.choice((len(changed), rng.randrange(1, len(changed) + 1)))])


def another_operation(rng: random.Random, said: Reply, data: bytes, request_id: int, time_ns: int) -> bytes:
    return bytes((rng.choice(REPLIES),)) + data[1:]


def another_reply(rng: random.Random, said: Reply, data: bytes, request_id: int, time_ns: int) -> bytes:
    others = (
        Done(),
        Progress(rng.choice(NUMBERS) & 0xFFFFFFFF, 1, 0),
        ErrorReply(rng.choice(list(ErrorCode)), "\x1b[2J", rng.choice(REALS), rng.choice(REALS)),
        Challenged(bytes(16), rng.choice(NUMBERS), Level.RUN, 3),
        JournalState(rng.choice(NUMBERS) & 0xFFFF, ()),
        ImageState(bytes(32), 0, rng.choice(NUMBERS) & 0xFFFFFFFF, True, np.zeros(0, np.bool_)),
    )
    return encode(rng.choice(others), request_id, time_ns)


class Forger:
    """Changes one reply of a tour, or all from one on."""

    def __init__(self, seed: int, forged: Forged) -> None:
        self._rng, self._forged = random.Random(seed), forged
        self._first = self._rng.randrange(MOST_REPLIES)
        self._left = self._rng.choice((1, 1, 1, 1000))
        self.changed: list[str] = []

    def __call__(self, data: bytes) -> bytes:
        self._first -= 1
        if self._first >= 0 or not self._left:
            return data
        try:
            said, request_id, time_ns = decode(data)
            assert isinstance(said, Reply)
            out = self._forged(self._rng, said, data, request_id, time_ns)
        except (LocalProtocolError, RemoteProtocolError):
            return data  # a forgery that no message can carry
        self._left -= 1
        self.changed.append(f"{said} -> {out[:32].hex()}")
        return out


def tour(driver: ChipDriver) -> None:
    """Something of everything that a driver asks."""
    cells = np.full((128, 128), np.nan, np.float32)
    cells[:9, :10] = 20.0
    driver.offer_writes([(0, cells)])
    driver.known_status()
    driver.program_cells(0, cells)
    driver.read_cells(0, lines=range(4))
    driver.mvm(TILE, CODES)
    driver.mvm(TILE, CODES, returns=Returns.RAW)
    driver.sweep(TILE, np.ones((1, 1, 6, 5), np.int16), Window(1, 6, 5, (3, 3), (1, 1), (0, 0)))
    driver.wait(3.0)
    driver.hold_program(bytes(32))
    driver.reset()


@pytest.mark.parametrize("keyed", [False, True], ids=["open", "keyed"])
@pytest.mark.parametrize("forged", [another_field, another_time, other_bytes, another_operation, another_reply])
def test_a_forged_reply_of_any_kind_ends_in_an_error_of_the_host_or_in_none(
    forged: Forged, keyed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(Session.__init__.__kwdefaults__, "answer_s", 0.3)
    changed = 0
    for seed in range(12):
        forger = Forger(seed, forged)
        chip = EmulatedChip(SPEC, 2, key=KEY if keyed else None)
        line = ForgingLine(InProcessTransport(chip, "here"), forger)
        key = HostKey(KEY) if keyed else None
        try:
            with connect(line, chip=SPEC, key=key, hello_s=0.3, silence_s=0.3, log=tmp_path / f"{seed}.log") as driver:
                tour(driver)
        except HilError:
            pass
        except Exception as error:
            error.add_note(f"seed {seed}: {forger.changed}")
            raise
        changed += bool(forger.changed)
    assert changed >= 6


SAID = (
    HelloReply,
    Description,
    StatusReply,
    TileProgrammed,
    CellReadings,
    MvmResult,
    Challenged,
    JournalState,
    ImageState,
)
COUNTS = [(kind, field.name) for kind in SAID for field in dataclasses.fields(kind) if field.type == "int"]


@pytest.mark.parametrize(("kind", "name"), COUNTS, ids=[f"{kind.__name__}.{name}" for kind, name in COUNTS])
def test_no_number_of_a_chip_is_so_large_that_the_host_breaks(
    kind: type[Reply], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(Session.__init__.__kwdefaults__, "answer_s", 0.3)
    seen = []

    def forge(data: bytes) -> bytes:
        said, request_id, time_ns = decode(data)
        if not isinstance(said, kind):
            return data
        seen.append(said)
        for bits in (64, 32, 16, 8):
            with contextlib.suppress(LocalProtocolError):
                return encode(dataclasses.replace(said, **{name: (1 << bits) - 1}), request_id, time_ns)
        return data

    line = ForgingLine(InProcessTransport(EmulatedChip(SPEC, 2, key=KEY), "here"), forge)
    with (
        contextlib.closing(Journal(tmp_path / "journal")) as journal,
        contextlib.suppress(HilError),
        connect(line, chip=SPEC, key=HostKey(KEY), journal=journal, hello_s=0.3, silence_s=0.3) as driver,
    ):
        tour(driver)
    assert seen
