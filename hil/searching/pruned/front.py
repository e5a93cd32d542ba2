"""Front of a search over pruned networks: its file, and what is told of it."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hil.errors import FileError
from hil.pages.summary import Fact, Headline, NextStep, Summary, Tone
from hil.pages.tables import Table
from hil.report.work_folder import is_work, load_json, save_json

FORMAT, VERSION = "hil.pruned-front", "1.0"
ABOUT, FRONT = "pruned-search.json", "front.json"  # files of the folder
MOST_TOLD = 12  # rows


@dataclass(frozen=True, slots=True)
class PrunedRow:
    """One network of the measured front; percent right of held-out images."""

    plan: str
    edp_mj_ms: float
    right: float | None
    divergence: float
    on_chips: float | None


@dataclass(frozen=True, slots=True)
class WrittenNetwork:
    """A pruned network that was made again with all images and written; ``below`` is the price that was asked for."""

    network: str
    plan: str
    below: float
    edp_mj_ms: float
    latency_ms: float
    energy_mj: float
    right: float | None
    on_chips: float | None
    digest: str


@dataclass(frozen=True, slots=True)
class PrunedFront:
    """``priced``: whose array prices are of; ``measured_on``: what measured networks. ``agreement``: Kendall's tau
    between what was predicted of the last round before it was measured, and what was measured (None: too few)."""

    data: str
    teacher: str
    teacher_right: float | None
    priced: str
    measured_on: str
    candidates: int
    held_out: int
    agreement: float | None
    seconds_each: float
    rows: tuple[PrunedRow, ...]
    written: tuple[WrittenNetwork, ...]

    def summary(self, root: str) -> Summary:
        best = self.written[-1]
        text = (
            f"of held-out training images at {best.edp_mj_ms:.4g} mJ·ms; the teacher has {_percent(self.teacher_right)}"
        )
        step = max(1, -(-len(self.rows) // MOST_TOLD))
        head = ("pruned network", "EDP, mJ·ms", "ideal", "on virtual chips", "divergence")
        rows = tuple(
            (r.plan, f"{r.edp_mj_ms:.4g}", _percent(r.right), _percent(r.on_chips), f"{r.divergence:.4f}")
            for r in self.rows[::step]
        )
        note = f"Measured on {self.held_out:,} training images held out; {len(self.rows)} pruned networks on the front."
        files = Table(
            "Written",
            ("network", "EDP, mJ·ms", "latency, ms", "energy, mJ", "ideal", "on virtual chips"),
            tuple(
                (w.network, f"{w.edp_mj_ms:.4g}", f"{w.latency_ms:.4g}", f"{w.energy_mj:.4g}", _percent(w.right),
                 _percent(w.on_chips))
                for w in self.written
            ),
            "Made again with all images; held-out training images chose them.",
        )  # fmt: skip
        agreed = (
            "too few pruned networks" if self.agreement is None else f"Kendall's tau {self.agreement:.2f}, last round"
        )
        place = shlex.quote(f"{root}/{best.network}")
        named = f" --data {shlex.quote(self.data)}" if self.data else ""
        steps = (
            NextStep(f"hil simulate {place}{named}", "what virtual chips make of it"),
            NextStep(
                f"hil finetune {place} --teacher {shlex.quote(self.teacher)} --data DATA -o tuned.pt", "trains it"
            ),
        )
        return Summary(
            f"pruned networks of {Path(self.teacher).name}",
            "SIMULATED",
            Headline(Tone.GOOD, _percent(best.right if best.on_chips is None else best.on_chips), text),
            (
                files,
                Table("Front", head, rows, note),
                Fact("Price", self.priced),
                Fact("Measured on", self.measured_on),
                Fact("Predicted", agreed),
                Fact("Took", f"{self.candidates} pruned networks, {self.seconds_each:.1f} CPU seconds each"),
            ),
            steps,
        )

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, "version": VERSION, **asdict(self)}


def is_pruned_search(root: Path) -> bool:
    return is_work(root, ABOUT)


def write_pruned_front(front: PrunedFront, path: Path) -> None:
    save_json(front.to_json(), path)


def read_pruned_front(root: Path) -> PrunedFront:
    """Raises ``FileError`` where the search has none yet, or it is damaged."""
    path = root / FRONT
    if not path.exists():
        raise FileError(f"the search in {root} has no front yet", hint="the hil search that began it resumes it")
    data = load_json(path)
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise FileError(f"{path} is no front of pruned networks")
    try:
        rows = tuple(PrunedRow(**row) for row in data.pop("rows"))
        written = tuple(WrittenNetwork(**row) for row in data.pop("written"))
        return PrunedFront(
            **{k: v for k, v in data.items() if k not in ("format", "version")}, rows=rows, written=written
        )
    except (KeyError, TypeError) as error:
        raise FileError(f"{path} is damaged: {error}") from error


def _percent(value: float | None) -> str:
    return "—" if value is None else f"{value:.2f} %"
