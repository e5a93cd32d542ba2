"""How long an acknowledgement takes: srtt, rttvar and the time-out that follows (RFC 6298's filter).

>>> trip = RoundTrip()
>>> trip.rto_s
1.0
>>> trip.measure(0.1)
>>> round(trip.rto_s, 3)                               # srtt 0.1, rttvar 0.05
0.3
"""

from __future__ import annotations

RTO_MIN_S, RTO_MAX_S, RTO_FIRST_S = 0.020, 4.0, 1.0
RTO_SLOWEST_S = 10.0  # of a line on which one frame takes seconds; doubling ends at RTO_MAX_S
SLOWEST_BYTE_S = 0.001042  # a line of 9,600 baud, which an unknown one may be


class RoundTrip:
    """Estimate from samples in seconds; RTO = srtt + 4 rttvar within its limits."""

    def __init__(self) -> None:
        self.samples = 0
        self.srtt_s = self.rttvar_s = self.min_s = 0.0
        self.rto_s = RTO_FIRST_S

    def measure(self, sample_s: float) -> None:
        self.samples += 1
        if self.samples == 1:
            self.srtt_s, self.rttvar_s, self.min_s = sample_s, sample_s / 2, sample_s
        else:
            self.rttvar_s += (abs(sample_s - self.srtt_s) - self.rttvar_s) / 4
            self.srtt_s += (sample_s - self.srtt_s) / 8
            self.min_s = min(self.min_s, sample_s)
        self.rto_s = min(max(self.srtt_s + 4 * self.rttvar_s, RTO_MIN_S), RTO_SLOWEST_S)
