"""What the commands print, for people and for programs."""

from __future__ import annotations

import json
import re
import resource
import signal
import subprocess
import sys
from importlib.machinery import ModuleSpec
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any
from xml.etree import ElementTree as xml

import numpy as np
import pytest
import torch

from cim.chip.file import load_chip
from hil.cli import add_command, app, commandless, run
from hil.cli.settings_options import Only, Told
from hil.deployment.options import NetworkOptions
from hil.driver.open_chip import open_chip
from hil.emulator.address import chip_from_address
from hil.errors import ExitCode
from hil.report.schema import report_schema
from hil.server.serve import serving
from hil.watch import Watch
from mapping.network.file import load_network
from mapping.program.file import load_program

from ..conftest import CHIP, Small
from ..report.test_report import faults
from ..small_net import NAMES, lenet_weights

COMMANDS = [command.name or command.callback.__name__.rstrip("_") for command in app.registered_commands]  # type: ignore[union-attr]


class Cli:
    """Runs commands in this process; keeps what they printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.err = ""

    def __call__(self, *arguments: str | Path, code: int = 0) -> str:
        got = run([str(a) for a in arguments])
        out, self.err = self._capsys.readouterr()
        assert got == code, out + self.err
        return out

    def json(self, *arguments: str | Path, code: int = 0) -> dict[str, Any]:
        """The one JSON object on stdout, and nothing else there."""
        out = self(*arguments, "--json", code=code)
        assert out.count("\n") == 1
        value = json.loads(out)
        assert isinstance(value, dict)
        assert value["schema"].startswith("hil.")
        return value


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capsys)


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=300, check=False)


# --- help -------------------------------------------------------------------------------------


def spent_s(*arguments: str) -> float:
    """The least processor time of three runs of Python."""
    took = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert python(*arguments).returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(took)


def test_help_takes_four_and_a_half_times_the_processor_time_of_the_libraries_that_print_it_at_most() -> None:
    """Half a second on a quiet machine; a busy one takes more for both."""
    libraries = spent_s("-c", "import typer.main, rich.console, rich.progress, rich.table")
    assert spent_s("-m", "hil", "--help") < 4.5 * libraries


def test_help_does_not_import_torch_or_other_heavy_packages() -> None:
    code = (
        "import sys; from hil.cli import run\n"
        "assert run(['--help']) == 0\n"
        "print([m for m in ('torch', 'numpy', 'scipy', 'h5py', 'numba', 'plotly', 'serial') if m in sys.modules])"
    )
    done = python("-c", code)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(cli: Cli, command: str) -> None:
    out = cli(command, "--help")
    assert "Usage: hil" in out
    assert re.search(r"^(Options|Other options):$", out, re.M)


def test_every_command_of_the_design_is_there() -> None:
    wanted = (
        "deploy calibrate compile simulate estimate import emulate doctor show tune improve finetune campaign judge"
    )
    assert set(wanted.split()) == set(COMMANDS)
    below = {
        "board": "ports info selftest mvm cells form pulse trace firmware list release",
        "chip": "list show check new copy fit export calibration",
        "bench": "check",
        "help": "techniques glossary examples",
    }
    groups = {group.name: group.typer_instance for group in app.registered_groups}
    for name, words in below.items():
        group = groups[name]
        assert group is not None
        assert [command.name for command in group.registered_commands] == words.split()


def ageing(
    network: Path, *, hours: float = 1.0, of: Annotated[NetworkOptions, Only("chip", "macros")], watch: Watch
) -> Told:
    """Say what is left of a network.

    Args:
        network: a network file
            of any kind
        hours: time after programming, in hours
    """
    watch.message("waiting")
    left = f"{network} {hours:g} h"
    return Told([left], {"left": left, "chip": of.chip, "macros": of.macros}, ExitCode.OUTSIDE_TOLERANCE)


def test_a_command_of_somebody_else_is_added_by_its_entry_point(capsys: pytest.CaptureFixture[str]) -> None:
    """A function is a command, a ``typer.Typer`` a group; what cannot be loaded is named, and the rest stays."""
    one = commandless()
    for name, value in (
        ("ageing", f"{__name__}:ageing"),
        ("traced", "hil.cli.bench:bench"),
        ("gone", "no_such_package:run"),
        ("lost", "hil.cli.bench:no_such_command"),
    ):
        add_command(one, EntryPoint(name, value, "hil.commands"))
    assert [c.name for c in one.registered_commands] == ["ageing"]
    assert [g.name for g in one.registered_groups] == ["traced"]
    said = capsys.readouterr().err
    typed = ["ageing", "net.pt", "--hours", "2.5", "--macros", "4", "--json"]
    assert one(typed, standalone_mode=False) == ExitCode.OUTSIDE_TOLERANCE
    found = json.loads(capsys.readouterr().out)
    assert (found["left"], found["chip"], found["macros"]) == ("net.pt 2.5 h", "lab-128", 4)
    one(["ageing", "--help"], standalone_mode=False)
    shown = " ".join(capsys.readouterr().out.split())
    for words in ("Say what is left of a network.", "a network file of any kind", "time after programming, in hours"):
        assert words in shown
    assert "Args" not in shown
    assert "--seed" not in shown
    assert "command gone (no_such_package:run): ModuleNotFoundError" in said
    assert "command lost (hil.cli.bench:no_such_command): AttributeError" in said


def test_a_chip_file_is_shown_with_the_digest_for_a_number_of_macros(cli: Cli) -> None:
    digests = [cli.json("chip", "show", "lab-128", "--macros", n)["digest"] for n in (1, 4)]
    assert digests == [load_chip("lab-128", macros=n).digest for n in (1, 4)]
    assert digests[0] != digests[1]


# --- deploy -----------------------------------------------------------------------------------


def test_deploy_prints_its_stages_the_four_accuracies_and_a_verdict(
    cli: Cli, small: Small, finished_run: Path, tmp_path: Path
) -> None:
    out = cli(*small.arguments("--port", CHIP, "--out", str(tmp_path / "run"), "--baseline", str(finished_run)))
    assert "no loss beyond the tolerance" in cli.err
    found = dict(line.split(maxsplit=1) for line in cli.err.splitlines() if not line.startswith(("note", "baseline")))
    assert list(found) == ["compile", "calibrate", "write", "tune", "measure", "compare", "explain"], cli.err
    assert "4,672 cells" in found["compile"]
    assert "as in the record of" in found["calibrate"]
    assert "not reached" in found["write"]
    assert "error of their sums" in found["tune"]
    assert re.search("chip .* images ×", found["measure"])
    assert "as it was calibrated" in found["compare"]
    assert "lost" in found["explain"]
    for word in ("float", "quantised", "simulated", "chip", "nothing was measured on silicon", "✔ AGREE", "estimated"):
        assert word in out
    assert "/report.html" in out
    assert "✔ AGREE" in cli("show", tmp_path / "run")
    everything = cli("show", tmp_path / "run", "--all")
    for word in ("✔ AGREE", "quantised", "EMULATED", "The two questions", "pulses"):
        assert word in everything
    assert cli.json("show", tmp_path / "run" / "report.json")["verdict"] == "agree"


def test_deploy_json_is_one_object_with_the_keys_that_others_rely_on(cli: Cli, small: Small, tmp_path: Path) -> None:
    value = cli.json(*small.arguments("--port", CHIP, "--out", str(tmp_path / "run")))
    assert faults(value, report_schema()) == []
    assert value["backend"] == "emulated"
    assert set(value["accuracy"]) == {"float", "ideal", "simulated", "measured"}
    for name in ("simulated", "measured"):
        assert value["accuracy"][name]["low"] <= value["accuracy"][name]["mean"] <= value["accuracy"][name]["high"]
    assert value["verdict"] == "agree"
    assert [layer["layer"] for layer in value["layers"]] == ["conv", "fc"]
    assert value["cells"]["total"] == 4 * 1168  # four copies on idle cells
    assert value["cells"]["unreached"] >= 0
    assert value["link"]["bytes_sent"] > 0
    assert "mean" in value["difference"]
    assert value == json.loads((tmp_path / "run" / "report.json").read_text("utf-8"))


def test_a_disagreement_and_a_loss_are_exit_1_for_deploy_show_and_junit(
    cli: Cli, small: Small, finished_run: Path, tmp_path: Path
) -> None:
    junit, folder = tmp_path / "hil.xml", tmp_path / "run"
    files = ("--out", str(folder), "--junit", str(junit), "--baseline", str(finished_run))
    noisy = small.arguments("--port", f"{CHIP}&supply_droop=1000", *files)
    assert "✘ DISAGREE AFTER TUNING   simulator and chip" in cli(*noisy, code=1)
    assert "REGRESSED" in cli.err
    assert "✘ DISAGREE AFTER TUNING   simulator and chip" in cli("show", folder, code=1)
    assert "  disagree: " in cli("show", folder, "--all", code=1)
    failures = [f.get("type") for f in xml.parse(junit).getroot().findall("testcase/failure")]
    assert failures == ["disagree", "not-as-calibrated", "regression"]


def test_fail_on_says_which_outcomes_end_in_exit_1(cli: Cli, small: Small, finished_run: Path, tmp_path: Path) -> None:
    noisy = f"{CHIP}&supply_droop=1000"
    worse = small.arguments("--port", noisy, "--out", str(tmp_path / "a"), "--baseline", str(finished_run))
    report = cli.json(*worse, "--fail-on", "none")
    assert report["verdict"] == "disagree"
    assert report["baseline"]["regressed"]
    assert report["baseline"]["detectable"] >= report["tolerance"]
    cli(*small.arguments("--emulated", "--fail-on", "surprise"), code=2)
    assert "one or more of disagree,inconclusive,regression,not-as-calibrated, or none" in cli.err


def test_a_missing_baseline_is_said_before_the_chip_is_touched(cli: Cli, small: Small, tmp_path: Path) -> None:
    chip = chip_from_address(CHIP)
    with serving(chip, f"unix:{tmp_path / 'chip'}") as where:
        arguments = small.arguments("--port", where, "--out", str(tmp_path / "a"), "--baseline", str(tmp_path / "no"))
        cli(*arguments, code=7)
    assert "no report at" in cli.err
    assert chip.status().pulses_total == 0
    assert not (tmp_path / "a").exists()


def test_emulated_takes_the_named_chip_and_macros(cli: Cli, small: Small, tmp_path: Path) -> None:
    arguments = [small.net, "--data", small.data, "--samples=64", "--repeat=1", "--tolerance=20"]
    value = cli.json("deploy", *arguments, "--emulated", "--macros=4", "--out", tmp_path / "run", code=1)
    assert value["chip"]["address"] == "emulated:lab-128?seed=0&macros=4"
    assert value["chip"]["macros"] == 4
    assert value["verdict"] == "inconclusive"
    assert "agreement needs at least 300 images, this run has 64" in value["verdict_text"]


# --- other commands ---------------------------------------------------------------------------


def test_calibrate_writes_a_record_and_says_what_it_found(cli: Cli, tmp_path: Path) -> None:
    out = cli("calibrate", "--emulated", "--macros=4", "--only=2", "-o", tmp_path / "record.h5")
    for word in ("NOT SILICON", "1 measured", "stuck low", "read noise", "column gain", "Ω a cell", "pulses"):
        assert word in out
    assert (tmp_path / "record.h5").stat().st_size > 0


def test_simulate_predicts_from_a_record_alone(cli: Cli, small: Small) -> None:
    arguments = [small.net, "--calibration", small.record_file, "--macros=4", "--data", small.data]
    value = cli.json("simulate", *arguments, "--samples=200", "--chips=4")
    assert value["images"] == 200
    assert len(value["accuracy"]["simulated"]["chips"]) == 4
    ideal = value["accuracy"]["ideal"]
    assert ideal - 0.05 < value["accuracy"]["simulated"]["mean"] <= ideal + 1 / 200  # one image of 200
    assert "4 virtual chips" in cli("simulate", *arguments, "--samples=200", "--chips=4")


def test_number_of_macros_is_that_of_the_record_where_none_is_asked_for(cli: Cli, small: Small) -> None:
    arguments = [small.net, "--calibration", small.record_file, "--data", small.data, "--samples=64", "--chips=2"]
    assert cli.json("simulate", *arguments) == cli.json("simulate", *arguments, "--macros=4")
    cli("simulate", *arguments, "--macros=3", code=ExitCode.MISMATCH)
    assert "the record is of lab-128 with 4 macros" in cli.err


def test_deployment_on_an_emulated_chip_is_compiled_for_the_chip_of_its_address(
    cli: Cli, small: Small, tmp_path: Path
) -> None:
    arguments = [small.net, "--data", small.data, "--samples=64", "--repeat=1", "--no-causes", "--fail-on=none"]
    value = cli.json("deploy", *arguments, "--port", "emulated:levy-c?seed=3&macros=4", "--out", tmp_path / "run")
    assert value["chip"]["name"] == "levy-c"


def test_compile_prints_the_plan_and_writes_a_program(cli: Cli, small: Small, tmp_path: Path) -> None:
    out = cli("compile", small.net, "--macros=4", "-o", tmp_path / "program.h5")
    for word in ("conv", "fc", "2 of 4 macros"):
        assert word in out
    assert load_program(tmp_path / "program.h5").digest == small.program.digest
    value = cli.json("compile", small.net, "--macros=4")
    assert value["program"] is None


def test_compile_lays_out_as_asked(cli: Cli, small: Small, tmp_path: Path) -> None:
    packed = cli.json("compile", small.net, "--macros=4", "--placement=packed")
    assert packed["macros"]["used"] == 1
    assert packed["rounds"] == [{"number": 0, "layers": ["conv", "fc"], "macros": 1, "cells": 4 * 2 * 584}]
    copied = cli.json("compile", small.net, "--macros=4", "--copies-budget=all", "--placement=spread")
    assert copied["layers"][0]["copies"] > 1
    assert copied["busiest_reads"] < cli.json("compile", small.net, "--macros=4")["busiest_reads"]
    rounds = cli(
        "compile", small.net, "--macros=1", "--placement=spread", "--with", "rounds", "-o", tmp_path / "program.h5"
    )
    for word in ("2 rounds: the chip is written 2 times", "round 0: conv, 1 macros", "writing round 1: about"):
        assert word in rounds
    assert load_program(tmp_path / "program.h5").rounds == 2


def test_compile_explains_every_tile(cli: Cli, small: Small) -> None:
    out = cli("compile", small.net, "--macros=4", "--explain")
    assert "fc piece 1/1: macro 1 rows 0-127 outputs 0-3, 8 reads; one of 4 copies, whose sums are added" in out
    once = cli("compile", small.net, "--macros=4", "--explain", "--without", "copies")
    assert "fc piece 1/1: macro 1 rows 0-127 outputs 0-3, 8 reads; alone on its macro" in once
    told = cli.json("compile", small.net, "--macros=4", "--explain")["explanation"]
    assert [t["layer"] for t in told] == ["conv"] * 4 + ["fc"] * 4


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--placement=tight"], 2, "--placement 'tight' is not a choice"),
        (["--copies-budget=many"], 2, "'many' is not a number of macros"),
        (["--copies-budget=0"], 2, "'0' is not a number of macros"),
        (["--copies-budget=5"], 6, "a budget of 5 macros, but lab-128 has 4"),
        (["--copies-budget=1", "--placement=spread"], 6, "the budget is 1"),
    ],
)
def test_compile_refuses_layouts_that_make_no_sense(
    cli: Cli, small: Small, arguments: list[str], code: int, words: str
) -> None:
    cli("compile", small.net, "--macros=4", *arguments, code=code)
    assert words in cli.err


def test_import_makes_a_network_that_compiles(cli: Cli, tmp_path: Path) -> None:
    torch.save(lenet_weights(), tmp_path / "lenet.pth")
    pixels = np.random.default_rng(0).integers(0, 256, (64, 28, 28)).astype(np.uint8)
    np.savez(tmp_path / "train.npz", images=pixels, labels=np.arange(64) % 4, classes=np.array(NAMES))
    arguments = [tmp_path / "lenet.pth", "--arch=lenet5", "--data", tmp_path / "train.npz", "--images=16"]
    out = cli("import", *arguments, "-o", tmp_path / "net.pt")
    assert "W4A8, 16 calibration images" in out
    assert len(load_network(tmp_path / "net.pt").calibration_images) == 16
    assert "macros" in cli("compile", tmp_path / "net.pt")


def test_import_stores_images_that_scales_are_fitted_on_and_others_to_judge_by(cli: Cli, tmp_path: Path) -> None:
    """The first 128, with which a chip is tuned, are of the whole data set, which may stand class by class."""
    torch.save(lenet_weights(), tmp_path / "lenet.pth")
    pixels = np.random.default_rng(0).integers(0, 256, (600, 28, 28)).astype(np.uint8)
    np.savez(tmp_path / "train.npz", images=pixels, labels=np.arange(600) // 150, classes=np.array(NAMES))
    data = ["--data", tmp_path / "train.npz"]
    cli("import", tmp_path / "lenet.pth", "--arch=lenet5", *data, "-o", tmp_path / "net.pt")
    labels = load_network(tmp_path / "net.pt").calibration_labels
    assert labels is not None
    assert len(labels) == 512
    assert np.bincount(labels[:128]).min() >= 30
    assert json.loads(cli("compile", tmp_path / "net.pt", "--json"))["kept"]["held_out"]


def test_chips_copy_begins_a_chip_of_ones_own_and_overwrites_nothing(cli: Cli, tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    assert "a chip file of your own, begun as hermes-2023" in cli("chip", "copy", "hermes-2023", str(mine))
    assert load_chip(mine).name == "mine"
    assert load_chip(mine).macro == load_chip("hermes-2023").macro
    cli("chip", "copy", "lab-128", str(mine), code=2)
    assert "is there already" in cli.err
    assert load_chip(mine).technology == "PCM"
    cli("chip", "copy", "lab-128", "mine.txt", code=2)
    assert "mine.txt does not end in .toml" in cli.err


def test_chips_lists_technology_size_a_measured_number_and_what_is_assumed(cli: Cli) -> None:
    out = " ".join(cli("chip", "list").split())
    assert "hermes-2023 PCM, 64 macros of 256 x 512" in out
    assert "rate_tops 15.8 by this file, 16.1 ± 0.5 published (doi 10.1038/s41928-023-01010-1" in out
    assert "no published number in this file" in out
    rows = {row["name"]: row for row in cli.json("chip", "list")["gallery"]}
    assert rows["agrawal-2022"]["technology"] == "SONOS"
    assert rows["agrawal-2022"]["evidence"]["within_error"] is True
    assert rows["agrawal-2022"]["assumed"]["timing"] == {"assumed": 6, "values": 6}
    assert run(["chip", "show", "agrawal-2022"]) == 0  # values that are tables


def test_chips_lists_and_shows_every_chip(cli: Cli, tmp_path: Path) -> None:
    out = cli("chip", "list")
    for name in ("lab-128", "neurram-256", "a111", "yao-2020"):
        assert name in out
        shown = cli("chip", "show", name)
        assert "assumed: " in shown
        assert "levels_us" in shown
    value = cli.json("chip", "show", "lab-128")
    assert value["macros"] == 64
    assert cli.json("chip", "list")["chips"]
    cli("chip", "shwo", code=2)


def test_info_says_who_the_chip_is(cli: Cli) -> None:
    out = " ".join(cli("board", "info", "--port", CHIP, "--macros=4").split())
    for word in ("lab-128", "NOT SILICON", "4 macros of 128 x 128", "none held", "outputs off", "program_tile"):
        assert word in out
    value = cli.json("board", "info", "--port", CHIP, "--macros=4")
    assert value["kind"] == "emulated"
    assert value["outputs_on"] is False


def test_doctor_checks_packages_ports_and_data(cli: Cli) -> None:
    out = cli("doctor")
    for word in ("python", "torch", "serial ports", "fashion-mnist-bundled", "GB free"):
        assert word in out
    assert cli.json("doctor")["python"]["ok"] is True


def test_doctor_finds_a_package_of_somebody_else_that_has_one_of_our_names(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.json("doctor")["package names"]["ok"] is True
    monkeypatch.setattr(
        "hil.cli.doctor.find_spec",
        lambda name: (
            ModuleSpec(name, None, origin=str(tmp_path / "search.py")) if name == "search" else find_spec(name)
        ),
    )
    found = cli.json("doctor")["package names"]
    assert found["ok"] is False
    assert f"search is {tmp_path / 'search.py'}" in found["text"]


def test_ports_always_answers(cli: Cli) -> None:
    assert cli("board", "ports")
    assert isinstance(cli.json("board", "ports")["ports"], list)


@pytest.mark.parametrize("chip", ["lab-128", "neurram-256", "a111", "yao-2020"])
def test_mvm_reads_a_tile_that_it_wrote(cli: Cli, chip: str) -> None:
    arguments = ["board", "mvm", "--port", f"emulated:{chip}?macros=1&seed=2", "--level=2", "--rows=16"]
    value = cli.json(*arguments)
    levels = np.array(value["sums"]).mean(0) * value["lsb_levels"]
    assert levels.shape == (8,)
    assert value["ideal_levels"] == 2 * 16 * value["code"]
    assert np.median(np.abs(levels / value["ideal_levels"] - 1)) < 0.5
    assert value["saturated"] < value["conversions"] / 4
    assert f"input code {value['code']} on every row" in " ".join(cli(*arguments).split())  # rows of a table


def test_mvm_takes_a_code(cli: Cli) -> None:
    value = cli.json("board", "mvm", "--emulated", "--macros=1", "--code=3", "--repeat=2")
    assert (value["code"], value["ideal_levels"]) == (3, None)
    assert np.array(value["sums"]).shape == (2, 8)


def test_cells_reads_a_macro_and_writes_a_table(cli: Cli, tmp_path: Path) -> None:
    out = cli("board", "cells", "--emulated", "--macros=1", "--out", tmp_path / "cells.csv")
    assert "16384 cells" in out
    assert np.loadtxt(tmp_path / "cells.csv", delimiter=",").shape == (128, 128)
    assert np.array(cli.json("board", "cells", "--emulated", "--macros=1")["readings_us"]).shape == (128, 128)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_emulate_serves_a_chip_until_it_is_stopped(stop: signal.Signals) -> None:
    command = [sys.executable, "-m", "hil", "emulate", "--macros=1", "--chip-seed=5", "--tcp=127.0.0.1:0"]
    before = signal.signal(stop, signal.SIG_DFL)  # a test run under nohup would hand on that SIGHUP is ignored
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        signal.signal(stop, before)
        assert server.stdout is not None
        with open_chip(server.stdout.readline().strip(), macros=1) as chip:
            assert chip.description.kind == "emulated"
            assert chip.read_cells(0).shape == (128, 128)
        server.send_signal(stop)
        assert server.wait(timeout=300) == 130


def test_emulate_wants_one_place(cli: Cli) -> None:
    cli("emulate", code=2)
    cli("emulate", "--pty", "--tcp=127.0.0.1:0", code=2)
