"""Whether two run folders hold the same bits, times on the wall and dates aside."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import numpy as np

from cim.record.file import load_record
from hil.deployment.options import DeployOptions, usual_recipe
from hil.report.run_data import RunData, read_run
from mapping.program.file import load_program
from mapping.program.records import to_record

from .wires import messages

BRIEF = DeployOptions(
    samples=64, repeats=2, virtual_chips=2, tolerance=0.1, causes=False, recipe=usual_recipe("tune=16")
)
COMPLETE = ["data.h5", "program.h5", "record.h5", "report.html", "report.json", "report.md", "wire.log"]


def arrays(run: Path) -> dict[str, object]:
    """What was measured and simulated in a run, by name."""
    data = read_run(run / "data.h5")
    found: dict[str, object] = {f.name: getattr(data, f.name) for f in fields(RunData) if f.name != "link"}
    macros = found.pop("macros")
    assert isinstance(macros, dict)
    for number, macro in macros.items():
        found |= {f"{number}.{f.name}": getattr(macro, f.name) for f in fields(macro)}
    samples = found.pop("samples")
    assert isinstance(samples, tuple)
    for sample in samples:
        found |= {f"{sample.layer}.{f.name}": getattr(sample, f.name) for f in fields(sample)}
    return found


def undated(path: Path) -> tuple[str, dict[str, np.ndarray]]:
    """A program file's content without the date of the record that its targets come from."""
    record, found = to_record(load_program(path))
    text = json.dumps(record, sort_keys=True)
    return re.sub(r"20\d\d-\d\d-\d\dT[0-9:+]*", "DATE", text), dict(found)


def check_same_runs(one: Path, other: Path) -> None:
    """Fails with the name of the first array that differs."""
    first, second = arrays(one), arrays(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)  # type: ignore[arg-type]
    (one_record, one_arrays), (other_record, other_arrays) = (undated(run / "program.h5") for run in (one, other))
    assert one_record == other_record
    for name, value in one_arrays.items():
        np.testing.assert_array_equal(value, other_arrays[name], err_msg=name)
    records = [load_record(run / "record.h5") for run in (one, other)]
    for macro in records[0].macros:
        for field in fields(records[0].macros[macro]):
            a, b = (getattr(r.macros[macro], field.name) for r in records)
            np.testing.assert_array_equal(a, b, err_msg=field.name)
    assert records[0].pulses == records[1].pulses
    asked = [[what for _, what in messages(run / "wire.log")] for run in (one, other)]
    assert len(asked[0]) == len(asked[1])
