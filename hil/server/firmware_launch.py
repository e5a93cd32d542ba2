"""A chip that is the C reference firmware: built, started natively or under QEMU, and ended again."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import select
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cim.chip.spec import ChipSpec
from cim.files import read_text
from firmware_protocols.errors import LocalProtocolError
from firmware_protocols.extensions.authority import chip_key
from hil.errors import PortError, UsageError
from hil.server.firmware_build import build, config_header
from hil.server.firmware_targets import TOOLCHAINS, FirmwareTarget, QemuMachine
from hil.server.serve import Ready
from hil.transports import host_and_port

_START_S = 10.0
_KEY_THERE = (0x2179654B).to_bytes(4, "little")  # before a key that is set from outside
LOOPBACK = ("127.0.0.1", "localhost")


@contextlib.contextmanager
def running_firmware(
    target: FirmwareTarget,
    spec: ChipSpec,
    *,
    seed: int = 0,
    settings: Mapping[str, float] | None = None,
    where: str = "pty",
    monitor: Path | None = None,
    cache: Path | None = None,
    key_file: Path | None = None,
) -> Iterator[str]:
    """Run the firmware as a chip of this description while the block runs; gives the address.

    Args:
        seed: which die.
        settings: die parameters by name (``die/die.h``) in place of the usual ones.
        where: ``"pty"``, or ``"HOST:PORT"`` on this machine (port 0: any free one).
        monitor: QEMU only; a socket file for its machine protocol.
        key_file: 64 hexadecimal digits that hosts must prove; None: the firmware wants none.

    Raises:
        UsageError: no compiler, no QEMU, a chip file that the firmware cannot follow, an unknown die parameter.
    """
    settings = dict(settings or {})
    with contextlib.ExitStack() as stack:
        key = stack.enter_context(_key_image(target, key_file)) if key_file is not None else []
        if machine := TOOLCHAINS[target].machine:
            command, address = _qemu(target, machine, spec, seed, settings, where, monitor, cache)
        else:
            command, address = _native(target, spec, seed, settings, where, cache), ""
        yield from _run([*command, *key], address)


@contextlib.contextmanager
def _key_image(target: FirmwareTarget, key_file: Path) -> Iterator[list[str]]:
    """The words that give the firmware its key, which a file of a passing folder holds."""
    try:
        key = chip_key(read_text(key_file, 4096))
    except (OSError, UnicodeDecodeError, LocalProtocolError) as error:
        raise UsageError(f"no key of a chip in {key_file}: {error}", hint="64 hexadecimal digits are needed") from error
    with tempfile.TemporaryDirectory() as folder:
        held = Path(folder) / "key"
        held.touch(0o600)
        if machine := TOOLCHAINS[target].machine:
            held.write_bytes(_KEY_THERE + key)
            yield ["-device", f"loader,file={held},addr={machine.key_place:#x},force-raw=on"]
        else:
            held.write_bytes(key)
            yield ["--key-file", str(held)]


def _run(command: list[str], address: str) -> Iterator[str]:
    """Start the firmware, give its address, and end it."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        yield address or _address(process)
    finally:
        process.terminate()
        try:
            process.wait(5.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def serve_firmware(
    target: FirmwareTarget,
    spec: ChipSpec,
    where: str,
    ready: Ready,
    *,
    seed: int = 0,
    settings: Sequence[str] = (),
    key_file: Path | None = None,
) -> None:
    """Run the firmware until Ctrl-C; ``settings`` are ``name=value`` texts."""
    chosen = read_settings(settings)
    with running_firmware(target, spec, seed=seed, settings=chosen, where=where, key_file=key_file) as address:
        ready(address)
        while True:
            time.sleep(3600.0)


def read_settings(texts: Sequence[str]) -> dict[str, float]:
    """Die parameters from ``name=value`` texts."""
    found = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            raise UsageError(
                f"die parameter {text!r} is not NAME=NUMBER", hint="hil emulate --set line_ohm=2"
            ) from None
    return found


def die_serial(spec: ChipSpec, seed: int) -> str:
    """Serial number that the die of a seed reports."""
    return hashlib.sha256(f"reference die {spec.name} {seed}".encode()).hexdigest()[:12]


def _native(
    target: FirmwareTarget, spec: ChipSpec, seed: int, settings: Mapping[str, float], where: str, cache: Path | None
) -> list[str]:
    program = build(target, config_header(spec, 0, {}, die_serial(spec, 0)), cache=cache)
    line = ["--pty"] if where == "pty" else ["--tcp", str(_port(where))]
    die = ["--seed", str(seed), "--serial", die_serial(spec, seed)]
    return [str(program), *line, *die, *(w for n, v in settings.items() for w in ("--set", f"{n}={v!r}")), "--tether"]


def _qemu(
    target: FirmwareTarget,
    machine: QemuMachine,
    spec: ChipSpec,
    seed: int,
    settings: Mapping[str, float],
    where: str,
    monitor: Path | None,
    cache: Path | None,
) -> tuple[list[str], str]:
    qemu = shutil.which(machine.qemu)
    if qemu is None:
        raise UsageError(
            f"no {machine.qemu} on this machine", hint=f"apt-get install --no-install-recommends {machine.package}"
        )
    program = build(target, config_header(spec, seed, settings, die_serial(spec, seed)), cache=cache)
    line, address = "pty", ""
    if where != "pty":
        port = _port(where) or _free_port()
        line, address = f"tcp:127.0.0.1:{port},server=on,wait=off,nodelay=on", f"tcp://127.0.0.1:{port}"
    boot = f"loader,addr={machine.boot_word:#x},data={secrets.randbits(31):#x},data-len=4"
    watched = ["-qmp", f"unix:{monitor},server=on,wait=off"] if monitor else []
    fixed = [*machine.words, "-nographic", "-monitor", "none", "-device", boot]
    return [qemu, *fixed, *watched, "-serial", line, "-kernel", str(program)], address


def _port(where: str) -> int:
    host, port = host_and_port(where, where if where.startswith("//") else f"//{where.removeprefix('tcp://')}")
    if host not in LOOPBACK:
        raise UsageError(
            f"the firmware listens on this machine only, not on {host}", hint=f"hil emulate --tcp 127.0.0.1:{port}"
        )
    return port


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _address(process: subprocess.Popen[bytes]) -> str:
    """The address that the process prints first."""
    assert process.stdout is not None
    give_up_s, said = time.monotonic() + _START_S, b""
    while time.monotonic() < give_up_s:
        ready, _, _ = select.select([process.stdout], [], [], 0.2)
        chunk = process.stdout.read1(4096) if ready else b""  # type: ignore[attr-defined]
        said += chunk
        if b"\n" in said:
            words = said.split(b"\n")[0].decode(errors="replace").split()
            found = [word for word in words if word.startswith(("/dev/", "tcp://"))]
            if found:
                return found[0]
            break
        if ready and not chunk:  # it ended, and this is all that it said
            break
    text = said.decode(errors="replace").strip()
    raise PortError("the firmware did not start", where=str(process.args)[:300], likely=text[:500] or "it said nothing")
