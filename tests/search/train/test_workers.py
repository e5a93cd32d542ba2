"""Jobs side by side: results in order, progress from afar, a dead worker replaced, a folder that nobody shares."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

torch = pytest.importorskip("torch")

from search.errors import SearchError  # noqa: E402
from search.train.training import EpochRecord  # noqa: E402
from search.train.workers import check_shared, side_by_side, worker_count, workers  # noqa: E402


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with workers(2) as found:
        found.wait_for_workers(2)
        yield found


def scaled() -> Callable[..., int]:
    def work(job: int, factor: int, told: Callable[[EpochRecord], None]) -> int:
        told(EpochRecord(0, 0.5, float(job), 0.1))
        return job * factor

    return work


@pytest.mark.parametrize("far", [True, False])
def test_results_come_in_the_order_of_the_jobs_and_epochs_are_told(client: Any, far: bool) -> None:
    said: list[tuple[int, EpochRecord]] = []
    finished: dict[int, int] = {}
    found = side_by_side(
        client if far else None, scaled(), [3, 1, 2], 10,
        progress=lambda number, record: said.append((number, record)), done=finished.__setitem__,
    )  # fmt: skip
    assert found == [30, 10, 20]
    assert finished == {0: 30, 1: 10, 2: 20}
    assert {(n, r.score) for n, r in said} <= {(0, 3.0), (1, 1.0), (2, 2.0)}
    assert far or len(said) == 3


def test_workers_of_this_machine_and_their_dashboard_listen_on_its_loopback_only(client: Any) -> None:
    here = psutil.Process()
    open_at = [
        c.laddr.ip
        for process in (here, *here.children(recursive=True))
        for c in process.net_connections("tcp")
        if c.status == psutil.CONN_LISTEN
    ]
    assert len(open_at) >= 4, "a scheduler, its dashboard, and two workers"
    assert set(open_at) <= {"127.0.0.1", "::1"}


def test_a_job_has_one_thread_on_a_worker(client: Any) -> None:
    def threads(job: int, told: Any) -> int:
        return torch.get_num_threads()

    assert side_by_side(client, threads, [0]) == [1]
    assert worker_count(client) == 2
    assert worker_count(None) == 1


def test_the_job_of_a_dead_worker_is_begun_again(client: Any, tmp_path: Path) -> None:
    def dies_once(path: str, told: Any) -> str:
        import os
        from pathlib import Path

        if not Path(path).exists():
            Path(path).touch()
            os._exit(1)
        return "done"

    assert side_by_side(client, dies_once, [str(tmp_path / "seen")]) == ["done"]


def test_a_job_whose_workers_all_die_is_an_error_that_says_so(client: Any) -> None:
    def dies(job: int, told: Any) -> int:
        import os

        os._exit(1)

    with pytest.raises(SearchError, match=r"(?s)a job was lost.*the same command"):
        side_by_side(client, dies, [0])


def test_an_error_of_a_job_is_raised_here(client: Any) -> None:
    def fails(job: int, told: Any) -> int:
        raise ValueError(f"job {job} cannot be done")

    with pytest.raises(ValueError, match="job 7 cannot be done"):
        side_by_side(client, fails, [7])


def test_workers_that_do_not_see_the_folder_are_an_error_that_says_so(client: Any, tmp_path: Path) -> None:
    (tmp_path / "settings.json").touch()
    check_shared(client, tmp_path / "settings.json")
    with pytest.raises(SearchError, match=r"(?s)do not see .*a folder that all machines share"):
        check_shared(client, tmp_path / "missing")
