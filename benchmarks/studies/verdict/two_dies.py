"""Belief against a second truth: does the verdict agree on dies of the C firmware, of physics of its own?

The network of one macro (``tests/firmware_protocols/one_macro_net.py``) is calibrated for, written to and measured on
die after die of the native firmware, each drawn from its seed, and first on a chip of the Python emulator, whose ideal
accuracy that of every die must equal. A die is a line of the results; those that stand there are not measured again,
so the benchmark may be stopped and goes on. Prints a line a die and a JSON line at the end; exit code 1 when fewer
than nine in ten agree, or an ideal accuracy is another.

    python benchmarks/studies.py two-dies [--dies 20] [--images 300] [--out benchmarks/results/two_dies.jsonl]
    python benchmarks/studies.py two-dies --write docs/explanation/validation.md   # the table of the results
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from cached_rows import cache_row, cached_rows

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT))

from cim.chip.file import load_chip  # noqa: E402
from hil.deployment.deploy import DeployOptions, deploy  # noqa: E402
from hil.server.firmware_launch import running_firmware  # noqa: E402
from hil.server.firmware_targets import FirmwareTarget  # noqa: E402
from tests.firmware_protocols.one_macro_net import write_files  # noqa: E402

SPEC = load_chip("lab-128", macros=1)
TOLERANCE, REPEATS, VIRTUAL_CHIPS = 0.03, 3, 10
FIRST_SEED, MUST_AGREE = 100, 0.9
KINDS = ("Python", "C")
BLOCK = re.compile(
    r"(<!-- dies: made by benchmarks/studies/verdict/two_dies.py -->\n).*?(<!-- end of dies -->)", re.DOTALL
)


def served(kind: str, seed: int) -> contextlib.AbstractContextManager[str]:
    """Address of a chip of one of ``KINDS``."""
    if kind == "Python":
        return contextlib.nullcontext(f"emulated:lab-128?seed={seed}&macros=1")
    return running_firmware(FirmwareTarget.NATIVE, SPEC, seed=seed, where="127.0.0.1:0")


def measured(kind: str, seed: int, images: int) -> dict[str, Any]:
    """One die: its verdict, and accuracies in percent."""
    options = DeployOptions(
        samples=images, repeats=REPEATS, virtual_chips=VIRTUAL_CHIPS, tolerance=TOLERANCE, causes=False
    )
    start_s = time.process_time()
    with tempfile.TemporaryDirectory() as folder, served(kind, seed) as address:
        net, data = write_files(Path(folder), images)
        judged = deploy(net, address, macros=1, data=str(data), out=Path(folder) / "run", options=options).decisive
    return {
        "kind": kind,
        "seed": seed,
        "images": images,
        "verdict": judged.verdict.value,
        "ideal": round(100 * judged.ideal.mean, 2),
        "simulated": round(100 * judged.simulated.mean, 2),
        "measured": round(100 * judged.measured.mean, 2),
        "cpu_s": round(time.process_time() - start_s, 1),
    }


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| die | ideal | simulated | emulated | verdict |", "|---|---|---|---|---|"]
    lines += [
        f"| {r['kind']} {r['seed']} | {r['ideal']:.2f} % | {r['simulated']:.2f} % | {r['measured']:.2f} % "
        f"| {r['verdict']} |"
        for r in sorted(rows, key=lambda r: (KINDS.index(r["kind"]), int(r["seed"])))
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dies", type=int, default=20)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "two_dies.jsonl")
    parser.add_argument("--write", type=Path, help="page whose table is written anew; nothing is measured")
    asked = parser.parse_args()
    rows = [row for row in cached_rows(asked.out) if row["images"] == asked.images]
    if asked.write:
        page = asked.write.read_text("utf-8")
        if not BLOCK.search(page):
            raise SystemExit(f"{asked.write} has no block for the table")
        asked.write.write_text(BLOCK.sub(lambda b: f"{b[1]}\n{table(rows)}\n\n{b[2]}", page), "utf-8")
        return 0
    chips = [("Python", FIRST_SEED), *(("C", FIRST_SEED + number) for number in range(asked.dies))]
    for kind, seed in chips:
        if any((row["kind"], row["seed"]) == (kind, seed) for row in rows):
            continue
        rows.append(measured(kind, seed, asked.images))
        cache_row(asked.out, rows[-1])
    dies = [row for row in rows if row["kind"] == "C"]
    agree = sum(row["verdict"] == "agree" for row in dies)
    ideal = sorted({row["ideal"] for row in rows})
    print(json.dumps({"dies": len(dies), "agree": agree, "ideal": ideal}))
    return int(agree < MUST_AGREE * len(dies) or len(ideal) > 1)


if __name__ == "__main__":
    sys.exit(main())
