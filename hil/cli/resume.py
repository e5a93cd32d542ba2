"""The command resume: going on with a deployment that was interrupted or failed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hil.cli.options import AllowCode, Baseline, FailOn, Json, Junit, TrustModel, screen
from hil.cli.report_words import OUTCOMES, outcomes, tell_report


def resume(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="folder of the run: runs/0001.unfinished")],
    as_json: Json = False,
    junit: Junit = None,
    baseline: Baseline = None,
    fail_on: FailOn = ",".join(OUTCOMES),
    allow_code: AllowCode = False,
    trust_model: TrustModel = False,
) -> int:
    """Go on with a deploy that was interrupted or failed: only what is missing is written and measured."""
    return go_on(
        run_folder, baseline, junit, outcomes(fail_on), as_json, trust_model=trust_model, allow_code=allow_code
    )


def go_on(
    run_folder: Path,
    baseline: Path | None,
    junit: Path | None,
    failing: set[str],
    as_json: bool,
    *,
    trust_model: bool,
    allow_code: bool,
) -> int:
    """The same for ``hil deploy --resume``."""
    from hil.deployment.resume import resume
    from hil.verdict.baseline import read_baseline

    earlier = read_baseline(baseline) if baseline else None
    with screen(quiet=False) as watch:
        report = resume(run_folder, trust=trust_model, allow_code=allow_code, watch=watch)
    return tell_report(report, earlier, junit, failing, as_json)
