"""Options that several commands share, their parsing (durations, lists), and the printing of results.

The settings class of each job, as ``hil.deployment.options.DeployOptions``, holds the defaults. Its module imports
no heavy package, so that a command reads defaults from an object of the class, ``USUAL``.
"""

from __future__ import annotations

import enum
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from hil.datasets.demos import network_file
from hil.deployment.options import CHIP
from hil.errors import UsageError
from hil.report.terminal.completion import chips, datasets
from hil.report.terminal.lines import print_json, print_line
from hil.watch import Watch as Watch
from mapping.settings import setting

if TYPE_CHECKING:
    from hil.deployment.options import NetworkOptions, TechniqueOptions
    from hil.driver.chip_driver import ChipDriver
    from hil.report.terminal.answers import Answer
    from hil.report.terminal.screen import Screen

Choice = TypeVar("Choice", bound=enum.StrEnum)
CHIP_WANTED = "name the chip: either --port ADDRESS or --emulated"


def need(package: str, command: str, extra: str) -> None:
    """Refuse a command whose optional package is not installed, and name the command that installs it."""
    if importlib.util.find_spec(package) is None:
        raise UsageError(f"{command} needs the package {package}", hint=f"pip install 'rram-hil[{extra}]'")


def output_file(path: Path | None) -> Path | None:
    """Check that the file of an option can be written; the callback of the option."""
    from hil.atomic import check_can_write

    if path is not None:
        check_can_write(path)
    return path


def output_folder(path: Path) -> Path:
    """Check that a folder can be made, or exists and can be filled."""
    from hil.atomic import check_can_fill

    check_can_fill(path)
    return path


Net = Annotated[
    Path | None,
    typer.Argument(
        help="net.pt, model.onnx, .tflite or .pt2, timm:NAME, torchvision:NAME, hf:OWNER/NAME, demo:residual, or a "
        "program.h5",
        show_default=False,
        callback=lambda path: path and network_file(path),
    ),
]
NetFile = Annotated[Path, typer.Argument(help="net.pt, or demo:NAME of a bundled network", callback=network_file)]


@dataclass(frozen=True, slots=True)
class ChipOnWire:
    """The chip that a command uses: either the chip at an address or an emulated chip."""

    port: str | None = setting(
        None, "/dev/ttyUSB0?baud=115200, COM5, tcp://host:port, unix:path, visa:RESOURCE, emulated:CHIP?seed=7, "
        "bench:FILE.toml, replay:LOG", group=CHIP, unset=True,
    )  # fmt: skip
    emulated: bool = setting(False, "use an emulated chip (NOT SILICON), of the kind in --chip", group=CHIP)
    chip: str | None = setting(
        None, "chip file; default: the file that the chip reports, lab-128 with --emulated", group=CHIP, unset=True
    )
    macros: int | None = setting(None, "number of macros; default: the chip file's", low=1, group=CHIP, unset=True)

    @property
    def named(self) -> bool:
        """Whether the command line names a chip."""
        return bool(self.port or self.emulated)

    @property
    def address(self) -> str:
        """Address of the chip.

        Raises:
            UsageError: neither --port nor --emulated was given, or both.
        """
        if bool(self.port) == self.emulated and (self.port, self.emulated) != ("emulated", True):
            raise UsageError(
                "--port and --emulated exclude each other" if self.port else CHIP_WANTED,
                hint="hil board ports lists serial ports; hil deploy --emulated needs no chip",
            )
        from hil.transports import whole_address

        return whole_address(self.port or "emulated", self.chip, self.macros)

    def opened(self) -> ChipDriver:
        from hil.driver.open_chip import open_chip

        return open_chip(self.address, chip=self.chip, macros=self.macros)


Chip = Annotated[
    str, typer.Option(help="chip file: a name from `hil chip list`, or a path to a .toml", autocompletion=chips)
]
Macros = Annotated[
    int | None, typer.Option(min=1, help="number of macros; default: the chip file's", show_default=False)
]
Record = Annotated[
    Path | None,
    typer.Option(
        "--calibration",
        help="record of a chip (hil calibrate) or of cells (hil chip fit); default: device models of the chip file",
        show_default=False,
    ),
]
TrainingData = Annotated[
    str,
    typer.Option(
        "--data",
        help="data set for training: fashion-mnist, cifar10-jpeg, eurosat, or a path",
        autocompletion=datasets,
    ),
]
RunFolder = Annotated[
    Path | None, typer.Option("--out", "-o", help="run folder; default runs/NNNN", show_default=False)
]
NetworkOfRun = Annotated[
    Path | None,
    typer.Option("--network", help="net.pt or program.h5 of a run folder that holds no program", show_default=False),
]
Restart = Annotated[
    bool, typer.Option("--restart", help="begin again; without it the command resumes an interrupted run")
]


