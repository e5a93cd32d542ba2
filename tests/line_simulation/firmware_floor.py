"""Floor of throughput of the C firmware: sessions so long that the numbers of their frames wrap, either way."""

from __future__ import annotations

from firmware_protocols.errors import ProtocolError
from tests.line_simulation.faults import LineFaults
from tests.line_simulation.firmware_board import FirmwareBoard, limits_of
from tests.line_simulation.floors import BYTES_PER_S, LONGEST_PAUSE_S
from tests.line_simulation.goodput import one_way

LONG_S, SHORT_PAYLOAD = 49.0, 64  # more than 70,000 frames
LEAST = 0.74  # of the bytes of short frames


def below_firmware_floor() -> list[str]:
    """What the firmware does worse than it must on a clean line; empty: it held."""
    found = []
    for to_host, way in ((True, "from"), (False, "to")):
        name, broken = f"70,000 short frames {way} the firmware", list[str]()
        board, line = FirmwareBoard(limits_of(0), broken.append), LineFaults(bytes_per_s=BYTES_PER_S)
        try:
            seen = one_way(board, line, to_host=to_host, seconds=LONG_S, max_payload=SHORT_PAYLOAD)
        except ProtocolError as error:
            found.append(f"{name}: {type(error).__name__}: {error}")
            continue
        found += [f"{name}: {text}" for text in broken]
        if seen.longest_pause_s > LONGEST_PAUSE_S:
            found.append(f"{name}: the line stands still for {1e3 * seen.longest_pause_s:.1f} ms with more to send")
        if seen.share < LEAST:
            found.append(
                f"{name}: {100 * seen.share:.1f} % of its bytes are counts of cells, {100 * LEAST:.0f} must be"
            )
    return found
