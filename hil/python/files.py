"""Modules, arrays, records and chips written to temporary files, from which long jobs start.

Resumable jobs identify inputs by digest, not by path, so that the same call resumes.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cim.chip.file import render_chip
from cim.chip.spec import ChipSpec
from cim.record.calibration import CalibrationRecord
from cim.record.file import save_record
from hil.datasets.arrays import NAMES
from hil.datasets.demos import network_file
from hil.datasets.image_set import Dataset
from hil.datasets.input_values import with_pixels
from hil.datasets.targets import TargetKind
from hil.driver.chip_driver import ChipDriver
from hil.errors import UsageError
from hil.python.chip import Chip
from hil.python.networks import CompiledNetwork, Network, given_network
from hil.python.samples import Samples, samples_of
from hil.watch import Watch
from mapping.network.file import NetworkFile, load_network, save_network

Known: TypeAlias = CalibrationRecord | str | Path | None
AnyChip: TypeAlias = ChipDriver | ChipSpec | str | Path


@dataclass(frozen=True, slots=True)
class Files:
    """The files of one call; objects from memory are written below ``folder``."""

    folder: Path

    def network(self, network: Network | CompiledNetwork, images: Samples, watch: Watch) -> tuple[Path, NetworkFile]:
        """A network file and its content; a module is captured with training images."""
        if isinstance(network, str | Path) and (stored := network_file(network)).suffix == ".pt":
            return stored, load_network(stored)
        if isinstance(network, CompiledNetwork):
            if network.file is None:
                raise UsageError(f"{network.name} is a compiled program: its scales are chosen", hint="give the net.pt")
            name, file = network.name, network.file
        else:
            name, file = given_network(network, images, watch=watch)
        path = self.folder / f"{name}.pt"
        save_network(file, path)
        return path, file

    def data(self, train: Samples, test: Samples | None, network: NetworkFile) -> str:
        """Name or path of a data set; arrays are written as the pixels that the network takes."""
        if isinstance(train, str | Path) and test is None:
            return str(train)
        for split, given in (("train", train), ("test", test)):
            if given is not None:
                graph = network.graph
                held = with_pixels(samples_of(given, split), graph.input_shape, graph.preprocess)
                np.savez(self.folder / f"{split}.npz", **_content(held, graph.classes))  # type: ignore[arg-type]
        return str(self.folder)

    def record(self, record: Known) -> Path | None:
        """The file of a record; None stays None."""
        if record is None or isinstance(record, str | Path):
            return None if record is None else Path(record)
        path = self.folder / "record.h5"
        save_record(record, path)
        return path

    def chip(self, chip: AnyChip) -> str:
        """Name or path of a chip file."""
        if isinstance(chip, str | Path):
            return str(chip)
        path = self.folder / "chip.toml"
        path.write_text(render_chip(chip.spec if isinstance(chip, ChipDriver) else chip), "utf-8")
        return str(path)


@contextlib.contextmanager
def as_files() -> Iterator[Files]:
    """A temporary folder for the files of one call; it is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="hil-") as folder:
        yield Files(Path(folder))


def known_record(record: Known, chip: AnyChip) -> Known:
    """The given record, else the one measured by ``chip.calibrate()``."""
    return chip.record if record is None and isinstance(chip, Chip) else record


def _content(data: Dataset, classes: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Arrays of a file that reads back as ``data`` (``hil.datasets.arrays``)."""
    if data.targets is None:
        names = classes if len(classes) > int(data.labels.max(initial=-1)) else data.classes
        return {"images": data.images, "labels": data.labels, "classes": np.array(names)}
    if data.kind is TargetKind.NONE:
        return {"images": data.images}
    if data.kind is TargetKind.BOXES:
        boxes = data.targets[..., 0] >= 0
        held = data.targets[boxes]
        return {
            "images": data.images, "boxes": held[:, 1:], "box_classes": held[:, 0].astype(np.int64),
            "box_counts": boxes.sum(1), "classes": np.array(data.classes),
        }  # fmt: skip
    (name,) = (name for name, kind in NAMES.items() if kind is data.kind)
    return {"images": data.images, name: data.targets, "classes": np.array(data.classes)}
