"""Each way to fail has its exit code and says what to do, on stderr."""

from __future__ import annotations

import contextlib
import functools
import os
import resource
import signal
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from firmware_protocols.handlers import Refusal
from firmware_protocols.messages import CellReadings, ErrorCode
from hil.cli import run
from hil.driver.open_chip import connect
from hil.emulator.address import chip_from_address
from hil.errors import ExitCode
from hil.server.serve import serving
from hil.transports import open_transport
from mapping.network.architectures import build
from mapping.network.file import NetworkFile, save_network

from ...scripts import loaded
from ..conftest import CHIP, Small
from ..fitting import every_answer_fits as every_answer_fits
from ..small_net import NAMES, lenet_weights, small_network
from ..virtual_line import VirtualLine

Fails = Callable[..., str]

corpus = loaded(Path(__file__).parents[2] / "mapping" / "hostile" / "corpus.py")


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Fails:
    """Run a command that must fail with a code; gives its stderr."""

    def check(code: ExitCode, *arguments: str | Path) -> str:
        got = run([str(a) for a in arguments])
        out, err = capsys.readouterr()
        assert got == code, err
        assert out == "", "a failed command prints nothing that a program might read"
        assert "Traceback" not in err
        return err

    return check


@pytest.fixture
def silent_port() -> Iterator[str]:
    """A pseudo-terminal with nobody behind it."""
    master, slave = os.openpty()
    tty.setraw(slave)
    yield os.ttyname(slave)
    os.close(master)
    os.close(slave)


# --- usage ------------------------------------------------------------------------------------


def test_a_chip_must_be_named_once(fails: Fails) -> None:
    assert "either --port ADDRESS or --emulated" in fails(ExitCode.USAGE, "deploy")
    assert "exclude each other" in fails(ExitCode.USAGE, "deploy", "--emulated", "--port", "/dev/ttyUSB0")


def test_unknown_commands_and_options_are_usage_errors(fails: Fails) -> None:
    assert "No such command" in fails(ExitCode.USAGE, "depoy")
    assert "No such option" in fails(ExitCode.USAGE, "deploy", "--emulated", "--sampels", "5")
    assert "valid integer" in fails(ExitCode.USAGE, "deploy", "--emulated", "--samples", "many")


@pytest.mark.parametrize("age", ["soon", "-1h", "1y", "nan", "inf", ""])
def test_a_duration_that_is_none_is_a_usage_error(fails: Fails, age: str) -> None:
    assert "is not a duration" in fails(ExitCode.USAGE, "deploy", "--emulated", f"--age={age}")


def test_bit_widths_and_counts_beyond_their_range_are_usage_errors(fails: Fails, small: Small, tmp_path: Path) -> None:
    for option in ("--weight-bits=1", "--weight-bits=9", "--activation-bits=1", "--activation-bits=9", "--macros=0"):
        fails(ExitCode.USAGE, "compile", small.net, option)
    state, data = lenet_state(small)
    for option in ("--weight-bits=9", "--images=0", "--mean=0.5", "--mean=a", "--arch=lenet7"):
        command = ["import", state, "--arch=lenet5", "--data", data, "-o", tmp_path / "n.pt"]
        fails(ExitCode.USAGE, *command, option)


@pytest.mark.parametrize("query", ["sede=7", "seed=x", "macros=0", "supply_droop=-1", "ideal=2"])
def test_a_wrong_key_of_an_emulated_chip_is_a_usage_error(fails: Fails, query: str) -> None:
    fails(ExitCode.USAGE, "board", "info", "--port", f"emulated:lab-128?{query}")


def test_images_of_another_shape_are_a_usage_error(fails: Fails, small: Small, tmp_path: Path) -> None:
    np.savez(tmp_path / "wide.npz", images=np.zeros((9, 5, 5, 3), np.uint8), labels=np.zeros(9, np.int64))
    err = fails(ExitCode.USAGE, "deploy", small.net, "--emulated", "--macros=4", "--data", tmp_path / "wide.npz")
    assert "(5, 5, 3)" in err
    assert "(8, 8, 1)" in err