def workers_named(text: str) -> int | str:
    """Parse a number of processes or the address of a cluster; the parser of the option."""
    if "://" not in text and not text.isdecimal():
        raise UsageError(f"--workers {text!r:.60} names no workers", hint="a number of processes, or tcp://host:port")
    return text if "://" in text else int(text)


Workers = Annotated[
    Any,
    typer.Option(
        help="number of parallel processes, or tcp://host:port of a Dask cluster with a shared folder",
        parser=workers_named,
        metavar="<str>",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="print one JSON object on stdout; text and progress go to stderr")]

Task = Annotated[
    str | None,
    typer.Option(
        help="task: classify, segment, detect, regress, autoencode or sequence; default: the network file's",
        show_default=False,
    ),
]
Junit = Annotated[Path | None, typer.Option(help="write a JUnit XML file", show_default=False, callback=output_file)]
FailOn = Annotated[str, typer.Option(help="outcomes with exit code 1, comma-separated; none: only errors")]
Baseline = Annotated[
    Path | None,
    typer.Option(
        help="report.json of an earlier run; an accuracy loss against it ends in exit code 1", show_default=False
    ),
]


@contextmanager
def screen(quiet: bool, phases: Mapping[str, Sequence[str]] | None = None, *, asks: bool = False) -> Iterator[Screen]:
    """Progress on stderr while a command runs.

    Args:
        phases: phases of the job, each with its stages.
        asks: whether the user at the terminal may be asked questions.
    """
    from hil.report.terminal.screen import Screen

    with Screen(quiet=quiet, phases=phases, asks=asks) as shown:
        yield shown


def trained(
    network: Path | None,
    techniques: TechniqueOptions,
    source: NetworkOptions,
    calibration: Path | None,
    age_s: float,
    watch: Watch,
) -> Path | None:
    """Path of the network; at effort 3, of the same network trained further (``hil.improvement.trained_ahead``)."""
    if not techniques.trains:
        return network
    from hil.improvement.trained_ahead import trained_ahead

    return trained_ahead(network, source, calibration, age_s, watch)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn errors of the system while ``path`` is written (disk full, no permission) into output errors."""
    from hil.atomic import output_error

    try:
        yield
    except OSError as error:
        raise output_error(path, error) from error


def print_result(told: Sequence[Answer], record: dict[str, Any], as_json: bool) -> None:
    """Print text for people, or one versioned JSON object."""
    if as_json:
        print_json({"schema": "hil.answer/1.0", **record})
        return
    from hil.report.terminal.answers import show_answer

    for part in told:
        if isinstance(part, str):
            print_line(part)
        else:
            show_answer(part)


def one_of(choices: type[Choice], text: str, option: str) -> Choice:
    """The member of an enumeration that an option names."""
    try:
        return choices(text)
    except ValueError:
        raise UsageError(f"{option} {text!r} is not a choice", hint=f"one of {', '.join(choices)}") from None


def numbers(text: str, count: int) -> tuple[int, ...]:
    """Macro numbers of "0-3,7", each below ``count``."""
    chosen: set[int] = set()
    try:
        for part in text.split(","):
            low, _, high = part.partition("-")
            chosen.update(range(int(low), int(high or low) + 1) if int(high or low) < count else [count])
    except ValueError:
        chosen = {count}
    if not chosen or max(chosen) >= count:
        raise UsageError(f"{text!r} names no macros of 0 to {count - 1}", hint="write 0-3,7")
    return tuple(sorted(chosen))


def floats(text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{text!r} is not a list of numbers", hint="write 0.5,0.5,0.5") from None


def metric_place(text: str | None) -> str:
    """Name of a metric; a function in a Python file gets the file's absolute path, so that a run resumes anywhere."""
    place, _, name = (text or "").rpartition(":")
    return f"{Path(place).absolute()}:{name}" if place else name


def whole_numbers(text: str | None, what: str) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{text!r} is no {what}", hint="write whole numbers: 3,32,32") from None


def pairs(texts: Sequence[str]) -> dict[str, str]:
    """Names and values of texts NAME=VALUE."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise UsageError(f"{text!r} is not an option", hint="write NAME=VALUE")
        found[name] = value
    return found
