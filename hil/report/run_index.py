"""All runs of a folder beside each other, as a table for the screen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from cim.files import read_text
from hil.errors import FileError, HilError
from hil.pages.tables import Table, duration, points
from hil.report.run_folder import UNFINISHED
from hil.verdict.agreement import MAX_REPORT_BYTES, AgreementReport
from hil.verdict.metric import ACCURACY, Metric
from hil.verdict.verdict import Interval

MOST_RUNS = 500  # the last ones by name
MOST_CHARACTERS = 60  # of a name from outside
HEADER = (
    "run", "made", "network", "chip", "images × repeats", "age", "ideal", "simulated", "measured", "difference, points",
    "verdict",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RunLine:
    """What the index shows of one run; accuracies are shares, ``age_s`` from programming to inference."""

    name: str  # of its folder
    created: str  # ISO 8601
    network: str
    chip: str
    silicon: bool
    mark: str  # reservation beside the chip's name
    data: str
    images: int
    repeats: int
    age_s: float
    ideal: float
    simulated: float
    measured: Interval
    difference: float
    verdict: str
    metric: Metric = ACCURACY


@dataclass(frozen=True, slots=True)
class RunIndex:
    """Runs of one folder by name; ``unread`` have a report that cannot be read, ``unfinished`` none yet."""

    runs: tuple[RunLine, ...]
    unread: tuple[str, ...] = ()
    unfinished: tuple[str, ...] = ()
    left_out: int = 0

    def table(self) -> Table:
        rows = tuple(map(_cells, self.runs))
        return Table("Runs", HEADER, rows, self.note)

    @property
    def note(self) -> str:
        """What the table does not hold."""
        parts = (
            ("unfinished", ", ".join(self.unfinished)),
            ("report cannot be read", ", ".join(self.unread)),
            ("older runs, not shown", f"{self.left_out:,}" if self.left_out else ""),
        )
        return ". ".join(f"{words[:1].upper()}{words[1:]}: {names}" for words, names in parts if names)


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
    runs, unread = [], []
    for path in finished[-MOST_RUNS:]:
        try:
            runs.append(_line(path))
        except (HilError, OSError, UnicodeDecodeError):
            unread.append(path.name)
    return RunIndex(tuple(runs), tuple(unread), unfinished, max(0, len(finished) - MOST_RUNS))


def _line(folder: Path) -> RunLine:
    report = AgreementReport.from_text(read_text(folder / "report.json", MAX_REPORT_BYTES), str(folder))
    j = report.decisive
    numbers = (report.age_s, j.ideal.mean, j.simulated.mean, j.measured.mean, j.measured.low, j.measured.high)
    if not all(map(math.isfinite, (*numbers, j.difference))):
        raise FileError(f"{folder} holds numbers that are not finite", hint="run hil deploy again")
    return RunLine(
        folder.name,
        report.created[:MOST_CHARACTERS],
        report.network.name[:MOST_CHARACTERS],
        f"{report.chip.name} {report.chip.serial}"[:MOST_CHARACTERS],
        report.chip.silicon,
        report.chip.mark,
        report.data.name[:MOST_CHARACTERS],
        j.n,
        j.repeats,
        report.age_s,
        j.ideal.mean,
        j.simulated.mean,
        j.measured,
        j.difference,
        j.verdict.value,
        j.metric,
    )


def _cells(run: RunLine) -> tuple[str, ...]:
    """Words of each column."""
    m = run.metric
    return (
        run.name,
        run.created[:16].replace("T", " "),
        run.network,
        f"{run.chip} ({run.mark})" if run.mark else run.chip,
        f"{run.images:,} × {run.repeats}",
        duration(run.age_s),
        m.value(run.ideal),
        m.value(run.simulated),
        m.value(run.measured.mean),
        m.difference(run.difference) if m != ACCURACY else points(run.difference),
        run.verdict,
    )
