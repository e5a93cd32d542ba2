"""Going on with a deployment that was interrupted or failed."""

from __future__ import annotations

from pathlib import Path

from hil.deployment.deploy import run_in
from hil.deployment.resumable import close_run, shown_part
from hil.deployment.run_settings import load_settings
from hil.errors import FileError, UsageError
from hil.report.run_folder import unfinished_run_folder
from hil.verdict.agreement import AgreementReport
from hil.watch import Watch
from mapping.network.file_check import UnsafeFileError

NOT_STORED = "consent is given on each command line and never stored: a folder may come from anybody"


def resume(
    run: str | Path, *, trust: bool = False, allow_code: bool = False, watch: Watch | None = None
) -> AgreementReport:
    """Go on with a run of ``deploy`` that was interrupted or failed, with what is missing only.

    The answers that the chip gave before are taken from the run's journal, so that nothing is written or measured
    twice, and the result is the one of a run without interruption. A chip that lost its clock since (an emulated one
    whose process ended) begins the run anew.

    Args:
        run: its folder: runs/0001.unfinished, or runs/0001.
        trust: the network file that the folder names **may run code**.
        allow_code: so may the file of the user's own metric that it names.

    Raises:
        FileError: no unfinished run, a damaged one, or a network file that can run code, without ``trust``.
        UsageError: a metric that is code, without ``allow_code``.
        MismatchError: another chip, or a network or data set that changed since. And what ``deploy`` raises.
    """
    watch = watch or Watch()
    with unfinished_run_folder(Path(run)) as folder:
        settings = load_settings(folder.part, trust=trust, allow_code=allow_code)
        again = f"hil resume {shown_part(folder)}{settings.consent}"
        if ":" in settings.options.metric and not allow_code:
            raise UsageError(
                f"the run is scored by {settings.options.metric}, Python code that nobody allowed to run",
                likely=NOT_STORED,
                hint=f"{again} --allow-code, if you trust it",
            )
        try:
            report = run_in(folder, settings, watch)
        except UnsafeFileError as error:
            raise FileError(
                f"{error.path} {error.what}", likely=NOT_STORED, hint=f"{again} --trust-model, if you trust its author"
            ) from error
    close_run(folder, watch)
    return report
