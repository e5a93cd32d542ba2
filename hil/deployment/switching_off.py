"""Switching outputs off after the last measurement: a failure there is noted and loses no measurement."""

from __future__ import annotations

from hil.driver.chip_driver import ChipDriver
from hil.driver.errors import after_failed_off
from hil.errors import HilError
from hil.watch import Watch


def switch_off(driver: ChipDriver, watch: Watch) -> None:
    """Take every voltage off the array; note it when the chip did not say that it did."""
    try:
        driver.outputs_off()
    except HilError as error:
        say_if_on(error, driver, watch)


def say_if_on(error: HilError | None, driver: ChipDriver, watch: Watch) -> None:
    """Note that the outputs may still be on after an ``error`` while switching them off."""
    if error is not None:
        watch.note(f"all else is done; {after_failed_off(error, driver.whole_name)}")
