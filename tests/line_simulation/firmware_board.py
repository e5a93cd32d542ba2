"""A simulated board whose chip role is the C firmware: a shared library in this process, on the simulation's clock."""

from __future__ import annotations

import ctypes
import hashlib
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from firmware_protocols.codec import encode
from firmware_protocols.connection import LinkLimits
from firmware_protocols.errors import LinkCounters
from firmware_protocols.extensions.authority import RECORD_SPACE, ChipAuthority
from firmware_protocols.extensions.memory import BoardMemory, SupplyFailed
from firmware_protocols.handlers import Refusal
from firmware_protocols.states import State
from hil.server.firmware_build import SOURCES, cache_folder, compiler
from hil.server.firmware_targets import FirmwareTarget
from tests.line_simulation.board import IMAGE_SPACE, SLOT_BYTES, NotingChip, VirtualBoard
from tests.line_simulation.plan import MAX_MESSAGE
from tests.line_simulation.proving import KEY

LIMITS_OF_SLOTS = {0: (512, 16, 3.0), 2: (64, 4, 10.0), 3: (512, 1, 3.0), 17: (4096, 32, 10.0)}
"""Payload, window and limit of silence (s), by slots of the journal."""
_PARTS = (
    "core/frame.c",
    "core/link.c",
    "core/messages.c",
    "core/send.c",
    "coding/packed.c",
    "nonvolatile",
    "boards/simulation.c",
)
_HEAD = 12  # bytes of a reply before its body: operation, flags, id, chip time
_NEVER = (1 << 64) - 1

_ARGUMENTS = {
    "simulation_start": (ctypes.c_uint32, ctypes.c_uint64),
    "simulation_receive": (ctypes.c_char_p, ctypes.c_uint32, ctypes.c_uint64),
    "simulation_transmit": (ctypes.c_uint64, ctypes.c_void_p, ctypes.c_void_p),
}
_ASKED = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_uint64)
_BEGIN = ctypes.CFUNCTYPE(None, ctypes.c_uint64)
_WRITE = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_uint64, ctypes.c_int32)
_OUTPUTS = ctypes.CFUNCTYPE(None, ctypes.c_uint32)
_LASTING = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_uint32)
_TIME = ctypes.CFUNCTYPE(ctypes.c_uint64)


class _Simulation(ctypes.Structure):
    _fields_ = (
        ("begin", _ASKED), ("work", _BEGIN), ("write", _WRITE), ("finished", _BEGIN), ("outputs", _OUTPUTS),
        ("lasting", _LASTING), ("chip_time_ns", _TIME),
    )  # fmt: skip


class _LookedAt(ctypes.Structure):
    _fields_ = (
        ("heard_us", ctypes.c_uint64), ("deadline_us", ctypes.c_uint64), ("boot_id", ctypes.c_uint32),
        ("nonce", ctypes.c_uint32), ("frames_received", ctypes.c_uint32), ("kept_count", ctypes.c_uint32),
        ("open_count", ctypes.c_uint32), ("session", ctypes.c_uint16), ("kept", ctypes.c_uint16 * 16),
        ("open", ctypes.c_uint16 * 17), ("up", ctypes.c_uint8), ("has_host", ctypes.c_uint8), ("idle", ctypes.c_uint8),
        ("busy", ctypes.c_uint8),
    )  # fmt: skip


def limits_of(slots: int) -> LinkLimits:
    """What the firmware that is built with so many slots takes."""
    payload, window, silence_s = LIMITS_OF_SLOTS[slots]
    return LinkLimits(payload, window, MAX_MESSAGE, silence_s)


@cache
def library(slots: int) -> ctypes.CDLL:
    """The firmware with a journal of so many slots; 0: without a memory. One board at a time lives in it."""
    payload, window, silence_s = LIMITS_OF_SLOTS[slots]
    sizes = {"MAX_MESSAGE": MAX_MESSAGE, "LINK_PAYLOAD": payload, "LINK_WINDOW": window, "MEMORY_BYTES": 0}
    sizes["LINK_SILENCE_US"] = round(1e6 * silence_s)
    if slots:
        memory = RECORD_SPACE + slots * SLOT_BYTES + IMAGE_SPACE
        reply = SLOT_BYTES - 24  # without the heads of slot and entry
        sizes |= {"MEMORY_BYTES": memory, "JOURNAL_SLOTS": slots, "JOURNAL_REPLY": reply}
    found = ctypes.CDLL(str(_built(sizes)))
    for name, types in _ARGUMENTS.items():
        getattr(found, name).argtypes, getattr(found, name).restype = types, ctypes.c_bool
    found.simulation_look.argtypes = (ctypes.c_void_p, ctypes.c_uint64)
    found.simulation_memory.restype = ctypes.POINTER(ctypes.c_uint8)
    return found


def _built(sizes: dict[str, int]) -> Path:
    sources = [
        path for part in _PARTS for path in ([SOURCES / part] if "." in part else sorted((SOURCES / part).glob("*.c")))
    ]
    flags = ["-std=c99", "-w", "-O1", "-shared", "-fPIC"]  # warnings are for the builds of boards
    flags += [f"-D{name}={value}" for name, value in sorted(sizes.items())]
    digest = hashlib.sha256("\0".join([*flags, *(path.name for path in sources)]).encode())
    for path in sorted(SOURCES.rglob("*.[ch]")):
        digest.update(path.read_bytes())
    program = cache_folder() / f"simulation-{digest.hexdigest()[:16]}.so"
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=program.parent) as made:
            there = Path(made) / "firmware.so"
            command = [compiler(FirmwareTarget.NATIVE), *flags, f"-I{SOURCES / 'core'}", *map(str, sources)]
            subprocess.run([*command, "-o", str(there)], check=True)
            there.rename(program)
    return program


