"""Bugs planted on purpose: does ``firmware_protocols.line_simulation`` find each within a minute?

Each bug is one replacement in a copy of the sources of ``firmware_protocols``. The simulation runs on that copy
until something does not hold. A bug is a line of the results; those that stand there are not planted again, but for
what is named. Prints a JSON line at the end; exit code 1 when one is not found.

    python benchmarks/planted_bugs.py [--seed 0] [--seconds 60] [--only NAME] [--list]
    python benchmarks/planted_bugs.py --write docs/explanation/reliability.md      # the table of what stands there
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
PACKAGE = "firmware_protocols"
BLOCK = re.compile(r"(<!-- bugs: made by benchmarks/planted_bugs.py -->\n).*?(<!-- end of bugs -->)", re.DOTALL)


class Bug(NamedTuple):
    """One replacement in one file; ``old`` stands there once."""

    file: str
    old: str
    new: str


BUGS = {
    "damaged frames are taken": Bug("frames.py", 'return None, "bad_crc"', "pass"),
    "frames of other sessions are taken": Bug(
        "connection.py",
        "elif self.state is not State.UP or frame.session != self.session:",
        "elif self.state is not State.UP:",
    ),
    "a frame that came twice is taken twice": Bug(
        "receiving.py",
        "            self._counters.duplicates += 1\n            return []\n",
        "            again: list[Received] = []\n"
        "            if ahead == 0xFFFF:\n                self._join(frame, again)\n"
        "            return again\n",
    ),
    "early frames are taken as if in order": Bug("receiving.py", "        if ahead:\n", "        if ahead > 3:\n"),
    "acknowledges one frame too many": Bug(
        "connection.py",
        "ack, selective = self._receive.expected, self._receive.selective",
        "ack, selective = self._receive.expected + (self._receive.selective & 1), self._receive.selective",
    ),
    "the bitmap is off by one": Bug("receiving.py", "(sequence - self.expected - 1)", "(sequence - self.expected)"),
    "duplicates are not acknowledged": Bug(
        "receiving.py",
        "            self._counters.duplicates += 1\n",
        "            self._counters.duplicates += 1\n            self.ack_due = False\n",
    ),
    "no timer repeats the oldest frame": Bug(
        "sending.py", "if (overdue or perhaps or flight is oldest)", "if (overdue or perhaps)"
    ),
    "a half message survives a new session": Bug(
        "connection.py",
        "        self._receive = ReceiveWindow(self.limits.max_message, self.counters)\n",
        "        self._receive, old = ReceiveWindow(self.limits.max_message, self.counters), self._receive\n"
        "        self._receive._parts, self._receive._sizes = old._parts, old._sizes\n",
    ),
    "the chip keeps 8 replies": Bug("request_states.py", "KEPT_REPLIES = 16", "KEPT_REPLIES = 8"),
    "the chip forgets its replies at every hello": Bug(
        "chip.py",
        "        self._off_due = False\n        limits",
        "        self._requests.forget_replies()\n        limits",
    ),
    "a repeated request that runs is queued again": Bug(
        "request_states.py",
        "        return request_id in self._states\n",
        "        if self._states.get(request_id) is JobState.RUNNING:\n            del self._states[request_id]\n"
        "        return request_id in self._states\n",
    ),
    "outputs stay on when the host is lost": Bug("chip.py", "        self._off_due = True\n", ""),
    "the chip does not notice a lost host": Bug(
        "connection.py",
        "            if silent_at_s is not None and now_s >= silent_at_s:\n",
        "            if silent_at_s is not None and now_s >= silent_at_s and self.role is Role.HOST:\n",
    ),
    "old sessions open again": Bug("connection.py", "if (session, hello.nonce) in self._retired:", "if False:"),
    "unanswered requests are not repeated": Bug(
        "host.py", "        self._unsent = deque(self._pending)\n", "        self._unsent = deque()\n"
    ),
    "the host asks far ahead of the oldest": Bug("host.py", "or pending.turn - oldest >= CREDIT", "or False"),
    "a restart under an open session is not seen": Bug(
        "connection.py", "        if self._boot_id in (None, reply.boot_id):", "        if True:"
    ),
    "ids in turn are given to requests aside": Bug(
        "host.py", "self._aside_id() if aside else self._new_id()", "self._new_id()"
    ),
    "the reader never gives up a frame": Bug(
        "frames.py", "if self._lost or len(self._open) + len(piece) > self._longest:", "if self._lost:"
    ),
    "sent frames are kept": Bug(
        "sending.py",
        "        for flight in arrived:\n            self._size",
        "        self._old = [*getattr(self, '_old', []), *(bytes(64 * len(f.payload)) for f in arrived)]\n"
        "        for flight in arrived:\n            self._size",
    ),
    "a long tile does not let the link breathe": Bug(
        "chip.py", "        if not data and self._may_work():", "        while not data and self._may_work():"
    ),
    "the chip follows a forged counter": Bug(
        "extensions/authority.py", "if counter > self._counter + MOST_STEP:", "if counter > MOST_COUNTER * 2:"
    ),
    "the host follows a forged counter": Bug(
        "extensions/authority.py", "    if challenge.counter > most:\n", "    if challenge.counter < 0:\n"
    ),
    "a record that was not finished is taken": Bug(
        "extensions/memory.py", "return number if good else 0", "return number if good or size else 0"
    ),
    "a new record takes the place of the newest": Bug(
        "extensions/memory.py", "self._order.pop(0)", "self._order.pop()"
    ),
    "answers in the journal are not read after a restart": Bug(
        "chip.py", "            self._recall(hello.nonce)\n", ""
    ),
    "answers in the journal are given to every host": Bug("extensions/journal.py", "if its == nonce:", "if True:"),
    "single pulses are not journalled": Bug(
        "extensions/journal.py", "(ProgramTile, ImageTile, Pulse, Wait, HoldProgram)", "(ProgramTile, ImageTile, Wait)"
    ),
    "tiles of an image are not journalled": Bug(
        "extensions/journal.py", "(ProgramTile, ImageTile, Pulse, Wait, HoldProgram)", "(ProgramTile, Pulse, Wait)"
    ),
    "the clock does not go on from the journal": Bug(
        "chip.py", "max(self._extras.last_time_ns - handlers.chip_time_ns, 0)", "0"
    ),
    "a piece of an image is marked before it is written": Bug(
        "extensions/images.py",
        "                self._memory.write(self._data + number * CHUNK, piece)\n"
        '                self._memory.write(self._marks + number, b"\\1")\n',
        '                self._memory.write(self._marks + number, b"\\1")\n'
        "                self._memory.write(self._data + number * CHUNK, piece)\n",
    ),
    "marks of the image before are taken for those of a new one": Bug(
        "extensions/images.py", "            self._forget()\n            self._ring.add", "            self._ring.add"
    ),
    "OUTPUTS_OFF is answered and not done": Bug(
        "chip.py",
        "        request = meant(job.request, self._extras.images)\n        self._dead_man.see(request)\n",
        "        request = meant(job.request, self._extras.images)\n        self._dead_man.see(request)\n"
        "        if isinstance(request, OutputsOff):\n            return OutputsOff.reply_class()\n",
    ),
    "OUTPUTS_OFF ends no work": Bug(
        "chip.py", '            self._stop_all("the outputs were switched off")\n', "            pass\n"
    ),
    "work goes on for a silent host": Bug(
        "chip.py", "held_up = self._dead_man.holds_up(self.connection.last_heard_s)", "held_up = False"
    ),
    "work that was held up goes on with the outputs off": Bug(
        "chip.py",
        "                    self._prepare(meant(job.request, self._extras.images))\n",
        "                    pass\n",
    ),
    "the dead-man timer waits twice as long": Bug("dead_man.py", "DEAD_MAN_S = 10.0", "DEAD_MAN_S = 20.0"),
    "images are taken whatever their digest": Bug(
        "extensions/images.py", "self._size)).digest() != digest:", "self._size)).digest() == b'?':"
    ),
    "an image that was refused keeps its marks": Bug(
        "extensions/images.py",
        "            self._forget()\n            raise Refusal(ErrorCode.MALFORMED",
        "            raise Refusal(ErrorCode.MALFORMED",
    ),
    "numbers of arriving frames do not wrap": Bug(
        "receiving.py", "self.expected = (self.expected + 1) & 0xFFFF", "self.expected = self.expected + 1"
    ),
    "the window is not counted over the wrap": Bug(
        "sending.py",
        "return self._window - ((self.next_sequence - next(iter(self._flight))) & 0xFFFF)",
        "return self._window - abs(self.next_sequence - next(iter(self._flight)))",
    ),
    "acknowledgements are not counted over the wrap": Bug(
        "sending.py", "advance = (ack - base) & 0xFFFF", "advance = max(ack - base, 0)"
    ),
    "one frame is in flight at a time": Bug(
        "sending.py", "        room = self._room()\n", "        room = min(self._room(), 1 - len(self._flight))\n"
    ),
    "lost frames wait for their timer": Bug("sending.py", "        self._lost = lost\n", "        self._lost = []\n"),
    "frames are sent twice": Bug(
        "sending.py",
        "                due.append(self._cut(channel, waiting, now_s))\n",
        "                due += [self._cut(channel, waiting, now_s)] * 2\n",
    ),
    "frames are always short": Bug("sending.py", "rest[: self._size.payload]", "rest[: min(self._size.payload, 64)]"),
    "the timer starts at four seconds": Bug(
        "round_trip.py", "RTO_MIN_S, RTO_MAX_S, RTO_FIRST_S = 0.020", "RTO_MIN_S, RTO_MAX_S, RTO_FIRST_S = 4.0"
    ),
    "the chip hears OUTPUTS_OFF in its turn": Bug(
        "chip.py", "        if isinstance(message, OFF):\n", "        if isinstance(message, Reset):\n"
    ),
}
RUN = """
import json, sys, time
from firmware_protocols.line_simulation.floors import below_floors
from firmware_protocols.line_simulation.vopr import run_vopr
slow = [[0, text] for text in below_floors()]
found = run_vopr(int(sys.argv[1]), 0.01 if slow else float(sys.argv[2]), clock=time.process_time)
print(json.dumps([time.process_time(), found.open_s, slow or found.failed]))
"""


def planted(bug: Bug | None, folder: Path) -> Path:
    """A copy of the sources with the bug in it."""
    shutil.copytree(
        ROOT / PACKAGE, folder / PACKAGE, ignore=shutil.ignore_patterns("__pycache__", "reference_firmware")
    )
    if bug is not None:
        path = folder / PACKAGE / bug.file
        text = path.read_text("utf-8")
        if text.count(bug.old) != 1:
            raise SystemExit(f"{bug.file} holds {text.count(bug.old)} times, not once: {bug.old!r}")
        path.write_text(text.replace(bug.old, bug.new), "utf-8")
    return folder


def simulate(bug: Bug | None, seed: int, seconds: float) -> tuple[float, float, list[tuple[int, str]]]:
    """CPU seconds, line seconds, and what was found, of the simulation of a copy with ``bug``."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPATH": str(planted(bug, Path(folder)))}
        command = [sys.executable, "-c", RUN, str(seed), str(seconds)]
        said = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if said.returncode:
        return 0.0, 0.0, [(0, said.stderr.strip().splitlines()[-1])]
    cpu_s, open_s, failed = json.loads(said.stdout)
    return cpu_s, open_s, [(number, text) for number, text in failed]


