"""The command resume: going on with a deployment that was interrupted or failed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hil.cli.options import Baseline, FailOn, Json, Junit, screen
from hil.cli.report_words import OUTCOMES, outcomes, tell_report


def resume(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="folder of the run: runs/0001.unfinished")],
    as_json: Json = False,
    junit: Junit = None,
    baseline: Baseline = None,
    fail_on: FailOn = ",".join(OUTCOMES),
) -> int:
    """Go on with a deploy that was interrupted or failed: only what is missing is written and measured."""
    return go_on(run_folder, baseline, junit, outcomes(fail_on), as_json)


def go_on(run_folder: Path, baseline: Path | None, junit: Path | None, failing: set[str], as_json: bool) -> int:
    """The same for ``hil deploy --resume``."""
    from hil.deployment.resume import resume
    from hil.verdict.baseline import read_baseline

    earlier = read_baseline(baseline) if baseline else None
    with screen(quiet=False) as watch:
        report = resume(run_folder, watch=watch)
    return tell_report(report, earlier, junit, failing, as_json)
