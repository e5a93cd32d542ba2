"""A process that outlives its host, to switch off what does not switch itself off.

It is started before outputs go on, for instruments whose models have no timer, and holds nothing open. When its host
is gone, however it ended, the pipe between them closes: then it opens the instruments and tells them, all at the same
time, so that one that cannot be reached holds no other up. What is slow the first time (imports, a first line over
VISA) is done before outputs go on, and it runs before other programs where the system lets it. A power cut of the host
takes it too; only an instrument's own timer covers that.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from hil.errors import HilError, PortError
from hil.transports import open_transport
from hil.transports.base import CHUNK
from hil.transports.dies import Happened, note

if TYPE_CHECKING:  # a guard is started for each run: it imports what it needs, and that before it says that it watches
    from hil.server.bench.bench_file import BenchFile, InstrumentEntry

TRY_FOR_S = 30.0  # how long a line is tried that the host's end has not given free yet
_TRY_EVERY_S = 0.02
_GOOD_BYE = "safe"
_NICE = -10  # it has nothing to do until it is needed


class Guard:
    """Watches over instruments until it is dismissed; of none, there is no process."""

    def __init__(self, entries: Iterable[InstrumentEntry], serial: str = "") -> None:
        """``serial``: of the die, whose events say that it was switched off; empty: of an emulated one."""
        self._serial = serial
        self._orders = [(e.line, [line.hex() for line in e.model.lines("off", {})]) for e in entries]
        self._process: subprocess.Popen[str] | None = None
        self._acting: subprocess.Popen[str] | None = None

    @classmethod
    def of(cls, bench: BenchFile, serial: str) -> Guard:
        """The guard of a bench: of all that have no timer of their own."""
        return cls((e for e in bench.instruments.values() if not e.model.has_timer), serial)

    def rest(self) -> bool:
        """Wait until the guard has finished, before lines are opened again; whether all instruments took its order."""
        if self._acting is None:
            return True
        done = self._acting.wait(TRY_FOR_S * len(self._orders) + 10.0) == 0
        self._acting = None
        return done

    def watch(self) -> None:
        """Start the guard's process, unless it runs already; called before outputs are switched on."""
        if not self._orders or self._process is not None:
            return
        self._process = subprocess.Popen(
            [sys.executable, "-m", "hil.server.bench.guard", json.dumps(self._orders), self._serial],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is the host's
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != "ready":
            raise PortError("the guard of the bench did not start", hint="python -m hil.server.bench.guard '[]'")

    def dismiss(self) -> None:
        """The outputs are off; nobody need watch."""
        if self._process is not None:
            with contextlib.suppress(OSError):  # it is gone already
                self._process.communicate(_GOOD_BYE + "\n", timeout=10.0)
            self._process = None

    def act(self) -> None:
        """Switch off over lines of its own, from now on; the host's lines are lost and must be closed."""
        if self._process is not None:
            assert self._process.stdin is not None
            with contextlib.suppress(OSError):
                self._process.stdin.close()
            self._acting, self._process = self._process, None


def _switch_off(address: str, lines: list[bytes]) -> bool:
    """Whether the instrument could be told; tried again where its line is not free yet."""
    until_s = time.monotonic() + TRY_FOR_S
    while True:
        try:
            line = open_transport(address)
            try:
                for order in lines:
                    line.write(order)
                    line.read(CHUNK, 0.05)  # until the bytes are out, or it is acknowledged
            finally:
                line.close()
            return True
        except HilError:
            if time.monotonic() > until_s:
                return False
            time.sleep(_TRY_EVERY_S)


def _rehearse(ports: Iterable[str]) -> None:
    """Open a line of each kind to this process itself once, as the first opening is slow."""
    with socket.create_server(("127.0.0.1", 0)) as here:
        number = here.getsockname()[1]
        kinds = {"tcp:": f"tcp://127.0.0.1:{number}", "visa:": f"visa:TCPIP0::127.0.0.1::{number}::SOCKET"}
        for kind, address in kinds.items():
            if any(port.startswith(kind) for port in ports):
                open_transport(address).close()


def main() -> None:
    host, orders = (
        os.getppid(),
        [(address, [bytes.fromhex(line) for line in lines]) for address, lines in json.loads(sys.argv[1])],
    )
    with contextlib.suppress(OSError, AttributeError):  # it is not permitted, or there is no such thing
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)
        Path("/proc/self/autogroup").write_text(f"{_NICE}\n")  # of Linux: its session's, which counts against others
    _rehearse([address for address, _ in orders])
    with ThreadPoolExecutor(len(orders) or 1) as at_once:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        told = [True]
        if sys.stdin.readline().strip() != _GOOD_BYE:
            told = list(at_once.map(_switch_off, *zip(*orders, strict=True)))
            if all(told) and (serial := "".join(sys.argv[2:])):
                note(serial, Happened.OFF, "switched off by the guard of its bench", host)
    sys.exit(told.count(False))


if __name__ == "__main__":
    main()
