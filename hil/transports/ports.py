"""Serial ports of this computer, the likeliest board first.

Ports are ranked by what USB says about them; none is opened, because opening a port can
reset the board behind it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from serial.tools.list_ports import comports

# USB vendor ids, as hexadecimal numbers of the USB ID list.
_BRIDGES = {
    0x0403: "FTDI bridge",
    0x10C4: "Silicon Labs CP210x bridge",
    0x1A86: "WCH CH34x bridge",
    0x067B: "Prolific bridge",
    0x04B4: "Cypress / Infineon bridge",
}
_BOARDS = {
    0x0483: "ST board",
    0x2E8A: "Raspberry Pi board",
    0x1FC9: "NXP board",
    0x0D28: "Arm DAPLink board",
    0x2341: "Arduino board",
    0x303A: "Espressif board",
    0x1366: "SEGGER J-Link",
}
_NAMED = re.compile(r"rram|cim|memrist|test ?board", re.IGNORECASE)
_NOT_BOARDS = re.compile(r"modem|bluetooth|gps|phone", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Port:
    """One serial port. ``rank`` is larger for likelier boards; 0 and below are unlikely."""

    device: str
    description: str
    usb: str  # "0403:6001 serial A50285BI", empty when not USB
    rank: int
    reason: str


def list_ports() -> list[Port]:
    """All serial ports, likeliest first; ports of equal rank by name."""
    ports = [
        _ranked(p.device, p.description or "", p.manufacturer or "", p.vid, p.pid, p.serial_number or "")
        for p in comports()
    ]
    return sorted(ports, key=lambda port: (-port.rank, port.device))


def _ranked(
    device: str, description: str, manufacturer: str, vendor: int | None, product: int | None, serial: str
) -> Port:
    text = " ".join(part for part in (manufacturer, description) if part and part != "n/a")
    if vendor is None or product is None:
        return Port(device, text, "", -1 if _NOT_BOARDS.search(text) else 0, "not USB")
    usb = f"{vendor:04x}:{product:04x}" + (f" serial {serial}" if serial else "")
    if _NAMED.search(text):
        return Port(device, text, usb, 4, "its name says so")
    if _NOT_BOARDS.search(text):
        return Port(device, text, usb, -1, "its name says otherwise")
    if vendor in _BOARDS:
        return Port(device, text, usb, 3, _BOARDS[vendor])
    if vendor in _BRIDGES:
        return Port(device, text, usb, 2, _BRIDGES[vendor])
    return Port(device, text, usb, 1, "other USB device")
