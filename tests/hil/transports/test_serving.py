"""Chips behind a server: verbs that take their time, and a second host while the first is served."""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyvisa.constants import ResourceAttribute

from cim.chip.file import load_chip
from firmware_protocols.handlers import Refusal
from firmware_protocols.messages import ErrorCode, Mvm, MvmResult, TileAddress
from hil.driver.open_chip import open_chip
from hil.errors import DeviceError, LinkError, PortError
from hil.server import background
from hil.server.firmware_launch import running_firmware
from hil.server.firmware_targets import FirmwareTarget
from hil.server.serve import serving
from hil.transports import open_transport
from hil.transports.sockets import SocketTransport
from hil.transports.visa import VisaSocket

from ..fake_chip import FakeChip, small_spec
from ..wires import over, visa

SPEC = small_spec()
TILE = TileAddress(0, 0, 9, 0, 5)
CODES = np.ones((1, 9), np.int16)


class EndsJustAfterItsTimeOut(Future[Any]):
    """A verb that ends between the time-out of who waits for it and the next look at it."""

    def result(self, timeout: float | None = None) -> Any:
        try:
            return super().result(timeout)
        except TimeoutError:
            super().exception()  # it ends now
            raise


class SlowThread(ThreadPoolExecutor):
    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
        future = super().submit(*args, **kwargs)
        future.__class__ = EndsJustAfterItsTimeOut
        return future


def test_a_verb_that_ends_just_after_a_time_out_is_answered_with_its_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "ThreadPoolExecutor", SlowThread)
    chip = FakeChip(SPEC)
    chip.slow_s = 0.02
    with over("tcp", chip, SPEC) as driver:
        for _ in range(3):
            assert driver.mvm(TILE, CODES).values.shape == (1, 5)


@pytest.mark.parametrize("error", [TimeoutError("the supply did not settle"), Refusal(ErrorCode.FAULT, "the supply")])
def test_a_time_out_of_the_verb_itself_is_a_fault_of_the_chip(error: Exception) -> None:
    class TimesOut(FakeChip):
        def mvm(self, request: Mvm) -> MvmResult:  # type: ignore[override]
            raise error

    with over("tcp", TimesOut(SPEC), SPEC) as driver, pytest.raises(DeviceError, match=r"fault, .*the supply"):
        driver.mvm(TILE, CODES)


@pytest.mark.parametrize("kind", ["tcp", "visa socket"])
def test_small_frames_leave_at_once_over_every_kind_of_tcp_line(kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        line = open_transport(visa(kind, f"tcp://127.0.0.1:{port}"))
        with contextlib.closing(line):
            if isinstance(line, VisaSocket):
                at_once = bool(line._resource.get_visa_attribute(ResourceAttribute.tcpip_nodelay))
            else:
                assert isinstance(line, SocketTransport)
                at_once = bool(line._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
    assert at_once, "an acknowledgement and the request after it take 40 ms, the time of a delayed TCP acknowledgement"


@pytest.mark.parametrize("kind", ["tcp", "unix", "visa socket", "firmware"])
def test_a_second_host_is_told_that_the_chip_is_taken_and_the_first_goes_on(kind: str, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        if kind == "firmware":
            if shutil.which("gcc") is None:
                pytest.skip("no gcc")
            spec = load_chip("lab-128", macros=1)
            address = stack.enter_context(running_firmware(FirmwareTarget.NATIVE, spec, where="tcp://127.0.0.1:0"))
        else:
            where = f"unix:{tmp_path}/chip" if kind == "unix" else "tcp://127.0.0.1:0"
            address, spec = stack.enter_context(serving(FakeChip(SPEC), where)), SPEC
        first = stack.enter_context(open_chip(address, chip=spec))
        for _ in range(20):
            with pytest.raises(PortError, match="is taken: another host is served") as error:
                open_chip(visa(kind, address), chip=spec, hello_s=3600.0)  # told at once, not when hello gives up
            assert "one is served at a time" in str(error.value)
            assert first.read_cells(0).shape == (spec.macro.rows, spec.macro.columns)
        first.close()
        with open_chip(address, chip=spec) as second:
            second.status()


def test_a_host_with_patience_waits_until_the_chip_is_free_again() -> None:
    """Its line breaks, and another host is quicker to come back."""
    told: list[str] = []
    with serving(FakeChip(SPEC), "tcp://127.0.0.1:0") as address, contextlib.ExitStack() as stack:
        patient = stack.enter_context(open_chip(address, chip=SPEC, reconnect_timeout_s=20.0, report=told.append))
        patient._session.transport.close()
        other = open_chip(address, chip=SPEC, reconnect_timeout_s=20.0)  # as soon as the server saw the line break
        timer = threading.Timer(1.0, other.close)
        timer.start()
        assert patient.read_cells(0).shape == (16, 16)
        timer.join()
    assert "answers again" in told[-1]


@pytest.mark.parametrize("closes", [True, False])
def test_a_server_that_serves_another_host_and_does_not_say_so_is_taken_for_one(closes: bool) -> None:
    """As older firmware and emulators do: they close the line, or never take it up."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        away = threading.Thread(target=lambda: server.accept()[0].close() if closes else None)
        away.start()
        words = "the chip is taken" if closes else "another host is served there"
        with pytest.raises(LinkError, match=words):
            open_chip(address, chip=SPEC, hello_s=0.3)
        away.join()
