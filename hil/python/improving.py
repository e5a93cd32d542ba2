"""Regaining accuracy from Python: ``improve`` tries techniques from cheap to dear."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hil.deployment.options import DeployOptions, NetworkOptions, TechniqueOptions
from hil.improvement.account import improvement_summary
from hil.improvement.improve import PROGRAM, Improvement
from hil.improvement.improve import improve as try_techniques
from hil.improvement.options import ImproveOptions, write_page
from hil.improvement.settings import ImproveSettings
from hil.pages.summary import Summary
from hil.python.files import AnyChip, Known, as_files, known_record
from hil.python.networks import CompiledNetwork, Network
from hil.python.progress import progress
from hil.python.samples import Samples
from hil.python.shown import Shown
from hil.watch import Watch
from mapping.program.file import load_program


@dataclass(frozen=True)
class Improved(Shown, Improvement):
    """Result of ``improve``: ``trials``, ``recipe``, ``test``, ``stopped``.

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
        chip: a chip file by name or path, what it says, or an open chip, of which only the record is used.
        train: training samples, some of which decide; a data set by its name has test samples, too.
        test: samples that are read once, for the finished program; None: those of a data set that was named, or none.
        out: folder of the program and of what is done; the same call goes on in it after an interruption.
        record: of a chip or of cells; None: that of ``chip.calibrate()``, else the models of the chip file.
        settings: target, minutes, effort and the rest.
        treated: techniques of every step, and techniques not to try.
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
        held = files.record(known_record(record, chip))
        context, last_read = begun.context(Path(out), record=held, restart=restart, watch=observer)
        found = try_techniques(
            context, Path(out), last_read, target=asked.target, minutes=asked.minutes, tried=begun.trials,
            restart=restart,
        )  # fmt: skip
        write_page(found, Path(out), path.stem)
    return Improved.of(found, name=path.stem, folder=Path(out))