def rows_of(path: Path, seed: int) -> dict[str, dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []
    return {row["bug"]: row for row in rows if row["seed"] == seed and row["bug"] in BUGS}


def table(rows: dict[str, dict[str, Any]]) -> str:
    lines = ["| bug | found after CPU time | of line | by |", "|---|---|---|---|"]
    for name in BUGS:
        row = rows.get(name)
        if row is None:
            lines.append(f"| {name} | not planted | | |")
        else:
            what = f"{row['cpu_s']:.1f} s" if row["found"] else f"not in {row['cpu_s']:.0f} s"
            lines.append(f"| {name} | {what} | {row['open_s']:,.0f} s | {row['found'].replace('|', '/')} |")
    return "\n".join(lines)


def in_short(text: str) -> str:
    """What did not hold, without its time; of an exception its last line."""
    first, *rest = text.split(" s: ", 1)[-1].splitlines()
    return (f"{first} {rest[-1].strip()}" if rest else first)[:120]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=60.0, help="CPU time for each bug")
    parser.add_argument("--only", help="bugs whose name holds this")
    parser.add_argument("--list", action="store_true", help="only say their names")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "planted_bugs.jsonl")
    parser.add_argument("--write", type=Path, help="page whose table is written anew; nothing is planted")
    asked = parser.parse_args()
    rows = rows_of(asked.out, asked.seed)
    if asked.list:
        print("\n".join(BUGS))
        return 0
    if asked.write:
        page = asked.write.read_text("utf-8")
        if not BLOCK.search(page):
            raise SystemExit(f"{asked.write} has no block for the table")
        asked.write.write_text(BLOCK.sub(lambda b: f"{b[1]}\n{table(rows)}\n\n{b[2]}", page), "utf-8")
        return 0
    for name, bug in BUGS.items():
        if name in rows if asked.only is None else asked.only not in name:
            continue
        cpu_s, open_s, failed = simulate(bug, asked.seed, asked.seconds)
        found = in_short(failed[0][1]) if failed else ""
        rows[name] = {
            "bug": name, "seed": asked.seed, "cpu_s": round(cpu_s, 1), "open_s": round(open_s), "found": found,
        }  # fmt: skip
        print(json.dumps(rows[name]), flush=True)
        with asked.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(rows[name]) + "\n")
    missed = [name for name, row in rows.items() if not row["found"]]
    print(json.dumps({"bugs": len(rows), "of": len(BUGS), "seed": asked.seed, "missed": missed}))
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
