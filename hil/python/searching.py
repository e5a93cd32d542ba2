"""A search from Python: ``search``, the whole of it in one folder."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from hil.errors import FileError, UsageError
from hil.pages.summary import Summary
from hil.python.files import AnyChip, Files, Known, known_record
from hil.python.progress import progress
from hil.python.samples import Samples, samples_of
from hil.python.shown import Shown
from hil.searching.begin import Searched, begin_search, finished, named_place, refused_goes, usual_settings
from hil.searching.run import run_search
from hil.searching.settings import SearchSettings
from hil.watch import Watch


@dataclass(frozen=True)
class FinishedSearch(Shown, Searched):
    """A finished search: ``folder``, ``table``.

    Example:
        >>> front.folder.root.name
        'found'
    """

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
        >>> len(front.table["networks"]) > 0
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
    return FinishedSearch.of(found)


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
