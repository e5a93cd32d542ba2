"""QEMU's machine protocol, to look into a board that runs there without a word to its firmware."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

STARTS_S = 60.0  # within which QEMU is there, on a busy machine


def symbols(program: Path) -> dict[str, int]:
    """Address of each symbol of a program for ARM."""
    listed = subprocess.run(["arm-none-eabi-nm", str(program)], capture_output=True, text=True, check=True).stdout
    rows = (row.split() for row in listed.splitlines())
    return {row[2]: int(row[0], 16) for row in rows if len(row) == 3}


class QemuMonitor:
    """The socket that ``running_firmware(monitor=...)`` names."""

    def __init__(self, place: Path) -> None:
        self._line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        give_up_s = time.monotonic() + STARTS_S
        while True:
            try:
                self._line.connect(str(place))
                break
            except (FileNotFoundError, ConnectionRefusedError):
                assert time.monotonic() < give_up_s, f"no monitor at {place}"
                time.sleep(0.1)
        self._stream = self._line.makefile("rw")
        self._stream.readline()
        self.execute("qmp_capabilities")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, t: TracebackType | None) -> None:
        self._stream.close()
        self._line.close()

    def execute(self, command: str, **arguments: Any) -> Any:
        self._stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._stream.flush()
        while "return" not in (said := json.loads(self._stream.readline())):
            pass
        return said["return"]

    def word(self, address: int) -> int:
        """Four bytes of the board's memory, as they are now."""
        said = self.execute("human-monitor-command", **{"command-line": f"xp /1xw {address:#x}"})
        return int(said.split(":")[1], 16)
