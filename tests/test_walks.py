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
DOORS = (  # where stacks are looked at: a request by its class
    (HostLink, "request", ""),
    (InProcessTransport, "write", "write"),
    (LayerSimulator, "level_sums", "level_sums"),
    (BackgroundPool, "begin", "virtual chips"),
    (training, "_learn", "learn"),
    (Quantiser, "add", "add"),
)
ENDS = {"HostLink.request", "SerialTransport.write", "BackgroundPool.begin", "LayerSimulator.level_sums", "_learn"}
WALKS: dict[str, list[tuple[str, ...]]] = {  # doors, and functions that the stack at each goes through
    WEIGHT: [(ImageTile.__name__, "program_chip")],
    MEASURED: [(RunPlan.__name__, "WholeRun.measure")],
    ESTIMATE: [(Mvm.__name__, "CalibrationSteps._transfer")],
    SIMULATED: [("virtual chips", "run_looks"), ("level_sums", "apply", "VirtualChip.sums")],
    TRIAL: [("virtual chips", "TrialContext.score"), ("level_sums", "_accuracy", "VirtualChip.sums")],
    TRAINED: [("learn", "finetune_network")],
    FRONT: [("virtual chips", "SimulatedEvaluator.evaluate")],
    UPSET: [("level_sums", "FaultContext.faulted")],
}
LONG = (TRIAL, TRAINED, FRONT, UPSET)


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
    for name in WALKS:
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
    stacks = Stacks()
    with pytest.MonkeyPatch.context() as patch:
        for owner, name, door in DOORS:
            called = getattr(owner, name)

            def passed(*given: Any, called: Any = called, door: str = door, **more: Any) -> Any:
                stacks.note(door or type(given[1]).__name__)
                return called(*given, **more)

            patch.setattr(owner, name, passed)
        yield stacks


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


@pytest.mark.parametrize("name", WALKS)
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


@pytest.mark.parametrize("name", WALKS)
def test_nothing_else_stands_on_the_way_that_is_written_down(name: str, request: pytest.FixtureRequest) -> None:
    """From the command to the wire, to the kernel of a virtual chip (in its thread), or to a step of training."""
    stacks: Stacks = request.getfixturevalue("long_stacks" if name in LONG else "stacks")
    steps, found = walks()[name], [stacks.through(*door) for door in WALKS[name]]
    before = [step for step in steps if step.place not in ("firmware_protocols", "hil/transports")]
    if set(before[-1].functions) <= ENDS:
        before.pop()
    assert files_of(*found) == [step.file for step in before]
    seen = {function for stack in found for _, function in stack}
    assert {function for step in steps for function in step.functions} <= seen | ENDS
    assert name in LONG or not [function for function in seen if "<lambda>" in function]


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
