"""Files are written whole or not at all by every writer, and only regular files are read."""

from __future__ import annotations

import errno
import functools
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cim.chip.file import load_chip
from cim.files import FileTooLarge, NotRegularFile, new_file, new_folder, read_bytes, read_text, write_bytes, write_text
from cim.record.file import load_record, save_record
from cim.record.published import nominal_record
from hil import atomic
from hil.errors import OutputError
from mapping.network.architectures import build
from mapping.network.file import NetworkFile, load_network, save_network
from mapping.network.graph import NetworkGraph
from search.space.architecture import read_architecture, write_architecture
from search.space.file import load_space

Write = Callable[[Path, int], None]


def _record(path: Path, seed: int) -> None:
    save_record(replace(nominal_record(load_chip("lab-128", macros=1)), serial=f"SN-{seed}"), path)


@functools.cache
def _graph() -> NetworkGraph:
    return build("lenet5", classes=list("0123456789"), rng=np.random.default_rng(0))


def _network(path: Path, seed: int) -> None:
    save_network(NetworkFile(_graph(), 4, 8, np.full((2, 28, 28, 1), seed, np.uint8)), path)


def _architecture(path: Path, seed: int) -> None:
    space = load_space("cifar10")
    write_architecture(path, space.decode(space.sample(np.random.default_rng(seed))))


WRITERS: dict[str, tuple[Write, Callable[[Path], object]]] = {
    "record": (_record, load_record),
    "network": (_network, load_network),
    "architecture": (_architecture, read_architecture),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_write_that_is_interrupted_leaves_the_old_file_and_no_other_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, read = WRITERS[name]
    path = tmp_path / "file"
    write(path, 1)
    old = path.read_bytes()

    def interrupted(source: object, target: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write(path, 2)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _full)
        with pytest.raises(OSError, match="No space"):
            write(path, 2)
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    write(path, 2)
    assert path.read_bytes() != old
    read(path)


def _full(handle: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("name", WRITERS)
def test_what_is_written_is_on_the_disk_before_it_takes_its_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (order.append("synced"), sync(handle)))
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append("named"), replace(a, b)))
    WRITERS[name][0](tmp_path / "file", 1)
    assert order == ["synced", "named"]


@pytest.mark.parametrize("name", WRITERS)
def test_two_writers_at_once_leave_the_whole_file_of_one(name: str, tmp_path: Path) -> None:
    write, read = WRITERS[name]
    path = tmp_path / "file"
    whole = []
    for seed in (1, 2):
        write(path, seed)
        whole.append(path.read_bytes())
    failed: list[BaseException] = []

    def again(seed: int) -> None:
        try:
            for _ in range(5):
                write(path, seed)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=again, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert path.read_bytes() in whole
    for thread in threads:
        thread.join()
    assert not failed
    read(path)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_writer_that_fails_inside_its_block_leaves_nothing(tmp_path: Path) -> None:
    def fill(part: Path) -> None:
        part.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), new_file(tmp_path / "a") as part:
        fill(part)
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "b") as part:
        fill(part / "half")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_never_replaced(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """`-o /dev/null` would else make a file of the device."""
    make(tmp_path / "there")
    with pytest.raises(OSError, match="there"):
        write_text(tmp_path / "there", "x")
    with pytest.raises(OutputError, match="in the way"):
        atomic.write_text(tmp_path / "there", "x")
    assert not (tmp_path / "there").is_file()
    assert len(list(tmp_path.iterdir())) == 1


# --- reading ----------------------------------------------------------------------------------


def test_a_file_reads_back_with_its_line_ends_made_equal(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"\xc2\xb5S\r\nx\r")
    assert read_text(tmp_path / "a", 100) == "µS\nx\n"
    assert read_bytes(tmp_path / "a", 7) == b"\xc2\xb5S\r\nx\r"
    with pytest.raises(FileTooLarge, match="larger than 6 bytes"):
        read_bytes(tmp_path / "a", 6)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert read_bytes(tmp_path / "link", 7)
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "b", 7)


def test_fifos_devices_sockets_and_folders_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for path, kind in (
            (tmp_path / "fifo", "FIFO"),
            (tmp_path / "socket", "socket"),
            (tmp_path, "folder"),
            (Path("/dev/zero"), "character device"),
        ):
            with pytest.raises(NotRegularFile, match=f"is a {kind}, not a regular file"):
                read_bytes(path, 100)
