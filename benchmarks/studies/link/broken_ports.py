"""Ports of the firmware that are broken on purpose: does ``hil board selftest`` catch each?

Each port is the C reference firmware with one mistake that a port may have (``broken_ports.toml``), built for this
machine and judged as a board is, several at a time, since most of a judgement is waiting. Exit code 1 when more than
one port of those that once passed is not caught, or more than two of the new ones.

    python benchmarks/studies.py broken-ports [--only NAME] [--list] [--side-by-side 4]
    python benchmarks/studies.py broken-ports --table      # the table of what was found
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from cim.chip.file import load_chip
from firmware_protocols.extensions.authority import chip_key
from hil.driver.keys import HostKey
from hil.driver.selftest.line import Bench
from hil.driver.selftest.suite import GROUPS, CheckOutcome, run_on
from hil.errors import HilError
from hil.server.firmware_build import config_header
from hil.transports import open_transport

ROOT = Path(__file__).parents[3]
FIRMWARE = ROOT / "firmware_protocols" / "reference_firmware"
LIMITS = {"MAX_MESSAGE": 1 << 16, "LAYER_BYTES": 1 << 20, "LAYER_OUTPUTS": 1024, "MEMORY_BYTES": 4 << 20}
SECRET = bytes(range(32))
SPEC = load_chip("lab-128", macros=3)


class Change(NamedTuple):
    """One replacement in one file; ``old`` stands there once."""

    file: str
    old: str
    new: str


class Port(NamedTuple):
    """A broken port; ``kind`` as the head of the table of ports says."""

    kind: str
    changes: tuple[Change, ...]


def ports() -> dict[str, Port]:
    listed = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))["port"]
    return {port["name"]: Port(port["kind"], tuple(Change(**change) for change in port["change"])) for port in listed}


PORTS = ports()
KINDS = ("once passed", "endangers a die", "misleads")
REPAIRED = "a byte in 3,000 is lost on the line"  # by the link: it must pass


# --- one port, judged --------------------------------------------------------------------------------------------


def broken(changes: tuple[Change, ...], folder: Path) -> Path:
    """A copy of the sources with the changes in it."""
    copy = folder / "reference_firmware"
    shutil.copytree(FIRMWARE, copy)
    for change in changes:
        path = copy / change.file
        text = path.read_text("utf-8")
        if text.count(change.old) != 1:
            raise SystemExit(f"{change.file} holds {text.count(change.old)} times, not once: {change.old!r}")
        path.write_text(text.replace(change.old, change.new), "utf-8")
    return copy


def built(changes: tuple[Change, ...], folder: Path) -> Path:
    """The program of a broken port; warnings are let pass, as whoever breaks it would."""
    sources, program = broken(changes, folder), folder / "firmware"
    (folder / "chip_config.h").write_text(config_header(SPEC, 0, {}, "broken"), "utf-8")
    folders = ("core", "coding", "plan", "nonvolatile", "die")
    files = [path for part in folders for path in sorted((sources / part).glob("*.c"))]
    files = [path for path in files if path.name != "bytes.c"] + [sources / "boards" / "posix.c"]
    include = [f"-I{folder}", f"-I{sources / 'core'}", f"-I{sources / 'die'}"]
    limits = [f"-D{name}={value}" for name, value in LIMITS.items()]
    command = ["gcc", "-std=c99", "-O1", "-w", "-ffp-contract=off", "-fno-math-errno", *limits, *include]
    subprocess.run([*command, *map(str, files), "-o", str(program)], check=True)
    return program


@contextlib.contextmanager
def running(program: Path) -> Iterator[tuple[str, int]]:
    """Address and process id of a firmware that runs while the block does."""
    key = program.with_name("key")
    key.write_bytes(chip_key(SECRET.hex()))
    command = [str(program), "--pty", "--seed", "2", "--tether", "--page-us", "300", "--key-file", str(key)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip(), process.pid
        process.kill()


def judged(name: str, groups: Iterable[str] = tuple(GROUPS)) -> dict[str, Any]:
    """What fails of one broken port; of any other name, of the firmware without a mistake."""
    changes = PORTS[name].changes if name in PORTS else ()
    with tempfile.TemporaryDirectory() as folder, running(built(changes, Path(folder))) as (address, pid):
        cut_power = functools.partial(os.kill, pid, signal.SIGUSR1)
        bench = Bench(address, lambda: open_transport(address), SPEC, HostKey(SECRET), cut_power)
        try:
            results = run_on(bench, groups).results
        except HilError as error:  # nobody could work with it
            return {"port": name, "failed": [{"check": "it cannot be opened", "text": error.what}], "seconds": 0.0}
    failed = [{"check": r.name, "text": r.text} for r in results if r.outcome is CheckOutcome.FAILED]
    return {"port": name, "failed": failed, "seconds": round(sum(r.seconds for r in results), 1)}


def table(rows: dict[str, dict[str, Any]]) -> str:
    lines = ["| port | caught by |", "|---|---|"]
    for kind in KINDS:
        names = [name for name, port in PORTS.items() if port.kind == kind]
        caught = sum(bool(rows[name]["failed"]) for name in names if name in rows)
        lines.append(f"| **{kind}: {caught} of {len(names)}** | |")
        for name in names:
            failed = rows[name]["failed"] if name in rows else [{"check": "not judged"}]
            first = failed[0]["check"] if failed else "nothing: it is repaired" if name == REPAIRED else "**nothing**"
            more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
            lines.append(f"| {name} | {first}{more} |")
    return "\n".join(lines)


def in_a_process(name: str) -> dict[str, Any]:
    """``judged`` in a process of its own: ports are judged side by side."""
    command = [sys.executable, __file__, "--one", name]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    if said.returncode:
        raise SystemExit(f"{name}: {said.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(said.stdout.splitlines()[-1])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="ports whose name holds this")
    parser.add_argument("--one", help="judge this one here, print its JSON")
    parser.add_argument("--sound", action="store_true", help="judge the firmware without a mistake")
    parser.add_argument("--list", action="store_true", help="only say their names")
    parser.add_argument("--side-by-side", type=int, default=4, help="ports that are judged at a time")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "broken_ports.jsonl")
    parser.add_argument("--table", action="store_true", help="print the table of what is stored; nothing is judged")
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(judged(asked.one)))
        return 0
    if asked.list:
        print("\n".join(PORTS))
        return 0
    kept = asked.out.read_text("utf-8").splitlines() if asked.out.exists() else []
    rows = {row["port"]: row for row in map(json.loads, kept) if row["port"] in PORTS}
    if asked.table:
        print(table(rows))
        return 0
    if asked.sound:
        print(json.dumps(judged("sound"), indent=1))
        return 0
    names = [name for name in PORTS if asked.only is None or asked.only in name]
    with ThreadPoolExecutor(asked.side_by_side) as pool:
        for row in pool.map(in_a_process, names):
            rows[row["port"]] = row
            print(row["port"], "-", "; ".join(f["check"][:60] for f in row["failed"]) or "NOTHING", flush=True)
            asked.out.write_text("".join(json.dumps(rows[name]) + "\n" for name in PORTS if name in rows), "utf-8")
    missed = {kind: [n for n in rows if PORTS[n].kind == kind and not rows[n]["failed"]] for kind in KINDS}
    print(json.dumps({"judged": len(rows), "missed": missed}))
    too_many = len(missed["once passed"]) > 1 or len(missed["endangers a die"]) + len(missed["misleads"]) > 2
    return int(too_many or bool(rows.get(REPAIRED, {}).get("failed")))


if __name__ == "__main__":
    sys.exit(main())
