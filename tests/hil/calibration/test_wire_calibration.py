"""The wire resistance of emulated chips, found through the driver."""

from __future__ import annotations

import pytest

from cim.array.wire_law import WireEnd
from hil.calibration.procedure import calibrate
from hil.driver.open_chip import connect
from hil.emulator.address import chip_from_address
from hil.transports.in_process import InProcessTransport


@pytest.mark.parametrize("ohm", [0.3, 2.0, 8.0])
def test_an_ohm_of_each_line_is_estimated_as_an_ohm(ohm: float) -> None:
    """Within 2 % and 0.02 ohm: the emulated line is cut in eight pieces, ours is a ladder cell by cell."""
    address = f"emulated:lab-128?wire_ohm={ohm}&seed=7"
    chip = chip_from_address(address)
    with connect(InProcessTransport(chip, address), chip=chip.spec) as driver:
        wire = calibrate(driver, (0,)).wire
    assert wire.end is WireEnd.FIRST  # piece 0 is next to the converter
    assert wire.ohm == pytest.approx(ohm, abs=0.02 + 0.02 * ohm)
    assert 0.0 < wire.ohm_se < 0.05 * ohm + 0.01
