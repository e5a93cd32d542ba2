"""Work on all cores of the machine, while the chip is at work or after it.

Numbers do not depend on it: every virtual chip has seeds of its own, whichever thread makes it, and when.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


class IdleCores:
    """Work for cores that would wait for the chip: begun as soon as it can be, taken when it is needed.

    As many threads as there are cores, for the time of a block.

    What has not begun at the end of the block is forgotten. After an error or Ctrl-C nothing is waited for, too: the
    chip's outputs are to be switched off at once.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="simulation")

    def __enter__(self) -> IdleCores:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(wait=error is None, cancel_futures=True)

    def begin(self, work: Callable[[T], R], items: Iterable[T]) -> list[Future[R]]:
        """Work on each item, in order, once those before it have begun; its errors come with its result."""
        return [self._threads.submit(work, item) for item in items]


def in_threads(work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """Results in order, as many at a time as there are cores (the kernels release the interpreter).

    Work on an item starts when a thread is free; no result waits for one that comes later in order.
    """
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        yield from pool.map(work, items)
