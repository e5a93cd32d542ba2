"""data.h5: every answer and reading of one run, enough to draw the report again and to test it anew."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cim.hdf5_file import open_hdf5
from cim.json_text import parse_json
from hil.atomic import write_bytes
from hil.errors import FileError, MismatchError
from hil.verdict.json_record import decode, encode
from hil.verdict.layers import LayerSample
from hil.verdict.metric import Metric
from hil.verdict.tasks.task import Task
from mapping.network.graph import Output
from mapping.network.task import TaskKind

FORMAT, VERSION = "hil.run", "1.4"
MOST_TELLING = 12


@dataclass(frozen=True, slots=True)
class MacroReadings:
    """One macro in use, arrays (word lines, bit lines); NaN where nothing was written or read.

    ``layer`` is the position of each cell's layer in ``RunData.layers``, −1 where unused.
    """

    targets_us: NDArray[np.float32]
    readings_us: NDArray[np.float32]
    layer: NDArray[np.int16]
    pulses: NDArray[np.int32] | None = None
    reached: NDArray[np.bool_] | None = None
    readings_after_us: NDArray[np.float32] | None = None  # after the run
    early_us: NDArray[np.float32] | None = None  # right after writing


@dataclass(frozen=True, slots=True, repr=False)
class RunData:
    """Requests and answers of one run. Logits are integer codes, except the float network's.

    Arrays have n images in run order, m repeats, S virtual chips. ``simulated_logits`` are
    those of the decisive question; ``such_logits`` of the other one, when it was judged.
    ``telling`` are positions (0 … n − 1) of images that most virtual chips get right and the chip wrong.
    ``ages_s`` (m, n) is chip time since programming; ``temperatures_c`` one value a repeat.

    Of a ``task`` that is not of classes there are ``targets`` (n, …) in place of labels; n may be fewer samples than
    were run where outputs are wide, and telling are samples that chip and virtual chips score most differently.
    ``scores`` are those of all samples by column: (rows, samples).

    ``untuned_logits`` are those of the first images without the tune, before and, where the chip was measured twice,
    after those with it; these are ``tuned_logits`` then.
    """

    indices: NDArray[np.int64]  # (n,) positions in the data set
    labels: NDArray[np.int64]  # (n,)
    classes: tuple[str, ...]
    ideal_logits: NDArray[np.int32]  # (n, classes)
    measured_logits: NDArray[np.int32]  # (m, n, classes)
    simulated_logits: NDArray[np.int32]  # (S, n, classes)
    float_logits: NDArray[np.float32] | None = None
    such_logits: NDArray[np.int32] | None = None
    ages_s: NDArray[np.float64] | None = None
    temperatures_c: NDArray[np.float64] | None = None
    telling: NDArray[np.int64] | None = None  # (k,), k at most MOST_TELLING
    telling_images: NDArray[np.uint8] | None = None  # (k, H, W, C)
    layers: tuple[str, ...] = ()
    macros: Mapping[int, MacroReadings] = field(default_factory=dict)
    samples: tuple[LayerSample, ...] = ()
    link: Mapping[str, float] = field(default_factory=dict)
    task: Task | None = None
    targets: NDArray[Any] | None = None
    untuned_logits: NDArray[np.int32] | None = None  # (1 or 2, of the first images, classes)
    tuned_logits: NDArray[np.int32] | None = None  # (m, of the first images, classes)
    scores: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def __repr__(self) -> str:
        size = f"{len(self.labels):,} images × {len(self.measured_logits)} repeats, {len(self.classes)} classes"
        return f"<RunData: {size}, {len(self.simulated_logits)} virtual chips, {len(self.macros)} macros>"

    def __post_init__(self) -> None:
        n, c = len(self.indices), len(self.classes)
        if self.task is not None:
            c = sum(output.size for output in self.task.outputs)
            if self.targets is None or len(self.targets) != n or self.labels.size:
                raise ValueError(f"targets of {n} samples are missing, or labels stand beside them")
        elif len(self.labels) != n:
            raise ValueError(f"{len(self.labels)} labels of {n} images")
        for name, shape in (
            ("indices", (n,)),
            ("ideal_logits", (n, c)),
            ("measured_logits", (len(self.measured_logits), n, c)),
            ("simulated_logits", (len(self.simulated_logits), n, c)),
        ):
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} has shape {getattr(self, name).shape}, expected {shape}")
        if self.labels.size and not (self.labels.min() >= 0 and self.labels.max() < c):
            raise ValueError(f"labels from {self.labels.min()} to {self.labels.max()} of {c} classes")
        if self.telling is not None and self.telling_images is not None:
            _check_telling(self.telling, self.telling_images, n)


def _check_telling(positions: NDArray[np.int64], images: NDArray[np.uint8], n: int) -> None:
    k = len(positions)
    if k > MOST_TELLING or (k and not (positions.min() >= 0 and positions.max() < n)):
        raise ValueError(f"{k} telling images (at most {MOST_TELLING}) at {positions} of {n}")
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) != k or (k and images.size == 0):
        raise ValueError(f"telling images are {images.dtype} {images.shape}, expected uint8 ({k}, H, W, C)")


MAX_BYTES = 1 << 31
_ARRAYS = (
    "indices", "labels", "ideal_logits", "measured_logits", "simulated_logits", "float_logits", "such_logits",
    "ages_s", "temperatures_c", "telling", "telling_images", "targets",
    "untuned_logits", "tuned_logits",
)  # fmt: skip
_CELLS = ("targets_us", "readings_us", "layer", "pulses", "reached", "readings_after_us", "early_us")


def write_run(path: str | Path, data: RunData) -> None:
    """Write data.h5 whole or not at all; the ``complete`` attribute comes last.

    The file is built in memory: HDF5 itself crashes when it cannot flush to a full disk.
    """
    with h5py.File(Path(path).name, "w", driver="core", backing_store=False) as file:
        file.attrs["format"], file.attrs["version"] = FORMAT, VERSION
        file.attrs["classes"], file.attrs["layers"] = list(data.classes), list(data.layers)
        if data.task is not None:
            file.attrs["task"] = _task_text(data.task)
        for name, values in data.scores.items():
            _put(file, f"scores/{name}", values)
        for name in _ARRAYS:
            _put(file, name, getattr(data, name))
        for macro, cells in data.macros.items():
            group = file.create_group(f"macros/{macro}")
            for name in _CELLS:
                _put(group, name, getattr(cells, name))
        for number, sample in enumerate(data.samples):
            group = file.create_group(f"samples/{number}")
            group.attrs["layer"] = sample.layer
            for name in ("saturated_share", "simulated_saturated_share"):
                value = getattr(sample, name)
                if value is not None:
                    group.attrs[name] = value
            for name in ("measured", "ideal", "simulated"):
                _put(group, name, getattr(sample, name))
        link = file.create_group("link")
        for name, value in data.link.items():
            link.attrs[name] = value
        file.attrs["complete"] = True
        file.flush()
        image = file.id.get_file_image()
    write_bytes(path, image)


def read_run(path: str | Path) -> RunData:
    """Read what ``write_run`` wrote; a broken or unfinished file is a ``FileError``, a newer major a mismatch.

    Args:
        path: of a run.h5.

    Returns:
        logits, readings, identity, ages and counters of the run.

    Raises:
        FileError: missing, broken or not finished. MismatchError: of a later major version.

    Example:
        >>> read_run("runs/0001/data.h5").measured_logits.shape
        (2, 60, 2)
    """
    path = Path(path)
    hint = "run hil deploy again; report.json beside it holds the results"
    if not path.exists():
        raise FileError(f"there is no {path.name}", where=str(path.parent), hint="hil show RUN takes a run folder")
    try:
        with open_hdf5(path, MAX_BYTES) as file:
            if _text(file.attrs.get("format")) != FORMAT:
                raise FileError(f"{path.name} is not a run of hil", where=str(path), hint=hint)
            version = _text(file.attrs.get("version"))
            if version.partition(".")[0] != VERSION.partition(".")[0]:
                raise MismatchError(f"{path.name} has version {version}, this hil reads {VERSION}", where=str(path))
            if not file.attrs.get("complete", False):
                raise FileError(f"{path.name} was not finished", where=str(path), hint=hint)
            return _read(file)
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise FileError(f"{path.name} is damaged: {error}", where=str(path), hint=hint) from error


def _read(file: Any) -> RunData:
    arrays = {name: file[name][()] for name in _ARRAYS if name in file}
    macros = {}
    for key in sorted(file.get("macros", ()), key=int):
        group = file[f"macros/{key}"]
        macros[int(key)] = MacroReadings(**{name: group[name][()] for name in _CELLS if name in group})
    samples = []
    for key in sorted(file.get("samples", ()), key=int):
        group = file[f"samples/{key}"]
        content: dict[str, Any] = {
            k: float(group.attrs[k]) for k in ("saturated_share", "simulated_saturated_share") if k in group.attrs
        }
        content |= {name: group[name][()] for name in ("measured", "ideal", "simulated") if name in group}
        samples.append(LayerSample(layer=_text(group.attrs["layer"]), **content))
    link = {k: float(v) for k, v in file["link"].attrs.items()}
    scores = {name: values[()] for name, values in file.get("scores", {}).items()}
    task = _task_of(_text(file.attrs["task"])) if "task" in file.attrs else None
    classes, layers = (tuple(_text(v) for v in file.attrs[key]) for key in ("classes", "layers"))
    return RunData(
        **arrays, classes=classes, layers=layers, macros=macros, samples=tuple(samples), link=link, task=task,
        scores=scores,
    )  # fmt: skip


def _task_text(task: Task) -> str:
    """A task as JSON; a user's own metric is not more than its name there."""
    outputs = [[output.name, list(output.shape)] for output in task.outputs]
    plain = {"kind": task.kind.value, "image": list(task.image), "outputs": outputs, "scale": task.scale}
    return json.dumps({**plain, "metric": encode(task.metric), "classes": list(task.classes)})


def _task_of(text: str) -> Task:
    said = parse_json(text)
    channels, height, width = (int(side) for side in said["image"])
    outputs = tuple(Output(str(name), tuple(int(side) for side in shape)) for name, shape in said["outputs"])
    found = Task(
        TaskKind(said["kind"]),
        decode(Metric, said["metric"]),
        (channels, height, width),
        outputs,
        tuple(str(name) for name in said["classes"]),
        float(said["scale"]),
    )
    if reason := found.misfit():
        raise ValueError(f"outputs of its task: {reason}")
    return found


def _put(group: Any, name: str, value: NDArray[Any] | None) -> None:
    if value is not None:
        compress = {"compression": "gzip", "compression_opts": 1, "shuffle": True} if value.size > 1024 else {}
        group.create_dataset(name, data=value, **compress)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
