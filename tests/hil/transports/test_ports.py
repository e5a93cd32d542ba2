"""Serial ports are listed with the likely board first, and none is opened."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

import hil.transports.ports
from hil.transports.ports import list_ports


def usb(device: str, description: str, vid: int | None, pid: int = 1, maker: str | None = None) -> SimpleNamespace:
    serial = "A1" if vid else None
    return SimpleNamespace(
        device=device, description=description, manufacturer=maker, vid=vid, pid=pid, serial_number=serial
    )


def test_ports_are_ranked_by_what_usb_says(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        usb("/dev/ttyS0", "n/a", None),
        usb("/dev/ttyUSB1", "LTE modem", 0x1234),
        usb("/dev/ttyUSB0", "FT232R USB UART", 0x0403, 0x6001, "FTDI"),
        usb("/dev/ttyUSB2", "gadget", 0x1234),
        usb("/dev/ttyACM1", "Pico", 0x2E8A),
        usb("/dev/ttyACM0", "RRAM test board", 0x9999),
        usb("/dev/ttyS1", "n/a", None),
    ]
    monkeypatch.setattr(hil.transports.ports, "comports", lambda: found)

    def opened(*_: object) -> int:
        raise AssertionError("a port was opened")

    monkeypatch.setattr(os, "open", opened)
    ports = list_ports()
    assert [p.device for p in ports] == [
        "/dev/ttyACM0", "/dev/ttyACM1", "/dev/ttyUSB0", "/dev/ttyUSB2", "/dev/ttyS0", "/dev/ttyS1", "/dev/ttyUSB1",
    ]  # fmt: skip
    ftdi = ports[2]
    assert (ftdi.description, ftdi.usb, ftdi.reason) == ("FTDI FT232R USB UART", "0403:6001 serial A1", "FTDI bridge")
    assert ports[4].usb == ports[4].description == ""


def test_this_machine_can_be_asked() -> None:
    assert isinstance(list_ports(), list)
