"""All runs of a folder beside each other: a table for the screen, and index.html with their trend."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from cim.files import read_text
from hil.atomic import write_text
from hil.errors import FileError, HilError
from hil.pages.beside import Compared
from hil.pages.figures import Figure, axis, dots, figure, shown
from hil.pages.shell import Choice, Plot, Section, page
from hil.pages.summary import Summary
from hil.pages.tables import Table, duration, points
from hil.report.compare import run_facts
from hil.report.run_folder import UNFINISHED
from hil.verdict.agreement import MAX_REPORT_BYTES, AgreementReport
from hil.verdict.metric import ACCURACY, Metric
from hil.verdict.verdict import Interval

INDEX = "index.html"
MOST_RUNS = 500  # the last ones by name
MOST_CHARACTERS = 60  # of a name from outside
MOST_SERIES = 12  # of page.css: layer0 … layer11
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
    facts: tuple[Compared, ...] = ()  # what two runs are compared by


@dataclass(frozen=True, slots=True)
class RunIndex:
    """Runs of one folder by name; ``unread`` have a report that cannot be read, ``unfinished`` none yet."""

    runs: tuple[RunLine, ...]
    unread: tuple[str, ...] = ()
    unfinished: tuple[str, ...] = ()
    left_out: int = 0

    def table(self) -> Table:
        rows = tuple(tuple(words for words, _ in _cells(run)) for run in self.runs)
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


def write_run_index(folder: Path) -> Path:
    """Write index.html beside the runs of a folder; returns its path.

    Raises:
        OutputError: disk full, no permission. FileError: the folder cannot be read.
    """
    place = folder / INDEX
    write_text(place, index_page(read_runs(folder)))
    return place


def index_page(index: RunIndex) -> str:
    """The whole page as text; it links to the pages of the runs beside it."""
    bars = "Filled: measured, bars: Wilson 95 % over images. Open: simulated."
    rows = tuple((f"{quote(run.name)}/report.html", _cells(run)) for run in index.runs)
    facts = {run.name: run.facts for run in index.runs}
    by_date = Plot("date", bars, trend_figure(index, by_age=False))
    by_age = Plot("age", bars, trend_figure(index, by_age=True))
    return page(
        Summary("Runs"),
        (
            Section("Runs", (Choice(Table("Runs", HEADER, (), index.note), rows, facts, "runs"),)),
            Section("Accuracy over date", (by_date if index.runs else None,)),
            Section("Accuracy over age", (by_age if index.runs else None,)),
        ),
        subtitle=f"{len(rows)} runs",
    )


def trend_figure(index: RunIndex, *, by_age: bool) -> Figure:
    """Measured and simulated accuracy over the date of the run, or over chip time since programming."""
    series: dict[str, list[RunLine]] = defaultdict(list)
    for run in sorted((r for r in index.runs if r.metric.share), key=lambda r: r.created):
        series[f"{run.network} on {run.chip}, {run.data}"].append(run)
    data: list[Figure] = []
    for number, (name, runs) in enumerate(series.items()):
        colour = f"@layer{number % MOST_SERIES}"
        x = [max(r.age_s, 1e-3) / 3600 for r in runs] if by_age else [r.created for r in runs]
        names = [shown(r.name) for r in runs]
        measured = dots(x, [100 * r.measured.mean for r in runs], colour, "%{text}: %{y:.2f} %", size=9)
        ends = {
            "array": [100 * (r.measured.high - r.measured.mean) for r in runs],
            "arrayminus": [100 * (r.measured.mean - r.measured.low) for r in runs],
        }
        reach = {"type": "data", "symmetric": False, "color": colour, "thickness": 1.2, "width": 3, **ends}
        believed = [100 * r.simulated for r in runs]
        simulated = dots(x, believed, colour, "%{text}: %{y:.2f} %", size=9, symbol="circle-open")
        data.append({**measured, "name": shown(name), "text": names, "error_y": reach, "legendgroup": name})
        data.append({**simulated, "showlegend": False, "text": names, "legendgroup": name})
    across = axis("hours after programming", type="log") if by_age else {"type": "date", "nticks": 4, "tickangle": 0}
    return figure(data, 340, x=across, y=axis("accuracy, %"), showlegend=len(series) <= 2 * MOST_SERIES)


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
        run_facts(report),
    )


def _cells(run: RunLine) -> tuple[tuple[str, float | str], ...]:
    """Words of each column, and what it is sorted by."""
    chip = f"{run.chip} ({run.mark})" if run.mark else run.chip
    return (
        (run.name, run.name),
        (run.created[:16].replace("T", " "), run.created),
        (run.network, run.network),
        (chip, chip),
        (f"{run.images:,} × {run.repeats}", run.images),
        (duration(run.age_s), run.age_s),
        (run.metric.value(run.ideal), run.ideal),
        (run.metric.value(run.simulated), run.simulated),
        (run.metric.value(run.measured.mean), run.measured.mean),
        (run.metric.difference(run.difference) if run.metric != ACCURACY else points(run.difference), run.difference),
        (run.verdict, run.verdict),
    )
