"""Work on Dask workers: processes of this machine, or a cluster that is there; the same code for both.

    with workers(2) as client:
        results = side_by_side(client, retrain, jobs, images, validation)

A worker that dies is replaced and its job begun again; jobs that keep checkpoints go on from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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
TRIES, RESTART_S = 3, 60.0  # with a job whose last worker died, and until there is another
LOOPBACK = "127.0.0.1"  # whoever reaches a scheduler runs code on its workers, and nothing asks for a password
# Dask lets workers give memory back at once, which costs training half of its time in page faults.
ENVIRONMENT = {"MALLOC_TRIM_THRESHOLD_": 1 << 30, "MALLOC_MMAP_THRESHOLD_": 1 << 25, "OMP_NUM_THREADS": 1}


class Work(Protocol[J, R]):
    """``function(job, *data, progress)``, defined in a module; what it hears of steps stays where the job is."""

    def __call__(self, job: J, *data: Any) -> R: ...


@contextmanager
def workers(where: int | str, *, timeout_s: float = 10.0) -> Iterator[Any]:
    """Give a Dask client: of a cluster that is there (``tcp://…``), or of so many processes on this machine,
    which listen on its loopback only.

    Raises:
        SearchError: no scheduler answers at that address within ``timeout_s``.
    """
    from distributed import Client, LocalCluster

    if isinstance(where, str):
        try:
            client = Client(where, timeout=timeout_s)
        except (OSError, ValueError) as error:
            raise SearchError(
                f"no Dask scheduler answers at {where} within {timeout_s:g} s ({error})\n"
                f"  try     dask scheduler, and dask worker {where}"
            ) from error
        with client:
            yield client
        return
    import dask

    with (
        dask.config.set({f"distributed.nanny.pre-spawn-environ.{name}": value for name, value in ENVIRONMENT.items()}),
        LocalCluster(
            n_workers=where, threads_per_worker=1, host=LOOPBACK, dashboard_address=f"{LOOPBACK}:0"
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
    progress: Callable[[int, EpochRecord], None] | None = None,
    done: Callable[[int, R], None] | None = None,
) -> list[R]:
    """``function(job, *data, progress)`` of every job, each in one thread of a worker; results in their order.

    Args:
        done: called with (number of the job, result), each as it is ready.
        client, data, progress: of ``as_ready``, which also says what is raised.
    """
    found: dict[int, R] = {}
    for number, result in as_ready(client, function, jobs, *data, progress=progress):
        found[number] = result
        if done is not None:
            done(number, result)
    return [found[number] for number in range(len(jobs))]


def as_ready(
    client: Any,
    function: Work[J, R],
    jobs: Sequence[J],
    *data: Any,
    progress: Callable[[int, EpochRecord], None] | None = None,
) -> Iterator[tuple[int, R]]:
    """``side_by_side``, each job's number and result as soon as they are there; none is kept.

    Args:
        client: of ``workers``; None works here, one job after the other.
        data: what all jobs read, sent to each worker once.
        progress: called with (number of the job, record) as jobs report of their epochs.

    Raises:
        SearchError: a job's workers died again and again, or its cluster forgot it; and what jobs raise.
    """
    report = progress or (lambda number, record: None)
    if client is None:
        from search.train.training import only_epochs

        for number, job in enumerate(jobs):
            yield number, function(job, *data, only_epochs(partial(report, number)))
        return
    from concurrent.futures import CancelledError

    from distributed import KilledWorker

    from search.train.training import EpochRecord

    client.subscribe_topic(TOPIC, lambda event: report(event[1][0], EpochRecord(*event[1][1])))
    left, lost = dict(enumerate(jobs)), 0
    try:
        while left:
            try:
                for number, result in _results(client, function, left, data):
                    del left[number]
                    lost = 0
                    yield number, result
            except CancelledError:  # the last worker that held the data died
                lost += 1
                if lost > TRIES:
                    raise
    except (KilledWorker, CancelledError) as error:
        raise SearchError(
            "a job was lost: its workers died again and again (too little memory?), or stood still for minutes\n"
            "  try     the same command with fewer workers or more memory for each; what is kept is not done again"
        ) from error
    finally:
        client.unsubscribe_topic(TOPIC)


def _results(client: Any, function: Work[J, R], jobs: Mapping[int, J], data: Sequence[Any]) -> Iterator[tuple[int, R]]:
    """Numbers and results of these jobs, in the order in which they are ready."""
    from distributed import as_completed

    client.wait_for_workers(1, timeout=RESTART_S)
    held = client.scatter(list(data), broadcast=True, hash=False) if data else []
    futures = {
        client.submit(_one, function, job, number, *held, pure=False): number for number, job in list(jobs.items())
    }
    for future in as_completed(list(futures)):
        yield futures.pop(future), future.result()  # a worker keeps what a future stands for


def _one(function: Work[J, R], job: J, number: int, *data: Any) -> R:
    import torch
    from distributed import get_worker

    from search.train.training import only_epochs

    torch.set_num_threads(1)
    return function(job, *data, only_epochs(lambda record: get_worker().log_event(TOPIC, (number, astuple(record)))))


def _sees(path: str) -> bool:
    return Path(path).is_file()
