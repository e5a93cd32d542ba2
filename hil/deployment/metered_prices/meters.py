"""Meters of a chip's supply: an instrument that answers in watts, or whatever else has ``metered``."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cim.cost.workload import Workload
from hil.errors import DeviceError
from hil.transports import open_transport
from hil.transports.base import CHUNK, Transport

ASK = "MEAS:POW?"  # SCPI, of meters and sources that know power
LEAST_S, ANSWER_S = 2.0, 5.0  # of one loop; of one answer
FEWEST = 8  # readings


@dataclass(frozen=True, slots=True)
class PowerReading:
    """Mean power while something ran ``times`` times, its standard error, and for how long."""

    power_w: float
    error_w: float
    seconds: float
    times: int


class PowerMeter(Protocol):
    """Meter of the supply of a chip."""

    @property
    def name(self) -> str: ...

    def metered(self, run: Callable[[], None], work: Workload | None, images: int) -> PowerReading:
        """Power while ``run`` runs, as often as the meter needs; ``work`` is done once for each of ``images`` in it
        (None: the chip is idle), for a meter that stands in for one."""
        ...


class PowerInstrument:
    """A meter behind a line: it answers ``ask`` with watts, one number a line.

    ``address``: as of a chip (``tcp://host:5025``, ``visa:…``, ``/dev/ttyUSB1``), with ``?ask=FETC:POW?`` behind it
    where another question is needed.
    """

    def __init__(self, address: str) -> None:
        self.name, _, ask = address.partition("?ask=")
        self._ask = (ask or ASK).encode("ascii", "strict") + b"\n"
        self._line: Transport = open_transport(self.name)

    def metered(self, run: Callable[[], None], work: Workload | None, images: int) -> PowerReading:
        readings: list[float] = []
        failed: list[Exception] = []
        done = threading.Event()

        def read() -> None:
            try:
                while not (done.is_set() and len(readings) >= FEWEST):
                    readings.append(self._reading())
            except Exception as error:  # told where the loop was asked for
                failed.append(error)

        reader = threading.Thread(target=read, name="power meter", daemon=True)
        began, times = time.monotonic(), 0
        reader.start()
        try:
            while times == 0 or time.monotonic() - began < LEAST_S:
                run()
                times += 1
            seconds = time.monotonic() - began
        finally:
            done.set()
            reader.join()
        if failed:
            raise failed[0]
        power = np.array(readings)
        return PowerReading(float(power.mean()), float(power.std(ddof=1) / math.sqrt(len(power))), seconds, times)

    def close(self) -> None:
        self._line.close()

    def _reading(self) -> float:
        self._line.write(self._ask)
        answer, until = b"", time.monotonic() + ANSWER_S
        while not answer.endswith(b"\n") and time.monotonic() < until:
            answer += self._line.read(CHUNK, 0.2)
        text = answer.decode("ascii", "replace").strip()
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise DeviceError(
                f"the power meter answers {text!r:.60} to {self._ask.decode().strip()}, which is no number of watts",
                where=self.name,
                likely="it takes another query" if text else "it is silent",
                hint=f"hil calibrate --power '{self.name}?ask=FETC:POW?'",
            )
        return value