def test_macros_that_a_chip_lacks_are_usage_errors(fails: Fails, tmp_path: Path) -> None:
    out = tmp_path / "record.h5"
    for only in ("7", "0-4", "x", "3-1", "-1"):
        err = fails(ExitCode.USAGE, "calibrate", "--emulated", "--macros=4", f"--only={only}", "-o", out)
        assert "0 to 3" in err
    assert "macro 9" in fails(ExitCode.USAGE, "board", "cells", "--emulated", "--macros=4", "--macro=9")
    assert "macro 9" in fails(ExitCode.USAGE, "board", "mvm", "--emulated", "--macros=4", "--macro=9")


def test_measurements_that_a_macro_cannot_make_are_usage_errors(fails: Fails) -> None:
    chip = ("--emulated", "--macros=1")
    fails(ExitCode.USAGE, "board", "mvm", *chip, "--rows=129")
    fails(ExitCode.USAGE, "board", "mvm", *chip, "--level=8")
    fails(ExitCode.USAGE, "board", "mvm", *chip, "--code=256")
    fails(ExitCode.USAGE, "board", "mvm", *chip, "--repeat=1")
    fails(ExitCode.USAGE, "board", "cells", *chip, "--reads=0")


# --- port, link -------------------------------------------------------------------------------


def test_a_wrong_port_is_3(fails: Fails) -> None:
    err = fails(ExitCode.PORT, "board", "info", "--port", "/dev/ttyUSB77")
    assert "there is no port /dev/ttyUSB77" in err
    assert "hil board ports" in err
    assert "is not an address of a chip" in fails(ExitCode.PORT, "board", "info", "--port", "telnet:x")
    assert "not a serial port" in fails(ExitCode.PORT, "board", "info", "--port", __file__)


