"""The wire log and its replay."""

from __future__ import annotations

import contextlib
import errno
import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest

from firmware_protocols.messages import Capability, TileAddress
from hil.driver.chip_driver import ChipDriver
from hil.driver.open_chip import connect, open_chip
from hil.errors import DeviceError, FileError, LinkError, MismatchError, OutputError
from hil.transports.in_process import InProcessTransport
from hil.transports.wire_log import WireLog, read_wire_log

from ..fake_chip import ALL, FakeChip, small_spec

SPEC = small_spec()
TILE = TileAddress(0, 0, 9, 0, 5)


def record(log: Path, chip: FakeChip | None = None) -> ChipDriver:
    return connect(InProcessTransport(chip or FakeChip(SPEC), "in process"), chip=SPEC, log=log)


def replayed(log: Path) -> ChipDriver:
    return open_chip(f"replay:{log}", chip=SPEC)


def measure(driver: ChipDriver, level: int = 3, vectors: int = 3000) -> list[np.ndarray]:
    seen: list[tuple[int, int, int]] = []
    driver.program_tile(TILE, np.full((9, 5), level, np.int8), progress=lambda *p: seen.append(p))
    codes = np.random.default_rng(1).integers(0, 256, (vectors, 9)).astype(np.int16)
    sums = driver.mvm(TILE, codes).values
    return [sums, driver.read_cells(0), np.array(seen), np.array(driver.chip_time_ns)]


def test_a_recorded_run_replays_bit_for_bit(tmp_path: Path) -> None:
    log = tmp_path / "wire.log"
    with record(log) as driver:
        recorded = measure(driver)
    with open_chip(f"replay:{log}", chip=SPEC, log=tmp_path / "again.log") as driver:
        replayed = measure(driver)
        assert driver.description.kind == "emulated"
    for a, b in zip(recorded, replayed, strict=True):
        np.testing.assert_array_equal(a, b)
    first, again = read_wire_log(log), read_wire_log(tmp_path / "again.log")
    assert [(e.sent, e.request_id, e.data, e.digest) for e in first.entries if e.sent] == [
        (e.sent, e.request_id, e.data, e.digest) for e in again.entries if e.sent
    ]
    assert first.replayable
    assert first.ending == ""


def test_long_requests_are_kept_as_digests_and_still_replay(tmp_path: Path) -> None:
    log = tmp_path / "wire.log"
    with record(log) as driver:
        measure(driver)
    entries = read_wire_log(log).entries
    assert any(e.data is None and e.size > 20_000 for e in entries if e.sent)
    assert all(e.data is not None for e in entries if not e.sent)


def test_the_first_difference_stops_a_replay_and_is_named(tmp_path: Path) -> None:
    log = tmp_path / "wire.log"
    with record(log) as driver:
        measure(driver)
    with pytest.raises(LinkError, match=r"request 2 differs: ProgramTile"), replayed(log) as driver:
        measure(driver, level=4)
    with pytest.raises(LinkError, match=r"request 2 differs: ReadCells .* ProgramTile"), replayed(log) as driver:
        driver.read_cells(0)
    with contextlib.suppress(LinkError), replayed(log) as driver:
        measure(driver)
        driver.outputs_off()
        with pytest.raises(LinkError, match=r"comes after the recorded"):
            driver.status()


def test_refusals_are_replayed_too(tmp_path: Path) -> None:
    log = tmp_path / "wire.log"
    small = FakeChip(small_spec(macros=1))
    small.describe = FakeChip(SPEC).describe  # type: ignore[method-assign]
    for address in (None, f"replay:{log}"):
        driver = record(log, small) if address is None else replayed(log)
        with pytest.raises(DeviceError, match="no such macro"):
            driver.read_cells(1)
        driver.close()


