"""All runs of a folder beside each other, as a table for the screen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hil.errors import FileError, HilError
from hil.pages.tables import Table, duration, points
from hil.report.run_folder import UNFINISHED
from hil.verdict.agreement import AgreementReport
from hil.verdict.metric import ACCURACY

MOST_RUNS = 500  # the last ones by name
MOST_CHARACTERS = 60  # of a name from outside
HEADER = (
    "run", "made", "network", "target", "images × repeats", "age", "quantised", "simulated", "chip",
    "difference, points", "verdict",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RunIndex:
    """Runs of one folder by name; ``unread`` have a report that cannot be read, ``unfinished`` none yet."""

    runs: Mapping[str, AgreementReport]
    unread: tuple[str, ...] = ()
    unfinished: tuple[str, ...] = ()
    left_out: int = 0

    def table(self) -> Table:
        rows = tuple(_cells(name, report) for name, report in self.runs.items())
        return Table("Runs", HEADER, rows, self.note)

    @property
    def note(self) -> str:
        """Note on runs that the table leaves out: unfinished, unread and older ones."""
        parts = (
            ("unfinished", ", ".join(self.unfinished)),
            ("report cannot be read", ", ".join(self.unread)),
            ("older runs, not shown", f"{self.left_out:,}" if self.left_out else ""),
        )
        return ". ".join(f"{words[:1].upper()}{words[1:]}: {names}" for words, names in parts if names)

    def to_json(self) -> dict[str, Any]:
        """Accuracies are shares, ``age_s`` from programming to inference."""
        runs = [_to_json(name, report) for name, report in self.runs.items()]
        return {"runs": runs, "unread": self.unread, "unfinished": self.unfinished, "left_out": self.left_out}


def read_runs(folder: Path) -> RunIndex:
    """The runs of a folder: the last 500 by name, links not followed.

    Raises:
        FileError: the folder cannot be read.
    """
    try:
        folders = sorted(p for p in folder.iterdir() if p.is_dir() and not p.is_symlink())
    except OSError as error:
        raise FileError(f"no runs in {folder}", likely=str(error), hint="hil show runs/") from error
    unfinished = tuple(p.name for p in folders if p.name.endswith(UNFINISHED))
    finished = [p for p in folders if p.name not in unfinished and (p / "report.json").exists()]
    runs, unread = {}, []
    for path in finished[-MOST_RUNS:]:
        try:
            runs[path.name] = _finite(AgreementReport.read(path), path)
        except HilError:
            unread.append(path.name)
    return RunIndex(runs, tuple(unread), unfinished, max(0, len(finished) - MOST_RUNS))


def _finite(report: AgreementReport, folder: Path) -> AgreementReport:
    j = report.decisive
    numbers = (report.age_s, j.ideal.mean, j.simulated.mean, j.measured.mean, j.measured.low, j.measured.high)
    if not all(map(math.isfinite, (*numbers, j.difference))):
        raise FileError(f"{folder} holds numbers that are not finite", hint="run hil deploy again")
    return report


def _to_json(name: str, report: AgreementReport) -> dict[str, Any]:
    j, chip = report.decisive, report.chip
    return {
        "name": name,
        "created": report.created[:MOST_CHARACTERS],
        "network": report.network.name[:MOST_CHARACTERS],
        "chip": f"{chip.name} {chip.serial}"[:MOST_CHARACTERS],
        "silicon": chip.silicon,
        "mark": chip.mark,
        "data": report.data.name[:MOST_CHARACTERS],
        "images": j.n,
        "repeats": j.repeats,
        "age_s": report.age_s,
        "ideal": j.ideal.mean,
        "simulated": j.simulated.mean,
        "measured": asdict(j.measured),
        "difference": j.difference,
        "verdict": j.verdict.value,
        "metric": asdict(j.metric),
    }


def _cells(name: str, report: AgreementReport) -> tuple[str, ...]:
    """Words of each column."""
    j, m, of = report.decisive, report.decisive.metric, _to_json(name, report)
    return (
        name,
        of["created"][:16].replace("T", " "),
        of["network"],
        f"{of['chip']} ({of['mark']})" if of["mark"] else of["chip"],
        f"{j.n:,} × {j.repeats}",
        duration(report.age_s),
        m.value(j.ideal.mean),
        m.value(j.simulated.mean),
        m.value(j.measured.mean),
        m.difference(j.difference) if m != ACCURACY else points(j.difference),
        j.verdict.value,
    )