class _Host(NamedTuple):
    nonce: int


@dataclass(slots=True)
class FirmwareConnection:
    """The firmware's end of the link, as it was after the last call."""

    limits: LinkLimits
    state: State = State.CLOSED
    session: int = 0
    hello: _Host | None = None
    last_heard_s: float | None = None
    idle: bool = True


@dataclass(slots=True)
class FirmwareServer:
    """The chip role in C, from one start to the next."""

    lib: ctypes.CDLL
    connection: FirmwareConnection
    largest_frame: Any = field(repr=False)
    worked: Callable[[], bool]
    boot_id: int = 0
    busy: bool = False
    answered: frozenset[int] = frozenset()
    unanswered: frozenset[int] = frozenset()
    counters: LinkCounters = field(default_factory=LinkCounters)
    due_us: int = _NEVER

    def start(self, boot_id: int, now_s: float) -> None:
        self._held(self.lib.simulation_start(boot_id, _us(now_s)))
        self._look(now_s)

    def receive(self, data: bytes, now_s: float) -> None:
        self._held(self.lib.simulation_receive(data, len(data), _us(now_s)))
        self._look(now_s)

    def data_to_send(self, now_s: float) -> bytes:
        """All frames that are due, and one slice of work, if there is any."""
        frames, size, now_us = b"", ctypes.c_uint32(1), _us(now_s)
        while size.value and not self.worked():
            self._held(self.lib.simulation_transmit(now_us, self.largest_frame, ctypes.byref(size)))
            frames += self.largest_frame.raw[: size.value]
        self._look(now_s)
        return frames

    def next_deadline(self, now_s: float) -> float | None:
        return None if self.due_us == _NEVER else max(self.due_us * 1e-6, now_s)

    def _held(self, held: bool) -> None:
        if not held:
            raise SupplyFailed

    def _look(self, now_s: float) -> None:
        seen = _LookedAt()
        self.lib.simulation_look(ctypes.byref(seen), _us(now_s))
        link = self.connection
        link.state = State.UP if seen.up else State.CLOSED
        link.session, link.hello = seen.session, _Host(seen.nonce) if seen.has_host else None
        link.last_heard_s = seen.heard_us * 1e-6 if seen.has_host else None
        link.idle = bool(seen.idle)
        self.boot_id, self.busy, self.due_us = seen.boot_id, bool(seen.busy), seen.deadline_us
        self.answered = frozenset(seen.kept[: seen.kept_count])
        self.unanswered = frozenset(seen.open[: seen.open_count])
        self.counters.frames_received = seen.frames_received


class FirmwareBoard(VirtualBoard):
    """``VirtualBoard`` with the chip role in C; its limits are those of ``limits_of(slots)``."""

    def __init__(self, limits: LinkLimits, broken: Callable[[str], None], *, slots: int = 0, **others: Any) -> None:
        self._slots, self._lib = slots, library(slots)
        self._frame = ctypes.create_string_buffer(2 * limits.max_payload)
        self._calls: _Simulation | None = None
        super().__init__(limits, broken, slots=slots, **others)

    def _started(self) -> FirmwareServer:
        if self._calls is None:
            self._calls = _calls(self.chip)
            said = encode(self.chip.describe())[_HEAD:]
            key = KEY if self.keeping is not None and self.keeping.key is not None else None
            self._lib.simulation_begin(ctypes.byref(self._calls), key, said, len(said))
        server = FirmwareServer(self._lib, FirmwareConnection(self.limits), self._frame, lambda: self.chip.worked)
        server.start(self.boots, self._now_s)
        return server

    @property
    def seals_taken(self) -> int:
        if self.keeping is None or self.keeping.key is None:
            return 0
        memory = BoardMemory(RECORD_SPACE)
        memory.write(0, bytes(self._lib.simulation_memory()[:RECORD_SPACE]))
        return ChipAuthority(KEY, memory, 0, 0).counter


def _calls(chip: NotingChip) -> _Simulation:
    """What the firmware calls; the board keeps it alive."""

    def begin(sample: int) -> bool:
        try:
            chip.begin(sample)
        except Refusal:
            return False
        return True

    def write(sample: int, macro: int) -> bool:
        try:
            chip.write(sample)
        except SupplyFailed:
            return False
        if macro >= 0:
            chip.written[macro] = sample
        return True

    def outputs(on: int) -> None:
        if on:
            chip.outputs_on = True
        else:
            chip.outputs_off()

    def lasting(size: int) -> int:
        lasts = chip.power.lasts(size)
        try:
            chip.power.spend(size)
        except SupplyFailed:
            return lasts
        return size

    return _Simulation(
        _ASKED(begin),
        _BEGIN(lambda nanoseconds: chip.work(nanoseconds * 1e-9)),
        _WRITE(write),
        _BEGIN(chip.finished.add),
        _OUTPUTS(outputs),
        _LASTING(lasting),
        _TIME(lambda: chip.chip_time_ns),
    )


def _us(now_s: float) -> int:
    return round(now_s * 1e6)
