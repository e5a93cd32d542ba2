"""Wire resistance: our solutions and law against nodal analysis, in one run.

    python benchmarks/studies.py wire-accuracy [--oracle-python PYTHON] [--rows 128 256] [--ohms 1 2 5]

``row`` cases: square arrays with inputs on the word lines, ohm per pitch of word and bit lines. Our
exact matrix (``cim.array.wires.effective_conductances``) against a sparse nodal
solution of every node. ``gate`` cases: 1T1R, ohm per pitch of bit and of source line; the law
(``cim.array.wire_law``) and the exact ladders against a nodal solution of columns with both lines.

The oracle is badcrossbar 1.x (Joksas and Mehonic, doi:10.1016/j.softx.2020.100617) run by
``--oracle-python``, else a nodal solver of our own, below. A gated column with both ends on one side is a
crossbar without word-line resistance and with twice the bit-line resistance; every input is a network of its own.

Errors are rms and largest in % of full scale: the largest sum without wires among the vectors of the case.
Times are CPU seconds; ``oracle_s`` and ``use_s`` are per input vector. Prints one JSON line per case.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import splu

from cim.array.wire_law import (
    Wire,
    conversion_cells,
    conversion_line,
    line_bend,
    wire_table,
    wired_sums_us,
)
from cim.array.wires import effective_conductances, gated_sums_us
from cim.chip.file import load_chip
from cim.chip.spec import MacroSpec

sys.path.insert(0, str(Path(__file__).parents[3]))
from tests.cim.array.wire_loss import wire_loss_us

Floats = NDArray[np.float64]
OPEN_OHM = 1e18  # a cell that is not driven
BADCROSSBAR = """
import json, sys, time
import numpy as np
import badcrossbar
d = np.load(sys.argv[1])
start = time.process_time()
found = [badcrossbar.compute(v, r, r_i_word_line=float(d["word"]), r_i_bit_line=float(d["bit"]),
                             node_voltages=False, all_currents=False).currents.output
         for v, r in zip(d["volts"], d["ohms"])]
