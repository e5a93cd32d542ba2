"""Chips behind a server: verbs that take their time, and a second host while the first is served."""

from __future__ import annotations

import contextlib
import socket
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from pyvisa.constants import ResourceAttribute

from firmware_protocols.handlers import Refusal
from firmware_protocols.messages import ErrorCode, Mvm, MvmResult, TileAddress
from hil.errors import DeviceError
from hil.server import background
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
