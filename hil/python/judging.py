"""Answers judged from Python: ``judge``, the verdict of ``deploy`` on what was measured elsewhere."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from hil.datasets.input_values import with_pixels
from hil.deployment.options import DeployOptions
from hil.errors import UsageError
from hil.prediction.answers_file import read_answers
from hil.prediction.judge import judge_found, write_judged
from hil.python.answers import Report
from hil.python.files import Known
from hil.python.networks import CompiledNetwork, program_of
from hil.python.progress import progress
from hil.python.runs import record_of
from hil.python.samples import HOW, Samples, samples_of
from hil.report.run_folder import new_run_folder
from hil.watch import Watch
from mapping.program.conductance import ConductanceProgram

Answers: TypeAlias = str | Path | Any
"""A file of answers, classes (n,) or (repeats, n), or logits (repeats, n, classes) as codes of the network."""


def judge(
    network: CompiledNetwork | ConductanceProgram | str | Path,
    answers: Answers,
    data: Samples | None = None,
    *,
    record: Known = None,
    measured_chip: str | None = None,
    looks: Sequence[int] = (),
    out: str | Path | None = None,
    options: DeployOptions | None = None,
    watch: Watch | None = None,
) -> Report:
    """Judge answers that were measured elsewhere by virtual chips, as ``hil judge`` does; a run folder is written.

    Args:
        network: the program that was measured.
        answers: .npz or .csv, or an array: classes (n,) or (repeats, n), or logits (repeats, n, classes).
        data: the samples that were answered, in their order, with their labels; None: those of the last deployment.
        record: of the chip or of cells; None: the models of the chip file.
        measured_chip: chip to judge, if the file has several.
        looks: image counts of interim analyses, planned before the first answer; empty: one.
        out: run folder; None makes runs/NNNN.
        options: of the verdict, as of a deployment.
        watch: hears stages and progress; None: nobody does.

    Returns:
        the report, which has no verdict on *this chip*: nothing was read back.

    Raises:
        hil.FileError: invalid answers. hil.UsageError: no samples, or a task other than classes.
        hil.MismatchError: the record is of another chip description.

    Example:
        >>> verdict = hil.judge(program, answers, test, record=record, options=few).verdict
        >>> verdict in ("agree", "inconclusive", "disagree")
        True
    """
    given = network.data if data is None and isinstance(network, CompiledNetwork) else data
    if given is None:
        raise UsageError("no samples that were answered", hint=HOW)
    program, samples = program_of(network), samples_of(given)
    asked = (options or DeployOptions()).compiled_for(program)
    graph = network.graph if isinstance(network, CompiledNetwork) else None
    images = with_pixels(samples, program.input.shape, program.preprocess)
    found = _found(answers, images.labels, measured_chip)
    with progress(watch) as observer, new_run_folder(None if out is None else Path(out)) as folder:
        report, arrays = judge_found(found, program, images, record_of(record), graph, looks, asked, observer)
        name = network.name if isinstance(network, CompiledNetwork) else "program"
        report = write_judged(replace(report), arrays, program, name, folder, asked, observer)
    return Report.of(report)


def _found(answers: Answers, labels: Any, chip: str | None) -> Any:
    """Answers of a file, or of an array with the same checks."""
    if isinstance(answers, str | Path):
        return read_answers(answers, chip)
    held = np.asarray(answers.detach().cpu().numpy() if hasattr(answers, "detach") else answers)
    name = "logits" if held.ndim == 3 else "answers"
    if held.dtype.kind not in "iu" or held.ndim not in (1, 2, 3):
        raise UsageError(f"answers of {held.dtype} {held.shape}", hint=f"integers: {Answers.__doc__ or HOW}")
    with tempfile.TemporaryDirectory(prefix="hil-") as folder:
        path = Path(folder) / "answers.npz"
        np.savez(path, **{name: held, "labels": labels})
        return read_answers(path, chip)
