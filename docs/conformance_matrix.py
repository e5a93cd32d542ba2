"""Runs the conformance suite on every implementation of the chip role, and writes the matrix of its results.

python docs/conformance_matrix.py                   # writes docs/conformance.md anew; takes some minutes
python docs/conformance_matrix.py bridge emulator   # these columns only
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import secrets
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cim.chip.file import load_chip
from firmware_protocols.codec import decode, encode
from firmware_protocols.connection import VERSIONS, Connection, LinkLimits
from firmware_protocols.messages import Describe, Description
from firmware_protocols.sending import BULK
from firmware_protocols.states import Role
from hil.driver.keys import HostKey
from hil.driver.selftest.line import Bench
from hil.driver.selftest.suite import GROUPS, CheckOutcome, SelfTest, check_name, run_on
from hil.emulator.address import chip_from_address
from hil.server.firmware_launch import running_firmware
from hil.server.firmware_targets import FirmwareTarget
from hil.server.serve import serving
from hil.transports import open_transport
from hil.transports.base import CHUNK, Transport
from hil.transports.in_process import InProcessTransport, chip_role

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "conformance.md"
SPEC = load_chip("lab-128", macros=1)
CHIP = "emulated:lab-128?seed=2&macros=1"
SECRET = bytes(range(32))
OLD = (0x0100, 0x0100)
RELEASE = "0.7"  # the one before, which spoke 1.0; its sources come from the history of the repository
RELEASE_COMMIT = "6e40fa191944"
RELEASE_ROOMS = ("cim", "firmware_protocols", "hil", "mapping")
NEEDS = {"native": ("gcc",), "QEMU": ("qemu-system-arm", "arm-none-eabi-gcc")}

NOT_TRIED = "(–)"
QEMU_LAGS_S = 5.0  # its clock on a busy machine

Opened = Iterator[Bench]


@contextlib.contextmanager
def key_file() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "key"
        path.touch(0o600)
        path.write_text(SECRET.hex(), "utf-8")
        yield path


def at(address: str, key: bytes | None = None, lag_s: float = 0.0) -> Bench:
    host = None if key is None else HostKey(key)
    return Bench(address, lambda: open_transport(address), SPEC, host, lag_s=lag_s)


@contextlib.contextmanager
def emulator() -> Opened:
    with serving(chip_from_address(CHIP), "pty") as address:
        yield at(address)


@contextlib.contextmanager
def emulator_with_key() -> Opened:
    with key_file() as path, serving(chip_from_address(f"{CHIP}&key={path}"), "tcp://127.0.0.1:0") as address:
        yield at(address, SECRET)


@contextlib.contextmanager
def firmware(target: FirmwareTarget) -> Opened:
    with key_file() as path, running_firmware(target, SPEC, seed=2, key_file=path) as address:
        yield at(address, SECRET, QEMU_LAGS_S if target is FirmwareTarget.QEMU else 0.0)


def bridge_chip() -> Any:
    """The board of examples/bridge.py."""
    spec = importlib.util.spec_from_file_location("bridge", ROOT / "examples" / "bridge.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.AcmeChip(module.AcmeBoard())


@contextlib.contextmanager
def bridge() -> Opened:
    with serving(bridge_chip(), "tcp://127.0.0.1:0") as address:
        yield at(address)


@contextlib.contextmanager
def version_1_0() -> Opened:
    chip = chip_role(chip_from_address(CHIP), versions=OLD)
    yield Bench("chip role of 1.0", lambda: InProcessTransport(chip, "chip role of 1.0"), SPEC)


def has_release() -> bool:
    """Whether the repository's history holds the release; a copy of the sources alone does not."""
    wanted = ["git", "-C", str(ROOT), "cat-file", "-e", f"{RELEASE_COMMIT}^{{commit}}"]
    return shutil.which("git") is not None and not subprocess.run(wanted, capture_output=True, check=False).returncode


@contextlib.contextmanager
def release_sources() -> Iterator[Path]:
    """A folder with the sources of the release."""
    command = ["git", "-C", str(ROOT), "archive", RELEASE_COMMIT, *RELEASE_ROOMS]
    packed = subprocess.run(command, capture_output=True, check=True).stdout
    with tempfile.TemporaryDirectory() as folder, tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
        yield Path(folder)


def release_command(sources: Path, *arguments: str) -> subprocess.Popen[str]:
    """``hil`` of the release with some arguments."""
    command = [sys.executable, "-m", "hil", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(sources)}
    return subprocess.Popen(
        command, cwd=sources, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )


@contextlib.contextmanager
def release_chip() -> Iterator[str]:
    """Address of an emulated chip behind the chip role of the release."""
    served = ("emulate", "--chip", "lab-128", "--macros", "1", "--chip-seed", "2", "--tcp", "127.0.0.1:0")
    with release_sources() as sources, release_command(sources, *served) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


@contextlib.contextmanager
def release() -> Opened:
    with release_chip() as address:
        yield at(address)


COLUMNS: dict[str, Callable[[], contextlib.AbstractContextManager[Bench]]] = {
    "emulator": emulator,
    "emulator, key": emulator_with_key,
    "native C, key": lambda: firmware(FirmwareTarget.NATIVE),
    "QEMU C, key": lambda: firmware(FirmwareTarget.QEMU),
    "bridge": bridge,
    "version 1.0": version_1_0,
    f"release {RELEASE}": release,
}


def lacking(column: str) -> str:
    """What a column needs and this machine has not; empty: nothing."""
    if "release" in column and not has_release():
        return f"history of the repository with release {RELEASE}"
    tools = next((tools for word, tools in NEEDS.items() if word in column), ())
    return next((tool for tool in tools if shutil.which(tool) is None), "")


