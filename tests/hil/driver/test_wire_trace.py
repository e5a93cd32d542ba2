"""A wire log printed message by message."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from firmware_protocols.messages import TileAddress
from hil.cli import run
from hil.driver.wire_trace import trace_lines
from hil.transports.wire_log import Entry, Recording, read_wire_log

from ..fake_chip import FakeChip, small_spec
from ..wires import over

SPEC = small_spec()


def test_every_message_is_one_line_with_its_content_in_short(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tile = TileAddress(0, 0, 9, 0, 5)
    with over("in process", FakeChip(SPEC), SPEC, log=tmp_path / "wire.log") as driver:
        driver.program_tile(tile, np.full((9, 5), 3, np.int8))
        driver.mvm(tile, np.ones((2, 9), np.int16))
        driver.wait(2.0)
    assert run(["board", "trace", str(tmp_path / "wire.log")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(read_wire_log(tmp_path / "wire.log").entries) + 1
    for words in (
        ("<", "HelloReply", "max_message"),
        (">", "ProgramTile on macro 0, rows 0 to"),
        ("<", "TileProgrammed", "pulses [", "chip time"),
        (">", "Mvm on macro 0", "codes [2 x 9] 1 to 1"),
        (">", "Wait of 2 s"),
        (">", "OutputsOff"),
    ):
        assert any(all(word in line for word in words) for line in lines), words
    assert lines[-1] == "ended: closed in order"


def test_what_cannot_be_read_is_said_and_escaped() -> None:
    entries = (Entry(0.5, False, 3, b"\xffrubbish", 8, ""), Entry(0.6, True, 4, None, 9000, "ab" * 16))
    lines = list(trace_lines(Recording("x", entries, False, "lost\x1b[2J")))
    assert "cannot be read" in lines[0]
    assert "9,000 bytes" in lines[1]
    assert "\x1b" not in lines[2]
