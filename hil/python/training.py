"""Networks trained on from Python: ``finetune``, for the errors of a chip or on the chip itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hil.driver.chip_driver import ChipDriver
from hil.errors import UsageError
from hil.improvement.finetuning.on_chip import finetune_on_chip
from hil.improvement.finetuning.on_chip_result import OnChipResult
from hil.improvement.finetuning.run import FinetuneResult
from hil.improvement.finetuning.run import finetune as finetune_files
from hil.improvement.finetuning.settings import FinetuneSettings, OnChipSettings
from hil.pages.summary import Summary
from hil.python.files import AnyChip, Known, as_files, known_record
from hil.python.networks import CompiledNetwork, Network
from hil.python.progress import progress
from hil.python.samples import Samples
from hil.python.shown import Shown
from hil.watch import Watch
from mapping.program.file import load_program


@dataclass(frozen=True)
class FinetunedNetwork(Shown, FinetuneResult):
    """A fine-tuned network, with accuracies before and after; ``path``: its file.

    Example:
        >>> finetuned.path.name, finetuned.epochs
        ('tuned.pt', 1)
    """

    name: str = ""

    def summary_shown(self) -> Summary:
        """What ``hil finetune`` prints."""
        return self.summary(self.name)


@dataclass(frozen=True)
class FinetunedOnChip(Shown, OnChipResult):
    """A network on one chip, fine-tuned group by group of layers; ``path``: its program."""

    name: str = ""

    @property
    def program(self) -> CompiledNetwork:
        """The program that the chip holds, for ``hil.deploy``."""
        return CompiledNetwork(self.name, load_program(self.path), None)

    def summary_shown(self) -> Summary:
        """What ``hil finetune --port`` prints."""
        return self.summary(self.name)


def finetune(
    network: Network | CompiledNetwork,
    chip: AnyChip,
    train: Samples,
    *,
    out: str | Path,
    record: Known = None,
    settings: FinetuneSettings | OnChipSettings | None = None,
    restart: bool = False,
    watch: Watch | None = None,
) -> FinetunedNetwork | FinetunedOnChip:
    """Train a network on for the errors of a chip, taught by itself unchanged, as ``hil finetune`` does.

    Args:
        network: a module, what ``hil.compile`` gave, or a network file.
        chip: a chip file by name or path, what it says, or an open chip. Only with ``hil.OnChipSettings`` an open chip
            is written, group of layers after group; else it is not asked, and its record counts.
        train: training samples with their classes, or a data set by name.
        out: the net.pt to write, on the chip its program.h5; the same call goes on after an interruption.
        record: whose errors count; None: that of ``chip.calibrate()``, else the models of the chip file.
        settings: minutes, epochs, rate and the rest; ``hil.OnChipSettings`` to train on the chip.
        restart: forget what an interrupted call has done.
        watch: hears stages and progress; None: nobody does.

    Returns:
        accuracies before and after; ``path`` is the file that was written.

    Raises:
        hil.UsageError: a network that gives no classes, too few samples, or no record of a chip that is to be written.
        hil.MismatchError: ``out`` or the record are of something else. hil.Interrupted: Ctrl-C after the first step.

    Example:
        >>> short = hil.FinetuneSettings(epochs=1, batch=100)
        >>> finetuned = hil.finetune(module, "lab-128", train, out="tuned.pt", settings=short)
        >>> finetuned.path.name, finetuned.epochs
        ('tuned.pt', 1)
    """
    known = known_record(record, chip)
    with progress(watch) as observer, as_files() as files:
        path, file = files.network(network, train, observer)
        data, place, measured = files.data(train, None, file), files.chip(chip), files.record(known)
        if isinstance(settings, OnChipSettings):
            if not isinstance(chip, ChipDriver) or measured is None:
                raise UsageError("an open chip and its record are needed", hint="hil.open_chip(…), chip.calibrate()")
            on_it = finetune_on_chip(
                path, data, out, chip, measured, chip=place, settings=settings, restart=restart, watch=observer
            )
            return FinetunedOnChip.of(on_it, name=path.stem)
        found = finetune_files(
            path, data, out, chip=place, calibration=measured, settings=settings, restart=restart, watch=observer
        )
    return FinetunedNetwork.of(found, name=path.stem)
