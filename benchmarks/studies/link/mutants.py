"""Mutants of the C firmware, made by machine: what share does ``hil board selftest`` catch?

A mutant is one change in ``core``, ``plan`` or ``coding``: another operator, a constant off by one, a dropped
statement, exchanged arguments; drawn by seed from all places. Those that compile to the same code are dropped. Each
is judged by the self-test on a bench of pipes whose clock is virtual, up to the first check that fails; if none does,
it answers 20,000 requests of a corpus that the self-test does not share: with the bytes of the original nobody saw a
difference, with others it survives. A row a mutant; the same command goes on.

    python benchmarks/studies.py mutants [--draw 1000] [--minutes 360] [--side-by-side 2]
    python benchmarks/studies.py mutants --table          # share by file, and the survivors
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import functools
import hashlib
import json
import random
import re
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT))

from broken_ports import FIRMWARE, LIMITS, SECRET, SPEC  # noqa: E402

from firmware_protocols.codec import encode  # noqa: E402
from firmware_protocols.extensions.authority import chip_key  # noqa: E402
from firmware_protocols.messages import (  # noqa: E402
    CellBlock,
    Describe,
    Mvm,
    OutputsOff,
    Polarity,
    ProgramTile,
    Pulse,
    ReadCells,
    Returns,
    Status,
    TileAddress,
    Wait,
)  # fmt: skip
from hil.driver.keys import HostKey  # noqa: E402
from hil.driver.selftest.line import Bench, MessageLine, NotTried  # noqa: E402
from hil.driver.selftest.suite import GROUPS, check_name  # noqa: E402
from hil.errors import LinkError  # noqa: E402
from hil.server.firmware_build import config_header  # noqa: E402

OUT = ROOT / "benchmarks" / "results" / "mutants.jsonl"
BOARD = ROOT / "tests" / "firmware_protocols" / "firmware_bench.c"
GOLDEN = BOARD.with_name("golden")
FOLDERS, OTHERS = ("core", "plan", "coding"), ("nonvolatile", "die")
HEAD = struct.Struct("<BQI")
REQUESTS = 20_000
LONGEST_S = 300  # of the wall, of one mutant
CALL_S = 20e-6  # that a call to the line takes by the virtual clock
SWAPS = {
    "+": "-", "-": "+", "*": "+", "/": "*", "%": "/", "<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=",
    "!=": "==", "&&": "||", "||": "&&", "<<": ">>", ">>": "<<", "&": "|", "|": "&", "^": "&", "+=": "-=",
    "-=": "+=", "++": "--",
}  # fmt: skip
HIDDEN = re.compile(
    r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|^[ \t]*#(?:[^\n\\]|\\.|\\\n)*', re.S | re.M
)
OPERATOR = re.compile(r"(?<= )(\+=|-=|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%<>&|^])(?= )|\+\+")
CONSTANT = re.compile(r"(?<![\w.])(\d+)(?=u?\b)(?![\w]*x)")
STATEMENT = re.compile(
    r"(?<=[;{}\n])[ \t]+(?!return|break|continue|case|goto|static|const|typedef)[\w*>.\[\]-]+ ?(?:=|[-+|&]=|\()[^;{}]*;"
)
ARGUMENTS = re.compile(r"(?<=[(,] )?\b(\w[\w.>-]*), (\w[\w.>-]*)(?=[,)])")


class Mutant(NamedTuple):
    """``old`` becomes ``new`` at one place of a file."""

    file: str
    at: int
    old: str
    new: str
    kind: str

    @property
    def name(self) -> str:
        text = (FIRMWARE / self.file).read_text("utf-8")
        return (
            f"{self.file}:{text.count(chr(10), 0, self.at) + 1} {self.kind} {self.at}: {self.old.strip()} -> {self.new}"
        )


def mutants() -> list[Mutant]:
    """Each that can be made, in the order of files and places."""
    found: list[Mutant] = []
    sources = [p for folder in FOLDERS for p in sorted((FIRMWARE / folder).glob("*.c")) if p.name != "bytes.c"]
    for file in (p.relative_to(FIRMWARE) for p in sources):
        seen = HIDDEN.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), (FIRMWARE / file).read_text("utf-8"))

        def note(match: re.Match[str], new: str, kind: str, file: str = str(file)) -> None:
            found.append(Mutant(file, match.start(), match[0], new, kind))

        for match in OPERATOR.finditer(seen):
            note(match, SWAPS[match[0]], "operator")
        for match in CONSTANT.finditer(seen):
            note(match, str(int(match[1]) + 1), "constant")
            if int(match[1]):
                note(match, str(int(match[1]) - 1), "constant")
        for match in STATEMENT.finditer(seen):
            note(match, ";", "dropped")
        for match in ARGUMENTS.finditer(seen):
            note(match, f"{match[2]}, {match[1]}", "exchanged")
    return found


# --- one program, and a virtual line to it ------------------------------------------------------------------------


@functools.cache
def objects(folder: Path) -> dict[str, Path]:
    """Objects of the firmware without a mistake, by source."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "chip_config.h").write_text(config_header(SPEC, 0, {}, "mutant"), "utf-8")
    sources = [p for part in (*FOLDERS, *OTHERS) for p in sorted((FIRMWARE / part).glob("*.c")) if p.name != "bytes.c"]
    return {str(s): compiled(s, s.parent, folder, folder / f"{s.parent.name}_{s.stem}.o") for s in (*sources, BOARD)}


