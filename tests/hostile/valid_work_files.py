"""Small valid files of missions, imports and unfinished work: what is begun, kept beside a result, or goes to orbit."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import torch

from cim.chip.file import load_chip
from cim.fit.measured import Idle
from firmware_protocols.messages import Done, Status, StatusReply
from hil.calibration.store import read_step, write_step
from hil.datasets.image_set import Dataset
from hil.deployment.options import NetworkOptions
from hil.deployment.run_settings import RunSettings
from hil.driver.wire_trace import trace_lines
from hil.improvement.context import Candidate
from hil.improvement.improve import TrialResult, stored_result
from hil.payload.harden import harden_campaign
from hil.payload.orbit import load_orbit
from hil.payload.radiation.campaign import kept_years, read_injections, run_study, save_injections
from hil.payload.radiation.outcomes import InjectionResult
from hil.payload.radiation.timeline import right_answers
from hil.payload.requirements import load_mission
from hil.payload.settings import OrbitSettings
from hil.report.work_folder import WorkFolder, load_json
from hil.transports.journal import Journal
from hil.transports.wire_log import WireLog, read_wire_log
from hil.watch import Watch
from mapping.compile import compile_network
from mapping.network.file_check import load_plain, read_bytes
from mapping.network.graph import Preprocess
from mapping.network.importers import import_graph, state_of
from mapping.program.conductance import ConductanceProgram
from search.choice.candidate_costs import CandidateCost
from search.choice.front import Member, front_of, read_front, write_front
from search.space.file import parse_space

from ..hil.small_net import NAMES, images, small_network
from ..mapping.network.lite_files import int8_file
from ..search.small_spaces import SMALL

EXAMPLES = Path(__file__).parents[2] / "examples" / "orbit"
CLASSES = ("a", "b", "c")


def _copied(source: Path, folder: Path) -> Path:
    (folder / source.name).write_bytes(source.read_bytes())
    return folder / source.name


def mission(folder: Path) -> Path:
    return _copied(EXAMPLES / "mission.toml", folder)


def orbit(folder: Path) -> Path:
    text = resources.files("hil.payload").joinpath("orbits", "leo-sso.toml").read_text("utf-8")
    (folder / "orbit.toml").write_text(text, "utf-8")
    return folder / "orbit.toml"


@cache
def _program() -> ConductanceProgram:
    return compile_network(small_network(), load_chip("lab-128", macros=2))


def injections(folder: Path) -> Path:
    results = [
        InjectionResult(n, "cell-extreme", "conv", 0, n, 1, False, False, 3, n % 2, 0, False, True, False)
        for n in range(20)
    ]
    save_injections(results, folder / "injections.json")
    return folder / "injections.json"


def years(folder: Path) -> Path:
    kept = kept_years(OrbitSettings(), folder)
    kept.keep_json("00000.json", {"0.0 nothing": 91, "1.0 ecc + scrubbing": 88})
    assert kept.root is not None
    return kept.root / "00000.json"


def _years(path: Path) -> object:
    kept = kept_years(OrbitSettings(), path.parent.parent.parent)
    return kept.load(path.name, lambda file: right_answers(file, 100))


@cache
def _campaign() -> dict[str, bytes]:
    """Files of the folder of a finished campaign."""
    with tempfile.TemporaryDirectory() as place:
        pixels, labels = images(200, seed=3)
        data = Dataset("small", pixels, labels, NAMES, "made here", "0" * 64)
        root = Path(place) / "campaign"
        options = OrbitSettings(injections=26, years=(0.0, 1.0), chips=2, year_images=100)
        run_study(_program(), data, None, load_orbit("leo-sso"), root, options, Watch())
        return {p.name: p.read_bytes() for p in root.iterdir() if p.suffix == ".json"}


def campaign(folder: Path) -> Path:
    for name, data in _campaign().items():
        (folder / name).write_bytes(data)
    return folder / "campaign.json"


def _harden(path: Path) -> object:
    plan = load_mission(EXAMPLES / "mission.toml")
    return harden_campaign(path.parent, _program(), plan, OrbitSettings(floor=0.5))


def run_settings(folder: Path) -> Path:
    WorkFolder(folder / "run", _run().fingerprint(), kind="hil.deployment", about="run.json")
    return folder / "run" / "run.json"


def _run() -> RunSettings:
    return RunSettings.of("emulated:lab-128", None, NetworkOptions(chip="lab-128"), None)


def _run_settings(path: Path) -> object:
    return WorkFolder(path.parent, _run().fingerprint(), kind="hil.deployment", about="run.json")


def journal(folder: Path) -> Path:
    kept = Journal(folder / "journal")
    kept.opening()
    for number in range(1, 20):
        kept.recall(Status())
        kept.asked(Status(), number)
        kept.answered(number, StatusReply(25.0, False, 0, 0), number)
    kept.close()
    return folder / "journal"


def _journal(path: Path) -> None:
    read = Journal(path)
    try:
        read.first()
    finally:
        read.close()


def step(folder: Path) -> Path:
    work = WorkFolder(folder / "chip.h5.partial", {"seed": 1})
    work.keep("idle.h5", {m: Idle(8, np.zeros(64), np.ones(64)) for m in range(3)}, write_step)
    return folder / "chip.h5.partial" / "idle.h5"


def _step(path: Path) -> object:
    return WorkFolder(path.parent, {"seed": 1}).load("idle.h5", lambda file: read_step(file, Idle))


def improvement(folder: Path) -> Path:
    result = TrialResult("compiled", "as compiled", True, Candidate().to_json(), (0.9, 0.91), macros=4, minutes=0.5)
    WorkFolder(folder / "trials", {"seed": 0}).keep_json("00-compiled.json", dataclasses.asdict(result))
    return folder / "trials" / "00-compiled.json"


def _ladder(path: Path) -> object:
    work = WorkFolder(path.parent, {"seed": 0})
    return work.load(path.name, lambda file: stored_result(load_json(file)))


def search_front(folder: Path) -> Path:
    space = parse_space(SMALL, "small.toml")
    members = [
        Member(space.decode(space.every()[n]), CandidateCost(1e6, 1e9 / (n + 1), 5, 10), 90.0 - n, 89.0 - n)
        for n in range(3)
    ]
    write_front(folder / "front.json", front_of(members, target="chip", method="test", seed=1, simulations=3))
    return folder / "front.json"


def wire_log(folder: Path) -> Path:
    log = WireLog(folder / "wire.log", "emulated:lab-128")
    for number in range(20):
        log.sent(Status(), number)
        log.received(StatusReply(25.0, False, 0, 0) if number % 2 else Done(), number, number)
    log.close()
    return folder / "wire.log"


def lite(folder: Path) -> Path:
    (folder / "net.tflite").write_bytes(int8_file(np.random.default_rng(1)))
    return folder / "net.tflite"


def _lite(path: Path) -> object:
    return import_graph(path, classes=CLASSES)


def exported(folder: Path) -> Path:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    torch.export.save(torch.export.export(module, (torch.zeros(1, 1, 8, 8),)), folder / "net.pt2")
    return folder / "net.pt2"


def _exported(path: Path) -> object:
    """As with --trust-model: a file that its owner made and that was damaged on the way."""
    return import_graph(path, classes=CLASSES, preprocess=Preprocess((0.0,), (1.0,)), trust=True)


def weights(folder: Path) -> Path:
    torch.manual_seed(0)
    torch.save({"weight": torch.randn(4, 64), "bias": torch.randn(4)}, folder / "weights.pt")
    return folder / "weights.pt"


WORK: dict[str, tuple[Callable[[Path], Path], Callable[[Path], object]]] = {
    "mission": (mission, load_mission),
    "orbit": (orbit, load_orbit),
    "injections": (injections, read_injections),
    "campaign": (campaign, _harden),
    "years": (years, _years),
    "run settings": (run_settings, _run_settings),
    "journal": (journal, _journal),
    "calibration step": (step, _step),
    "improvement": (improvement, _ladder),
    "front": (search_front, read_front),
    "wire log": (wire_log, read_wire_log),
    "trace": (wire_log, lambda path: list(trace_lines(read_wire_log(path)))),
    "tflite": (lite, _lite),
    "pt2": (exported, _exported),
    "state dict": (weights, lambda path: state_of(load_plain(read_bytes(path), path), path)),
}
