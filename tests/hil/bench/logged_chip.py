"""An emulated chip behind frames that writes down when its outputs go on and off: ``logged_chip.py HOST:PORT LOG``."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))

from cim.chip.file import load_chip
from firmware_protocols.messages import CellBlock, ReadCells
from hil.emulator.chip import EmulatedChip
from hil.server.serve import serve_tcp


class LoggedChip(EmulatedChip):
    """Tells ``log`` of its outputs."""

    def __init__(self, log: Path) -> None:
        self._log = log.open("w", encoding="utf-8")
        self._told = False
        super().__init__(load_chip("lab-128", macros=1), 7)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "_outputs_on" and value != self._told:
            self._told = value
            self._log.write(f"{time.monotonic_ns()},chip,{'on' if value else 'off'},order\n")
            self._log.flush()


def main() -> None:
    where, log = sys.argv[1:]
    chip = LoggedChip(Path(log))
    chip.read_cells(ReadCells(CellBlock(0, 0, 1, 0, 1), 1, 1, 1))  # kernels are compiled before a host ends
    chip.outputs_off()
    serve_tcp(chip, where, lambda address: print(address, flush=True))


if __name__ == "__main__":
    main()
