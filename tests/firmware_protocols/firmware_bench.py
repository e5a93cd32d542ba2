"""The firmware bench (``firmware_bench.c``) as a chip for a virtual line and as a calculator for vectors."""

from __future__ import annotations

import struct
import subprocess
from dataclasses import replace
from pathlib import Path

from cim.chip.file import load_chip
from hil.server.firmware_build import build, config_header
from hil.server.firmware_targets import FirmwareTarget

_HEAD = struct.Struct("<BQI")
SOURCE = Path(__file__).with_name("firmware_bench.c")
LIMITS = {
    "MAX_MESSAGE": 1 << 16,
    "LINK_PAYLOAD": 512,
    "LINK_WINDOW": 16,
    "LAYER_BYTES": 1 << 16,
    "LAYER_OUTPUTS": 256,
    "MEMORY_BYTES": 2 << 20,
}


class FirmwareBench:
    """Has the verbs of ``ChipServer`` that a virtual line calls; the clock is the caller's."""

    def __init__(
        self,
        seed: int = 0,
        settings: dict[str, float] | None = None,
        macros: int = 2,
        life: tuple[float, float] | None = None,
    ) -> None:
        """``life``: programmings that a cell bears, and pulses of each, in place of the chip file's."""
        spec = load_chip("lab-128", macros=macros)
        if life is not None and spec.cost is not None:
            spec = replace(spec, cost=replace(spec.cost, endurance_cycles=life[0], mean_pulses=life[1]))
        config = config_header(spec, 0, {}, "bench")
        program = build(FirmwareTarget.SANITIZED, config, board=SOURCE, limits=LIMITS)
        words = [str(program), str(seed), *(w for n, v in (settings or {}).items() for w in (n, repr(v)))]
        self._worked_s = 0.0
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=-1
        )

    def ask(self, kind: str, data: bytes = b"", now_s: float = 0.0) -> bytes:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(_HEAD.pack(ord(kind), round(now_s * 1e6), len(data)) + data)
        self._process.stdin.flush()
        size = self._process.stdout.read(4)
        if len(size) < 4:
            self._process.wait()
            assert self._process.stderr is not None
            raise AssertionError("the firmware died: " + self._process.stderr.read().decode(errors="replace")[-3000:])
        return self._process.stdout.read(int.from_bytes(size, "little"))

    def numbers(self, name: str, *values: int) -> list[int]:
        """Result of a digital operation."""
        return [int(word) for word in self.ask("O", " ".join([name, *map(str, values)]).encode()).split()]

    def close(self) -> None:
        """Ends the process; fails when it did not end well (a leak, a bad access)."""
        _, said = self._process.communicate()
        assert self._process.returncode == 0, said.decode(errors="replace")[-3000:]

    # --- as a chip on a line ------------------------------------------------------------------

    def receive(self, data: bytes, now_s: float) -> None:
        self.ask("R", data, now_s)

    def data_to_send(self, now_s: float) -> bytes:
        data = self.ask("T", b"", now_s)
        self._worked_s = int.from_bytes(self.ask("V"), "little") * 1e-6 - now_s
        return data

    def take_worked_s(self) -> float:
        """Seconds that the work of the last ``data_to_send`` took by the firmware's own clock."""
        worked_s, self._worked_s = self._worked_s, 0.0
        return max(worked_s, 0.0)

    def next_deadline(self, now_s: float) -> float | None:
        due_us = int.from_bytes(self.ask("Q", b"", now_s)[:8], "little")
        return None if due_us == (1 << 64) - 1 else max(due_us * 1e-6, now_s)

    @property
    def busy(self) -> bool:
        return bool(self.ask("Q")[8])

    def counters(self) -> dict[str, int]:
        lines = self.ask("C").decode().splitlines()
        return {name: int(value) for name, value in (line.split(" = ") for line in lines)}
