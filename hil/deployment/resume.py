"""Going on with a deployment that was interrupted or failed."""

from __future__ import annotations

from pathlib import Path

from hil.deployment.deploy import run_in
from hil.deployment.resumable import close_run
from hil.deployment.run_settings import load_settings
from hil.report.run_folder import unfinished_run_folder
from hil.verdict.agreement import AgreementReport
from hil.watch import Watch


def resume(run: str | Path, *, watch: Watch | None = None) -> AgreementReport:
    """Go on with a run of ``deploy`` that was interrupted or failed, with what is missing only.

    The answers that the chip gave before are taken from the run's journal, so that nothing is written or measured
    twice, and the result is the one of a run without interruption. A chip that lost its clock since (an emulated one
    whose process ended) begins the run anew.

    Args:
        run: its folder: runs/0001.unfinished, or runs/0001.

    Raises:
        FileError: no unfinished run, or a damaged one. MismatchError: another chip, or a network or data set that
        changed since. And what ``deploy`` raises.
    """
    watch = watch or Watch()
    with unfinished_run_folder(Path(run)) as folder:
        report = run_in(folder, load_settings(folder.part), watch)
    close_run(folder, watch)
    return report
