"""Accuracy won back from Python: ``improve``, techniques from cheap to dear."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hil.deployment.options import DeployOptions, NetworkOptions, TechniqueOptions
from hil.improvement.account import improvement_summary
from hil.improvement.improve import PROGRAM, Improvement, expected_improvement
from hil.improvement.improve import improve as try_techniques
from hil.improvement.options import ImproveOptions, write_page
from hil.improvement.settings import ImproveSettings
from hil.pages.summary import Summary
from hil.python.files import AnyChip, Known, as_files, known_record
from hil.python.networks import CompiledNetwork, Network
from hil.python.progress import progress
from hil.python.samples import Samples
from hil.python.shown import Shown, needed, new_axes
from hil.simulation.chip_workers import THREADS
from hil.watch import Watch
from mapping.program.file import load_program

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


@dataclass(frozen=True)
class Improved(Shown, Improvement):
    """What was tried, with the program, frames and figures: ``trials``, ``recipe``, ``test``, ``stopped``.

    ``folder`` holds ``program.h5``, ``improvement.json`` and ``improvement.html``.

    Example:
        >>> improved.folder.name, improved.trials[0].name
        ('improved', 'compiled')
    """

    name: str = ""
    folder: Path = Path()

    @property
    def program(self) -> CompiledNetwork:
        """The program at the end, for ``hil.deploy``."""
        return CompiledNetwork(self.name, load_program(self.folder / PROGRAM), None)

    def to_frame(self) -> DataFrame:
        """A row for each technique: mean accuracy (a share), its spread, gain, standard error, kept, macros, minutes.

        Returns:
            a frame by their names; those that were not tried have NaN.

        Raises:
            hil.UsageError: pandas is not installed.

        Example:
            >>> improved.to_frame()["kept"].to_dict()
            {'compiled': True, 'scales': ...}
        """
        nan = float("nan")
        rows = {
            result.name: (
                *((result.mean, result.sd, result.gain, result.gain_se) if result.chips else (nan,) * 4),
                result.kept,
                result.macros,
                result.minutes,
            )
            for result in self.trials
        }
        columns = ["mean", "sd", "gain", "gain_se", "kept", "macros", "minutes"]
        frame: DataFrame = needed("pandas").DataFrame.from_dict(rows, orient="index", columns=columns)
        return frame

    def plot(self) -> Figure:
        """The accuracy of each technique that was tried, in their order; filled where it was kept.

        Returns:
            a matplotlib figure.

        Raises:
            hil.UsageError: matplotlib is not installed.

        Example:
            >>> improved.plot().axes[0].get_title()
            '100 held-out training images, 2 virtual chips'
        """
        figure, axes = new_axes()
        tried = [result for result in self.trials if result.chips]
        for place, result in enumerate(tried):
            filled = "C0" if result.kept else "white"
            axes.errorbar(place, 100 * result.mean, 100 * result.sd, fmt="o", color="C0", mfc=filled, capsize=4)
        axes.set_xticks(range(len(tried)), [result.name for result in tried], rotation=30, ha="right")
        axes.set_ylabel(f"{self.metric} in %")
        axes.set_title(f"{self.images:,} held-out training images, {self.chips} virtual chips", fontsize="medium")
        drawn: Figure = figure
        return drawn

    def summary_shown(self) -> Summary:
        """What ``hil improve`` prints."""
        return improvement_summary(self, self.name, (), str(self.folder / "improvement.html"))

    def to_json(self) -> dict[str, Any]:
        """What ``improvement.json`` holds."""
        return {k: v for k, v in Improvement.to_json(self).items() if k not in ("name", "folder")}


def improve(
    network: Network | CompiledNetwork,
    chip: AnyChip,
    train: Samples,
    test: Samples | None = None,
    *,
    out: str | Path,
    record: Known = None,
    settings: ImproveSettings | None = None,
    treated: TechniqueOptions | None = None,
    restart: bool = False,
    watch: Watch | None = None,
) -> Improved:
    """Try techniques from cheap to dear until a network keeps its accuracy on chips of a kind, as ``hil improve`` does.

    Args:
        network: a module, what ``hil.compile`` gave, or a network file.
        chip: a chip file by name or path, what it says, or an open chip: it is not asked, its record counts.
        train: training samples, some of which decide; a data set by its name has test samples, too.
        test: samples that are read once, for the finished program; None: those of a data set that was named, or none.
        out: folder of the program and of what is done; the same call goes on in it after an interruption.
        record: of a chip or of cells; None: that of ``chip.calibrate()``, else the models of the chip file.
        settings: target, minutes, effort and the rest.
        treated: techniques that every step has, or that are not tried.
        restart: forget what is in ``out``.
        watch: hears stages and progress; None: nobody does.

    Returns:
        every technique with what it gave and cost, and the program at the end.

    Raises:
        hil.UsageError: too few training samples, or a metric that is no share. hil.MismatchError: ``out`` or the record
            are of something else. hil.FileError: a test sample is among the training samples.

    Example:
        >>> asked = hil.ImproveSettings(images=100, chips=2, effort=1)
        >>> improved = hil.improve(module, "lab-128", train, test, out="improved", settings=asked)
        >>> improved.trials[0].name, improved.program.program.spec.name
        ('compiled', 'lab-128')
    """
    named, asked = isinstance(train, str | Path), settings or ImproveSettings()
    with progress(watch) as observer, as_files() as files:
        path, file = files.network(network, train, observer)
        last = asked.test_images if test is not None or named else 0
        source = NetworkOptions(files.chip(chip), data=files.data(train, test, file))
        begun = ImproveOptions(
            path, source, replace(asked, test_images=last), treated or TechniqueOptions(), DeployOptions()
        )
        observer.plan(expected_improvement(asked.images, asked.chips, last, measured=False))
        (training, last_read), folder = begun.images(), Path(out)
        context = begun.context(
            training,
            folder,
            record=files.record(known_record(record, chip)),
            crew=THREADS,
            restart=restart,
            watch=observer,
        )
        found = try_techniques(
            context, folder, last_read, target=asked.target, minutes=asked.minutes, tried=begun.trials, restart=restart
        )
        write_page(found, folder, path.stem)
    return Improved(**{f.name: getattr(found, f.name) for f in fields(found)}, name=path.stem, folder=Path(out))
