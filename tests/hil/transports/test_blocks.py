"""Digital boards by SPI, I2C and shared memory: the same model file, cells and words, over another line."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import numpy as np
import pytest

from firmware_protocols.messages import CellBlock, ReadCells
from hil.driver.open_chip import open_chip
from hil.emulator.chip import EmulatedChip
from hil.errors import LinkError, PortError
from hil.server.bench.bench_file import load_bench
from hil.server.bench.fixture import Fixture
from hil.server.bench.stand_in import StandIn
from hil.server.bench.stand_in_serve import bench_served
from hil.transports import open_transport
from hil.transports.blocks import BEGIN, BUSY, SharedMemory, Word
from tests.hil.bench.benches import StillClock, between_readings_us, write_bench

READS = 256


def row_through(path: Path, die: EmulatedChip) -> None:
    """A row of cells, written and read through the bench of a file, is that of the die."""
    targets_us = np.full((32, 32), np.nan, np.float32)
    targets_us[2, :4] = [2.0, 34.6, 12.9, 29.1]
    with open_chip(f"bench:{path}") as chip:
        assert chip.program_cells(0, targets_us).reached[2, :4].all()
        found_us = chip.read_cells(0, reads=READS, lines=range(2, 3))[2]
        within_us = between_readings_us(chip.spec, READS)
    through_frames = die.read_cells(ReadCells(CellBlock(0, 2, 1, 0, 32), 1, READS, 1)).readings[0] / 1e3
    assert np.abs(found_us - through_frames).max() < within_us


def test_a_board_in_shared_memory_shows_the_cells_of_its_die(tmp_path: Path) -> None:
    path = write_bench(tmp_path, port=f"mmap:{tmp_path / 'board'}")
    bench = load_bench(path)
    die = EmulatedChip(bench.chip, 7)
    with bench_served(bench, die, StillClock()):
        row_through(path, die)
    assert not (tmp_path / "board").exists(), "the stand-in took its file away"


class Board:
    """The firmware's side of blocks: a block is ready before it is asked for, and it is busy at every fifth asking."""

    def __init__(self, stand_in: StandIn, most: int) -> None:
        self._stand_in, self._most = stand_in, most
        self._unsent, self._asked = bytearray(), 0

    def busy(self) -> bool:
        self._asked += 1
        return self._asked % 5 == 0

    def give(self) -> list[int]:
        part = bytes(self._unsent[: self._most])
        del self._unsent[: self._most]
        return [len(part), *part.ljust(self._most, b"\0")]

    def take(self, block: list[int]) -> None:
        if block[0] == BEGIN:
            self._stand_in.forget()
            self._unsent.clear()
        else:
            self._unsent += self._stand_in.receive(bytes(block[1 : 1 + block[0]]))


@contextlib.contextmanager
def board_of(path: Path, most: int) -> Iterator[tuple[Board, EmulatedChip]]:
    bench = load_bench(path)
    die = EmulatedChip(bench.chip, 7)
    fixture = Fixture(bench, die, StillClock())
    yield Board(StandIn(bench.instruments["board"], fixture, lambda *_: None), most), die


def test_a_board_on_spi_shows_the_cells_of_its_die(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spidev = pytest.importorskip("spidev", reason="it is for Linux only")
    path = write_bench(tmp_path, port="spi:1.2?hz=2000000&mode=3&most=15")
    with board_of(path, 15) as (board, die):
        device = create_autospec(spidev.SpiDev, instance=True)  # only what the installed package has can be called

        def swap(block: list[int]) -> list[int]:
            assert len(block) == 16
            if board.busy():
                return [BUSY] * 16
            given = board.give()
            board.take(block)
            return given

        device.xfer2.side_effect = swap
        monkeypatch.setattr(spidev, "SpiDev", lambda: device)
        row_through(path, die)
    device.open.assert_called_with(1, 2)
    assert (device.max_speed_hz, device.mode) == (2_000_000, 3)


def test_a_board_on_i2c_shows_the_cells_of_its_die(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smbus2 = pytest.importorskip("smbus2")
    path = write_bench(tmp_path, port="i2c:1:0x42")
    with board_of(path, 31) as (board, die):
        bus = create_autospec(smbus2.SMBus, instance=True)

        def transfer(message: Any) -> None:
            assert message.addr == 0x42
            if board.busy():
                raise OSError(121, "no acknowledge")
            if message.flags:  # to be read
                assert message.len == 32
                for number, byte in enumerate(board.give()):
                    message.buf[number] = bytes([byte])
            else:
                board.take(list(message))

        bus.i2c_rdwr.side_effect = transfer
        opened = create_autospec(smbus2.SMBus, return_value=bus)
        monkeypatch.setattr(smbus2, "SMBus", opened)
        row_through(path, die)
    opened.assert_called_with(1)


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("spi:9.9", "cannot open spi:9.9: "),
        ("i2c:99:0x42", "cannot open i2c:99:0x42: "),
        ("spi:0.0?speed=3", "'speed' is no number that it has"),
        ("i2c:1:0x42?most=254", "a block has 1 to 253 bytes"),
        ("mmap:no-such-file", "cannot open mmap:no-such-file: "),
    ],
)
def test_a_bus_that_is_not_there_is_told(address: str, why: str) -> None:
    pytest.importorskip("spidev")
    with pytest.raises(PortError, match=why):
        open_transport(address)


