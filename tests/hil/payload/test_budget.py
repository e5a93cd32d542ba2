"""Budgets of a mission: every limit can fail, and every wrong file says where."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from hil.cli import run
from hil.deployment.options import NetworkOptions
from hil.errors import FileError
from hil.payload.budget import BudgetStatus, KnownAccuracy, check_budget, image_energy
from hil.payload.built_memory import BuiltMemory, built_memory, deepest
from hil.payload.facts_file import NewerFactsFile
from hil.payload.host_load import host_load, operations_of, packed_bytes, program_image_bytes
from hil.payload.requirements import load_mission
from hil.payload.subject import Subject, open_subject
from hil.report.files import report_text
from hil.watch import Watch
from mapping.program.conductance import ConductanceProgram
from mapping.program.file import save_program
from mapping.workload import program_workload

from ..fitting import every_answer_fits as every_answer_fits
from ..invented_run import synthetic_run

EXAMPLE = Path(__file__).parents[3] / "examples" / "orbit" / "mission.toml"
BUILT = BuiltMemory("built for a test", 1000, 2000)


def mission_file(folder: Path, before: str = "", after: str = "") -> Path:
    text = EXAMPLE.read_text("utf-8")
    assert not before or before in text
    path = folder / "mission.toml"
    path.write_text(text.replace(before, after) if before else text, "utf-8")
    return path


def test_a_network_that_fits_keeps_every_limit_and_leaves_an_unknown_accuracy_open(program: ConductanceProgram) -> None:
    budget = check_budget(program, load_mission(EXAMPLE), memory=BUILT)
    assert not budget.broken
    assert [line.name for line in budget.open] == ["accuracy", "accuracy after 3 years"]
    known = KnownAccuracy(0.9, "simulated")
    full = check_budget(program, load_mission(EXAMPLE), accuracy=known, accuracy_at_end=known, memory=BUILT)
    assert full.open == ()
    asked = ("power, average", "power, peak", "energy an orbit", "images a pass", "host RAM", "host flash")
    asked += ("uplink of a program", "passes for a program", "accuracy", "accuracy after 3 years")
    assert set(asked) <= {line.name for line in full.lines}


@pytest.mark.parametrize(
    ("field", "limit", "name"),
    [
        ("power_average_w = 0.5", "power_average_w = 0.004", "power, average"),
        ("power_average_w = 0.5\npower_peak_w = 1.5", "power_peak_w = 0.01", "power, peak"),
        ("energy_per_orbit_j = 2000.0", "energy_per_orbit_j = 20.0", "energy an orbit"),
        ("energy_per_image_mj = 0.2", "energy_per_image_mj = 0.0001", "energy an image"),
        ("images_per_pass = 600", "images_per_pass = 100000000", "images a pass"),
        ("host_ram_bytes = 131072", "host_ram_bytes = 8000", "host RAM"),
        ("host_flash_bytes = 524288", "host_flash_bytes = 32768", "host flash"),
        ("uplink_bytes = 131072", "uplink_bytes = 100", "uplink of a program"),
        ("uplink_bit_per_s = 64000.0", "uplink_bit_per_s = 1.0", "passes for a program"),
        ("accuracy_floor = 0.85", "accuracy_floor = 0.95", "accuracy"),
    ],
)
def test_each_limit_can_be_broken(
    field: str, limit: str, name: str, program: ConductanceProgram, tmp_path: Path
) -> None:
    plan = load_mission(mission_file(tmp_path, field, limit))
    broken = check_budget(program, plan, accuracy=KnownAccuracy(0.9, "simulated"), memory=BUILT).broken
    assert [line.name for line in broken] == [name]
    assert (broken[0].margin or 0) < 0
    assert broken[0].status is BudgetStatus.BROKEN


def test_energy_shares_add_up_and_digital_operations_on_the_host_cost_more(
    program: ConductanceProgram, tmp_path: Path
) -> None:
    chip_logic = image_energy(program, load_mission(EXAMPLE))
    on_host = image_energy(program, load_mission(mission_file(tmp_path, "{ value = 0, s", "{ value = 1, s")))
    assert chip_logic.energy_j == pytest.approx(sum(share.energy_j for share in chip_logic.shares))
    assert on_host.load.operations > chip_logic.load.operations
    assert chip_logic.load.operations == len(program.classes)  # the chip runs the plan, the host the argmax
    assert chip_logic.load.link_bits == 8 * math.prod(program.input.shape) + 32 * len(program.classes)
    assert on_host.energy_j > chip_logic.energy_j


def test_operations_and_bytes_are_those_counted_by_hand(program: ConductanceProgram) -> None:
    layers = {layer.name: layer for layer in program_workload(program).layers}
    conv, fc = program.matrices[0].name, program.matrices[1].name
    assert operations_of(layers[conv]) == 8 * 4 * 4 * (3 + 1 + 4)  # one tile a position and output
    assert operations_of(layers[fc]) == 4 * (3 + 1 + 4)
    levels = (9 * 8 * 4 + 128 * 4 * 4) // 8
    rules = sum(5 * len(m.requantise.multiplier) + 4 * len(m.bias) for m in program.matrices)
    assert program_image_bytes(program) == program.input.table.size * 2 + levels + rules
    load = host_load(program, load_mission(EXAMPLE).host)
    assert load.host_s > 0
    assert load.packed_bytes == packed_bytes(program)


def test_the_deepest_chain_of_calls_is_added_up_and_what_cannot_be_built_says_why(
    program: ConductanceProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = {"main": 16, "a.c:f": 40, "g": 8}
    nodes = [f'node: {{ title: "{name}" label: "x\\n{size} bytes (static)" }}' for name, size in frames.items()]
    calls = [("main", "a.c:f"), ("main", "g"), ("a.c:f", "g"), ("g", "memcpy"), ("a.c:f", "__indirect_call")]
    edges = [f'edge: {{ sourcename: "{a}" targetname: "{b}" label: "a.c:1" }}' for a, b in calls]
    assert deepest("\n".join(nodes + edges)) == 64
    monkeypatch.setenv("PATH", "")
    unknown = built_memory(program)
    assert (unknown.ram, unknown.flash) == (None, None)
    assert "none of arm-none-eabi-gcc" in unknown.source
    names = [line.name for line in check_budget(program, load_mission(EXAMPLE), memory=unknown).open]
    assert names[:2] == ["host RAM", "host flash"]


def test_a_newer_major_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NewerFactsFile, match=r"up to 1\.0"):
        load_mission(mission_file(tmp_path, 'version = "1.0"', 'version = "2.0"'))


def test_the_command_prints_json_and_exits_1_when_a_limit_is_broken(
    program: ConductanceProgram, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_program(program, tmp_path / "program.h5")
    kept, broken = mission_file(tmp_path), tmp_path / "tight.toml"
    broken.write_text(
        kept.read_text("utf-8").replace("power_average_w = 0.5\npower_peak_w = 1.5", "power_peak_w = 0.01"), "utf-8"
    )
    asked = ["mission", "check", str(tmp_path / "program.h5")]
    assert run([*asked, str(kept)]) == 0
    capsys.readouterr()
    assert run([*asked, str(broken), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["broken"] == 1
    assert all(line["source"] for line in found["lines"])
    assert run(["mission", "check", str(tmp_path), str(kept)]) == 7  # a folder that is no run


def test_a_run_folder_gives_the_accuracy_that_was_measured_and_must_be_of_the_network(
    program: ConductanceProgram, tmp_path: Path
) -> None:
    report, _ = synthetic_run(images=300)
    same = replace(report, digests={**report.digests, "network": program.network_digest})
    save_program(program, tmp_path / "net.h5")

    def opened(network: Path | None) -> Subject:
        return open_subject(tmp_path, NetworkOptions(), Watch(), network=network)

    (tmp_path / "report.json").write_text(report_text(same), "utf-8")
    with pytest.raises(FileError, match=r"holds no program\.h5"):
        opened(None)
    accuracy = opened(tmp_path / "net.h5").accuracy
    assert accuracy is not None
    assert accuracy.low == pytest.approx(report.decisive.measured.low)
    assert accuracy.source.startswith("emulated (NOT SILICON)")
    (tmp_path / "report.json").write_text(report_text(report), "utf-8")
    with pytest.raises(FileError, match="another network"):
        opened(tmp_path / "net.h5")
