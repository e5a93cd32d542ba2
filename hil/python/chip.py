"""A chip from Python: opened by its address, calibrated, then given to ``hil.deploy``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cim.chip.spec import ChipSpec
from cim.record.calibration import CalibrationRecord
from hil.calibration.plan import Budget
from hil.calibration.procedure import calibrate
from hil.driver.chip_driver import ChipDriver
from hil.driver.keys import HostKey
from hil.driver.open_chip import open_chip as opened
from hil.python.progress import progress
from hil.report.terminal.quantities import seconds
from hil.transports import whole_address
from hil.watch import Watch

EMULATED = "emulated:"


class Chip(ChipDriver):
    """One open chip with calibration; ``ChipDriver`` has the functions for cells and products.

    Use it as a context manager: its outputs go off however the block ends. ``record`` is what the last ``calibrate``
    measured, None before; ``hil.deploy`` takes it.

    Example:
        >>> chip.description.macros, chip.record is record
        (2, True)
    """

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.record: CalibrationRecord | None = None

    def __repr__(self) -> str:
        told = self.description
        known = "not calibrated yet" if self.record is None else repr(self.record)
        return f"<Chip {told.kind} {self.spec.name} {told.serial}: {told.macros} macros; {known}>"

    def calibrate(
        self,
        macros: tuple[int, ...] | None = None,
        *,
        age: str | float = "1h",
        budget: Budget | str = Budget.DEFAULT,
        seed: int = 0,
        watch: Watch | None = None,
    ) -> CalibrationRecord:
        """Measure macros of this chip through its own read path; what they held is lost.

        Args:
            macros: their numbers; None: all.
            age: chip time after programming at which cells and columns are measured, "1h" or s. A chip without WAIT is
                waited for.
            budget: quick, default or full.
            seed: of the test patterns and vectors.

        Returns:
            the record; ``cim.save_record`` writes it to a file.

        Raises:
            hil.DeviceError, hil.LinkError: the chip refused or fell silent.

        Example:
            >>> with hil.open_chip("emulated:lab-128", macros=1) as one:
            ...     found = one.calibrate(budget="quick")
            >>> list(found.macros)
            [0]
        """
        wanted = tuple(range(self.spec.macros)) if macros is None else macros
        age_s = seconds(age) if isinstance(age, str) else age
        with progress(watch) as observer:
            self.record = calibrate(self, wanted, seed=seed, age_s=age_s, budget=Budget(budget), watch=observer)
        return self.record


def open_chip(
    address: str,
    *,
    chip: str | Path | ChipSpec | None = None,
    macros: int | None = None,
    log: str | Path | None = None,
    reconnect_timeout_s: float = 0.0,
    key: HostKey | None = None,
    report: Callable[[str], None] | None = None,
) -> Chip:
    """Open the chip at ``address``.

    Args:
        address: ``/dev/ttyUSB0?baud=115200``, ``COM5``, ``tcp://host:port``, ``unix:path``,
            ``visa:TCPIP0::host::port::SOCKET``, ``emulated:lab-128?seed=7``, ``replay:wire.log``; "emulated": of the
            kind of ``chip``.
        chip: its chip file by name or path, or what such a file says; None takes the file of the name that the chip
            gives.
        macros: another macro count than the file's; an emulated chip whose address names none has as many.
        log: where to write the wire log.
        reconnect_timeout_s: how long a line that was open may be silent or gone, s; 0: it is lost at once.
        key: what a chip with authority wants proved; None takes that of the environment, if any.
        report: called with one line of text when a line falls silent, while it lasts, and when it is back.

    Returns:
        the chip; outputs go off when it is closed, or the block ends.

    Raises:
        hil.PortError, hil.LinkError, hil.MismatchError, hil.DeviceError; hil.UsageError: no chip file of that name.

    Example:
        >>> with hil.open_chip("emulated:lab-128?seed=7", macros=2) as one:
        ...     one.read_cells(0).shape
        (128, 128)
    """
    if isinstance(chip, ChipSpec):
        address = whole_address(address, chip.name, macros or chip.macros)
    address = whole_address(address, chip, macros)
    if macros is not None and address.startswith(EMULATED) and "macros=" not in address:
        address += f"{'&' if '?' in address else '?'}macros={macros}"
    driver = opened(
        address,
        chip=chip,
        macros=macros,
        log=log,
        reconnect_timeout_s=reconnect_timeout_s,
        key=key,
        report=report,
    )
    return driver.as_a(Chip)
