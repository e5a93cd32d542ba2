"""Scores of one stage from phase A, their file, and the task significance of a whole space."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cim.files import write_text
from search.errors import SearchError, SearchFileError
from search.files import read_json
from search.space.genes import Space
from search.space.significance import Significance

FORMAT = "hil.stage"
VERSION = (1, 0)

Table = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class StageScores:
    """Task significance of the operators of one stage: higher is better, nan where a loss is not a number.

    ``clean`` and ``noisy`` (positions, operators), without and with the errors of the chip; ``counts``
    how often each operator was trained, ``paths`` how many were rated. ``losses`` and ``seconds`` by epoch.
    ``key`` is the digest of all that the answer depends on.
    """

    key: str
    stage: int
    positions: tuple[str, ...]
    operators: tuple[tuple[str, ...], ...]
    clean: Table
    noisy: Table
    counts: tuple[tuple[int, ...], ...]
    paths: int
    losses: tuple[float, ...]
    seconds: tuple[float, ...]


def task_significance(space: Space, stages: Sequence[StageScores], *, noisy: bool = True) -> Significance:
    """Significance of every choice of every gene, from the matrix of phase A.

    Operators without a number stand as low as the lowest of their position; widths, bits and converters have 0.
    Raises ``SearchError`` where a position or an operator is missing.
    """
    found: dict[tuple[str, str], float] = {}
    for stage in stages:
        for place, names, values in zip(
            stage.positions, stage.operators, stage.noisy if noisy else stage.clean, strict=True
        ):
            lowest = min((v for v in values if not math.isnan(v)), default=0.0)
            for name, value in zip(names, values, strict=True):
                found[place, name] = lowest if math.isnan(value) else value
    missing = [f"{p.name} {o}" for p in space.positions for o in p.operators if (p.name, o) not in found]
    if missing:
        raise SearchError(f"no task significance for {', '.join(missing[:8])}")
    rows = [np.array([found[p.name, o] for o in p.operators]) for p in space.positions]
    others = [np.zeros(len(gene.choices)) for gene in space.genes[len(rows) :]]
    return Significance((*rows, *others))


def write_scores(path: Path, scores: StageScores) -> None:
    head = {"format": FORMAT, "version": f"{VERSION[0]}.{VERSION[1]}"}
    plain = asdict(scores) | {name: _without_nan(getattr(scores, name)) for name in ("clean", "noisy")}
    write_text(path, json.dumps(head | plain, indent=1, allow_nan=False) + "\n")


def read_scores(path: Path) -> StageScores:
    """Raises ``SearchFileError`` for a file that is missing, wrong or of a later major version."""
    data = read_json(path, FORMAT, VERSION[0])
    try:
        return StageScores(
            key=str(data["key"]),
            stage=int(data["stage"]),
            positions=tuple(map(str, data["positions"])),
            operators=tuple(tuple(map(str, row)) for row in data["operators"]),
            clean=_table(data["clean"]),
            noisy=_table(data["noisy"]),
            counts=tuple(tuple(map(int, row)) for row in data["counts"]),
            paths=int(data["paths"]),
            losses=tuple(map(float, data["losses"])),
            seconds=tuple(map(float, data["seconds"])),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise SearchFileError(str(path), 0, "", f"is not a result of a stage ({error})") from error


def _table(rows: Any) -> Table:
    return tuple(tuple(math.nan if value is None else float(value) for value in row) for row in rows)


def _without_nan(table: Table) -> list[list[float | None]]:
    return [[None if math.isnan(value) else value for value in row] for row in table]
