"""Costs of many candidates: in this process or on Dask workers, each once, in a file that only grows.

    with workers(2) as client:  # search.train.workers
        simulate = Simulator(space, target, store=Path("costs.jsonl"), client=client)
        costs = simulate(architectures)

A run that was killed loses nothing that it simulated: the next one reads the file and goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cim.files import read_text, write_text
from cim.json_text import parse_json
from search.errors import SearchFileError
from search.files import MAX_FILE_BYTES, check_head
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
        self.space, self.target, self.store, self.client, self.progress = space, target, store, client, progress
        self.known: dict[str, CandidateCost] = {}
        if store is not None:
            self._open(store)

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
        if self.store is not None:
            with self.store.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps({"architecture": d, **asdict(cost)}) + "\n" for d, cost in found.items())

    def _open(self, path: Path) -> None:
        head = {"format": FORMAT, "version": f"{VERSION[0]}.{VERSION[1]}"}
        head |= {"skeleton": self.space.skeleton, "target": self.target.digest}
        if not path.exists():
            write_text(path, json.dumps(head) + "\n")
            return
        try:
            text = read_text(path, MAX_FILE_BYTES)
        except (OSError, UnicodeDecodeError) as error:
            raise SearchFileError(str(path), 0, "", f"cannot be read ({error})") from error
        lines = text.splitlines(keepends=True)
        self._check(path, lines, head)
        for number, line in enumerate(lines[1:], 2):
            if not line.endswith("\n"):  # the run that wrote it was stopped here
                write_text(path, "".join(lines[:-1]))
                break
            self._line(path, number, line)

    def _check(self, path: Path, lines: list[str], head: dict[str, str]) -> None:
        try:
            found = parse_json(lines[0]) if lines else {}
        except ValueError:
            found = {}
        check_head(found, str(path), FORMAT, VERSION[0])
        for key, what in (("skeleton", f"space {self.space.name}"), ("target", f"target {self.target.name}")):
            if found.get(key) != head[key]:
                raise SearchFileError(str(path), 1, key, f"costs of something else than {what}; take another file")

    def _line(self, path: Path, number: int, line: str) -> None:
        try:
            data = parse_json(line)
            cost = CandidateCost(**{name: kind(data[name]) for name, kind in FIELDS.items()})
            self.known[str(data["architecture"])] = cost
        except (ValueError, KeyError, TypeError) as error:
            raise SearchFileError(str(path), number, "", f"is not a candidate ({error!r:.80})") from error


def _batch(space: Space, target: Target, part: list[tuple[str, Architecture]]) -> dict[str, CandidateCost]:
    found = costs(space, target, [architecture for _, architecture in part])
    return {digest: cost for (digest, _), cost in zip(part, found, strict=True)}
