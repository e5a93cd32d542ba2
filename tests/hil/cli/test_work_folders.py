"""Folders of work that goes on later: for their owner only, and never written through a link."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from hil.cli import run
from hil.errors import ExitCode, FileError, HilError
from hil.report.run_folder import new_run_folder, unfinished_run_folder
from hil.report.work_folder import WorkFolder
from hil.searching.folder import begin_folder, open_folder
from hil.searching.settings import SearchSettings
from hil.transports.journal import Journal

from ..conftest import CHIP, Small
from ..fitting import every_answer_fits as every_answer_fits

pytestmark = pytest.mark.skipif(os.name != "posix", reason="folders without owners")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def unfinished_run(folder: Path) -> Path:
    with suppress(KeyboardInterrupt), new_run_folder(folder / "run") as made, closing(Journal(made.part / "journal")):
        made.keep = True
        raise KeyboardInterrupt
    return folder / "run.unfinished"


def go_on_with_run(folder: Path) -> None:
    with unfinished_run_folder(folder):
        pass


def search(folder: Path) -> Path:
    return begin_folder(folder / "search", SearchSettings("fashion-mnist", "lab-128"), "").root


def campaign(folder: Path) -> Path:
    WorkFolder(folder / "campaign", {"seed": 1}, kind="hil.radiation", about="settings.json")
    return folder / "campaign"


def steps(folder: Path) -> Path:
    WorkFolder(folder / "record.h5.partial", {"seed": 1})
    return folder / "record.h5.partial"


WORKS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], object]]] = {
    "run": (unfinished_run, go_on_with_run),
    "search": (search, open_folder),
    "campaign": (campaign, lambda folder: WorkFolder(folder, {"seed": 1}, kind="hil.radiation", about="settings.json")),
    "calibration": (steps, lambda folder: WorkFolder(folder, {"seed": 1})),
}


@pytest.mark.parametrize("name", WORKS)
def test_a_folder_of_work_is_for_its_owner_only(name: str, tmp_path: Path) -> None:
    begin, go_on = WORKS[name]
    before = os.umask(0o022)
    try:
        folder = begin(tmp_path)
    finally:
        os.umask(before)
    assert mode(folder) == 0o700
    assert not (folder / "journal").exists() or mode(folder / "journal") == 0o600
    go_on(folder)


@pytest.mark.parametrize("name", WORKS)
def test_a_folder_whose_parts_lead_elsewhere_is_not_gone_on_with(name: str, tmp_path: Path) -> None:
    begin, go_on = WORKS[name]
    folder, other = begin(tmp_path), tmp_path / "other"
    other.write_bytes(b"of somebody")
    (folder / "journal").unlink(missing_ok=True)
    (folder / "journal").symlink_to(other)
    with pytest.raises(FileError, match="journal is a symbolic link") as refused:
        go_on(folder)
    assert isinstance(refused.value, HilError)
    assert other.read_bytes() == b"of somebody"


def test_the_command_refuses_a_run_whose_journal_is_a_link(
    small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part, other = unfinished_run(tmp_path), tmp_path / "other"
    (part / "journal").rename(other)
    (part / "journal").symlink_to(other)
    assert run(small.arguments("--port", CHIP, "--out", str(tmp_path / "run"))) == ExitCode.BAD_FILE
    assert f"symbolic link, and {part}" in capsys.readouterr().err
    assert part.is_dir()
