"""Nonsense from a chip: answers are checked against their requests, texts before they are shown."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from cim.chip.windows import Window
from firmware_protocols.chip import ChipServer, Refusal
from firmware_protocols.connection import LinkLimits
from firmware_protocols.extensions.messages import ImageBegin, ImageState
from firmware_protocols.messages import (
    CellReadings,
    Describe,
    Description,
    ErrorCode,
    Mvm,
    MvmResult,
    Progress,
    Returns,
    Status,
    StatusReply,
    TileAddress,
    Wait,
)
from hil.driver.chip_driver import ChipDriver
from hil.driver.open_chip import connect
from hil.driver.reply_checks import ANSWER_TIMES, FILE_TIMES, ReplyChecks
from hil.errors import DeviceError, ExitCode, LinkError
from tests.line_simulation.port import SERIAL, PacedLine, SimulatedPort

from ..fake_chip import FakeChip, small_spec
from ..wires import over

SPEC = small_spec()
TILE = TileAddress(macro=1, row0=2, rows=9, output0=1, outputs=5)
WINDOW = Window(channels=1, height=6, width=5, kernel=(3, 3), stride=(1, 1), padding=(0, 0))
CODES = np.arange(63, dtype=np.int16).reshape(7, 9) % 16
MAPS = np.ones((2, 1, 6, 5), np.int16)


class Liar(FakeChip):
    """Changes every answer of one kind."""

    def __init__(self, kind: type, change: Callable[[Any], Any]) -> None:
        super().__init__(SPEC)
        self.kind, self.change = kind, change

    def _told(self, answer: Any) -> Any:
        return self.change(answer) if isinstance(answer, self.kind) else answer

    def _steps(self, steps: Any) -> Iterator[Any]:
        answer = yield from steps
        return self._told(answer)

    def describe(self) -> Description:
        return self._told(super().describe())

    def read_cells(self, request: Any) -> CellReadings:
        return self._told(super().read_cells(request))

    def status(self) -> StatusReply:
        return self._told(super().status())

    def program_tile(self, request: Any) -> Any:
        return self._steps(super().program_tile(request))

    def mvm(self, request: Any) -> Any:
        return self._steps(super().mvm(request))

    def sweep(self, request: Any) -> MvmResult:
        return self._told(super().sweep(request))


def fields(**changed: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda answer: dataclasses.replace(answer, **{k: f(getattr(answer, k)) for k, f in changed.items()})


def cut(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values[:-1])


def swapped(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.swapaxes(values, 0, 1))


LINES = range(3, 8)
ASKED: dict[str, Callable[[ChipDriver], object]] = {
    "read": lambda driver: driver.read_cells(0, lines=LINES),
    "program": lambda driver: driver.program_cells(0, np.where(np.arange(256).reshape(16, 16) < 48, 20.0, np.nan)),
    "mvm": lambda driver: driver.mvm(TILE, CODES),
    "raw": lambda driver: driver.mvm(TILE, CODES, returns=Returns.RAW),
    "sweep": lambda driver: driver.sweep(TILE, MAPS, WINDOW),
    "status": lambda driver: driver.status(),
}
LIES = {
    "rows and columns swapped": ("read", CellReadings, fields(readings=swapped), "readings of shape"),
    "fewer rows": ("read", CellReadings, fields(readings=cut), "readings of shape"),
    "unit 0": ("read", CellReadings, fields(unit_ns=lambda _: 0), "units of 0 nS"),
    "another block": ("program", object, fields(readings=cut, pulses=cut, reached=cut), "readings of shape"),
    "fewer vectors": ("mvm", MvmResult, fields(values=cut), "values of shape"),
    "products transposed": ("mvm", MvmResult, fields(values=swapped), "values of shape"),
    "raw transposed": ("raw", MvmResult, fields(values=swapped), "values of shape"),
    "more saturated than made": ("mvm", MvmResult, fields(saturated=lambda _: 9, conversions=lambda _: 3), "saturated"),
    "fewer positions": ("sweep", MvmResult, fields(values=cut), "values of shape"),
    "unit of 4 S": ("read", CellReadings, fields(unit_ns=lambda _: (1 << 32) - 1), "units of 4294967295 nS"),
    "written unit of 4 S": ("program", object, fields(unit_ns=lambda _: (1 << 32) - 1), "units of 4294967295 nS"),
    "cells beyond the scale": (
        "read",
        CellReadings,
        fields(unit_ns=lambda u: 2 * u, readings=lambda r: np.full_like(r, 0xFFFE)),
        "the requested scale ends at",
    ),
    "more pulses than allowed": (
        "program",
        object,
        fields(pulses=lambda p: np.full_like(p, 0xFFFF)),
        "65535 pulses of one cell",
    ),
    "sums beyond the converters": (
        "mvm",
        MvmResult,
        fields(values=lambda v: np.full_like(v, 2**31 - 1)),
        "its converters give",
    ),
    "sums below the converters": (
        "sweep",
        MvmResult,
        fields(values=lambda v: np.full_like(v, -(2**31))),
        "its converters give",
    ),
    "codes beyond the converters": ("raw", MvmResult, fields(values=lambda v: v + 4096), "its converters give"),
    "more conversions than it takes": ("mvm", MvmResult, fields(conversions=lambda _: 1 << 31), "it takes"),
    "colder than cold": ("status", StatusReply, fields(temperature_c=lambda _: -1e300), "a temperature of -1e"),
    "hotter than a chip": ("status", StatusReply, fields(temperature_c=lambda _: 1e300), "a temperature of 1e"),
    "temperature without end": ("status", StatusReply, fields(temperature_c=lambda _: float("inf")), "temperature"),
    "temperature of NaN": ("status", StatusReply, fields(temperature_c=lambda _: float("nan")), "temperature"),
    "pulses of erased memory": (
        "status",
        StatusReply,
        fields(pulses_total=lambda _: 2**32 - 1),
        "all bits of the count",
    ),
    "more cells than it has": ("status", StatusReply, fields(programmed_cells=lambda _: 513), "513 programmed .* 512"),
}


@pytest.mark.parametrize("lie", LIES)
def test_an_answer_that_does_not_fit_its_request_is_a_link_error_that_names_both(lie: str) -> None:
    asked, kind, change, words = LIES[lie]
    chip = Liar(kind, change if kind is not object else lambda a: a if isinstance(a, MvmResult) else _blocks(a, change))
    with over("in process", chip, SPEC) as driver, pytest.raises(LinkError, match=words) as error:
        ASKED[asked](driver)
    assert "the chip answered" in str(error.value)


def _blocks(answer: Any, change: Callable[[Any], Any]) -> Any:
    return change(answer) if hasattr(answer, "reached") else answer


@pytest.mark.parametrize("asked", ASKED)
def test_honest_answers_pass(asked: str) -> None:
    with over("in process", FakeChip(SPEC), SPEC) as driver:
        ASKED[asked](driver)


@pytest.mark.parametrize("field", ["serial", "kind", "firmware"])
@pytest.mark.parametrize("name", ["\x1b[2J\x1b[31mlab", "x" * 61_440, "a\u202eb"], ids=["controls", "60 KiB", "turned"])
def test_names_that_no_terminal_should_show_are_refused(name: str, field: str) -> None:
    with (
        pytest.raises(LinkError, match="not all of them printable") as error,
        over("in process", Liar(Description, fields(**{field: lambda _: name})), SPEC),
    ):
        pass
    assert "\x1b" not in str(error.value)
    assert len(str(error.value)) < 600


def test_an_error_code_of_a_later_version_is_the_chips_refusal_and_its_text_is_escaped() -> None:
    def refuse(request: object) -> CellReadings:
        raise Refusal(ErrorCode(4711), "\x1b[2Jbad" + "!" * 10_000, 0, 0)

    chip = FakeChip(SPEC)
    chip.read_cells = refuse  # type: ignore[method-assign]
    with over("in process", chip, SPEC) as driver, pytest.raises(DeviceError, match="code_4711") as error:
        driver.read_cells(0)
    assert error.value.exit_code is ExitCode.DEVICE
    assert "\x1b" not in str(error.value)
    assert len(str(error.value)) < 1000


def test_a_chip_that_takes_no_messages_is_refused_before_anything_is_asked() -> None:
    checks = ReplyChecks("here")
    with over("in process", FakeChip(SPEC), SPEC) as driver:
        hello = driver._session.hello
    checks.hello(hello)
    for most in (0, 100):
        with pytest.raises(DeviceError, match=f"at most {most} bytes"):
            checks.hello(dataclasses.replace(hello, max_message=most))


def test_progress_that_goes_nowhere_is_no_sign_of_life() -> None:
    checks = ReplyChecks("here")
    assert checks.progress(1, Progress(0, 10, 0))
    assert checks.progress(1, Progress(4, 10, 0))
    assert checks.progress(2, Progress(4, 10, 0))
    for said in (Progress(4, 10, 0), Progress(3, 10, 0), Progress(11, 10, 0)):
        assert not checks.progress(1, said)
    assert checks.progress(1, Progress(10, 10, 1))
    checks.answered(1)
    assert checks.progress(1, Progress(0, 10, 0))


class Busy(FakeChip):
    """Says for ever that it is at work."""

    def program_tile(self, request: Any) -> Any:
        while True:
            yield Progress(1, 100, 0)


@pytest.mark.parametrize(
    "state",
    [
        ImageState(bytes(32), 5000, 1 << 20, False, np.zeros(5, np.bool_)),
        ImageState(b"d" * 32, 4999, 1 << 20, False, np.zeros(5, np.bool_)),
        ImageState(b"d" * 32, 5000, 1 << 20, False, np.zeros(4000, np.bool_)),
        ImageState(b"d" * 32, 5000, 1 << 20, True, np.zeros(0, np.bool_)),
    ],
    ids=["another digest", "another size", "more pieces", "no pieces"],
)
def test_an_image_that_was_not_begun_is_a_link_error(state: ImageState) -> None:
    checks, begun = ReplyChecks("here", SPEC), ImageBegin(b"d" * 32, 5000)
    checks.reply(begun, ImageState(b"d" * 32, 5000, 1 << 20, False, np.zeros(5, np.bool_)))
    with pytest.raises(LinkError, match="an image"):
        checks.reply(begun, state)


class Endless(FakeChip):
    """Shows ever more progress of a product and never ends; each step takes 10 ms of its own clock."""

    now_s = 0.0

    def mvm(self, request: Any) -> Any:
        for done in range(1 << 30):
            yield Progress(done, 1 << 30, 0)
            self.now_s += 0.01


def test_progress_without_end_holds_the_host_no_longer_than_the_chip_file_allows_many_times() -> None:
    chip = Endless(SPEC)
    with over("in process", chip, SPEC) as driver:
        start_s = time.monotonic()
        driver._session._answer_s, driver._session._clock = 0.05, lambda: start_s + chip.now_s
        with pytest.raises(LinkError, match=r"no answer to Mvm on macro 1 within 0.5 s, though .* progress"):
            ASKED["mvm"](driver)
        assert 0.05 * ANSWER_TIMES <= chip.now_s < 10.0
        driver._session._send(Mvm(Returns.RAW, TILE, 0, 0, 4, False, 0, 1, 0, CODES, 1), None)
        with pytest.raises(LinkError, match=r"no answer to Mvm on macro 1 within 0.5 s"):  # it is at work, not DESCRIBE
            driver._session.ask_aside(Describe())


def test_what_the_chip_file_allows_grows_with_the_work() -> None:
    checks = ReplyChecks("here", SPEC)
    few, many = (Wait(round(seconds * 1e9)) for seconds in (1.0, 3600.0))
    assert checks.allowed_s(few, 120.0) == ANSWER_TIMES * 120.0
    assert checks.allowed_s(many, 120.0) == FILE_TIMES * 3600.0
    assert checks.allowed_s(Status(), 120.0) == 120.0  # without work on the array: the longest silence


def test_endless_progress_ends_with_a_link_error() -> None:
    with over("in process", Busy(SPEC), SPEC) as driver:
        driver._session._answer_s = 0.3
        with pytest.raises(LinkError, match="no progress"):
            ASKED["program"](driver)


def test_a_long_message_that_is_under_way_on_a_slow_line_is_a_sign_of_life() -> None:
    server = ChipServer(FakeChip(SPEC), boot_id=1, limits=LinkLimits(max_payload=64, window=1))
    port = SimulatedPort(PacedLine(server, dataclasses.replace(SERIAL, delay_s=0.4)))  # 64 bytes each 0.8 s
    with connect(port, chip=SPEC, clock=port.clock) as driver:
        driver._session._answer_s, before_s = 3.0, port.clock()
        driver.mvm(TILE, np.random.default_rng(1).integers(0, 16, (200, 9), np.int16))
        assert port.clock() - before_s > 6.0
