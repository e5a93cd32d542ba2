"""What can go wrong on a bench."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hil.errors import DeviceError, FileError, LinkError
from hil.server.bench.roles import OrderStep


class BenchFileError(FileError):
    """A bench file, a wiring file or a model file is missing or wrong; holds path, line and key."""

    def __init__(self, path: str, line: int, key: str, text: str, hint: str = "") -> None:
        super().__init__(f"{path}:{line}: {key}: {text}" if key else f"{path}: {text}", where=path, hint=hint)
        self.path, self.line, self.key, self.text = path, line, key, text


class InstrumentSilent(LinkError):
    """An instrument does not answer an order, or its answer ends early."""


class InstrumentFault(DeviceError):
    """An instrument reports an error, answers what no such order answers, or holds other limits than it was given."""


class ComplianceTrip(InstrumentFault):
    """Readings are held by the compliance: (lines,) which, and what was read; the chip names the cell."""

    def __init__(self, step: OrderStep, held: NDArray[np.bool_], readings: NDArray[np.float64]) -> None:
        super().__init__("readings are held by the compliance")
        self.step, self.held, self.readings = step, held, readings
