"""Runs the conformance suite on every implementation of the chip role, and writes the matrix of its results.

python docs/conformance_matrix.py                   # writes docs/conformance.md anew; takes some minutes
python docs/conformance_matrix.py bridge emulator   # these columns only
"""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import sys
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
from hil.driver.selftest.bench import Bench
from hil.driver.selftest.suite import GROUPS, CheckOutcome, SelfTest, check_name, run_on
from hil.emulator.address import chip_from_address
from hil.server.firmware_build import FirmwareTarget
from hil.server.firmware_launch import running_firmware
from hil.server.serve import serving
from hil.transports import open_transport
from hil.transports.base import CHUNK, Transport
from hil.transports.in_process import InProcessTransport

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "conformance.md"
SPEC = load_chip("lab-128", macros=1)
CHIP = "emulated:lab-128?seed=2&macros=1"
SECRET = bytes(range(32))
OLD = (0x0100, 0x0100)
NEEDS = {"native": ("gcc",), "QEMU": ("qemu-system-arm", "arm-none-eabi-gcc")}

Opened = Iterator[Bench]


@contextlib.contextmanager
def key_file() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "key"
        path.touch(0o600)
        path.write_text(SECRET.hex(), "utf-8")
        yield path


def at(address: str, key: bytes | None = None) -> Bench:
    return Bench(address, lambda: open_transport(address), SPEC, None if key is None else HostKey(key))


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
        yield at(address, SECRET)


@contextlib.contextmanager
def bridge() -> Opened:
    spec = importlib.util.spec_from_file_location("bridge", ROOT / "examples" / "bridge.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with serving(module.AcmeChip(module.AcmeBoard()), "tcp://127.0.0.1:0") as address:
        yield at(address)


@contextlib.contextmanager
def version_1_0() -> Opened:
    chip = chip_from_address(CHIP)
    yield Bench("chip role of 1.0", lambda: InProcessTransport(chip, "chip role of 1.0", versions=OLD), SPEC)


COLUMNS: dict[str, Callable[[], contextlib.AbstractContextManager[Bench]]] = {
    "emulator": emulator,
    "emulator, key": emulator_with_key,
    "native C, key": lambda: firmware(FirmwareTarget.NATIVE),
    "QEMU C, key": lambda: firmware(FirmwareTarget.QEMU),
    "bridge": bridge,
    "version 1.0": version_1_0,
}


def lacking(column: str) -> str:
    """A program that a column needs and this machine has not; empty: none."""
    tools = next((tools for word, tools in NEEDS.items() if word in column), ())
    return next((tool for tool in tools if shutil.which(tool) is None), "")


def tested(column: str) -> SelfTest:
    """The suite run on one implementation."""
    with COLUMNS[column]() as bench:
        return run_on(bench, GROUPS)


def cells(found: SelfTest) -> dict[str, str]:
    """Cell of each check: yes, or – where it does not apply; NO where it failed."""
    words = {CheckOutcome.PASSED: "yes", CheckOutcome.SKIPPED: "–", CheckOutcome.FAILED: "NO"}
    return {r.name: words[r.outcome] for r in found.results}


def spoken(host: tuple[int, int], open_line: Callable[[], Transport]) -> str:
    """Version in which a host of some versions gets a description of the chip."""
    transport = open_line()
    link = Connection(Role.HOST, LinkLimits(), nonce=1, versions=host)
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


def versions() -> dict[tuple[str, str], str]:
    """(version of the host, version of the chip) -> version spoken, by the chip role in Python."""
    chip, found = chip_from_address(CHIP), {}
    for host_name, host in (("1.0", OLD), ("1.1", VERSIONS)):
        for chip_name, served in (("1.0", OLD), ("1.1", VERSIONS)):
            found[host_name, chip_name] = spoken(host, lambda v=served: InProcessTransport(chip, "here", versions=v))  # type: ignore[misc]
    return found


def table(rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (rows[0], ["---"] * len(rows[0]), *rows[1:]))


def page(columns: dict[str, dict[str, str]], spoken_in: dict[tuple[str, str], str]) -> str:
    """The text of docs/conformance.md."""
    checks = [["", "check", *columns]]
    for group, members in GROUPS.items():
        names = [check_name(check) for check in members]
        checks += [[group if not n else "", name, *(c[name] for c in columns.values())] for n, name in enumerate(names)]
    matrix = [["host", "chip 1.0", "chip 1.1"]]
    matrix += [[f"host {host}", *(spoken_in[host, chip] for chip in ("1.0", "1.1"))] for host in ("1.0", "1.1")]
    return f"""# Conformance

Written by `python docs/conformance_matrix.py`; `pytest tests/hil/driver/test_selftest.py` runs the same and compares.
The checks are those of `hil selftest` ([protocol](protocol.md)). *yes*: passed; *–*: does not apply, because the chip
lacks what the check needs; *NO*: failed.

- **emulator**: the chip role in Python before the emulated chip, on a pseudo-terminal; **key**: it wants one, on TCP
- **native C**, **QEMU C**: the reference firmware on this machine, and bare metal on a Cortex-M4
- **bridge**: `examples/bridge.py`, a minimum board
- **version 1.0**: the chip role held to version 1.0, without what 1.1 adds

{table(checks)}

## Versions

The version that host and chip speak, where either is of an older one:

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
