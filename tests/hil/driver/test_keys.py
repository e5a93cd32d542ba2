"""Chips that want a key, by their driver and by command."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cim.chip.file import load_chip
from firmware_protocols.codec import decode, encode
from firmware_protocols.extensions.authority import MOST_STEP, level_key
from firmware_protocols.extensions.messages import Challenged, Level
from firmware_protocols.messages import CellBlock, Polarity, Pulse
from hil.cli import run
from hil.driver.keys import KEY, KEY_FILE, find_key, parse_key, read_key
from hil.driver.open_chip import connect, open_chip
from hil.emulator.chip import EmulatedChip
from hil.errors import ExitCode, FileError, HilError, LinkError, NotAuthorised, UsageError

from ..faulty_board import Board, WireFaults
from ..forging_line import ForgingLine

SECRET = bytes(range(32))
SPEC = load_chip("lab-128", macros=1)
PULSE = Pulse(CellBlock(0, 0, 1, 0, 1), Polarity.SET, 100, 0, np.array([[900]], np.uint16))


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "chip.key"
    path.touch(0o600)
    path.write_text(SECRET.hex() + "\n")
    return path


@pytest.fixture
def address(key_file: Path) -> str:
    return f"emulated:lab-128?seed=2&macros=1&key={key_file}"


def targets() -> np.ndarray:
    cells = np.full((128, 128), np.nan, np.float32)
    cells[:4, :16] = SPEC.macro.levels_us[3]
    return cells


def test_without_a_key_a_chip_is_only_looked_at(address: str) -> None:
    with open_chip(address) as chip:
        assert chip.status().programmed_cells == 0
        with pytest.raises(NotAuthorised, match="level RUN is needed") as refused:
            chip.read_cells(0, lines=range(1))
        assert "--key-file" in refused.value.hint
        with pytest.raises(NotAuthorised, match="level PROGRAM is needed"):
            chip.program_cells(0, targets())


def test_the_chips_key_programs_and_goes_higher_only_where_that_is_asked(address: str, key_file: Path) -> None:
    with open_chip(address, key=read_key(key_file)) as chip:
        chip.offer_writes([(0, targets())])
        assert chip.program_cells(0, targets()).reached[:4, :16].mean() > 0.9
        chip.hold_program(bytes(32))
        session = chip._session
        assert session._authority.level is Level.PROGRAM
        session.ask(PULSE)
        assert session._authority.level is Level.SERVICE
        chip.read_cells(0, lines=range(1))


def test_a_key_of_a_level_grants_that_level(address: str) -> None:
    key = parse_key(f"run:{level_key(SECRET, Level.RUN).hex()}", "here")
    with open_chip(address, key=key) as chip:
        chip.read_cells(0, lines=range(1))
        with pytest.raises(NotAuthorised, match="key is for level run, and program is needed"):
            chip.program_cells(0, targets())
    wrong = parse_key(f"program:{level_key(SECRET, Level.RUN).hex()}", "here")
    with pytest.raises(NotAuthorised, match="wrong key"):
        open_chip(address, key=wrong)


def test_seals_hold_over_a_line_that_loses_and_doubles_frames(key_file: Path) -> None:
    chip = EmulatedChip(SPEC, 2, key=SECRET)
    board = Board(chip, WireFaults(loss=0.05, duplicate=0.05, bit_errors=1e-5, late_s=0.005), seed=3)
    with connect(board.open(), chip=SPEC, key=read_key(key_file)) as driver:
        assert driver.program_cells(0, targets()).reached[:4, :16].mean() > 0.9
        for number in range(10):
            driver.hold_program(bytes((number,)) * 32)
    assert chip.describe().program_digest == bytes((9,)) * 32


def forging(counter: int) -> Callable[[bytes], bytes]:
    """Somebody who changes the counter in CHALLENGED."""

    def forge(message: bytes) -> bytes:
        said, request_id, chip_time_ns = decode(message)
        forged = replace(said, counter=counter) if isinstance(said, Challenged) else said
        return encode(forged, request_id, chip_time_ns)

    return forge


@pytest.mark.parametrize(
    ("counter", "error", "words"),
    [
        ((1 << 64) - 1, LinkError, "names 18446744073709551615 as its counter"),
        ((1 << 64) - 66, LinkError, "names 18446744073709551550 as its counter"),
        (1 << 40, NotAuthorised, "too far ahead"),
    ],
)
def test_a_counter_forged_on_the_line_costs_a_session_and_never_the_chip(
    key_file: Path, counter: int, error: type[HilError], words: str
) -> None:
    board = Board(EmulatedChip(SPEC, 2, key=SECRET))
    key = read_key(key_file)
    for _ in range(2):
        with (
            pytest.raises(error, match=words) as refused,
            connect(ForgingLine(board.open(), forging(counter)), chip=SPEC, key=key) as driver,
        ):
            driver.hold_program(bytes(32))
        assert refused.value.exit_code in (ExitCode.LINK, ExitCode.NOT_AUTHORISED)
        board.boot()
        with connect(board.open(), chip=SPEC, key=key) as driver:
            driver.hold_program(bytes(32))


def test_a_second_level_in_one_session_goes_on_from_seals_that_nobody_forged(key_file: Path) -> None:
    board, counters = Board(EmulatedChip(SPEC, 2, key=SECRET)), [3, 3 + MOST_STEP + 2]
    line = ForgingLine(board.open(), lambda message: forging(counters[0])(message))
    with connect(line, chip=SPEC, key=read_key(key_file)) as driver:
        driver.hold_program(bytes(32))
        del counters[0]
        with pytest.raises(LinkError, match="is the most"):
            driver._session.ask(PULSE)


def test_keys_come_from_the_environment_or_a_file_of_their_owner(
    key_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_key() is None
    monkeypatch.setenv(KEY_FILE, str(key_file))
    assert find_key() == parse_key(SECRET.hex(), "here")
    monkeypatch.setenv(KEY, f"service:{SECRET.hex()}")
    found = find_key()
    assert found is not None
    assert found.level is Level.SERVICE
    assert SECRET.hex() not in repr(found)
    for text in ("", "00", "king:" + "0" * 64, "secret" * 20):
        with pytest.raises(UsageError, match="64 hexadecimal digits") as refused:
            parse_key(text, "here")
        assert not text or text not in str(refused.value)
    with pytest.raises(FileError):
        read_key(tmp_path / "none")
    if os.name == "posix":
        key_file.chmod(0o644)
        with pytest.raises(UsageError, match="others may read"):
            read_key(key_file)


def test_the_key_file_of_the_command_line_goes_before_the_environment(
    address: str, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY, "11" * 32)
    monkeypatch.setenv(KEY_FILE, str(key_file.with_name("none")))
    assert run(["board", "cells", "--port", address, "--macro", "0"]) == ExitCode.NOT_AUTHORISED
    assert run(["--key-file", str(key_file), "board", "cells", "--port", address, "--macro", "0"]) == ExitCode.DONE
    assert os.environ[KEY] == "11" * 32


@pytest.mark.skipif(os.name != "posix", reason="files without owners")
@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_the_key_of_an_emulated_chip_that_others_may_read_is_warned_of(
    key_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], mode: int
) -> None:
    monkeypatch.setattr("hil.server.serve.serve_tcp", lambda chip, where, ready: ready(f"tcp://{where}"))
    key_file.chmod(mode)
    assert run(["emulate", "--macros", "1", "--tcp", "127.0.0.1:0", "--chip-key", str(key_file)]) == ExitCode.DONE
    said = f"others may read the key of the chip in {key_file}\n  try     chmod 600 {key_file}"
    assert (said in capsys.readouterr().err) == (mode == 0o644)


def test_the_command_takes_a_key_file_and_ends_with_exit_code_9_without(
    address: str, key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["board", "cells", "--port", address, "--macro", "0"]) == ExitCode.NOT_AUTHORISED
    assert run(["--key-file", str(key_file), "board", "cells", "--port", address, "--macro", "0"]) == ExitCode.DONE
    assert KEY_FILE not in os.environ
    assert SECRET.hex() not in "".join(capsys.readouterr())
    assert run(["board", "info", "--port", "emulated:lab-128?key=/nowhere"]) == ExitCode.USAGE
