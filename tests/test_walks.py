"""The walks of docs/explanation/architecture.md: as short as promised, and as the program really goes."""

from __future__ import annotations

import ast
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cim.simulator.simulator import LayerSimulator
from firmware_protocols.extensions.messages import ImageTile
from firmware_protocols.host import HostLink
from firmware_protocols.messages import Mvm
from firmware_protocols.plans.messages import RunPlan
from hil.cli import run
from hil.simulation.cores import BackgroundPool
from hil.transports.in_process import InProcessTransport
from mapping.quantise.quantiser import Quantiser
from search.train import training

from .hil.search_files import CLASSES, SPACE
from .hil.search_files import images as search_images
from .hil.small_net import NAMES, images, write_files

ROOT = Path(__file__).parent.parent
ROOMS = ("hil", "search", "mapping", "firmware_protocols", "cim")
PAGE = ROOT / "docs" / "explanation" / "architecture.md"
MOST_STEPS = 8
ROW = re.compile(r"^\| (?P<step>\d*) ?\| `(?P<file>[\w/.]+)` \| (?P<functions>(?:`[\w.]+`(?:, )?)+) \| ", re.MULTILINE)
WEIGHT, MEASURED, SIMULATED, ESTIMATE = "One weight", "Measured", "Simulated", "One calibration estimate"
TRIAL, TRAINED, FRONT, UPSET = "One trial", "One training image", "One network of a front", "One upset"


@dataclass(frozen=True)
class Step:
    """One row of the page: a file (or a package), and functions of it."""

    file: str
    functions: tuple[str, ...]

    @property
    def place(self) -> str:
        """Where on the stack it is: every kind of wire counts as the wire."""
        return "hil/transports" if self.file.startswith("hil/transports/") else self.file


def tables(text: str) -> list[tuple[str, list[Step]]]:
    """(title of the first column, rows) of each table."""
    found: list[tuple[str, list[Step]]] = []
    for part in re.split(r"\n\n", text):
        head = re.match(r"\| (step|asked in|then in) \|", part)
        if head:
            rows = [Step(m["file"], tuple(re.findall(r"`([\w.]+)`", m["functions"]))) for m in ROW.finditer(part)]
            assert len(rows) == part.strip().count("\n") - 1, part
            found.append((head[1], rows))
    return found


def walks() -> dict[str, list[Step]]:
    text = PAGE.read_text("utf-8").split("## Three walks")[1]
    found = {}
    for name in (WEIGHT, MEASURED, SIMULATED, ESTIMATE, TRIAL, TRAINED, FRONT, UPSET):
        kind, rows = tables(text[re.search(rf"^(### )?{name}", text, re.MULTILINE).start() :])[0]  # type: ignore[union-attr]
        assert kind == "step"
        found[name] = rows
    return found


def names_in(file: str) -> set[str]:
    """Functions, and methods as Class.method, of a file or of all files of a package."""
    paths = [ROOT / file] if file.endswith(".py") else sorted((ROOT / file).rglob("*.py"))
    names = set()
    for path in paths:
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                names.add(node.name)
            elif isinstance(node, ast.ClassDef):
                names |= {f"{node.name}.{part.name}" for part in node.body if isinstance(part, ast.FunctionDef)}
    return names


class Stacks:
    """Call stacks (place, function) of our own files, outermost first, at the doors that were watched."""

    def __init__(self) -> None:
        self.by_door: dict[str, list[tuple[tuple[str, str], ...]]] = {}
        self._lock = threading.Lock()

    def note(self, door: str) -> None:
        frames, frame = [], sys._getframe(2)
        while frame is not None:
            path = Path(frame.f_code.co_filename)
            if path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in ROOMS:
                frames.append((str(path.relative_to(ROOT)), frame.f_code.co_qualname))
            frame = frame.f_back  # type: ignore[assignment]
        with self._lock:
            self.by_door.setdefault(door, []).append(tuple(reversed(frames)))

    def through(self, door: str, *functions: str) -> tuple[tuple[str, str], ...]:
        """The first stack at a door that goes through all of these functions."""
        return next(s for s in self.by_door[door] if {name for _, name in s} >= set(functions))


