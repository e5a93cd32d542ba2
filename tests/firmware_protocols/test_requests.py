"""Requests know their replies: one statement in each class, used by the chip role and by the driver."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from firmware_protocols import messages
from firmware_protocols.codec import Op, decode, encode
from firmware_protocols.connection import Connection, LinkLimits
from firmware_protocols.errors import LocalProtocolError
from firmware_protocols.messages import (
    Describe,
    Description,
    Done,
    ErrorCode,
    Hello,
    HelloReply,
    Reply,
    Request,
    Status,
)
from firmware_protocols.sending import RESULTS
from firmware_protocols.states import Role
from hil.driver.session import Session
from hil.errors import LinkError

REQUESTS = [kind for kind in Request.__subclasses__() if kind.__module__ == messages.__name__]
REQUESTS = list({kind.__name__: kind for kind in REQUESTS}.values())  # a class with slots is made twice


@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.__name__)
def test_every_request_names_the_class_of_its_reply(kind: type[Request[Any]]) -> None:
    assert issubclass(kind.reply_class, Reply)
    assert kind.reply_class is not messages.Progress


def test_all_operations_of_a_host_but_hello_are_requests(samples: dict[str, Any]) -> None:
    for message in samples.values():
        op = encode(message)[0]
        assert isinstance(message, Reply) is bool(op & 0x80)
        assert isinstance(message, Request) is (op < 0x80 and op != Op.HELLO)


def test_a_host_sends_nothing_but_requests(make_line: Callable[..., Any]) -> None:
    line = make_line()
    for message in (Hello(0x0100, 0x0100, 512, 16, 1), Done()):
        with pytest.raises(LocalProtocolError, match="is not a request"):
            line.host.request(message)


def test_a_handler_that_gives_another_reply_is_a_fault_that_names_both(make_line: Callable[..., Any]) -> None:
    line = make_line()
    line.chip.handlers.status = Done
    line.host.request(Status())
    assert line.run(lambda: not line.host.waiting, 10.0)
    ((_, reply, _),) = line.host.poll()
    assert reply.code is ErrorCode.FAULT
    assert "the handler of Status gave Done, not StatusReply" in reply.text


class ChipThatMixesReplies:
    """A transport to firmware that answers every request but ``Describe`` with ``Done``."""

    address, max_payload = "firmware that mixes replies", 512

    def __init__(self) -> None:
        self._link = Connection(Role.CHIP, LinkLimits(max_message=1 << 16), greet=self._greet)
        self._now_s = 0.0

    def _greet(self, hello: Hello, version: int) -> tuple[HelloReply, int]:
        return HelloReply(version, 1, 1, hello.max_payload, 16, 1 << 16, messages.Capability(0)), 0

    def write(self, data: bytes) -> None:
        self._link.receive(data, self._now_s)
        for received in self._link.messages():
            asked = decode(received.data)
            reply: Reply = Done()
            if isinstance(asked.message, Describe):
                reply = Description("lab-128", "A", "1", "1.0", "silicon", 1, 4, 4, bytes(32), bytes(32))
            self._link.send(encode(reply, asked.request_id), RESULTS)

    def read(self, max_bytes: int, timeout_s: float) -> bytes:
        self._now_s += timeout_s
        return self._link.data_to_send(self._now_s)

    def close(self) -> None:
        self._link.close()


def test_an_answer_of_another_class_is_a_link_error_that_names_both() -> None:
    session = Session(ChipThatMixesReplies())
    session.open()
    assert session.ask(Describe()).name == "lab-128"
    with pytest.raises(LinkError, match="answered Status with Done"):
        session.ask(Status())
    tile = messages.TileAddress(0, 0, 1, 0, 1)
    codes = np.zeros((1, 1), np.int16)
    with pytest.raises(LinkError, match="answered Mvm on macro 0 with Done"):
        session.ask(messages.Mvm(messages.Returns.SUMS, tile, 0, 0, 8, False, 0, 1, 0, codes))
    session.close()
