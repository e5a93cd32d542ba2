"""examples/bridge.py: a foreign board behind the chip role, in fewer than 100 lines."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from cim.chip.encoding import encode_tile
from cim.chip.file import chip_text
from firmware_protocols.messages import TileAddress
from hil.driver.open_chip import open_chip
from hil.errors import UsageError
from hil.server.serve import serving

from ...scripts import loaded

EXAMPLE = Path(__file__).parents[3] / "examples" / "bridge.py"
TILE = TileAddress(0, 4, 8, 3, 6)
LEVELS = np.random.default_rng(0).integers(-7, 8, (8, 6)).astype(np.int8)


@pytest.fixture(scope="module")
def bridge() -> ModuleType:
    return loaded(EXAMPLE)


def test_the_bridge_is_short() -> None:
    assert len(EXAMPLE.read_text().splitlines()) < 100


def test_a_foreign_board_is_programmed_read_and_multiplied(bridge: ModuleType) -> None:
    board = bridge.AcmeBoard()
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(serving(bridge.AcmeChip(board), "tcp://127.0.0.1:0"))
        with open_chip(address, chip="lab-128", macros=1) as driver:
            outcome = driver.program_tile(TILE, LEVELS)
            assert outcome.reached.all()
            macro = driver.spec.macro
            wanted = encode_tile(LEVELS, macro, TILE.row0, TILE.output0)
            read = driver.read_cells(0)[np.ix_(wanted.word_lines, wanted.bit_lines)]
            assert np.abs(read - wanted.targets_us).max() <= macro.tolerance_us + 0.001
            codes = np.random.default_rng(1).integers(0, 256, (20, 8)).astype(np.int16)
            sums = driver.mvm(TILE, codes).values
            pairs = read.reshape(8, 6, 2) @ np.array([1.0, -1.0], np.float32)
            assert np.abs(sums * macro.lsb_us(0) - codes @ pairs).max() <= 255 * 0.51 * macro.lsb_us(0)
            assert len(driver.fallbacks) == 2
    assert board.powered is False


def test_the_bridge_runs_as_a_program_and_stops_on_ctrl_c() -> None:
    program = subprocess.Popen(
        [sys.executable, str(EXAMPLE), "127.0.0.1:0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    address = program.stdout.readline().strip()
    assert re.fullmatch(r"tcp://127\.0\.0\.1:\d+", address)
    with open_chip(address, chip="lab-128", macros=1) as driver:
        assert driver.description.serial == "ACME-1"
    program.send_signal(signal.SIGINT)
    _, errors = program.communicate(timeout=300)
    assert errors == "", "no traceback"


@pytest.mark.parametrize(("host", "public"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_a_chip_that_is_served_to_other_machines_is_warned_of(
    bridge: ModuleType, caplog: pytest.LogCaptureFixture, host: str, public: bool
) -> None:
    with serving(bridge.AcmeChip(bridge.AcmeBoard()), f"tcp://{host}:0") as address:
        assert address.startswith(f"tcp://{host}:")
    assert [f"other machines reach {address}," in said for said in caplog.messages] == [True] * public


def test_an_emulated_chip_says_that_other_machines_reach_it() -> None:
    command = [sys.executable, "-m", "hil", "emulate", "--macros", "1", "--tcp", "0.0.0.0:0"]
    program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert program.stdout is not None
    address = program.stdout.readline().strip()
    program.send_signal(signal.SIGINT)
    _, errors = program.communicate(timeout=300)
    assert errors.startswith(f"warning: other machines reach {address}, and whoever connects may program the chip")
    assert f"try     127.0.0.1:{address.rpartition(':')[2]}" in errors


def test_a_path_that_a_chip_names_is_not_opened(bridge: ModuleType, tmp_path: Path) -> None:
    chip = bridge.AcmeChip(bridge.AcmeBoard())
    said, other = chip.describe(), tmp_path / "other.toml"
    other.write_text(chip_text("lab-128")[0], "utf-8")
    chip.describe = lambda: dataclasses.replace(said, name=str(other))
    with serving(chip, "tcp://127.0.0.1:0") as address, pytest.raises(UsageError, match="calls itself") as refused:
        open_chip(address)
    assert "--chip FILE.toml" in str(refused.value)


def test_the_program_in_the_how_to_runs_on_the_bridge(
    bridge: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (EXAMPLE.parents[1] / "docs" / "my-board.md").read_text()
    found = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert found is not None
    with serving(bridge.AcmeChip(bridge.AcmeBoard()), "tcp://127.0.0.1:0") as address:
        program = found[1].replace("tcp://127.0.0.1:5026", address).replace("first.log", str(tmp_path / "first.log"))
        exec(program, {})
    words = capsys.readouterr().out
    assert words.startswith("True")
    assert "pulses chosen by the host" in words
    assert "bit planes added by the host" in words
    assert (tmp_path / "first.log").exists()
