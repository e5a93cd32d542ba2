"""All runs of a folder beside each other."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest

from hil.cli import run as hil
from hil.errors import FileError
from hil.report.files import report_text
from hil.report.run_index import read_runs
from hil.verdict.agreement import AgreementReport

AGES_S = {"0001": 3600.0, "0002": 86400.0, "0003": 30.0}


def write_runs(folder: Path, report: AgreementReport) -> Path:
    """Three runs of other ages, one that was not finished, and one whose report is broken."""
    for name, age_s in AGES_S.items():
        (folder / name).mkdir(parents=True)
        created = f"2026-01-{name[-2:]}T12:00:00+00:00"
        (folder / name / "report.json").write_text(
            report_text(dataclasses.replace(report, age_s=age_s, created=created)), encoding="utf-8"
        )
    (folder / "0004").mkdir()
    (folder / "0004" / "report.json").write_text('{"schema": "hil.report/2.0"}', encoding="utf-8")
    (folder / "0005.unfinished").mkdir()
    return folder


def test_show_of_a_folder_prints_a_line_for_each_run(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    folder = write_runs(tmp_path / "runs", run[0])
    assert hil(["show", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["0001", "0002", "0003"]
    assert "NOT SILICON" in lines[1]
    assert "24" in lines[2] or "1 d" in lines[2]
    assert "0005.unfinished" in lines[4]
    assert "0004" in lines[4]


def test_a_run_too_wide_for_the_terminal_is_a_block_under_its_name(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    folder = write_runs(tmp_path / "runs", run[0])
    assert hil(["show", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    heads = [number for number, line in enumerate(lines) if line.strip() in AGES_S]
    assert [lines[head].strip() for head in heads] == list(AGES_S)
    for head in heads:
        assert lines[head + 1].split()[0] == "made"
        assert "NOT SILICON" in lines[head + 3]


def test_show_of_a_folder_as_json_holds_the_numbers(run, tmp_path, capsys):
    folder = write_runs(tmp_path / "runs", run[0])
    assert hil(["show", str(folder), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert [line["age_s"] for line in value["runs"]] == list(AGES_S.values())
    assert value["runs"][0]["measured"]["mean"] == run[0].decisive.measured.mean
    assert value["unread"] == ["0004"]


def test_links_to_other_folders_are_not_followed(run, tmp_path):
    folder = write_runs(tmp_path / "runs", run[0])
    (folder / "0009").symlink_to(folder / "0001")
    assert list(read_runs(folder).runs) == list(AGES_S)


def test_a_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(FileError, match="nowhere"):
        read_runs(tmp_path / "nowhere")


def test_reports_that_are_no_plain_files_or_nested_deep_are_named_as_unread(tmp_path):
    for name in ("0001", "0002", "0003"):
        (tmp_path / name).mkdir()
    os.mkfifo(tmp_path / "0001" / "report.json")
    (tmp_path / "0002" / "report.json").symlink_to("/dev/zero")
    (tmp_path / "0003" / "report.json").write_text("[" * 100_000, encoding="utf-8")
    assert read_runs(tmp_path).unread == ("0001", "0002", "0003")
