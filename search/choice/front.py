"""Networks of which none is better than another in everything: their file, volume, knee and shortlist."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cim.files import write_text
from search.errors import SearchFileError
from search.files import read_json
from search.space.architecture import Architecture, from_json, to_json
from search.space.candidate import CandidateCost

FORMAT = "hil.front"
VERSION = (1, 0)

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Member:
    """One network: what it costs (simulated) and how accurate it is expected to be, percent."""

    architecture: Architecture
    cost: CandidateCost
    accuracy: float
    accuracy_low: float  # lower bound

    @property
    def objectives(self) -> tuple[float, float, float]:
        """All to be small: −lower bound of the accuracy, ln EDP, macros."""
        return -self.accuracy_low, math.log(self.cost.edp_mj_ms), float(self.cost.macros)


@dataclass(frozen=True, slots=True)
class Front:
    """Members by rising EDP, and how they were found. ``simulations``: whole networks simulated for it."""

    target: str
    method: str
    seed: int
    simulations: int
    members: tuple[Member, ...]

    @property
    def most_accurate(self) -> Member:
        return max(self.members, key=lambda m: (m.accuracy_low, -m.cost.edp_mj_ms))

    @property
    def most_efficient(self) -> Member:
        return min(self.members, key=lambda m: (m.cost.edp_mj_ms, -m.accuracy_low))

    @property
    def knee(self) -> Member:
        """The member farthest from the line between the ends, both axes scaled to 0..1."""
        points = self._unit()
        return self.members[int(np.argmax(points.sum(1)))]

    def shortlist(self, count: int = 8) -> tuple[Member, ...]:
        """At most ``count`` members, by rising EDP: the ends and the knee, then what adds most hypervolume."""
        points = self._unit()
        ends = (self.most_accurate, self.most_efficient, self.knee)
        chosen = list(dict.fromkeys(self.members.index(m) for m in ends))[:count]
        while len(chosen) < min(count, len(self.members)):
            left = [i for i in range(len(self.members)) if i not in chosen]
            chosen.append(max(left, key=lambda i: (area(points[[*chosen, i]]), -i)))
        return tuple(self.members[i] for i in sorted(chosen))

    def _unit(self) -> Floats:
        """Accuracy and efficiency of each member, 0..1 over the front, higher is better, (members, 2)."""
        table = np.array([m.objectives[:2] for m in self.members])
        return np.asarray((table.max(0) - table) / np.where(np.ptp(table, 0) > 0, np.ptp(table, 0), 1.0))


def front_of(
    members: Sequence[Member], *, target: str, method: str, seed: int, simulations: int, most: int = 64
) -> Front:
    """The members that no other beats in every objective, at most ``most``: those that add hypervolume.

    Members that do not fit the chip are left out.
    """
    fits = [m for m in members if m.cost.feasible]
    kept = [fits[i] for i in non_dominated(np.array([m.objectives for m in fits]))] if fits else []
    unique = {m.architecture.digest: m for m in kept}
    made = tuple(sorted(unique.values(), key=lambda m: (m.cost.edp_mj_ms, -m.accuracy_low, m.architecture.digest)))
    front = Front(target, method, seed, simulations, made)
    return front if len(made) <= most else Front(target, method, seed, simulations, front.shortlist(most))


def non_dominated(objectives: Floats) -> NDArray[np.int64]:
    """Rows that no other row beats (all at most equal, one less), by index; all objectives to be small.

    Two columns are sorted once; more are compared with what was kept.
    """
    order = np.lexsort(objectives.T[::-1])
    table = objectives[order]
    if objectives.shape[1] == 2:
        before = np.concatenate([[np.inf], np.minimum.accumulate(table[:, 1])[:-1]])
        twin = np.concatenate([[False], (table[1:] == table[:-1]).all(1)])
        better = table[:, 1] < before
        for i in np.flatnonzero(twin):  # equal rows stand or fall together
            better[i] = better[i - 1]
        return np.sort(order[better])
    kept: list[int] = []
    for i, row in zip(order, table, strict=True):
        best = objectives[kept]
        if not ((best <= row).all(1) & (best < row).any(1)).any():
            kept.append(int(i))
    return np.array(sorted(kept), np.int64)


def area(points: Floats) -> float:
    """Area that points (higher is better, over 0, 0) cover."""
    from pymoo.indicators.hv import HV

    inside = points[(points > 0).all(1)] if len(points) else points
    return float(HV(ref_point=np.zeros(2))(-inside)) if len(inside) else 0.0


def write_front(path: Path, front: Front) -> None:
    """Write it whole or not at all; the same front gives the same bytes."""
    data = {
        "format": FORMAT,
        "version": f"{VERSION[0]}.{VERSION[1]}",
        "target": front.target,
        "method": front.method,
        "seed": front.seed,
        "simulations": front.simulations,
        "members": [
            {
                "architecture": to_json(m.architecture),
                "cost": asdict(m.cost),
                "edp_mj_ms": m.cost.edp_mj_ms,
                "accuracy": m.accuracy,
                "accuracy_low": m.accuracy_low,
            }
            for m in front.members
        ],
    }
    write_text(path, json.dumps(data, indent=1) + "\n")


def read_front(path: Path) -> Front:
    """Raises ``SearchFileError`` for a file that is missing, wrong or of a later major version."""
    data = read_json(path, FORMAT, VERSION[0])
    try:
        return Front(
            str(data["target"]), str(data["method"]), int(data["seed"]), int(data["simulations"]),
            tuple(_member(m, f"{path}: member {i}") for i, m in enumerate(data["members"], 1)),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise SearchFileError(str(path), 0, "", f"is not a front ({error!r:.80})") from error


def _member(data: dict[str, dict[str, float]], origin: str) -> Member:
    cost = data["cost"]
    return Member(
        from_json(data["architecture"], origin),
        CandidateCost(
            float(cost["latency_ns"]), float(cost["energy_pj"]), int(cost["macros"]), int(cost["macros_available"])
        ),
        float(data["accuracy"]),  # type: ignore[arg-type]
        float(data["accuracy_low"]),  # type: ignore[arg-type]
    )
