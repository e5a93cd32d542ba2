"""A search from Python: ``search``, the whole of it in one folder."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hil.errors import FileError, UsageError
from hil.pages.summary import Summary
from hil.python.files import AnyChip, Files, Known, known_record
from hil.python.progress import progress
from hil.python.samples import Samples, samples_of
from hil.python.shown import Shown, needed, new_axes
from hil.searching.begin import Searched, begin_search, finished, named_place, refused_goes, usual_settings
from hil.searching.page import SERIES
from hil.searching.run import run_search
from hil.searching.settings import SearchSettings
from hil.watch import Watch

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

COLUMNS = ("predicted", "right", "on_chips", "energy_pj", "latency_ns", "edp_mj_ms", "macros")


@dataclass(frozen=True)
class FinishedSearch(Shown, Searched):
    """A finished search: ``folder``, ``table``, frames and figures.

    Example:
        >>> front.folder.root.name
        'found'
    """

    def to_frame(self) -> DataFrame:
        """A row for each network of the front by rising EDP: accuracies in percent, energy, latency, EDP, macros.

        Returns:
            a frame by the names of the networks; ``simulated`` and ``worst`` are NaN where one was not trained. Pruned
            networks have ``right`` and ``on_chips``, which were measured, in place of ``predicted``.

        Raises:
            hil.UsageError: pandas is not installed.

        Example:
            >>> "edp_mj_ms" in front.to_frame().columns
            True
        """
        known = [name for name in COLUMNS if name in self.table["networks"][0]]
        rows = {}
        for row in self.table["networks"]:
            simulated = SERIES["simulated"][-1](row) or (float("nan"),) * 2
            rows[row["name"]] = (*(row[name] for name in known), *simulated)
        columns = [*known, "simulated", "worst"]
        frame: DataFrame = needed("pandas").DataFrame.from_dict(rows, orient="index", columns=columns)
        return frame

    def plot(self) -> Figure:
        """Accuracy over EDP of the front: predicted, or measured of pruned networks, and simulated where trained.

        Returns:
            a matplotlib figure.

        Raises:
            hil.UsageError: matplotlib is not installed.

        Example:
            >>> front.plot().axes[0].get_xlabel()
            'EDP of one image in mJ·ms'
        """
        figure, axes = new_axes()
        for name, (*_, accuracy) in SERIES.items():
            points = [(row["edp_mj_ms"], pair[0]) for row in self.table["networks"] if (pair := accuracy(row))]
            if points:
                axes.plot(*zip(*points, strict=True), "o", label=name)
        axes.set_xlabel("EDP of one image in mJ·ms")
        axes.set_ylabel("accuracy in %")
        axes.legend(fontsize="small")
        drawn: Figure = figure
        return drawn

    def summary_shown(self) -> Summary:
        """What ``hil search`` prints."""
        return self.summary


def search(
    data: Samples,
    chip: AnyChip = "lab-128",
    *,
    out: str | Path,
    space: str | Path | None = None,
    teacher: str | Path | None = None,
    record: Known = None,
    restart: bool = False,
    watch: Watch | None = None,
    **settings: Any,
) -> FinishedSearch:
    """Search for networks that suit a chip, as ``hil search`` does: a front, and the best of it trained and evaluated.

    Args:
        data: a data set by name or path, or (images, labels) as arrays: a fifth of them is kept for the test.
        chip: a chip file by name or path, what it says, or an open chip, which is not asked.
        out: folder of the search; the same call goes on in it. Arrays, chip and record are kept in ``inputs`` beside.
        space: a shipped space or a .toml file; None: that of the data set.
        teacher: net.pt of the teacher; None: one is trained. With ``pruned=True`` its pruned networks are searched.
        record: whose errors are trained with; None: that of ``chip.calibrate()``, else the models of the chip file.
        restart: forget what is in ``out``.
        watch: hears stages and progress; None: nobody does.
        settings: fields of ``hil.SearchSettings``: ``networks=3``, ``budget_s=1800``.

    Returns:
        the front with costs and accuracies; the folder has the trained networks.

    Raises:
        hil.UsageError: no such setting, or no space for the data. hil.MismatchError: ``out`` was begun otherwise.
        hil.Interrupted: Ctrl-C; the same call goes on.

    Example:
        >>> front = hil.search(data, "lab-128", out="found", space="space.toml", **quick)
        >>> len(front.to_frame()) > 0
        True
    """
    known = {f.name for f in fields(SearchSettings)} - {"data", "chip", "calibration", "macros"}
    if unknown := sorted(settings.keys() - known):
        raise UsageError(f"a search has no setting {', '.join(unknown)}", hint=f"one of {', '.join(sorted(known))}")
    folder, held = Path(out), known_record(record, chip)
    place = Files(folder.with_name(f"{folder.name}.inputs"))
    named, record_file = _data(data, place), None
    if held is not None:
        record_file = place.record(held)
    pruned = settings.get("pruned", False)
    usual = usual_settings(named, settings.get("device", "cpu"), teacher=teacher is not None, pruned=pruned)
    asked = replace(
        usual,
        **{
            **settings,
            "data": named_place(named),
            "chip": named_place(place.chip(chip)),
            "calibration": str(record_file.absolute()) if record_file else "",
        },
    )
    begun = begin_search(
        folder, asked, space=None if space is None else str(space),
        teacher=None if teacher is None else Path(teacher), restart=restart,
    )  # fmt: skip
    with progress(watch) as observer, refused_goes(begun):
        run_search(begun, asked, observer)
    found = finished(begun, asked)
    return FinishedSearch(found.folder, found.table, found.summary)


def _data(data: Samples, place: Files) -> str:
    """Name or place of a data set; arrays are kept beside the folder of the search."""
    if isinstance(data, str | Path):
        return str(data)
    held = samples_of(data, "train")
    if held.inputs is not None or held.targets is not None:
        raise FileError("a search takes images with classes", hint="images uint8 (n, H, W[, C]) and labels (n,)")
    place.folder.mkdir(parents=True, exist_ok=True)
    path = place.folder / "images.npz"
    np.savez(path, images=held.images, labels=held.labels, classes=np.array(held.classes))
    return str(path)