seconds = time.process_time() - start
np.save(sys.argv[2], np.stack(found))
print(json.dumps([seconds, str(getattr(badcrossbar, "__version__", ""))]))
"""


def nodal(volts: Floats, ohms: Floats, word_ohm: float, bit_ohm: float) -> Floats:
    """Output currents (vectors, columns) of one crossbar, every node written out; volts (rows, vectors).

    Without word-line resistance the word-line nodes are the sources.
    """
    rows, columns = ohms.shape
    g = 1.0 / ohms
    at = np.arange(rows * columns).reshape(rows, columns)
    size = rows * columns * (2 if word_ohm else 1)
    bit = at + (rows * columns if word_ohm else 0)
    links: list[tuple[NDArray[Any], NDArray[Any], Floats]] = [
        (bit[:-1].ravel(), bit[1:].ravel(), np.full(bit[1:].size, 1.0 / bit_ohm))
    ]
    ground = np.zeros(size)
    ground[bit[-1]] += 1.0 / bit_ohm
    drive = np.zeros((size, volts.shape[1]))
    if word_ohm:
        links.append((at.ravel(), bit.ravel(), g.ravel()))
        links.append((at[:, :-1].ravel(), at[:, 1:].ravel(), np.full(at[:, 1:].size, 1.0 / word_ohm)))
        ground[at[:, 0]] += 1.0 / word_ohm
        drive[at[:, 0]] = volts / word_ohm
    else:
        ground[bit.ravel()] += g.ravel()
        drive[bit.ravel()] = g.reshape(-1, 1) * np.repeat(volts, columns, axis=0)
    a, b, c = (np.concatenate(parts) for parts in zip(*links, strict=True))
    off = sparse.coo_matrix((c, (a, b)), shape=(size, size))
    off = off + off.T
    matrix = sparse.diags(np.asarray(off.sum(1)).ravel() + ground) - off
    found = splu(matrix.tocsc()).solve(drive)
    return np.asarray(found[bit[-1]].T / bit_ohm)


class Oracle:
    """Currents of crossbars and what they cost; badcrossbar where there is one."""

    def __init__(self, python: str | None) -> None:
        self.python, self.name = python, "own sparse nodal solver"
        if python is not None:
            check = subprocess.run([python, "-c", "import badcrossbar"], capture_output=True, check=False)
            if check.returncode:
                print(json.dumps({"note": f"{python} has no badcrossbar; own sparse nodal solver instead"}))
                self.python = None
            else:
                self.name = "badcrossbar"

    def currents(self, volts: Floats, ohms: Floats, word_ohm: float, bit_ohm: float) -> tuple[Floats, float]:
        """Currents (networks, vectors, columns) and seconds; volts (networks, rows, vectors), ohms per cell."""
        if self.python is None:
            start = time.process_time()
            found = np.stack([nodal(v, r, word_ohm, bit_ohm) for v, r in zip(volts, ohms, strict=True)])
            return found, time.process_time() - start
        with tempfile.TemporaryDirectory() as folder:
            given, answer = Path(folder, "in.npz"), Path(folder, "out.npy")
            np.savez(given, volts=volts, ohms=ohms, word=word_ohm, bit=bit_ohm)
            done = subprocess.run(
                [self.python, "-c", BADCROSSBAR, str(given), str(answer)], capture_output=True, text=True, check=True
            )
            seconds, _ = json.loads(done.stdout.strip().splitlines()[-1])
            return np.load(answer).reshape(len(volts), volts.shape[2], ohms.shape[2]), float(seconds)


def timed(work: Callable[[], Any], repeats: int = 5) -> tuple[Any, float]:
    """Result and the least CPU time of some repeats."""
    best, result = np.inf, None
    for _ in range(repeats):
        start = time.process_time()
        result = work()
        best = min(best, time.process_time() - start)
    return result, best


def brief(value: float) -> float:
    return float(f"{value:.3g}")


def errors(found: Floats, exact: Floats, full_scale: float) -> list[float]:
    """rms and largest error, % of full scale."""
    off = found - exact
    return [brief(100 * float(v) / full_scale) for v in (np.sqrt(np.mean(off**2)), np.abs(off).max())]


def row_case(rows: int, ohm: float, oracle: Oracle, vectors: int) -> dict[str, Any]:
    """A square array of 2-40 µS, half of the inputs on."""
    rng = np.random.default_rng(rows)
    g = rng.uniform(2.0, 40.0, (rows, rows))
    x = (rng.random((vectors, rows)) < 0.5).astype(np.float64)
    plain = x @ g
    found, oracle_s = oracle.currents(x.T[None], 1e6 / g[None], ohm, ohm)
    exact = found[0] * 1e6
    effective, setup_s = timed(lambda: effective_conductances(g, ohm, ohm), 3)
    sums, use_s = timed(lambda: x @ effective, 20)
    scale = float(np.abs(plain).max())
    return {
        "case": "row",
        "rows": rows,
        "ohm": ohm,
        "full_scale_us": round(scale),
        "no_correction": errors(plain, exact, scale),
        "exact_matrix": errors(sums, exact, scale),
        "setup_s": round(setup_s, 4),
        "use_s": brief(use_s / vectors),
        "oracle_s": brief(oracle_s / vectors),
        "oracle_over_use": round(oracle_s / use_s),
        "oracle_over_setup_and_use": round(oracle_s / (setup_s + use_s), 2),
    }


def gate_case(spec: MacroSpec, rows: int, ohm: float, density: str, oracle: Oracle, vectors: int) -> dict[str, Any]:
    """Pairs of columns subtracted before the converter, random levels with programming errors."""
    rng = np.random.default_rng(rows)
    spec = replace(spec, rows=rows, rows_per_read=rows)
    levels = rng.integers(-spec.max_level, spec.max_level + 1, (rows, 32))
    table = np.array(spec.levels_us)
    halves = np.stack([table[np.maximum(levels, 0)], table[np.maximum(-levels, 0)]])
    halves = np.clip(halves + 1.5 * rng.standard_normal(halves.shape), 0.5, None)
    share = rng.uniform(0.02, 1.0, (vectors, 1)) if density == "mixed" else float(density)
    units = (rng.random((vectors, rows)) < share).astype(np.int64)
    wire, plain = Wire(ohm, 0.0), units @ conversion_cells(spec, halves)
    exact, ladder_s = timed(lambda: gated_sums_us(spec, 0, halves, units, wire), 2)
    few = slice(0, 8)
    cells = np.concatenate([halves[0], halves[1]], axis=1)
    networks = np.where(units[few, :, None] > 0, 1e6 / cells, OPEN_OHM)
    found, oracle_s = oracle.currents(np.ones((len(networks), rows, 1)), networks, 0.0, 2.0 * ohm)
    lines = found[:, 0] * 1e6
    scale = float(np.abs(plain).max())
    _, setup_s = timed(lambda: wire_table(spec, 0, halves, wire))
    law, law_s = timed(lambda: wired_sums_us(spec, 0, halves, units, wire))
    wide = wired_sums_us(spec, 0, halves, units, wire, 16)
    loss = ohm * wire_loss_us(spec, 0, halves, units)
    bent = plain - loss / (1.0 + line_bend(spec, halves, wire) * units.sum(1)[:, None])
    use_s = (law_s - setup_s) / vectors
    return {
        "case": "gate",
        "rows": rows,
        "ohm": ohm,
        "density": density,
        "full_scale_us": round(scale),
        "mean_load_us": round(float(conversion_line(spec, halves).load_us.mean()), 1),
        "ladder_against_oracle": errors(exact[few], lines[:, :32] - lines[:, 32:], scale),
        "no_correction": errors(plain, exact, scale),
        "first_order": errors(plain - loss, exact, scale),
        "one_bend": errors(bent, exact, scale),
        "law_mean_load": errors(wired_sums_us(spec, 0, halves, units, wire, mean_load=True), exact, scale),
        "law": errors(law, exact, scale),
        "law_groups_of_16": errors(wide, exact, scale),
        "setup_s": round(setup_s, 5),
        "use_s": brief(use_s),
        "ladder_s": brief(ladder_s / vectors),
        "oracle_s": brief(oracle_s / len(networks)),
        "oracle_over_use": round(oracle_s / len(networks) / use_s),
        "ladder_over_use": round(ladder_s / vectors / use_s, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--oracle-python", help="a Python that imports badcrossbar")
    parser.add_argument("--rows", type=int, nargs="+", default=[128, 256])
    parser.add_argument("--ohms", type=float, nargs="+", default=[1.0, 2.0, 5.0])
    parser.add_argument("--vectors", type=int, default=16, help="of row cases")
    parser.add_argument("--gate-vectors", type=int, default=200)
    parser.add_argument("--cases", nargs="+", choices=("row", "gate"), default=["row", "gate"])
    options = parser.parse_args()
    oracle, spec = Oracle(options.oracle_python), load_chip("lab-128").macro
    print(json.dumps({"oracle": oracle.name, "numpy": np.__version__}), flush=True)
    for rows in options.rows:
        for ohm in options.ohms:
            if "row" in options.cases:
                print(json.dumps(row_case(rows, ohm, oracle, options.vectors)), flush=True)
            for density in ("mixed", "0.5", "0.1"):
                if "gate" in options.cases:
                    case = gate_case(spec, rows, ohm, density, oracle, options.gate_vectors)
                    print(json.dumps(case), flush=True)


if __name__ == "__main__":
    main()