def test_a_silent_device_is_4_within_12_seconds(
    fails: Fails, silent_port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = VirtualLine(open_transport(silent_port)).skip()
    start_s = line.clock()
    monkeypatch.setattr("hil.driver.open_chip.open_transport", lambda *_, **__: line)
    monkeypatch.setattr("hil.driver.open_chip.connect", functools.partial(connect, clock=line.clock))
    err = fails(ExitCode.LINK, "board", "info", "--port", silent_port)
    assert 0.0 < line.clock() - start_s < 12.0
    assert silent_port in err


def test_a_chip_that_no_calibration_can_describe_is_5(fails: Fails, tmp_path: Path) -> None:
    port = "emulated:yao-2020?macros=1&stuck_low_share=1"
    err = fails(ExitCode.DEVICE, "calibrate", "--port", port, "-o", tmp_path / "record.h5")
    assert "cells" in err
    assert not (tmp_path / "record.h5").exists()


# --- files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["reduce hook", "overlapping zip bomb", "path traversal", "bit flipped in a weight"])
def test_a_hostile_network_is_7_and_runs_nothing(fails: Fails, tmp_path: Path, name: str) -> None:
    marker = tmp_path / "marker"
    path = corpus.CORPUS[name](tmp_path, marker)
    for command in (["deploy", path, "--emulated"], ["compile", path]):
        fails(ExitCode.BAD_FILE, *command)
    assert not marker.exists()


def test_missing_files_are_7(fails: Fails, small: Small, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    fails(ExitCode.BAD_FILE, "deploy", f"{missing}.pt", "--emulated")
    fails(ExitCode.BAD_FILE, "deploy", f"{missing}.h5", "--emulated")
    fails(ExitCode.BAD_FILE, "deploy", small.net, "--emulated", "--data", missing)
    fails(ExitCode.BAD_FILE, *small.arguments("--emulated", "--calibration", f"{missing}.h5"))
    fails(ExitCode.BAD_FILE, "import", f"{missing}.pt", "--arch=lenet5", "-o", tmp_path / "x.pt")
    assert "no report at" in fails(ExitCode.BAD_FILE, "show", missing)


def test_an_unknown_chip_is_7_with_the_known_ones(fails: Fails, small: Small) -> None:
    for command in (["chip", "show", "lab-127"], ["compile", small.net, "--chip", "lab-127"]):
        err = fails(ExitCode.BAD_FILE, *command)
        assert "lab-127" in err
        assert "lab-128" in err


def test_a_broken_chip_file_is_7_with_its_line(fails: Fails, tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text('format = "hil.chip"\nversion = "1.0"\n\n[chip]\nname = 3\n')
    assert "own.toml" in fails(ExitCode.BAD_FILE, "chip", "show", path)


def test_images_that_calibrated_the_network_are_7(fails: Fails, small: Small, tmp_path: Path) -> None:
    own = small_network()
    np.savez(tmp_path / "leaky.npz", images=own.calibration_images, labels=own.calibration_labels)
    err = fails(ExitCode.BAD_FILE, *small.arguments("--port", CHIP, "--data", str(tmp_path / "leaky.npz")))
    assert "64 of the images to be scored calibrated the network" in err


# --- mapping, versions ------------------------------------------------------------------------


def test_too_large_a_network_is_6_with_the_numbers_and_what_would_fit(fails: Fails, tmp_path: Path) -> None:
    graph = build("vgg8", classes=tuple("0123456789"), input_shape=(3, 32, 32), rng=np.random.default_rng(0))
    save_network(NetworkFile(graph, 4, 8, np.zeros((2, 32, 32, 3), np.uint8)), tmp_path / "vgg8.pt")
    err = fails(ExitCode.CANNOT_MAP, "compile", tmp_path / "vgg8.pt", "--chip", "yao-2020")
    assert "largest" in err
    assert "try" in err
    assert any(character.isdigit() for character in err)


def test_newer_versions_are_8(fails: Fails, small: Small, tmp_path: Path) -> None:
    content = torch.load(small.net, weights_only=True)
    torch.save({**content, "version": "2.0"}, tmp_path / "net.pt")
    assert "2.0" in fails(ExitCode.MISMATCH, "deploy", tmp_path / "net.pt", "--emulated")
    for source, arguments in (
        (small.program_file, ["deploy", tmp_path / "newer.h5", "--emulated"]),
        (small.record_file, [*small.arguments("--port", CHIP), "--calibration", tmp_path / "newer.h5"]),
    ):
        (tmp_path / "newer.h5").write_bytes(source.read_bytes())
        with h5py.File(tmp_path / "newer.h5", "r+") as file:
            file.attrs["version"] = "2.0"
        assert "2.0" in fails(ExitCode.MISMATCH, *arguments)
    text = (Path(__file__).parents[3] / "cim" / "chips" / "lab-128.toml").read_text("utf-8")
    (tmp_path / "chip.toml").write_text(text.replace('version = "1.4"', 'version = "2.0"'), "utf-8")
    assert "2.0" in fails(ExitCode.MISMATCH, "chip", "show", tmp_path / "chip.toml")


def test_another_macro_count_than_the_chip_says_is_8_with_both(fails: Fails, small: Small) -> None:
    err = fails(ExitCode.MISMATCH, "board", "info", "--port", "emulated:lab-128?macros=8", "--macros", "4")
    assert "the chip says 8, the file says 4" in err
    err = fails(ExitCode.MISMATCH, *small.arguments("--port", "emulated:lab-128?macros=8"))
    assert "the chip says 8, the file says 4" in err


def test_an_edited_chip_file_is_8_with_both_digests(fails: Fails, tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "cim" / "chips" / "lab-128.toml").read_text("utf-8")
    edited = text.replace("tolerance_us = { value = 1.0", "tolerance_us = { value = 2.0")
    assert edited != text
    (tmp_path / "chip.toml").write_text(edited, "utf-8")
    err = fails(ExitCode.MISMATCH, "board", "info", "--port", "emulated:lab-128", "--chip", tmp_path / "chip.toml")
    assert "description digest: the chip says" in err


def test_a_record_of_another_chip_is_8(fails: Fails, small: Small, tmp_path: Path) -> None:
    err = fails(
        ExitCode.MISMATCH, *small.arguments("--port", "emulated:lab-128?seed=9&macros=4", "--out", str(tmp_path / "r"))
    )
    assert "another serial number" in err
    assert not (tmp_path / "r").exists()


# --- writing ----------------------------------------------------------------------------------


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Files may not grow beyond ``size`` bytes: EFBIG, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


@pytest.mark.parametrize("room", [20_000, 200_000, 1_000_000])
def test_a_full_disk_during_a_deployment_is_11_and_leaves_nothing_under_its_name(
    fails: Fails, small: Small, tmp_path: Path, room: int
) -> None:
    """The wire log, data.h5 and the page grow past these sizes in this order."""
    with largest_file(room):
        err = fails(ExitCode.CANNOT_WRITE, *small.arguments("--port", CHIP, "--out", str(tmp_path / "run")))
    assert "cannot write" in err
    left = list(tmp_path.iterdir())
    assert left == [] or ([p.name for p in left] == ["run.unfinished"] and "the same command resumes" in err)
    assert all(not p.name.endswith(".part") for folder in left for p in folder.iterdir())


def test_no_room_at_all_is_11_for_every_command_that_writes(
    fails: Fails, small: Small, finished_run: Path, tmp_path: Path
) -> None:
    for arguments in writing_commands(small, tmp_path):
        with largest_file(10):
            err = fails(ExitCode.CANNOT_WRITE, *arguments)
        assert "cannot write" in err
        assert list(tmp_path.iterdir()) == [], arguments


def test_a_folder_that_does_not_exist_is_11_for_every_command_that_writes(
    fails: Fails, small: Small, tmp_path: Path
) -> None:
    for arguments in writing_commands(small, tmp_path / "no" / "such"):
        err = fails(ExitCode.CANNOT_WRITE, *arguments)
        assert "cannot write" in err


def writing_commands(small: Small, folder: Path) -> list[list[str | Path]]:
    state, data = lenet_state(small)
    return [
        ["compile", small.net, "--macros=4", "-o", folder / "program.h5"],
        ["board", "cells", "--emulated", "--macros=1", "--out", folder / "cells.csv"],
        ["calibrate", "--emulated", "--macros=1", "--only=0", "-o", folder / "record.h5"],
        ["import", state, "--arch=lenet5", "--data", data, "--images=8", "-o", folder / "n.pt"],
    ]


def lenet_state(small: Small) -> tuple[Path, Path]:
    """Weights of others, and images to calibrate them with."""
    state, data = small.net.with_name("lenet.pth"), small.net.with_name("train.npz")
    if not state.exists():
        torch.save(lenet_weights(), state)
        pixels = np.random.default_rng(0).integers(0, 256, (64, 28, 28)).astype(np.uint8)
        np.savez(data, images=pixels, labels=np.arange(64) % 4, classes=np.array(NAMES))
    return state, data


# --- the rest ---------------------------------------------------------------------------------


def test_a_bug_is_70_and_asks_for_a_report(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ZeroDivisionError("twelve")

    monkeypatch.setattr("hil.transports.ports.list_ports", broken)
    assert run(["board", "ports"]) == ExitCode.BUG
    err = capsys.readouterr().err
    assert "this is a bug of hil: ZeroDivisionError: twelve" in err
    assert "Traceback" in err


def test_ctrl_c_is_130(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hil.transports.ports.list_ports", interrupted)
    assert run(["board", "ports"]) == ExitCode.CTRL_C
    assert "interrupted" in capsys.readouterr().err


def test_a_board_that_fails_in_a_run_is_5_and_leaves_no_folder_under_its_name(
    fails: Fails, small: Small, tmp_path: Path
) -> None:
    chip = chip_from_address(CHIP)

    def gone(request: object) -> CellReadings:
        raise Refusal(ErrorCode.FAULT, "read amplifier over temperature", 0, 0)

    chip.read_cells = gone  # type: ignore[method-assign]
    with serving(chip, f"unix:{tmp_path / 'chip'}") as where:
        err = fails(ExitCode.DEVICE, *small.arguments("--port", where, "--out", str(tmp_path / "run")))
        assert not chip.status().outputs_on
        assert sorted(p.name for p in tmp_path.iterdir()) == ["chip", "run.unfinished"]
    assert (tmp_path / "run.unfinished" / "wire.log").exists()
    assert "the same command resumes" in err
    assert "read amplifier over temperature" in err