def tested(column: str) -> SelfTest:
    """The suite run on one implementation."""
    with COLUMNS[column]() as bench:
        return run_on(bench, GROUPS)


def cells(found: SelfTest) -> dict[str, str]:
    """Cell of each check: yes, – where it does not apply, NO where it failed; (–) where it could not be tried."""
    words = {CheckOutcome.PASSED: "yes", CheckOutcome.FAILED: "NO", CheckOutcome.NOT_TRIED: NOT_TRIED}
    return {r.name: words.get(r.outcome, "–") for r in found.results}


def spoken(host: tuple[int, int], open_line: Callable[[], Transport]) -> str:
    """Version in which a host of some versions gets a description of the chip."""
    transport = open_line()
    link = Connection(Role.HOST, LinkLimits(), nonce=secrets.randbits(32), versions=host)
    link.open(time.monotonic())
    give_up_s, asked = time.monotonic() + 10.0, False
    try:
        while time.monotonic() < give_up_s:
            if link.reply is not None and not asked:
                link.send(encode(Describe(), 1), BULK)
                asked = True
            transport.write(link.data_to_send(time.monotonic()))
            link.receive(transport.read(CHUNK, 0.01), time.monotonic())
            for received in link.messages():
                if isinstance(decode(received.data).message, Description) and link.reply is not None:
                    return f"{link.reply.version >> 8}.{link.reply.version & 0xFF}"
    finally:
        transport.close()
    return "NO"


HELD = {"1.0": OLD, **{f"1.{n}": (0x0100, 0x0100 + n) for n in (1, 2, 3)}}  # roles that are held to an earlier version
HOSTS = {**HELD, "1.4": VERSIONS}
OLD_HOST = f"release {RELEASE}"
CHIPS = (*HOSTS, "native C", OLD_HOST)
TODAYS = ("1.4", "native C")  # chips that the host of the release meets


@contextlib.contextmanager
def chip_at(chip: str) -> Iterator[str]:
    """Address of one of ``TODAYS``."""
    here = "127.0.0.1:0"
    if chip == "native C":
        with running_firmware(FirmwareTarget.NATIVE, SPEC, seed=2, where=here) as address:
            yield address
    else:
        with serving(chip_from_address(CHIP), f"tcp://{here}") as address:
            yield address


@contextlib.contextmanager
def opener(chip: str) -> Iterator[Callable[[], Transport]]:
    """Opens lines to one of ``CHIPS``."""
    if chip in HELD:
        served = chip_role(chip_from_address(CHIP), versions=HELD[chip])
        yield lambda: InProcessTransport(served, "here")
    else:
        with release_chip() if chip == OLD_HOST else chip_at(chip) as address:
            yield lambda: open_transport(address)


def versions() -> dict[tuple[str, str], str]:
    """(host, chip) -> version spoken; NO: they do not understand each other."""
    found: dict[tuple[str, str], str] = {}
    for chip in CHIPS:
        with opener(chip) as open_line:
            found |= {(name, chip): spoken(host, open_line) for name, host in HOSTS.items()}
    with release_sources() as sources:
        for chip in TODAYS:
            with chip_at(chip) as address, release_command(sources, "info", "--port", address) as process:
                said = process.communicate(timeout=60)[0]
                found[OLD_HOST, chip] = "1.0" if process.returncode == 0 and SPEC.name in said else "NO"
    return found


def table(rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (rows[0], ["---"] * len(rows[0]), *rows[1:]))


def page(columns: dict[str, dict[str, str]], spoken_in: dict[tuple[str, str], str]) -> str:
    """The text of docs/conformance.md."""
    checks = [["", "check", *columns]]
    for group, members in GROUPS.items():
        names = [check_name(check) for check in members]
        checks += [[group if not n else "", name, *(c[name] for c in columns.values())] for n, name in enumerate(names)]
    matrix = [["host", *(f"chip {chip}" for chip in CHIPS)]]
    matrix += [[f"host {host}", *(spoken_in.get((host, chip), "") for chip in CHIPS)] for host in (*HOSTS, OLD_HOST)]
    return f"""# Conformance

Written by `python docs/conformance_matrix.py`; `pytest tests/hil/driver/test_selftest.py` runs the same and compares.
The checks are those of `hil board selftest` ([wire](file-formats.md)). *yes*: passed; *–*: does not apply, as the chip
lacks what the check needs; *{NOT_TRIED}*: not tried, because nobody cuts the power, or because all work that harms
nothing is over too soon, which may be otherwise on a slower machine; *NO*: failed.

- **emulator**: the chip role in Python before the emulated chip, on a pseudo-terminal; **key**: it wants one, on TCP
- **native C**, **QEMU C**: the reference firmware on this machine, and bare metal on a Cortex-M4
- **bridge**: `examples/bridge.py`, a minimum board
- **version 1.0**: the chip role held to version 1.0, without what later ones add
- **release {RELEASE}**: emulated chip and chip role of that release, which spoke 1.0, from its sources in the history;
  it names bits as the value beyond a limit of codes

{table(checks)}

## Versions

The version that host and chip speak; "release {RELEASE}" is the program of that release, as host `info`:

{table(matrix)}
"""


def published() -> dict[str, dict[str, str]]:
    """Cells of docs/conformance.md by column and check."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.read_text("utf-8").splitlines()
        if line.startswith("|") and line.count("|") == len(COLUMNS) + 3
    ]
    return {column: {row[1]: row[2 + n] for row in rows[2:]} for n, column in enumerate(rows[0][2:])}


if __name__ == "__main__":
    chosen = sys.argv[1:] or list(COLUMNS)
    before = published() if sys.argv[1:] else {}
    PAGE.write_text(
        page({name: cells(tested(name)) if name in chosen else before[name] for name in COLUMNS}, versions()), "utf-8"
    )