@contextmanager
def watched() -> Iterator[Stacks]:
    stacks, patch = Stacks(), pytest.MonkeyPatch()
    request, write, sums, add = HostLink.request, InProcessTransport.write, LayerSimulator.level_sums, Quantiser.add
    begin, learn = BackgroundPool.begin, training._learn

    def on_request(self: HostLink, message: object, **more: bool) -> int:
        stacks.note(type(message).__name__)
        return request(self, message, **more)  # type: ignore[arg-type]

    def on_write(self: InProcessTransport, data: bytes) -> None:
        stacks.note("write")
        write(self, data)

    def on_sums(self: LayerSimulator, *arguments: object) -> object:
        stacks.note("level_sums")
        return sums(self, *arguments)  # type: ignore[arg-type]

    def on_begin(self: BackgroundPool, *arguments: object) -> object:
        stacks.note("virtual chips")
        return begin(self, *arguments)  # type: ignore[arg-type]

    def on_learn(*arguments: Any) -> object:
        stacks.note("learn")
        return learn(*arguments)

    def on_add(self: Quantiser, *arguments: object) -> None:
        stacks.note("add")
        add(self, *arguments)  # type: ignore[arg-type]

    patch.setattr(HostLink, "request", on_request)
    patch.setattr(InProcessTransport, "write", on_write)
    patch.setattr(LayerSimulator, "level_sums", on_sums)
    patch.setattr(Quantiser, "add", on_add)
    patch.setattr(BackgroundPool, "begin", on_begin)
    patch.setattr(training, "_learn", on_learn)
    try:
        yield stacks
    finally:
        patch.undo()


@pytest.fixture(scope="module")
def stacks(tmp_path_factory: pytest.TempPathFactory) -> Stacks:
    """Of one short calibration and one short deployment, from the command line."""
    folder = tmp_path_factory.mktemp("walks")
    net, data = write_files(folder)
    record, chip = str(folder / "record.h5"), ["--emulated", "--macros", "4"]
    with watched() as found:
        assert run(["calibrate", *chip, "--only", "0,1", "--quick", "-o", record]) == 0
        files = [str(net), "--data", str(data), "--calibration", record, "--out", str(folder / "run")]
        run(["deploy", *files, *chip, "--samples", "300", "--repeat", "1", "--no-causes"])
    return found


def files_of(*found: tuple[tuple[str, str], ...]) -> list[str]:
    """Files on some stacks in the order in which they come, the dispatcher of the command line left out."""
    dispatcher = ("hil/cli/__init__.py", "hil/cli/settings_options.py")
    return list(dict.fromkeys(file for stack in found for file, _ in stack if file not in dispatcher))


@pytest.mark.parametrize("name", [WEIGHT, MEASURED, SIMULATED, ESTIMATE, TRIAL, TRAINED, FRONT, UPSET])
def test_a_walk_is_at_most_eight_files_and_all_its_functions_exist(name: str) -> None:
    steps = walks()[name]
    assert len({step.place for step in steps}) == len(steps) <= MOST_STEPS
    for step in steps:
        assert set(step.functions) <= names_in(step.file), step


def test_everything_that_is_asked_on_the_way_exists() -> None:
    found = [rows for kind, rows in tables(PAGE.read_text("utf-8").split("## Three walks")[1]) if kind != "step"]
    assert len(found) == 3
    for rows in found:
        for row in rows:
            assert set(row.functions) <= names_in(row.file), row


@pytest.mark.parametrize(
    ("name", "doors"),
    [
        (WEIGHT, [(ImageTile.__name__, "program_chip")]),
        (MEASURED, [(RunPlan.__name__, "WholeRun.measure")]),
        (ESTIMATE, [(Mvm.__name__, "CalibrationSteps._transfer")]),
    ],
)
def test_nothing_else_stands_between_the_command_and_the_wire(
    name: str, doors: list[tuple[str, str]], stacks: Stacks
) -> None:
    steps = walks()[name]
    found = [stacks.through(*door) for door in doors]
    before = [step.file for step in steps if step.place not in ("firmware_protocols", "hil/transports")]
    assert files_of(*found) == before
    seen = {function for stack in found for _, function in stack}
    for step in steps:
        if step.file in before:
            assert set(step.functions) <= seen, step
    assert not [function for function in seen if "<lambda>" in function]


