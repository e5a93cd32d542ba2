"""Requests as the chip sees them: what each means, its state, and the replies that are kept of those answered."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from firmware_protocols.codec import decode
from firmware_protocols.errors import RemoteProtocolError
from firmware_protocols.extensions.images import ImageStore
from firmware_protocols.extensions.messages import ImageTile
from firmware_protocols.handlers import Refusal
from firmware_protocols.messages import ErrorCode, ProgramTile, Request
from firmware_protocols.states import JOBS, JobEvent, JobState, moved

CACHED_REPLIES = 16
ASIDE = 0xF000  # ids from here on are of requests beside those in turn


class RequestStates:
    """States of the requests that are not UNKNOWN, by id; the last replies, oldest first."""

    def __init__(self) -> None:
        self._states: dict[int, JobState] = {}
        self._kept: OrderedDict[int, bytes] = OrderedDict()

    def __contains__(self, request_id: int) -> bool:
        return request_id in self._states

    @property
    def unanswered(self) -> frozenset[int]:
        return frozenset(i for i, state in self._states.items() if state is not JobState.ANSWERED)

    @property
    def answered(self) -> frozenset[int]:
        return frozenset(self._kept)

    def move(self, request_id: int, event: JobEvent) -> JobState:
        state = moved(JOBS, self._states.get(request_id, JobState.UNKNOWN), event)
        if state is JobState.UNKNOWN:
            del self._states[request_id]
        else:
            self._states[request_id] = state
        return state

    def again(self, request_id: int) -> bytes | None:
        """A request came again: its reply, where there is one, which is the newest now.

        After a restart requests before it may be asked anew and answered behind it; its host waits for it all the same.
        """
        if self.move(request_id, JobEvent.REPEAT) is not JobState.ANSWERED:
            return None
        self._kept.move_to_end(request_id)
        return self._kept[request_id]

    def recall(self, request_id: int, reply: bytes) -> None:
        """An answer of before this start is kept again."""
        self.move(request_id, JobEvent.ANSWER)
        self._kept[request_id] = reply

    def keep(self, request_id: int, reply: bytes) -> None:
        """A request is answered; of too many replies one is forgotten.

        That is the oldest one beside the requests in turn, where there are two: a host that opens its session again and
        again asks beside them each time, and may wait for any 15 requests in turn. Else it is the oldest.
        """
        self.recall(request_id, reply)
        if request_id == 0:  # of messages too short to carry an id
            self._kept.move_to_end(0, last=False)
            self._forget(1)
        if len(self._kept) > CACHED_REPLIES:
            beside = [i for i in self._kept if i >= ASIDE]
            if len(beside) > 1:
                self._kept.move_to_end(beside[0], last=False)
            self._forget(1)

    def forget_replies(self) -> None:
        self._forget(len(self._kept))

    def _forget(self, oldest: int) -> None:
        for _ in range(oldest):
            request_id, _ = self._kept.popitem(last=False)
            self.move(request_id, JobEvent.FORGET)


def meant(request: Request[Any], images: ImageStore | None) -> Request[Any]:
    """The request itself, or the one that stands in the image for it. Raises ``Refusal``."""
    if not isinstance(request, ImageTile) or images is None:
        return request
    try:
        held = decode(images.message(request.digest, request.offset)).message
    except RemoteProtocolError as error:
        raise Refusal(ErrorCode.MALFORMED, str(error)) from error
    if not isinstance(held, ProgramTile):
        raise Refusal(ErrorCode.MALFORMED, f"a {type(held).__name__} stands in the image, no PROGRAM_TILE")
    return held