def compiled(source: Path, home: Path, config: Path, to: Path) -> Path:
    """Raises ``subprocess.CalledProcessError``: no C."""
    include = [f"-I{path}" for path in (config, home, FIRMWARE / "core", FIRMWARE / "die")]
    limits = [f"-D{name}={value}" for name, value in LIMITS.items()]
    flags = ["-std=c99", "-O1", "-w", "-ffp-contract=off", "-fno-math-errno"]
    if not to.exists() or home not in source.parents:
        subprocess.run(["gcc", *flags, *limits, *include, "-c", str(source), "-o", str(to)], check=True, stderr=-3)
    return to


def built(mutant: Mutant | None, shared: Path, folder: Path) -> Path | None:
    """The program; None: the code is that of the original, or it is no C."""
    parts, program = dict(objects(shared)), folder / "firmware"
    if mutant is not None:
        source = FIRMWARE / mutant.file
        text = source.read_text("utf-8")
        changed = folder / source.name
        changed.write_text(text[: mutant.at] + mutant.new + text[mutant.at + len(mutant.old) :], "utf-8")
        try:
            made = compiled(changed, source.parent, shared, folder / "changed.o")
        except subprocess.CalledProcessError:
            return None
        if made.read_bytes() == parts[str(source)].read_bytes():
            return None
        parts[str(source)] = made
    subprocess.run(["gcc", *map(str, parts.values()), "-lm", "-o", str(program)], check=True)
    return program