def test_a_log_that_reached_its_limit_says_that_it_cannot_be_replayed(tmp_path: Path) -> None:
    log = WireLog(tmp_path / "wire.log", "in process", max_bytes=10_000)
    transport = InProcessTransport(FakeChip(SPEC), "in process")
    with connect(transport, chip=SPEC) as driver:
        driver._session._log = log
        measure(driver)
    recording = read_wire_log(tmp_path / "wire.log")
    assert not recording.replayable
    assert os.path.getsize(tmp_path / "wire.log") < 20_000
    with pytest.raises(FileError, match="cannot be replayed"):
        open_chip(f"replay:{tmp_path}/wire.log")


def test_the_log_appears_when_the_session_ends_and_says_how(tmp_path: Path) -> None:
    log = tmp_path / "wire.log"
    with contextlib.suppress(ValueError), record(log) as driver:
        driver.read_cells(0)
        assert not log.exists()
        raise ValueError("user code")
    assert "user code" in read_wire_log(log).ending
    assert os.listdir(tmp_path) == ["wire.log"]


def test_a_log_that_cannot_be_written_is_an_output_error_and_closes_the_port(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"wire\.log"):
        record(tmp_path / "no folder" / "wire.log")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("when", ["running", "leaving"])
def test_a_full_disk_is_an_output_error_and_the_outputs_still_go_off(
    when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(driver: ChipDriver) -> None:
        for _ in range(400):
            driver.mvm(TILE, np.random.default_rng().integers(0, 256, (100, 9)).astype(np.int16))

    def full_once(driver: ChipDriver) -> None:
        log = driver._session._log
        assert log is not None
        if log._file is not None:
            raise log._abandoned(OSError(errno.ENOSPC, "no space"))

    chip = FakeChip(SPEC)
    driver = record(tmp_path / "wire.log", chip)
    driver.program_tile(TILE, np.full((9, 5), 3, np.int8))
    assert driver._session._log is not None
    with open("/dev/full", "wb") as full:
        os.dup2(full.fileno(), driver._session._log._file.fileobj.fileno())  # type: ignore[union-attr]
    if when == "running":
        with pytest.raises(OutputError, match="no space left"):
            fill(driver)
        driver.close()
    else:
        monkeypatch.setattr(driver._session._log, "sent", lambda *_: full_once(driver))
        with pytest.raises(OutputError, match="no space left"):
            driver.close()
    assert not chip.outputs_on
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "error", "text"),
    [
        (gzip.compress(b'{"format":"other"}\n', mtime=0), FileError, "is not a wire log"),
        (gzip.compress(b'{"format":"hil.wirelog","version":"2.0"}\n', mtime=0), MismatchError, r"version 2\.0"),
        (gzip.compress(b'{"format":"hil.wirelog","version":"1.0"}\n{"t":0}\n', mtime=0), FileError, "cannot read"),
    ],
)
def test_broken_logs_are_file_errors(tmp_path: Path, content: bytes, error: type[Exception], text: str) -> None:
    (tmp_path / "wire.log").write_bytes(content)
    with pytest.raises(error, match=text):
        open_chip(f"replay:{tmp_path}/wire.log")


def test_a_log_with_a_broken_message_or_no_session_is_a_file_error(tmp_path: Path) -> None:
    head = {"format": "hil.wirelog", "version": "1.9"}  # a newer minor version is read
    end = {"end": "", "replayable": True}
    for lines, text in (
        ([head, end], "holds no session"),
        ([head, {"t": 0, "d": "<", "id": 0, "m": "AAAA"}, end], "broken message"),
    ):
        data = "\n".join(json.dumps(line) for line in lines) + "\n"
        (tmp_path / "wire.log").write_bytes(gzip.compress(data.encode()))
        with pytest.raises(FileError, match=text):
            open_chip(f"replay:{tmp_path}/wire.log")


def test_host_run_write_verify_replays(tmp_path: Path) -> None:
    log = tmp_path / "wire.log"
    with record(log, FakeChip(SPEC, ALL & ~Capability.PROGRAM_TILE)) as driver:
        recorded = measure(driver)
    with open_chip(f"replay:{log}", chip=SPEC) as driver:
        for a, b in zip(recorded, measure(driver), strict=True):
            np.testing.assert_array_equal(a, b)
