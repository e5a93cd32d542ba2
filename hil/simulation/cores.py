"""Work on all cores of the machine, while the chip is at work or after it.

Numbers do not depend on it: every virtual chip has seeds of its own, whichever thread makes it, and when.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")
Job = tuple["Future[Any]", Callable[[Any], Any], Any]  # what it gives to, the work, the item


class BackgroundPool:
    """Work for cores that would wait for the chip: begun as soon as it can be, taken when it is needed.

    As many threads as there are cores, or items or ``most`` if these are fewer, for the time of a block. What has not
    begun at the end of the block is forgotten. After an error or Ctrl-C nothing is waited for, too, not even at the end
    of the process (the threads are daemons): the chip's outputs are to be switched off at once.
    """

    def __init__(self, most: int | None = None) -> None:
        cores = os.cpu_count() or 1
        self._most = cores if most is None else min(cores, most)
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._threads: list[Thread] = []

    def __enter__(self) -> BackgroundPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while True:
            try:
                job = self._jobs.get_nowait()
            except Empty:
                break
            if job is not None:
                job[0].cancel()
        for _ in self._threads:
            self._jobs.put(None)
        if error is None:
            for thread in self._threads:
                thread.join()

    def begin(self, work: Callable[[T], R], items: Iterable[T]) -> list[Future[R]]:
        """Work on each item, in order, once those before it have begun; its errors come with its result."""
        found: list[Future[R]] = []
        for item in items:
            found.append(Future())
            self._jobs.put((found[-1], work, item))
            if len(self._threads) < self._most:
                thread = Thread(target=self._work, name=f"simulation {len(self._threads)}", daemon=True)
                self._threads.append(thread)
                thread.start()
        return found

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, work, item = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = work(item)
            except BaseException as error:  # whatever it is, whoever asks for the result gets it
                future.set_exception(error)
            else:
                future.set_result(result)


def in_threads(work: Callable[[T], R], items: Iterable[T], most: int | None = None) -> Iterator[R]:
    """Results in order, as many at a time as there are cores (the kernels release the interpreter).

    Work on an item starts when a thread is free; no result waits for one that comes later in order, and none is kept.
    ``most``: at a time, where memory has no room for more; one at a time takes no thread of its own, but memory that
    this one has let go.
    """
    if most == 1:
        yield from map(work, items)
        return
    with BackgroundPool(most) as cores:
        begun = cores.begin(work, items)
        begun.reverse()
        while begun:
            yield begun.pop().result()
