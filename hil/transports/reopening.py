"""Opening a line again after it was lost, a USB serial line also under another name."""

from __future__ import annotations

from collections.abc import Callable

from hil.errors import PortError
from hil.transports import in_this_process, is_serial, open_transport, with_baud
from hil.transports.base import Transport


def reopener(address: str, *, timeout_s: float) -> Callable[[], Transport] | None:
    """What opens the line of ``address`` again; None for chips in this process.

    A USB serial line is found by the vendor, product and serial number that it has now: a board that is plugged
    in again may get another name, and another board the old one.

    Raises (when called):
        PortError: it is not there.
    """
    if in_this_process(address):
        return None
    device, baud = with_baud(address)
    usb = _usb_of(device) if is_serial(address) and not address.lower().startswith("visa:") else ""

    def again() -> Transport:
        if usb and _usb_of(device) != usb:
            renamed = [device for device, name in _usb_names().items() if name == usb]
            if not renamed:
                raise PortError(f"no port has the board {usb} that was at {device}", hint="hil board ports")
            return open_transport(f"{renamed[0]}?baud={baud}", timeout_s=timeout_s)
        return open_transport(address, timeout_s=timeout_s)

    return again


def _usb_of(device: str) -> str:
    return _usb_names().get(device, "")


def _usb_names() -> dict[str, str]:
    """Vendor, product and serial number by device; boards without a serial number are left out."""
    from hil.transports.ports import list_ports

    return {port.device: port.usb for port in list_ports() if "serial" in port.usb}
