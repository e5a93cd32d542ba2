"""Sending half of the link: cuts messages into frames, keeps a window of them in flight, repeats the lost ones.

Selective repeat. A frame counts as lost when three frames sent after it have been
acknowledged, or one that was sent clearly later (a quarter of the round trip). A timer covers
the rest: RTO = srtt + 4 rttvar, clamped, doubled at each expiry, started anew at each
acknowledgement and while frames come behind which one may wait. It repeats the oldest frame (the
2, 4, … oldest ones when it expires again, which loads the line no more) and, once the round trip
is well known, every other that is as late. A repeated frame gives a round-trip sample only when
the answer came too soon to be for its repetition (Karn, Eifel). A repeated frame goes twice, then
three times: the window stands still until it arrives. Large and small frames are timed apart: on
a slow line a large one takes its own length, and short exchanges would teach a timer that no
large one can meet.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from firmware_protocols.errors import LinkCounters
from firmware_protocols.frame_size import OVERHEAD, FrameSize
from firmware_protocols.frames import LAST_BIT, MIN_PAYLOAD
from firmware_protocols.round_trip import RTO_MAX_S, SLOWEST_BYTE_S, RoundTrip

CHANNELS = 4
CONTROL, BULK, RESULTS, EVENTS = range(CHANNELS)
_PRIORITY = (CONTROL, EVENTS, RESULTS, BULK)  # a later channel waits for the ones before it

MAX_WINDOW = 32
MAX_TRIES = 8
LATER_MEANS_LOST = 3
COPIES = (1, 1, 2, 3)  # of a frame at its n-th transmission and later: the whole window waits for one lost twice
SAMPLES_TO_TRUST = 8  # before that, a slow line looks like a lossy one


@dataclass(slots=True, eq=False)
class Flight:
    """One numbered frame on its way."""

    sequence: int
    flags: int
    channel: int
    payload: bytes | memoryview
    first_s: float
    sent_s: float
    order: int  # counts transmissions of the whole window; a repeated frame gets a new one
    heard: int = 0  # frames of the other side that had come before it
    tries: int = 1
    later: int = 0  # frames transmitted after this one that were acknowledged


class SendWindow:
    """Messages in, frames to transmit out; acknowledgements in."""

    def __init__(self, window: int, size: FrameSize, counters: LinkCounters) -> None:
        self._window, self._size, self._counters = window, size, counters
        self._outbox: tuple[deque[tuple[memoryview, bool]], ...] = tuple(deque() for _ in range(CHANNELS))
        self._flight: dict[int, Flight] = {}  # by sequence, oldest first
        self._lost: list[Flight] = []
        self.next_sequence = 0
        self._order = 0
        self._heard = 0  # new frames of the other side
        self._backoff = 0
        self._progress_s = 0.0  # last time something was acknowledged or might have been, or the window was empty
        self._small, self._large = RoundTrip(), RoundTrip()
        self.out_of_tries = False

    def queue(self, channel: int, message: bytes) -> None:
        """Send ``message`` after those already queued on its channel."""
        self._outbox[channel].append((memoryview(message), True))

    def queue_probe(self) -> None:
        """Send an empty frame, whose only effect is that the far side must acknowledge it."""
        self._outbox[CONTROL].append((memoryview(b""), False))

    @property
    def idle(self) -> bool:
        """Whether everything queued has been acknowledged."""
        return not self._flight and not any(self._outbox)

    @property
    def backed_up(self) -> bool:
        """Whether something queued has not been cut into frames."""
        return any(self._outbox)

    @property
    def ready(self) -> bool:
        """Whether ``take`` has a frame to give without waiting."""
        return bool(self._lost) or (self._room() > 0 and any(self._outbox))

    @property
    def waiting_since_s(self) -> float | None:
        """Since when no acknowledgement came for frames in flight; None when there are none."""
        return self._progress_s if self._flight else None

    @property
    def round_trip_s(self) -> float:
        """The longer of the two smoothed round trips; 0 before the first acknowledgement."""
        return max(self._small.srtt_s, self._large.srtt_s)

    @property
    def deadline_s(self) -> float | None:
        """When the timer expires; None when nothing is in flight."""
        if not self._flight:
            return None
        oldest = next(iter(self._flight.values()))
        rto_s = self._rto_s(oldest)
        return max(oldest.sent_s, self._progress_s) + max(rto_s, min(rto_s * (1 << self._backoff), RTO_MAX_S))

    def take(self, now_s: float) -> list[Flight]:
        """Frames to transmit now: expired, lost, then new ones while the window has room."""
        deadline_s = self.deadline_s
        if deadline_s is not None and now_s >= deadline_s:
            oldest = next(iter(self._flight.values()))
            if oldest.tries >= MAX_TRIES:
                self.out_of_tries = True
                return []
            self._backoff += 1
            self._counters.retransmissions += 1
            for place, flight in enumerate(self._flight.values()):
                trip = self._trip(flight)
                overdue = trip.samples >= SAMPLES_TO_TRUST and now_s - flight.sent_s >= trip.rto_s
                perhaps = 0 < place < 1 << (self._backoff - 1) and not overdue
                if (overdue or perhaps or flight is oldest) and flight not in self._lost:
                    self._lost.append(flight)
                    flight.tries -= perhaps and flight.tries > 1  # repeated on suspicion: not one of its tries
        due = []
        for flight in self._lost:
            self._size.lost(len(flight.payload))
            flight.tries += 1
            flight.later = 0
            self._stamp(flight, now_s)
            due += [flight] * COPIES[min(flight.tries, len(COPIES) - 1)]
        self._lost = []
        room = self._room()
        for channel in _PRIORITY:
            waiting = self._outbox[channel]
            while waiting and room > 0:
                due.append(self._cut(channel, waiting, now_s))
                room -= 1
        return due

    def heard(self, payload: int, now_s: float) -> None:
        """A new frame of the other side has come: an acknowledgement may wait behind those sent before it.

        The timer stands still for as long as such a frame takes on the slowest line.
        """
        self._heard += 1
        if not self._flight:
            return
        oldest = next(iter(self._flight.values()))
        if self._heard - oldest.heard > self._window:
            return  # it was sent after the oldest should have arrived
        since_s = max(oldest.sent_s, self._progress_s)
        self._progress_s = min(since_s + (payload + OVERHEAD) * SLOWEST_BYTE_S, now_s)
        if self._progress_s == now_s and now_s - since_s > self._rto_s(oldest):
            self._trip(oldest).measure(now_s - since_s)  # one frame takes longer: the timer was too short

    def _rto_s(self, flight: Flight) -> float:
        trip = self._trip(flight)
        return trip.rto_s + (0.0 if trip.samples else len(flight.payload) * SLOWEST_BYTE_S)

    def _trip(self, flight: Flight) -> RoundTrip:
        return self._large if len(flight.payload) > MIN_PAYLOAD else self._small

    def _room(self) -> int:
        if not self._flight:
            return self._window
        return self._window - ((self.next_sequence - next(iter(self._flight))) & 0xFFFF)

    def _cut(self, channel: int, waiting: deque[tuple[memoryview, bool]], now_s: float) -> Flight:
        rest, last = waiting.popleft()
        payload = rest[: self._size.payload]
        if len(rest) > len(payload):
            waiting.appendleft((rest[len(payload) :], last))
            last = False
        flight = Flight(self.next_sequence, LAST_BIT if last else 0, channel, payload, now_s, now_s, 0)
        if not self._flight:
            self._progress_s = now_s
        self._flight[flight.sequence] = flight
        self.next_sequence = (self.next_sequence + 1) & 0xFFFF
        self._counters.frames_sent += 1
        self._stamp(flight, now_s)
        return flight

    def _stamp(self, flight: Flight, now_s: float) -> None:
        flight.sent_s = now_s
        flight.order, flight.heard = self._order, self._heard
        self._order += 1

    def acknowledge(self, ack: int, selective: int, now_s: float) -> None:
        """Take the acknowledgement fields of a frame: all before ``ack`` and those of the bitmap have arrived."""
        flights = self._flight
        if not flights:
            return
        base = next(iter(flights))
        advance = (ack - base) & 0xFFFF
        if advance > (self.next_sequence - base) & 0xFFFF:
            return  # older than what is in flight
        arrived = []
        while flights and (next(iter(flights)) - base) & 0xFFFF < advance:
            arrived.append(flights.pop(next(iter(flights))))
        while selective:
            low = selective & -selective
            selective ^= low
            flight = flights.pop((ack + low.bit_length()) & 0xFFFF, None)
            if flight is not None:
                arrived.append(flight)
        if not arrived:
            return
        for flight in arrived:
            self._size.arrived(len(flight.payload))
            self._counters.message_bytes += len(flight.payload)
        self._progress_s = now_s
        newest = max(arrived, key=lambda flight: flight.order)
        trip = self._trip(newest)
        if newest.tries == 1:
            trip.measure(now_s - newest.sent_s)
            self._backoff = 0
        elif trip.samples and now_s - newest.sent_s < trip.min_s:
            trip.measure(now_s - newest.first_s)  # too soon for the repetition: the first copy was slow
        elif trip.samples:
            self._backoff = min(self._backoff, 1)  # either copy; without any sample the timer must go on growing
        if flights and next(iter(flights.values())).order < newest.order:
            self._find_lost(arrived, now_s)

    def _find_lost(self, arrived: list[Flight], now_s: float) -> None:
        for flight in arrived:
            trip = self._trip(flight)
            if flight.tries > 1 and (not trip.samples or now_s - flight.sent_s < trip.min_s):
                continue  # perhaps the first copy was slow: the repetition proves nothing
            for other in self._flight.values():
                if other.order < flight.order:
                    clearly = flight.sent_s - other.sent_s > trip.srtt_s / 4
                    other.later += LATER_MEANS_LOST if clearly else 1
        lost = [flight for flight in self._flight.values() if flight.later >= LATER_MEANS_LOST]
        self._counters.fast_retransmissions += len(lost) - len([f for f in self._lost if f in lost])
        self._lost = lost
