"""Errors between driver and chip, as classes of ``hil.errors``."""

from __future__ import annotations

from typing import Any

from firmware_protocols.errors import ChipRestarted, ChipTaken, LinkFailed, ProtocolError, VersionMismatch
from firmware_protocols.messages import (
    ErrorCode,
    ErrorReply,
    LoadLayer,
    Mvm,
    ProgramTile,
    Pulse,
    ReadCells,
    Reply,
    Request,
    Sweep,
    Wait,
)
from firmware_protocols.outputs import Known, OutputState
from firmware_protocols.plans.messages import RunPlan
from hil.errors import (
    BeyondLimit,
    DeviceError,
    FirmwareLacks,
    HilError,
    LinkError,
    MismatchError,
    NotAuthorised,
    PortError,
)
from hil.transports import is_serial

MOST_SHOWN = 400  # characters of a chip's text

_CAUSES = {
    ErrorCode.UNSUPPORTED: "the firmware lacks this operation",
    ErrorCode.MALFORMED: "driver and firmware disagree about a message: different versions",
    ErrorCode.OUT_OF_RANGE: "the chip is smaller than its description",
    ErrorCode.LIMIT: "an absolute limit of the chip, see hil chip show",
    ErrorCode.BUSY: "another program talks to the chip",
    ErrorCode.FAULT: "the chip failed, or an instrument before it",
    ErrorCode.NOT_AUTHORISED: "the chip wants a key for this operation",
    ErrorCode.NO_SUCH_LAYER: "the chip restarted and forgot its layers",
    ErrorCode.STOPPED: "OUTPUTS_OFF came while it worked, or another host",
}


class RestartedChip(DeviceError):
    """The chip restarted: session and unfinished work are lost, and its cells hold what was written."""


def device_error(address: str, request: Request[Any], reply: ErrorReply) -> DeviceError:
    """The chip answered a request with an error."""
    numbers = f" (requested {reply.value:g}, limit {reply.limit:g})" if reply.limit else ""
    kinds = {
        ErrorCode.NOT_AUTHORISED: NotAuthorised,
        ErrorCode.UNSUPPORTED: FirmwareLacks,
        ErrorCode.LIMIT: BeyondLimit,
    }
    kind = kinds.get(reply.code, DeviceError)
    return kind(
        f"the chip refused {describe_request(request)}: {reply.code.name.lower()}, {shown(reply.text)}{numbers}",
        where=address,
        likely=_CAUSES.get(reply.code, ""),
        hint="name its key: hil --key-file FILE …, or HIL_KEY" if kind is NotAuthorised else "",
        outputs=OutputState.at_end_of(reply.text) if reply.code is ErrorCode.FAULT else None,
    )


def after_failed_off(failed: HilError, chip: str) -> str:
    """The error text after OUTPUTS_OFF failed: outputs unknown, and why; a text that says so already is kept."""
    told = failed.outputs is not None and failed.outputs.known is Known.UNKNOWN
    return failed.what if told else f"{OutputState(Known.UNKNOWN, chip)}: {failed.what}"


def wrong_answer(address: str, request: Request[Any], reply: Reply) -> LinkError:
    """The chip answered with a reply of another class than the request's."""
    return LinkError(
        f"the chip answered {describe_request(request)} with {type(reply).__name__}",
        where=address,
        likely="its firmware is broken or speaks another version",
    )


def forged_counter(address: str, error: Exception) -> LinkError:
    """The error of a seal counter that is higher than any chip can reach: it was forged."""
    return LinkError(
        f"nothing is sealed for this chip: {error}",
        where=address,
        likely="someone in the line forges its answers, or did so before and its firmware followed",
        hint="another line; if it stays so, a newer firmware on the board, which restarts such a counter",
    )


