"""data.h5 and the writing of files that must appear whole or not at all."""

from __future__ import annotations

import dataclasses
import errno
import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from hil import atomic
from hil.errors import FileError, LinkError, MismatchError, OutputError
from hil.report.files import write_report
from hil.report.run_data import RunData, read_run, write_run
from hil.report.run_folder import new_run_folder


def assert_same(a: object, b: object) -> None:
    assert type(a) is type(b)
    if dataclasses.is_dataclass(a):
        for f in dataclasses.fields(a):
            assert_same(getattr(a, f.name), getattr(b, f.name))
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    elif isinstance(a, (tuple, list)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    else:
        assert a == b


def test_a_run_comes_back_as_it_was(run, tmp_path):
    data = dataclasses.replace(run[1], link={k: float(v) for k, v in run[1].link.items()})
    write_run(tmp_path / "data.h5", data)
    assert_same(read_run(tmp_path / "data.h5"), data)


def test_a_run_with_nothing_optional_comes_back(run, tmp_path):
    data = RunData(
        **{
            f: getattr(run[1], f)
            for f in ("indices", "labels", "classes", "ideal_logits", "measured_logits", "simulated_logits")
        }
    )
    write_run(tmp_path / "data.h5", data)
    assert_same(read_run(tmp_path / "data.h5"), data)


def test_wrong_shapes_are_refused(run):
    with pytest.raises(ValueError, match="measured_logits"):
        dataclasses.replace(run[1], measured_logits=run[1].measured_logits[:, :-1])


def spoil(path: Path, how: str) -> None:
    if how == "missing":
        path.unlink()
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:5000])
    elif how == "text":
        path.write_text("no HDF5")
    else:
        with h5py.File(path, "r+") as file:
            if how == "unfinished":
                del file.attrs["complete"]
            elif how == "other format":
                file.attrs["format"] = "something"
            elif how == "no labels":
                del file["labels"]
            elif how == "a label too high":
                file["labels"][0] = 10
            elif how == "a telling image too far":
                file["telling"][0] = 1000
            elif how == "telling images of another number":
                del file["telling_images"]
                file["telling_images"] = np.zeros((13, 28, 28, 1), np.uint8)
            elif how == "short labels":
                del file["labels"]
                file["labels"] = np.zeros(3, np.int64)


DAMAGES = (
    "missing", "cut", "text", "unfinished", "other format", "no labels", "short labels", "a label too high",
    "a telling image too far", "telling images of another number",
)  # fmt: skip


@pytest.mark.parametrize("how", DAMAGES)
def test_broken_files_are_named(run, tmp_path, how):
    path = tmp_path / "data.h5"
    write_run(path, dataclasses.replace(run[1], telling=np.arange(2), telling_images=np.ones((2, 8, 8, 3), np.uint8)))
    spoil(path, how)
    with pytest.raises(FileError, match=r"data\.h5"):
        read_run(path)


def test_a_newer_major_version_is_a_mismatch(run, tmp_path):
    path = tmp_path / "data.h5"
    write_run(path, run[1])
    with h5py.File(path, "r+") as file:
        file.attrs["version"] = "2.0"
    with pytest.raises(MismatchError, match=r"2\.0"):
        read_run(path)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_no_half_file(run, tmp_path, monkeypatch, code):
    def full(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"no space left|quota"):
        write_report(tmp_path, *run)
    assert list(tmp_path.iterdir()) == []


def test_no_permission_is_an_output_error(tmp_path, monkeypatch):
    def refuse(path: Path, **_: object) -> None:  # root may write anywhere, so the system's refusal is played
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "touch", refuse)
    with pytest.raises(OutputError, match="permission"):
        atomic.write_text(tmp_path / "report.json", "x")


def test_a_missing_folder_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="does not exist"):
        atomic.write_text(tmp_path / "nowhere" / "report.json", "x")


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    with atomic.new_folder(tmp_path / "runs" / "0001") as part:
        (part / "a").write_text("1")
        assert not (tmp_path / "runs" / "0001").exists()
    assert (tmp_path / "runs" / "0001" / "a").read_text() == "1"
    with pytest.raises(KeyboardInterrupt), atomic.new_folder(tmp_path / "runs" / "0002"):
        raise KeyboardInterrupt
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["0001"]


def test_runs_at_the_same_time_have_numbers_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with new_run_folder(None) as first, new_run_folder(None) as second:
        assert (first.final, second.final) == (Path("runs/0001"), Path("runs/0002"))
        with pytest.raises(KeyboardInterrupt), new_run_folder(None):
            raise KeyboardInterrupt
    with new_run_folder(None) as third:
        assert third.final == Path("runs/0003")
    assert sorted(os.listdir("runs")) == ["0001", "0002", "0003"]


def test_a_folder_that_is_not_empty_is_kept(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine").touch()
    with pytest.raises(OutputError, match="in the way"), atomic.new_folder(tmp_path / "run"):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("error", [LinkError("lost"), ConnectionResetError(104, "reset"), TimeoutError("late")])
def test_errors_of_ports_are_not_blamed_on_the_disk(tmp_path, error):
    with pytest.raises(type(error)), atomic.new_folder(tmp_path / "run"):
        raise error
    assert list(tmp_path.iterdir()) == []