def test_a_line_on_which_nobody_answers_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    spidev = pytest.importorskip("spidev")
    device = create_autospec(spidev.SpiDev, instance=True)
    device.xfer2.side_effect = lambda block: [BUSY] * len(block)
    monkeypatch.setattr(spidev, "SpiDev", lambda: device)
    with pytest.raises(PortError, match="no board takes a block"):
        open_transport("spi:0.0", timeout_s=0.05)
    device.close.assert_called_once()


@contextlib.contextmanager
def echo(path: Path, counted: int = 0) -> Iterator[None]:
    """A board in a thread that says what it hears, and whose counters stand at ``counted``."""
    path.write_bytes(bytes(4 * (Word.RINGS + 2 * 64)))
    with path.open("r+b") as file:
        file.seek(4 * Word.HOST_WROTE)
        file.write(np.full(4, counted, np.uint32).tobytes())
    board, stop = SharedMemory(path, board=True), threading.Event()

    def serve() -> None:
        unsent = b""
        while not stop.wait(0.0001):
            if board.begun_anew():
                unsent = b""
            unsent += board.take()
            unsent = unsent[board.put(unsent[: board.most]) :]

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield
    stop.set()
    thread.join()
    board.close()


def test_more_bytes_than_a_ring_holds_pass_also_where_its_counters_begin_anew(tmp_path: Path) -> None:
    sent = np.random.default_rng(1).bytes(1000)
    with echo(tmp_path / "memory", counted=(1 << 32) - 100):
        line, heard = open_transport(f"mmap:{tmp_path / 'memory'}"), b""
        for at in range(0, 1000, 40):
            line.write(sent[at : at + 40])
            while len(heard) < at + 40:
                heard += line.read(4096, 5.0)
        assert heard == sent
        line.close()


def test_another_host_begins_anew_and_the_one_before_is_told(tmp_path: Path) -> None:
    with echo(tmp_path / "memory"):
        first = open_transport(f"mmap:{tmp_path / 'memory'}")
        first.write(b"half an order")
        second = open_transport(f"mmap:{tmp_path / 'memory'}")
        second.write(b"whole")
        assert second.read(4096, 5.0) == b"whole"
        with pytest.raises(LinkError, match="another host has begun"):
            first.write(b"the rest")
        first.close()
        second.close()


@pytest.mark.parametrize(
    ("word", "value", "said"),
    [
        (Word.MAGIC, 1, "no board"),
        (Word.SIZE, 0, "no board"),
        (Word.SIZE, 48, "no board"),
        (Word.SIZE, 1 << 20, "no board"),
        (Word.BOARD_WROTE, 1 << 31, "a ring of 64 bytes says that it has 2147483648"),
    ],
)
def test_words_of_shared_memory_that_cannot_be_are_refused_before_they_are_followed(
    tmp_path: Path, word: Word, value: int, said: str
) -> None:
    path = tmp_path / "memory"
    with echo(path):
        pass  # a board that has written its first words, and is gone
    words = np.fromfile(path, np.uint32)
    words[Word.KNOWN] = words[Word.BEGUN] + 1  # the next host is known
    words[word] = value
    words.tofile(path)
    with pytest.raises((PortError, LinkError), match=said):
        open_transport(f"mmap:{path}", timeout_s=0.05).read(1, 0.0)


@pytest.mark.parametrize("size", [12, 64, 70])
def test_memory_without_room_for_two_rings_is_refused(tmp_path: Path, size: int) -> None:
    (tmp_path / "memory").write_bytes(bytes(size))
    with pytest.raises(PortError, match="no room for two rings"):
        open_transport(f"mmap:{tmp_path / 'memory'}", timeout_s=0.05)
