"""A process that outlives its host, to switch off what does not switch itself off.

It is started before outputs go on, for instruments whose models have no timer, and holds nothing open. When its host
is gone, however it ended, the pipe between them closes: then it opens the instruments and tells them. A power cut of
the host takes it too; only an instrument's own timer covers that.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterable

from hil.errors import HilError, PortError
from hil.server.bench.bench_file import InstrumentEntry
from hil.transports import open_transport

TRY_FOR_S = 30.0  # how long a line is tried that the host's end has not given free yet
_TRY_EVERY_S = 0.02
_GOOD_BYE = "safe"


class Guard:
    """Watches over instruments until it is dismissed; of none, there is no process."""

    def __init__(self, entries: Iterable[InstrumentEntry]) -> None:
        orders = [
            (
                e.port,
                e.baud,
                (e.model.orders["off"].send.encode({}) + (b"" if e.model.link.words else e.model.link.end)).hex(),
            )
            for e in entries
        ]
        self._process: subprocess.Popen[str] | None = None
        if orders:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "hil.server.bench.guard", json.dumps(orders)],
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


def _switch_off(port: str, baud: int, order: bytes) -> None:
    until_s = time.monotonic() + TRY_FOR_S
    while True:
        try:
            line = open_transport(port, baud=baud)
            try:
                line.write(order)
                line.read(1, 0.05)  # until the bytes are out
            finally:
                line.close()
            return
        except HilError:
            if time.monotonic() > until_s:
                raise
            time.sleep(_TRY_EVERY_S)


def main() -> None:
    orders = json.loads(sys.argv[1])
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    if sys.stdin.readline().strip() != _GOOD_BYE:
        for port, baud, order in orders:
            with contextlib.suppress(HilError):
                _switch_off(port, baud, bytes.fromhex(order))


if __name__ == "__main__":
    main()
