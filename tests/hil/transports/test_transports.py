"""Addresses that are wrong, ports that cannot be had, and lines that fall silent, lie or break."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import serial

from cim.chip.file import load_chip
from firmware_protocols.messages import HelloReject, TileAddress
from hil.driver.open_chip import connect, open_chip
from hil.errors import LinkError, MismatchError, PortError
from hil.server.serve import serve_tcp, serve_unix, serving
from hil.transports import bad_address, host_and_port, open_transport
from hil.transports.holders import holders
from hil.transports.in_process import InProcessTransport

from ..fake_chip import FakeChip, small_spec
from ..virtual_line import VirtualLine
from ..wires import over

SPEC = small_spec()
TILE = TileAddress(0, 0, 9, 0, 5)


@contextlib.contextmanager
def begun_program() -> Iterator[None]:
    """A process that has every handle of this one, as a program has between fork and exec."""
    started = os.fork()
    if not started:
        signal.pause()
    try:
        yield
    finally:
        os.kill(started, signal.SIGKILL)
        os.waitpid(started, 0)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "tcp://",
        "tcp://host",
        "tcp://host:port",
        "tcp:host:1",
        "http://host:1",
        "unix:",
        "visa:",
        "emulated:",
        "x y:z",
    ],
)
def test_a_wrong_address_is_told_with_the_right_ones(address: str) -> None:
    with pytest.raises(PortError, match=r"not an address of a chip|there is no port") as raised:
        open_transport(address)
    assert "tcp://HOST:PORT" in str(raised.value) or "hil board ports" in str(raised.value)


def test_hosts_may_be_names_numbers_or_ipv6() -> None:
    assert host_and_port("", "//[::1]:5") == ("::1", 5)
    assert host_and_port("", "//board.lab:5025") == ("board.lab", 5025)
    assert "COM5" in str(bad_address("?"))


@pytest.mark.parametrize("form", ["{}", "visa:ASRL{}::INSTR"])
def test_a_missing_port_is_told(form: str) -> None:
    with pytest.raises(PortError, match="there is no port /dev/ttyUSB77") as raised:
        open_transport(form.format("/dev/ttyUSB77"))
    assert raised.value.exit_code == 3
    assert "hil board ports" in str(raised.value)


def test_a_file_is_no_serial_port(tmp_path: Path) -> None:
    file = tmp_path / "net.pt"
    file.touch()
    with pytest.raises(PortError, match="is a file, not a serial port"):
        open_transport(str(file))
    with pytest.raises(PortError, match="is a folder, not a serial port"):
        open_transport(str(tmp_path))


@pytest.mark.parametrize("form", ["{}", "visa:ASRL{}::INSTR"])
def test_no_permission_is_told_with_the_group(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pty() as (_, device):
        real = os.open

        def refused(path: str, *rest: int, **more: int) -> int:
            if path == device:
                raise PermissionError(errno.EACCES, "Permission denied", path)
            return real(path, *rest, **more)

        monkeypatch.setattr(os, "open", refused)
        with pytest.raises(PortError, match="no permission to open") as raised:
            open_transport(form.format(device))
    assert "usermod -aG" in str(raised.value)


@pytest.mark.parametrize("form", ["{}", "visa:ASRL{}::INSTR"])
def test_a_busy_port_is_told_with_its_holder(form: str) -> None:
    with pty() as (_, device):
        code = f"import serial, sys; p = serial.Serial({device!r}, exclusive=True); print('open', flush=True); input()"
        other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == b"open\n"
            with pytest.raises(PortError, match="is busy") as raised:
                open_transport(form.format(device))
            assert f"(pid {other.pid})" in str(raised.value)
        finally:
            other.communicate(b"\n")


def test_our_own_port_cannot_be_opened_twice() -> None:
    with pty() as (_, device):
        first = open_transport(device)
        with pytest.raises(PortError, match="is busy"):
            open_transport(device)
        with pytest.raises(PortError, match="is busy"):
            open_transport(f"visa:ASRL{device}::INSTR")
        first.close()
        first.close()
        open_transport(device).close()


@pytest.mark.parametrize("form", ["{}", "visa:ASRL{}::INSTR"])
def test_a_closed_port_can_be_opened_while_another_program_is_being_started(form: str) -> None:
    with pty() as (_, device):
        first = open_transport(form.format(device))
        with begun_program():
            first.close()
            open_transport(form.format(device)).close()


def test_holders_of_a_device_that_nobody_has_are_none(tmp_path: Path) -> None:
    assert holders(str(tmp_path / "nothing")) == ()
    assert holders("/dev/null", proc=tmp_path) == ()


def test_nobody_listens_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    for address in (f"tcp://127.0.0.1:{port}", f"visa:TCPIP0::127.0.0.1::{port}::SOCKET"):
        with pytest.raises(PortError, match="nobody listens"):
            open_transport(address)


def test_unix_sockets_that_cannot_be_opened_are_told(tmp_path: Path) -> None:
    with pytest.raises(PortError, match="there is no socket"):
        open_transport(f"unix:{tmp_path}/none")
    (tmp_path / "file").touch()
    with pytest.raises(PortError, match="nobody listens"):
        open_transport(f"unix:{tmp_path}/file")


def test_a_visa_resource_that_carries_nothing_is_told() -> None:
    with pytest.raises(PortError, match="not a VISA resource that is known"):
        open_transport("visa:VXI0::12::INSTR")


# --- far sides that are not a chip ---------------------------------------------------------


@contextlib.contextmanager
def pty() -> Iterator[tuple[int, str]]:
    master, slave = os.openpty()
    tty.setraw(slave)
    try:
        yield master, os.ttyname(slave)
    finally:
        for end in (master, slave):
            with contextlib.suppress(OSError):
                os.close(end)


@contextlib.contextmanager
def stranger(answer: Callable[[bytes], bytes]) -> Iterator[str]:
    """A TCP server that gives ``answer(data)`` to whatever it gets."""

    def run() -> None:
        with contextlib.suppress(OSError):
            client, _ = listener.accept()
            with client:
                while data := client.recv(65536):
                    client.sendall(answer(data))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    thread.join(5.0)


@pytest.mark.parametrize("form", ["{}", "visa:ASRL{}::INSTR"])
def test_a_silent_port_is_told(form: str) -> None:
    with pty() as (_, device):
        line = VirtualLine(open_transport(form.format(device))).skip()
        start_s = line.clock()
        with pytest.raises(LinkError, match="not a single byte") as raised:
            connect(line, hello_s=0.5, clock=line.clock)
        assert line.clock() - start_s < 0.7
        assert raised.value.exit_code == 4


def test_an_echo_is_told() -> None:
    with stranger(lambda data: data) as address, pytest.raises(LinkError, match="returns our own bytes"):
        open_chip(address, hello_s=0.4)


@pytest.mark.parametrize("answer", [b"ERROR: unknown command\r\n", bytes(range(256)), b"\0" * 300])
def test_another_device_is_told_with_its_first_bytes(answer: bytes) -> None:
    with stranger(lambda _: answer) as address:
        with pytest.raises(LinkError, match="answers, but not in this protocol") as raised:
            open_chip(address, hello_s=0.4)
        assert answer[:4].hex(" ") in str(raised.value)
        assert "baud" in str(raised.value)


def test_a_stranger_that_never_stops_talking_is_left_within_the_time() -> None:
    flowing = threading.Event()

    def flood(client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client.sendall(os.urandom(65536))
                flowing.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=lambda: flood(listener.accept()[0]), daemon=True).start()
        line = VirtualLine(open_transport(f"tcp://127.0.0.1:{listener.getsockname()[1]}"))
        assert flowing.wait(60.0)
        start_s = line.skip().clock()
        with pytest.raises(LinkError, match="not in this protocol"):
            connect(line, hello_s=0.5, clock=line.clock)
        assert line.clock() - start_s < 0.7


def test_a_chip_of_another_protocol_version_is_a_mismatch_with_both_ranges() -> None:
    transport = InProcessTransport(FakeChip(SPEC), "in process")
    transport._server.connection.versions = (0x0203, 0x0300)
    with pytest.raises(MismatchError, match=r"1\.0.*2\.3 to 3\.0") as raised:
        connect(transport, chip=SPEC)
    assert raised.value.exit_code == 8
    assert HelloReject(1, 2).version_max == 2


@pytest.mark.parametrize("kind", ["pty", "tcp", "visa socket"])
def test_a_chip_that_differs_from_its_file_is_a_mismatch_with_both_values(kind: str) -> None:
    other = load_chip("yao-2020", macros=3)
    with pytest.raises(MismatchError) as raised, over(kind, FakeChip(SPEC), other):
        pytest.fail("it was opened")
    text = str(raised.value)
    for value in ("lab-128", "yao-2020", SPEC.digest, other.digest, "the chip says 2, the file says 3"):
        assert value in text


def test_without_a_chip_file_the_name_that_the_chip_gives_is_taken() -> None:
    real = load_chip("yao-2020", macros=3)
    with connect(InProcessTransport(FakeChip(real), "in process")) as driver:
        assert driver.spec == real


# --- lines that break ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_far_program_that_ends_is_a_lost_link(kind: str, tmp_path: Path) -> None:
    where = "tcp://127.0.0.1:0" if kind == "tcp" else f"unix:{tmp_path}/chip"
    with contextlib.ExitStack() as stack:
        with serving(FakeChip(SPEC), where) as address:
            driver = open_chip(address, chip=SPEC)
            stack.callback(driver.close)
        with pytest.raises(LinkError, match=r"lost|failed"):
            driver.read_cells(0)
        with pytest.raises(LinkError):
            driver.close()  # the outputs could not be switched off, and that is said
        driver.close()


@pytest.mark.parametrize("form", ["{}", "visa:ASRL{}::INSTR"])
def test_a_cable_that_is_pulled_is_a_lost_link(form: str) -> None:
    master, slave = os.openpty()
    tty.setraw(slave)
    transport = open_transport(form.format(os.ttyname(slave)))
    os.close(slave)
    os.close(master)
    with pytest.raises(LinkError, match="lost") as raised:
        transport.read(100, 0.1)
    assert "cable" in str(raised.value)
    transport.close()


def test_a_serial_exception_in_the_middle_is_a_lost_link(monkeypatch: pytest.MonkeyPatch) -> None:
    with over("pty", FakeChip(SPEC), SPEC) as driver:

        def unplugged(*_: object) -> bytes:
            raise serial.SerialException("device reports readiness to read but returned no data")

        with monkeypatch.context() as patch:
            patch.setattr(serial.Serial, "read", unplugged)
            with pytest.raises(LinkError, match="readiness to read"):
                driver.read_cells(0)


def test_a_chip_that_falls_silent_is_given_up_within_seconds() -> None:
    relay = Relay()
    with serving(FakeChip(SPEC), "tcp://127.0.0.1:0") as address, relay.to(address) as through:
        line = VirtualLine(open_transport(through))
        driver = connect(line, chip=SPEC, silence_s=0.5, clock=line.clock)
        relay.deaf.set()
        start_s = line.skip().clock()
        with pytest.raises(LinkError, match=r"ReadCells on macro 0"):
            driver.read_cells(0)
        assert line.clock() - start_s < 4.0
        with pytest.raises(LinkError):
            driver.close()


def test_a_line_that_damages_bytes_costs_time_but_no_results() -> None:
    clean = run(FakeChip(SPEC), None)
    relay = Relay(damage=np.random.default_rng(0))
    noisy = run(FakeChip(SPEC), relay)
    for a, b in zip(clean[0], noisy[0], strict=True):
        np.testing.assert_array_equal(a, b)
    assert relay.damaged > 0
    assert noisy[1]["bad_crc"] + noisy[1]["retransmissions"] + noisy[1]["fast_retransmissions"] > 0


def run(chip: FakeChip, relay: Relay | None) -> tuple[list[np.ndarray], dict[str, int]]:
    with serving(chip, "tcp://127.0.0.1:0") as address, contextlib.ExitStack() as stack:
        through = address if relay is None else stack.enter_context(relay.to(address))
        with open_chip(through, chip=SPEC) as driver:
            driver.program_tile(TILE, np.full((9, 5), 3, np.int8))
            codes = np.random.default_rng(1).integers(0, 256, (3000, 9)).astype(np.int16)
            return [driver.read_cells(0), driver.mvm(TILE, codes).values], driver.counters


class Relay:
    """Carries bytes between two sockets, and can go deaf or flip a bit now and then."""

    def __init__(self, damage: np.random.Generator | None = None) -> None:
        self.deaf = threading.Event()
        self._damage = damage
        self.damaged = 0

    @contextlib.contextmanager
    def to(self, address: str) -> Iterator[str]:
        host, port = host_and_port(address, address.removeprefix("tcp:"))
        with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection((host, port)) as chip:
            threads: list[threading.Thread] = []

            def begin() -> None:
                client, _ = listener.accept()
                back = threading.Thread(target=self._carry, args=(chip, client), daemon=True)
                back.start()
                threads.append(back)
                self._carry(client, chip)

            threads.append(threading.Thread(target=begin, daemon=True))
            threads[0].start()
            yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        for thread in threads:
            thread.join(5.0)

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(2048):
                if self.deaf.is_set():
                    continue
                if self._damage is not None and self._damage.random() < 0.1:
                    at = int(self._damage.integers(len(data)))
                    data = data[:at] + bytes((data[at] ^ 0x10,)) + data[at + 1 :]
                    self.damaged += 1
                sink.sendall(data)
            sink.shutdown(socket.SHUT_RDWR)


# --- serving -------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["pty", "tcp://127.0.0.1:0", "unix"])
def test_a_served_chip_survives_clients_that_come_and_go(where: str, tmp_path: Path) -> None:
    chip = FakeChip(SPEC)
    with serving(chip, f"unix:{tmp_path}/chip" if where == "unix" else where) as address:
        for level in range(3):
            with open_chip(address, chip=SPEC) as driver:
                driver.program_tile(TILE, np.full((9, 5), level, np.int8))
        with open_chip(address, chip=SPEC) as driver, begun_program():
            driver.close()
            open_chip(address, chip=SPEC).close()
        rude = open_chip(address, chip=SPEC)
        rude.program_tile(TILE, np.full((9, 5), 5, np.int8))
        rude._session.transport.close()  # gone without a word
        with open_chip(address, chip=SPEC) as driver:
            ones = np.ones((1, 9), np.int16)
            assert (driver.mvm(TILE, ones).values == 45).all()
    assert not chip.outputs_on


def test_outputs_go_off_when_a_client_is_cut_off() -> None:
    chip = FakeChip(SPEC)
    with serving(chip, "tcp://127.0.0.1:0") as address:
        driver = open_chip(address, chip=SPEC)
        driver.program_tile(TILE, np.full((9, 5), 5, np.int8))
        assert chip.outputs_on
        driver._session.transport.close()
        deadline = time.monotonic() + 60.0
        while chip.outputs_on and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not chip.outputs_on


def test_servers_that_cannot_listen_say_so(tmp_path: Path) -> None:
    chip = FakeChip(SPEC)
    with serving(chip, f"unix:{tmp_path}/chip") as address, pytest.raises(PortError, match="already served"):
        serve_unix(chip, address, lambda _: None)
    assert not (tmp_path / "chip").exists()
    (tmp_path / "file").touch()
    with pytest.raises(PortError, match="not a socket"):
        serve_unix(chip, tmp_path / "file", lambda _: None)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(PortError, match="cannot listen"):
        serve_tcp(chip, f"127.0.0.1:{taken.getsockname()[1]}", lambda _: None)


def test_a_socket_file_that_a_killed_server_left_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "chip"))
    with serving(FakeChip(SPEC), f"unix:{tmp_path}/chip") as address, open_chip(address, chip=SPEC) as driver:
        assert driver.description.name == SPEC.name


def test_a_lock_of_another_program_counts_as_busy() -> None:
    with pty() as (_, device):
        held = os.open(device, os.O_RDWR | os.O_NOCTTY)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with pytest.raises(PortError, match="is busy"):
                open_transport(device)
        finally:
            os.close(held)