def no_answer(address: str, request: Request[Any], seconds: float) -> LinkError:
    """The link lives, but the answer does not come."""
    return LinkError(
        f"no answer to {describe_request(request)} and no progress within {seconds:.1f} s",
        where=address,
        likely="the board's program hangs, though its serial line still acknowledges",
        hint=f"reset the board, then: hil board info --port {address}",
    )


def no_end(address: str, request: Request[Any], seconds: float) -> LinkError:
    """Progress reports keep coming, but the answer does not."""
    return LinkError(
        f"no answer to {describe_request(request)} within {seconds:g} s, though the chip continues to show progress",
        where=address,
        likely="the board's program does not come to an end; far more than its chip file's [timing] was allowed",
        hint=f"reset the board, then: hil board info --port {address}",
    )


def no_hello(address: str, sent: bytes, received: bytes, seconds: float) -> LinkError:
    """No hello arrived: the line is silent, echoes, or something else than a chip answers."""
    if not received:
        taken = "" if is_serial(address) else "; or another host is served there"
        return LinkError(
            f"no answer from {address} within {seconds:.1f} s: not a single byte",
            where=address,
            likely="supply off, cable loose, wrong port, or a board without this firmware: the port is open but silent"
            + taken,
            hint="hil board ports",
        )
    if sent and sent[:16] in received:
        return LinkError(
            f"{address} returns our own bytes",
            where=address,
            likely="receive and transmit are joined (loop-back plug), or the device echoes",
            hint="check the wiring",
        )
    return LinkError(
        f"{address} answers, but not in this protocol: {len(received)} bytes or more, first {received[:16].hex(' ')}",
        where=address,
        likely="another device, or another baud rate",
        hint="hil board ports; --port ADDRESS?baud=RATE",
    )


def link_error(
    address: str, failure: ProtocolError, sent: bytes, received: bytes, waiting: Request[Any] | None
) -> HilError:
    """The error to raise, with its likely cause, after the host role of the protocol gave up."""
    if isinstance(failure, VersionMismatch):
        return MismatchError(
            f"protocol version: {failure}", where=address, hint="update the firmware of the board, or this program"
        )
    if isinstance(failure, ChipTaken):
        return PortError(
            f"the chip at {address} is taken: {failure}",
            where=address,
            likely="another program is connected to it; one is served at a time",
            hint="end that program and try again",
        )
    if isinstance(failure, ChipRestarted):
        return RestartedChip(
            str(failure), where=address, likely="supply dipped, watchdog, someone pressed reset, or another board"
        )
    if isinstance(failure, LinkFailed) and not failure.heard:
        return no_hello(address, sent, received, 10.0)
    during = f" during {describe_request(waiting)}" if waiting is not None else ""
    likely = "supply off or cable loose: the port is open but silent" if isinstance(failure, LinkFailed) else ""
    return LinkError(
        f"link failed{during}: {failure}", where=address, likely=likely, hint=f"hil board info --port {address}"
    )


def shown(text: str, most: int = MOST_SHOWN) -> str:
    """A chip's text as it may be printed: control characters escaped, cut to ``most`` characters."""
    plain = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:most])
    return plain if len(text) <= most else f"{plain} … ({len(text)} characters)"


def describe_request(request: Request[Any]) -> str:
    """The request in a user's words: "Mvm on macro 3"."""
    name = type(request).__name__
    match request:
        case ProgramTile() | Pulse() | ReadCells():
            last = request.cells.row0 + request.cells.rows - 1
            return f"{name} on macro {request.cells.macro}, rows {request.cells.row0} to {last}"
        case Mvm() | Sweep():
            return (
                f"{name} on layer {request.layer}" if request.tile is None else f"{name} on macro {request.tile.macro}"
            )
        case LoadLayer():
            return f"{name} {request.layer}"
        case RunPlan():
            return f"{name} on {len(request.pixels)} images, {request.passes} passes"
        case Wait():
            return f"{name} of {request.duration_ns * 1e-9:g} s"
        case _:
            return name
