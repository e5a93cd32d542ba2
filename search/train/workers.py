"""Work on Dask workers: processes of this machine, or a cluster that is there; the same code for both.

    with workers(scheduler=None, count=2) as client:
        results = side_by_side(client, retrain, jobs, images, validation)

A worker that dies is replaced and its job begun again; jobs that keep checkpoints go on from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from search.errors import SearchError

if TYPE_CHECKING:
    from search.train.training import EpochRecord

J = TypeVar("J", contravariant=True)
R = TypeVar("R", covariant=True)
TOPIC = "hil.search"
LOOPBACK = "127.0.0.1"  # whoever reaches a scheduler runs code on its workers, and nothing asks for a password
# Dask lets workers give memory back at once, which costs training half of its time in page faults.
ENVIRONMENT = {"MALLOC_TRIM_THRESHOLD_": 1 << 30, "MALLOC_MMAP_THRESHOLD_": 1 << 25, "OMP_NUM_THREADS": 1}


class Work(Protocol[J, R]):
    """``function(job, *data, told)``, defined in a module; what ``told`` hears of steps stays where the job is."""

    def __call__(self, job: J, *data: Any) -> R: ...


@contextmanager
def workers(scheduler: str | None = None, count: int = 2, *, timeout_s: float = 10.0) -> Iterator[Any]:
    """Give a Dask client: of a cluster that is there (``tcp://…``), else of ``count`` processes on this machine,
    which listen on its loopback only.

    Raises:
        SearchError: no scheduler answers at that address within ``timeout_s``.
    """
    from distributed import Client, LocalCluster

    if scheduler is not None:
        try:
            client = Client(scheduler, timeout=timeout_s)
        except (OSError, ValueError) as error:
            raise SearchError(
                f"no Dask scheduler answers at {scheduler} within {timeout_s:g} s ({error})\n"
                f"  try     dask scheduler, and dask worker {scheduler}"
            ) from error
        with client:
            yield client
        return
    import dask

    with (
        dask.config.set({f"distributed.nanny.pre-spawn-environ.{name}": value for name, value in ENVIRONMENT.items()}),
        LocalCluster(
            n_workers=count, threads_per_worker=1, host=LOOPBACK, dashboard_address=f"{LOOPBACK}:0"
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def worker_count(client: Any) -> int:
    """Jobs that run side by side; 1 without a client."""
    return 1 if client is None else max(len(client.scheduler_info(n_workers=-1)["workers"]), 1)


def check_shared(client: Any, path: Path) -> None:
    """Raise ``SearchError`` when a worker does not see a file of this machine: jobs leave theirs beside it."""
    blind = [name for name, there in client.run(_sees, str(path)).items() if not there]
    if blind:
        raise SearchError(
            f"{len(blind)} of the workers do not see {path}, {blind[0]} for one\n"
            "  try     a folder that all machines share, by the same name"
        )


def side_by_side(
    client: Any,
    function: Work[J, R],
    jobs: Sequence[J],
    *data: Any,
    told: Callable[[int, EpochRecord], None] | None = None,
    done: Callable[[int, R], None] | None = None,
) -> list[R]:
    """``function(job, *data, told)`` of every job, each in one thread of a worker; results in the order of the jobs.

    Args:
        client: of ``workers``; None works here, one job after the other.
        data: what all jobs read, sent to each worker once.
        told: called with (number of the job, record) as jobs tell of their epochs.
        done: called with (number of the job, result), each as it is ready.

    Raises:
        SearchError: a job's workers died again and again, or its cluster forgot it; and what jobs raise.
    """
    tell = told or (lambda number, record: None)
    if client is None:
        from search.train.training import only_epochs

        results = []
        for number, job in enumerate(jobs):
            results.append(function(job, *data, only_epochs(partial(tell, number))))
            if done is not None:
                done(number, results[-1])
        return results
    from concurrent.futures import CancelledError

    from distributed import KilledWorker, as_completed

    from search.train.training import EpochRecord

    held = client.scatter(list(data), broadcast=True, hash=False) if data else []
    client.subscribe_topic(TOPIC, lambda event: tell(event[1][0], EpochRecord(*event[1][1])))
    try:
        futures = [client.submit(_one, function, job, number, *held, pure=False) for number, job in enumerate(jobs)]
        numbers = {future.key: number for number, future in enumerate(futures)}
        for future in as_completed(futures):
            result = future.result()
            if done is not None:
                done(numbers[future.key], result)
        found: list[R] = client.gather(futures)
    except (KilledWorker, CancelledError) as error:
        raise SearchError(
            "a job was lost: its workers died again and again (too little memory?), or stood still for minutes\n"
            "  try     the same hil search, which goes on from the last whole epochs"
        ) from error
    finally:
        client.unsubscribe_topic(TOPIC)
    return found


def _one(function: Work[J, R], job: J, number: int, *data: Any) -> R:
    import torch
    from distributed import get_worker

    from search.train.training import only_epochs

    torch.set_num_threads(1)
    return function(job, *data, only_epochs(lambda record: get_worker().log_event(TOPIC, (number, astuple(record)))))


def _sees(path: str) -> bool:
    return Path(path).is_file()
