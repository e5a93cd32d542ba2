"""A whole deployment through stand-ins of each bench, as a user types it: calibrate, write, run, verdict.

Stand-ins are a process of their own before an emulated macro of 32 x 32 cells (OpenMENA: 8 x 8). The network is one
linear layer of 25 inputs and 8 classes, for 2,000 noisy images of eight patterns. A line a bench: seconds by the clock
and of processors, host's and stand-ins', and what came out. Exit code 1 where a verdict is not *agree*.

    python benchmarks/studies.py bench-deployments [--kinds b1500a,arc-two] [--age 10s]
    python benchmarks/studies.py bench-deployments --selftest      # `hil board selftest` instead, and what it lacks
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[3]))

from mapping.network.capture import capture
from mapping.network.file import NetworkFile, save_network
from mapping.network.graph import Preprocess
from tests.hil.bench.benches import WRITTEN

SIDE, CLASSES, IMAGES, SPREAD = 5, 8, 2000, 90.0
LINE = "{:<14} {:<10} {:>4} {:>8} {:>8} {:>8}  {}"
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Ran:
    """A command of `hil`: its exit code and output, and seconds by the clock, of its processor, of the stand-ins'."""

    code: int
    out: str
    wall_s: float
    host_s: float
    stand_in_s: float

    def line(self, kind: str, verb: str, said: str) -> str:
        return LINE.format(
            kind, verb, self.code, f"{self.wall_s:.0f}", f"{self.host_s:.0f}", f"{self.stand_in_s:.0f}", said
        )


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--kinds", default=",".join(WRITTEN))
    options.add_argument("--age", default="10s")
    options.add_argument("--selftest", action="store_true")
    asked = options.parse_args()
    print(LINE.format("bench", "command", "exit", "clock s", "host s", "stand-in", ""), flush=True)
    failed = 0
    for kind in asked.kinds.split(","):
        with tempfile.TemporaryDirectory() as folder:
            path = WRITTEN[kind](Path(folder))
            stand_ins = subprocess.Popen(
                [sys.executable, "-m", "hil", "emulate", "--bench", str(path)],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            try:
                assert stand_ins.stdout is not None
                stand_ins.stdout.readline()
                failed += (selftest if asked.selftest else deployment)(kind, path, stand_ins.pid, asked.age)
            finally:
                stand_ins.send_signal(signal.SIGTERM)
                stand_ins.wait()
    return 1 if failed else 0


def deployment(kind: str, path: Path, stand_ins: int, age: str) -> bool:
    """Calibrate and deploy; whether the verdict is another than *agree*."""
    folder = path.parent
    write_network(folder / "net.pt", folder / "images.npz")
    port, record = ["--port", f"bench:{path}"], str(folder / "record.h5")
    made = run(["calibrate", *port, "--quick", "--age", age, "-o", record], stand_ins, folder)
    print(made.line(kind, "calibrate", "" if made.code == 0 else made.out[-300:]), flush=True)
    if made.code:
        return True
    chip = str(next(folder.glob("macro-*.toml")))
    given = ["--chip", chip, "--data", str(folder / "images.npz"), "--calibration", record, "--age", age, "--json"]
    done = run(["deploy", str(folder / "net.pt"), *port, *given, "-o", str(folder / "run")], stand_ins, folder)
    report = folder / "run" / "report.json"
    said = verdict(report) if report.exists() else done.out[-300:]
    print(done.line(kind, "deploy", said), flush=True)
    return not said.startswith("agree")


def verdict(path: Path) -> str:
    report = json.loads(path.read_text())
    asked = report["questions"]["this_chip"]
    low, high = (100.0 * end for end in asked["interval90"])
    young_s, old_s = report["age_range_s"]
    calibrated = (report["as_calibrated"] or {}).get("text", "nothing tells")
    return (
        f"{report['verdict']}: {asked['n']} images {asked['repeats']} times, chip {asked['measured']['mean']:.1%}, "
        f"simulator {asked['simulated']['mean']:.1%}, difference {low:+.1f} … {high:+.1f}, "
        f"cells {young_s:.0f} … {old_s:.0f} s old; {calibrated}"
    )


def selftest(kind: str, path: Path, stand_ins: int, _: str) -> bool:
    """`hil board selftest`; whether it found something."""
    done = run(["board", "selftest", "--port", f"bench:{path}", "--json"], stand_ins, path.parent)
    try:
        checks = json.loads(done.out)["checks"]
    except (ValueError, KeyError):
        said = done.out[-300:]
    else:
        count = collections.Counter(check["outcome"] for check in checks)
        lacking = sorted({c["text"] for c in checks if c["outcome"] == "not there"})
        failed = [f"{c['name']}: {c['text']}" for c in checks if c["outcome"] == "failed"]
        said = "; ".join([", ".join(f"{n} {what}" for what, n in count.items()), ", ".join(lacking), *failed])
    print(done.line(kind, "selftest", said), flush=True)
    return done.code != 0


def run(words: Sequence[str], stand_ins: int, folder: Path) -> Ran:
    before, host = processor_s(stand_ins), resource.getrusage(resource.RUSAGE_CHILDREN)
    began_s = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "hil", *words], capture_output=True, text=True, cwd=folder)
    wall_s, after = time.monotonic() - began_s, resource.getrusage(resource.RUSAGE_CHILDREN)
    host_s = after.ru_utime + after.ru_stime - host.ru_utime - host.ru_stime
    return Ran(done.returncode, done.stdout or done.stderr, wall_s, host_s, processor_s(stand_ins) - before)


def processor_s(process: int) -> float:
    user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / _TICKS


def write_network(net: Path, data: Path) -> None:
    """A linear classifier of noisy images of eight patterns, fitted by least squares, and images to judge it by."""
    rng = np.random.default_rng(7)
    patterns = rng.integers(60, 196, (CLASSES, SIDE, SIDE))
    labels = rng.integers(0, CLASSES, 2 * IMAGES)
    images = np.clip(np.rint(patterns[labels] + rng.normal(0.0, SPREAD, (2 * IMAGES, SIDE, SIDE))), 0, 255).astype(
        np.uint8
    )
    inputs = np.c_[images[:IMAGES].reshape(IMAGES, -1) / 255.0, np.ones(IMAGES)]
    weights = np.linalg.lstsq(inputs, 4.0 * np.eye(CLASSES)[labels[:IMAGES]], rcond=None)[0].T
    linear = torch.nn.Linear(SIDE * SIDE, CLASSES)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor(weights[:, :-1]))
        linear.bias.copy_(torch.tensor(weights[:, -1]))
    graph = capture(
        torch.nn.Sequential(torch.nn.Flatten(), linear).eval(),
        torch.zeros(1, 1, SIDE, SIDE),
        preprocess=Preprocess((0.0,), (1.0,)),
        classes=tuple(f"pattern {n}" for n in range(CLASSES)),
    )
    save_network(NetworkFile(graph, 4, 8, images[:256, ..., None], labels[:256].astype(np.int64)), net)
    np.savez(data, images=images[IMAGES:, ..., None], labels=labels[IMAGES:].astype(np.int64))


if __name__ == "__main__":
    sys.exit(main())