def test_the_compiler_is_asked_by_the_file_that_then_has_the_program_written(stacks: Stacks) -> None:
    assert files_of(stacks.through("add", "compile_network")) == [
        "hil/cli/deploy.py",
        "hil/deployment/deploy.py",
        "hil/deployment/network_source.py",
        "mapping/scale_choice.py",  # once a rule, until one keeps the answers
        "mapping/compile.py",
    ]


def test_the_session_gives_bytes_to_the_wire_itself(stacks: Stacks) -> None:
    for stack in stacks.by_door["write"]:
        assert stack[-1] in (
            ("hil/driver/session.py", "Session._move_bytes"),
            ("hil/transports/in_process.py", "write"),
        )


def test_nothing_else_stands_between_a_virtual_chip_and_its_kernel(stacks: Stacks) -> None:
    """Virtual chips run in threads of their own, so there are two stacks: up to the threads, and in one."""
    asked = next(s for s in stacks.by_door["virtual chips"] if any(name == "run_looks" for _, name in s))
    steps = walks()[SIMULATED]
    answered = next(  # to an image of the run; the tune before it asks for single layers
        s
        for s in stacks.by_door["level_sums"]
        if any(name == "VirtualChip.sums" for _, name in s) and not any("/tune/" in file for file, _ in s)
    )
    assert files_of(asked, answered) == [step.file for step in steps[:-1]]
    seen = {function for _, function in (*asked, *answered)} | {"BackgroundPool.begin", "LayerSimulator.level_sums"}
    assert {function for step in steps for function in step.functions} <= seen
    assert not [function for function in seen if "<lambda>" in function]


@pytest.fixture(scope="module")
def long_stacks(tmp_path_factory: pytest.TempPathFactory) -> Stacks:
    """Of an improvement that stops after its first trial, an epoch of training, a search of seconds and 26 upsets."""
    folder = tmp_path_factory.mktemp("long")
    net, data = write_files(folder)
    for name, (pixels, labels), classes in (
        ("train", images(640, seed=5), NAMES),
        ("search", search_images(160), CLASSES),
    ):
        np.savez(folder / f"{name}.npz", images=pixels, labels=labels, classes=np.array(classes))
    (folder / "space.toml").write_text(SPACE, "utf-8")
    brief = "--macros 4 --images 100 --chips 2 --with tune=16 --test-images 0 --effort 2 --minutes 0"
    training_ = f"finetune {net} --data {folder}/train.npz --epochs 1 --batch 32 --shift 0 --symmetry none"
    searching = (
        f"search --space {folder}/space.toml --data {folder}/search.npz --macros 64 --batch 20 --teacher-epochs 1 "
        "--stage-epochs 1 --samples 4 --sample-epochs 1 --simulations 8 --networks 1 --epochs 1 --chips 2 --images 20 "
        "--workers 0 --symmetry none"
    )
    campaign = f"campaign {net} --data {data} --macros 4 --orbit leo-sso --injections 26 --images 100 --chips 0"
    with watched() as found, pytest.MonkeyPatch.context() as patch:
        patch.setattr("hil.searching.run.check_learned", lambda *_: None)
        for words in (f"improve {net} --data {data} {brief}", training_, searching, campaign):
            name = words.split()[0]
            assert run([*words.split(), "-o", str(folder / {"finetune": "tuned.pt"}.get(name, name))]) == 0
    return found


@pytest.mark.parametrize(
    ("name", "doors"),
    [
        (
            TRIAL,
            [
                ("virtual chips", "TrialContext.score"),
                ("level_sums", "_accuracy", "VirtualChip.sums"),
            ],
        ),
        (TRAINED, [("learn", "finetune_network")]),
        (FRONT, [("virtual chips", "SimulatedEvaluator.evaluate")]),
        (UPSET, [("level_sums", "FaultContext.faulted")]),
    ],
)
def test_the_commands_that_take_long_go_the_way_that_is_written_down(
    name: str, doors: list[tuple[str, ...]], long_stacks: Stacks
) -> None:
    steps, found = walks()[name], [long_stacks.through(*door) for door in doors]
    ends = {"BackgroundPool.begin", "LayerSimulator.level_sums", "_learn"}  # where the stacks were looked at
    before = [step.file for step in steps if not set(step.functions) <= ends]
    assert files_of(*found) == before
    seen = {function for stack in found for _, function in stack}
    assert {function for step in steps for function in step.functions} <= seen | ends
