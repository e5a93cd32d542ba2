"""Who runs virtual chips side by side: threads of this process, or Dask workers of this machine or of a cluster.

    with chip_workers(4) as crew:
        for answers in crew.each(answers_of_chip, range(20), program, images): ...

Numbers do not depend on it: every virtual chip has seeds of its own. A worker that dies costs the chip that it was at,
which another begins again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from hil.errors import LinkError
from hil.simulation.cores import in_threads
from search.errors import SearchError

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class ChipWorkers:
    """Workers of a Dask ``client``; None: threads of this process."""

    client: Any = None

    def each(
        self, work: Callable[..., R], numbers: Sequence[int], *data: Any, at_once: int | None = None
    ) -> Iterator[R]:
        """``work(number, *data)`` of each chip, in order; ``work`` is defined in a module.

        Args:
            data: sent to each worker once.
            at_once: chips at most that memory of this process has room for.

        Raises:
            LinkError: a chip was lost with worker after worker; and what ``work`` raises.
        """
        if self.client is None:
            yield from in_threads(lambda number: work(number, *data), numbers, at_once)
            return
        from search.train.workers import as_ready

        early: dict[int, R] = {}  # results whose turn has not come
        turn = 0
        try:
            for place, result in as_ready(self.client, _one_chip, numbers, work, *data):
                early[place] = result
                while turn in early:
                    yield early.pop(turn)
                    turn += 1
        except SearchError as error:
            raise LinkError(str(error)) from error


THREADS = ChipWorkers()


@contextmanager
def chip_workers(where: int | str | None = None) -> Iterator[ChipWorkers]:
    """So many processes of this machine, or a cluster (``tcp://…``); None or 0: threads.

    Raises:
        LinkError: no scheduler answers.
    """
    if not where:
        yield ChipWorkers()
        return
    from search.train.workers import workers

    with ExitStack() as stack:
        try:
            client = stack.enter_context(workers(where))
        except SearchError as error:
            raise LinkError(str(error)) from error
        yield ChipWorkers(client)


def _one_chip(job: int, *data: Any) -> Any:
    """A chip as ``search.train.workers`` has it done, which also gives something to tell of steps."""
    work, *given, _ = data
    return work(job, *given)
