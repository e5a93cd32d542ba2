"""Stand-ins of a bench, served in a thread while a test runs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import TextIO

from firmware_protocols.handlers import ChipHandlers
from hil.server.bench.bench_file import BenchFile
from hil.server.bench.fixture import Clock
from hil.server.bench.stand_in import AS_MEANT, Behaviour
from hil.server.bench.stand_in_serve import serve_bench


@contextlib.contextmanager
def bench_served(
    bench: BenchFile,
    cells: ChipHandlers,
    clock: Clock | None = None,
    *,
    outputs_log: TextIO | None = None,
    behaviour: Behaviour = AS_MEANT,
) -> Iterator[None]:
    """``serve_bench`` in a thread while the block runs."""
    stop, up, failed = threading.Event(), threading.Event(), list[BaseException]()

    def run() -> None:
        try:
            serve_bench(
                bench, cells, lambda _: up.set(), outputs_log=outputs_log, stop=stop, clock=clock, behaviour=behaviour
            )
        except BaseException as error:
            failed.append(error)
            up.set()

    thread = threading.Thread(target=run, name="bench", daemon=True)
    thread.start()
    up.wait()
    try:
        if not failed:
            yield
    finally:
        stop.set()
        thread.join(timeout=10.0)
        if failed:  # what the block saw is a line that was lost
            raise failed[0]
