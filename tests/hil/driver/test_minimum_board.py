"""A board whose firmware leaves STATUS out: identity and calibration go on, and what is not told is said."""

from __future__ import annotations

import pytest

from cim.chip.file import load_chip
from firmware_protocols.handlers import Refusal
from firmware_protocols.messages import Capability, ErrorCode, ErrorReply, OutputsOff, StatusReply
from firmware_protocols.outputs import Known, OutputState, fault_text
from hil.driver.chip_driver import UNTOLD_C
from hil.driver.chip_text import info_record, info_table
from hil.driver.errors import after_failed_off, device_error
from hil.driver.open_chip import connect
from hil.emulator.chip import EmulatedChip
from hil.errors import FirmwareLacks, LinkError, UsageError
from hil.server.board import Board
from hil.transports.in_process import InProcessTransport

SPEC = load_chip("lab-128", macros=1)


class Bare(EmulatedChip):
    def status(self) -> StatusReply:
        raise Refusal(ErrorCode.UNSUPPORTED, "no STATUS")


def test_identity_needs_no_status_and_says_what_is_not_told() -> None:
    with connect(InProcessTransport(Bare(SPEC, 7), "in process"), chip=SPEC) as driver:
        status = driver.known_status()
        assert status is None
        assert ("status", "not known: the firmware has no STATUS") in info_table(driver, status).rows
        assert info_record(driver, status)["temperature_c"] is None
        assert driver.temperature_c == UNTOLD_C
        assert any("no STATUS" in text for text in driver.fallbacks)
        with pytest.raises(FirmwareLacks, match="unsupported"):
            driver.status()


def test_a_board_without_its_chip_file_says_so_in_one_line() -> None:
    with pytest.raises(UsageError, match=r"Board\(\) has no chip file, which a board needs since 0\.9"):
        Board()


def test_what_the_link_adds_is_not_said_of_the_board() -> None:
    plain = EmulatedChip(SPEC, 7, capabilities=Capability.PULSE | Capability.RAW)
    with connect(InProcessTransport(plain, "in process"), chip=SPEC) as driver:
        rows = dict(row[:2] for row in info_table(driver, None).rows)
    assert rows["can"] == "pulse, raw"
    assert "packed" in rows["link adds"]


def test_outputs_that_are_off_by_one_bit_are_not_said_to_be_read_back() -> None:
    with connect(InProcessTransport(EmulatedChip(SPEC, 7), "in process"), chip=SPEC) as driver:
        (said,) = (text for name, text in info_table(driver, driver.status()).rows if name == "temperature")
    assert said.endswith("outputs off or ordered off: STATUS does not say which")


def test_a_line_that_is_lost_names_the_chip_to_switch_off_and_a_fault_its_own_instruments() -> None:
    lost = LinkError("link failed: silence; outputs UNKNOWN: switch off by hand is no state here")
    with connect(InProcessTransport(EmulatedChip(SPEC, 7), "in process"), chip=SPEC) as driver:
        chip = f"outputs UNKNOWN: switch off by hand {SPEC.name} serial"
        assert after_failed_off(lost, driver.whole_name).startswith(chip)
        assert "at in process: link failed" in after_failed_off(lost, driver.whole_name)
        text = fault_text(RuntimeError("no answer"), OutputState(Known.UNKNOWN, "smu (keithley-2400) at GPIB0::24"))
        error = device_error("in process", OutputsOff(), ErrorReply(ErrorCode.FAULT, text))
        assert error.outputs == OutputState(Known.UNKNOWN, "smu (keithley-2400) at GPIB0::24")
        assert after_failed_off(error, driver.whole_name) == error.what
    for state in map(OutputState, Known):
        assert OutputState.at_end_of(fault_text(RuntimeError("a; b"), state)).known is state.known  # type: ignore[union-attr]
    assert OutputState.at_end_of("the switch sticks") is None