class VirtualBoard:
    """The program behind pipes: a ``Transport`` whose waiting moves the clock of this process."""

    address, max_payload = "virtual:mutant", 512

    def __init__(self, program: Path) -> None:
        self.now_s, self.heard, self.said = 1000.0, b"", hashlib.sha256()
        self._process = subprocess.Popen([str(program), "2"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._ask("K", chip_key(SECRET.hex()))
        self.cut_power()

    def _ask(self, kind: str, data: bytes = b"") -> bytes:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(HEAD.pack(ord(kind), round(self.now_s * 1e6), len(data)) + data)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise LinkError("the firmware died") from None
        size = self._process.stdout.read(4)
        if len(size) < 4:
            raise LinkError("the firmware died")
        return self._process.stdout.read(int.from_bytes(size, "little"))

    def cut_power(self) -> None:
        self._ask("B")

    def write(self, data: bytes) -> None:
        self.now_s += CALL_S
        self._ask("R", data)

    def read(self, max_bytes: int, timeout_s: float) -> bytes:
        until_s = self.now_s + max(timeout_s, CALL_S)
        while not self.heard:
            self.heard = self._ask("T")
            self.said.update(self.heard)
            self.now_s = max(self.now_s + CALL_S, int.from_bytes(self._ask("V"), "little") * 1e-6)
            if self.heard or self.now_s >= until_s:
                break
            due_s = int.from_bytes(self._ask("Q")[:8], "little") * 1e-6
            self.now_s = min(until_s, max(self.now_s, due_s))
        found, self.heard = self.heard[:max_bytes], self.heard[max_bytes:]
        return found

    def close(self) -> None:
        """The line ends; the board stays."""

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


@contextlib.contextmanager
def virtual(program: Path) -> Iterator[VirtualBoard]:
    board = VirtualBoard(program)
    with patch.object(time, "monotonic", lambda: board.now_s), patch.object(time, "sleep", board.sleep):
        yield board
    board._process.kill()


# --- what it answers, and what catches it ---------------------------------------------------------------------------


def requests(count: int) -> Iterator[bytes]:
    """Requests by seed: drawn over what a chip takes and a little beyond, and golden ones with a byte changed."""
    rng, draw = random.Random(1), np.random.default_rng(1)
    golden = [
        p for p in sorted(GOLDEN.glob("*.hex")) if not p.name.startswith(("frame", "hello", "reset", "drop", "chall"))
    ]
    raw = [bytes.fromhex(p.read_text("utf-8").split("\nbytes\n")[1]) for p in golden]
    for number in range(count):
        macro, row, column = rng.choice((0, 0, 1, 1, 2, 2, 3)), rng.randrange(127), rng.randrange(127)
        cells = CellBlock(macro, row, rng.randint(1, 3), column, rng.randint(1, 3))
        shape, few = (cells.rows, cells.columns), rng.randint(1, 4)
        tile = TileAddress(macro, rng.randrange(100), rng.randint(1, 29), rng.randrange(42), rng.randint(1, 23))
        signed, bits = rng.random() < 0.5, rng.randint(2, 8)
        low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
        kind = rng.randrange(8)
        if kind == 0:
            some: Any = rng.choice((Describe(), Status(), OutputsOff(), Wait(rng.randrange(1 << 20))))
        elif kind == 1:
            some = Pulse(
                cells,
                rng.choice(tuple(Polarity)),
                rng.randint(100, 11_000),
                number,
                draw.integers(0, 4100, shape, np.uint16),
            )
        elif kind == 2:
            some = ProgramTile(
                cells, 1000, rng.randint(1, 2000), rng.randint(1, 40), few, 1200, 100, 3300, 1500, 100, 3500, 1000,
                number, draw.integers(0, 40_000, shape, np.uint16),
            )  # fmt: skip
        elif kind == 3:
            some = ReadCells(cells, rng.choice((1, 100, 1000)), few, number)
        elif kind < 6:
            codes = draw.integers(low, high + 1, (few, tile.rows), np.int16)
            returns = rng.choice((Returns.RAW, Returns.RAW, *Returns))
            some = Mvm(
                returns,
                tile,
                0,
                rng.randrange(5),
                bits,
                signed,
                number,
                few,
                rng.randrange(4),
                codes,
                rng.randint(1, 3),
            )
        else:
            data = bytearray(rng.choice(raw))
            if rng.random() < 0.7:
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            if rng.random() < 0.1:
                del data[max(1, rng.randrange(len(data))) :]
            yield bytes(data)
            continue
        yield encode(some, 0x4000 + number % 0x4000)


def answers(program: Path, count: int, known: list[str] | None = None) -> list[str]:
    """Digest of all bytes that were said until then, after each hundred requests; ends where it is another one."""
    found: list[str] = []
    with virtual(program) as board:
        line = MessageLine(board, nonce=7, key=HostKey(SECRET))
        for number, request in enumerate(requests(count)):
            line.send(request)
            for _ in range(3):
                line._move()
            line._link.messages()
            if number % 100 == 99:
                found.append(board.said.hexdigest())
                if known is not None and found[-1] != known[len(found) - 1]:
                    return found
    return found


def caught_by(program: Path) -> str:
    """The first check that fails; nothing: ""."""
    with virtual(program) as board:
        bench = Bench(board.address, lambda: board, SPEC, HostKey(SECRET), board.cut_power)
        for group, checks in GROUPS.items():
            for check in checks:
                try:
                    check(bench)
                except NotTried:
                    pass
                except Exception as error:  # a chip that is wrong may break a check in any way
                    return f"{group}: {check_name(check)}: {str(error).splitlines()[0] if str(error) else error!r}"[
                        :200
                    ]
    return ""


def judged(mutant: Mutant, shared: Path) -> dict[str, Any]:
    row: dict[str, Any] = {"mutant": mutant.name, "file": mutant.file}
    with tempfile.TemporaryDirectory() as folder:
        program = built(mutant, shared, Path(folder))
        if program is None:
            return row | {"state": "same code or no C"}
        if caught := caught_by(program):
            return row | {"state": "caught", "by": caught}
        known = json.loads((shared / "answers.json").read_text("utf-8"))
        try:
            same = answers(program, REQUESTS, known) == known
        except Exception:  # it answers nothing that can be read
            same = False
    return row | {"state": "same answers" if same else "survives"}


def in_a_process(number: int, shared: Path) -> dict[str, Any]:
    """``judged`` in a process of its own, whose clock it may change."""
    mutant = mutants()[number]
    command = [sys.executable, __file__, "--one", str(number), "--shared", str(shared)]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_S, check=True)
    except subprocess.TimeoutExpired:
        return {"mutant": mutant.name, "file": mutant.file, "state": "caught", "by": "it hangs"}
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"{mutant.name}: {error.stderr[-2000:]}") from error
    found: dict[str, Any] = json.loads(said.stdout.splitlines()[-1])
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """Share caught by file, of mutants that differ; then those that survive."""
    lines = ["| file | differ | caught | share |", "|---|---:|---:|---:|"]
    count = collections.Counter((row["file"], row["state"]) for row in rows)
    files = sorted({row["file"] for row in rows})
    for name, some in [*((file, [file]) for file in files), ("all", files)]:
        caught, left = (sum(count[file, state] for file in some) for state in ("caught", "survives"))
        if caught + left:
            lines.append(f"| {name} | {caught + left} | {caught} | {caught / (caught + left):.1%} |")
    return "\n".join([*lines, "", *(f"survives: {row['mutant']}" for row in rows if row["state"] == "survives")])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draw", type=int, default=1000, help="mutants that are drawn of all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=360.0, help="of the clock; the same command goes on")
    parser.add_argument("--side-by-side", type=int, default=2)
    parser.add_argument("--table", action="store_true", help="print what is stored; nothing is judged")
    parser.add_argument("--one", type=int, help="judge this one here, print its JSON; -1: the original")
    parser.add_argument(
        "--shared", type=Path, default=ROOT / "runs" / "mutants", help="objects and answers of the original"
    )
    asked = parser.parse_args()
    if asked.one is not None and asked.one >= 0:
        print(json.dumps(judged(mutants()[asked.one], asked.shared)))
        return 0
    rows = [json.loads(line) for line in OUT.read_text("utf-8").splitlines()] if OUT.exists() else []
    if asked.table:
        print(table(rows))
        return 0
    program = built(None, asked.shared, asked.shared)
    assert program is not None
    if sound := caught_by(program):
        raise SystemExit(f"the firmware without a change fails: {sound}")
    (asked.shared / "answers.json").write_text(json.dumps(answers(program, REQUESTS)), "utf-8")
    if asked.one is not None:
        return 0
    drawn = random.Random(asked.seed).sample(range(len(mutants())), min(asked.draw, len(mutants())))
    there, until_s = {row["mutant"] for row in rows}, time.monotonic() + 60 * asked.minutes
    left = [number for number in drawn if mutants()[number].name not in there]
    with ThreadPoolExecutor(asked.side_by_side) as pool, OUT.open("a", encoding="utf-8") as out:
        for start in range(0, len(left), asked.side_by_side):
            if time.monotonic() > until_s:
                break
            for row in pool.map(lambda n: in_a_process(n, asked.shared), left[start : start + asked.side_by_side]):
                print(row["state"], "-", row["mutant"], "-", row.get("by", ""), flush=True)
                out.write(json.dumps(row) + "\n")
                out.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
