"""Costs of many candidates: in this process or on Dask workers, each once, in a file that only grows.

    with workers(2) as client:  # search.train.workers
        simulate = Simulator(space, target, store=Path("costs.jsonl"), client=client)
        costs = simulate(architectures)

A run that was killed loses nothing that it simulated: the next one reads the file and goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from search.errors import SearchFileError
from search.files import Lines, check_head
from search.space.architecture import Architecture
from search.space.candidate import CandidateCost, workload
from search.space.genes import Space
from search.space.target import Target

FORMAT = "hil.candidates"
VERSION = (1, 0)
BATCH = 25  # candidates of one task
FIELDS = {"latency_ns": float, "energy_pj": float, "macros": int, "macros_available": int}

Progress = Callable[[int, int, str], None]
"""Called with (done, total, what)."""
Simulate = Callable[[Sequence[Architecture]], Sequence[CandidateCost]]
"""Whole-network costs, one an architecture, in order."""


def costs(space: Space, target: Target, architectures: Sequence[Architecture]) -> list[CandidateCost]:
    """Costs of networks, computed one after the other in this process."""
    return [target.cost(workload(space, a)) for a in architectures]


class Simulator:
    """Simulates architectures of one space on one target and remembers each.

    Args:
        store: file of costs, read at the start and appended to; None remembers in memory only.
        client: of ``workers``; None simulates in this process.
    """

    def __init__(
        self,
        space: Space,
        target: Target,
        *,
        store: Path | None = None,
        client: Any = None,
        progress: Progress | None = None,
    ) -> None:
        self.space, self.target, self.client, self.progress = space, target, client, progress
        self.known: dict[str, CandidateCost] = {}
        self.lines = None if store is None else self._open(store)

    @property
    def simulated(self) -> int:
        """Number of different candidates whose cost is known, those read from the file included."""
        return len(self.known)

    def __call__(self, architectures: Sequence[Architecture]) -> list[CandidateCost]:
        digests = [a.digest for a in architectures]
        new = {d: a for d, a in zip(digests, architectures, strict=True) if d not in self.known}
        done = 0
        for found in self._results(list(new.items())):
            self._remember(found)
            done += len(found)
            if self.progress is not None:
                self.progress(done, len(new), "whole networks simulated")
        return [self.known[d] for d in digests]

    def _results(self, wanted: list[tuple[str, Architecture]]) -> Iterator[dict[str, CandidateCost]]:
        parts = [wanted[i : i + BATCH] for i in range(0, len(wanted), BATCH)]
        if self.client is None:
            for part in parts:
                yield _batch(self.space, self.target, part)
            return
        from distributed import as_completed

        futures = [self.client.submit(_batch, self.space, self.target, part, pure=False) for part in parts]
        for future in as_completed(futures):
            yield future.result()

    def _remember(self, found: dict[str, CandidateCost]) -> None:
        self.known |= found
        if self.lines is not None:
            self.lines.add(*({"architecture": digest, **asdict(cost)} for digest, cost in found.items()))

    def _open(self, path: Path) -> Lines:
        own = {"skeleton": self.space.skeleton, "target": self.target.digest}
        store = Lines(path, {"format": FORMAT, "version": f"{VERSION[0]}.{VERSION[1]}", **own})
        lines = store.read()
        try:
            head = Lines.values(lines[0][1]) if lines else {}
        except ValueError:
            head = {}
        check_head(head, str(path), FORMAT, VERSION[0])
        for key, what in (("skeleton", f"space {self.space.name}"), ("target", f"target {self.target.name}")):
            if head.get(key) != own[key]:
                raise SearchFileError(str(path), 1, key, f"costs of something else than {what}; take another file")
        for number, line in lines[1:]:
            try:
                data = Lines.values(line)
                cost = CandidateCost(**{name: kind(data[name]) for name, kind in FIELDS.items()})
                self.known[str(data["architecture"])] = cost
            except (ValueError, KeyError, TypeError) as error:
                raise SearchFileError(str(path), number, "", f"is not a candidate ({error!r:.80})") from error
        return store


def _batch(space: Space, target: Target, part: list[tuple[str, Architecture]]) -> dict[str, CandidateCost]:
    found = costs(space, target, [architecture for _, architecture in part])
    return {digest: cost for (digest, _), cost in zip(part, found, strict=True)}
