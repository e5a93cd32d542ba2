"""Summaries as people see them: at 60, 80 and 120 columns nothing overflows, and no number breaks."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import shlex
import subprocess
from pathlib import Path

import pytest

import hil
from hil.cli import run
from hil.errors import ExitCode
from hil.pages.summary import Summary
from hil.report.account import summary_of
from hil.report.step_words import MADE_IN
from hil.report.terminal.answers import broken_command, shown
from hil.report.terminal.lines import spell_out
from hil.verdict.agreement import AgreementReport
from hil.verdict.cause_split import CauseSplit
from hil.verdict.verdict import Verdict

from ..conftest import Small
from ..fitting import WIDTHS, Terminal, broken_numbers, too_wide
from ..invented_run import synthetic_run


def rendered(summary: Summary, width: int, encoding: str = "utf-8") -> str:
    spell_out()
    return shown(summary, Terminal(encoding), width)


def with_loss(report: AgreementReport, lost: float) -> AgreementReport:
    """The report as if so much were lost from float to the chip, most of it relaxation."""
    split = report.causes
    assert isinstance(split, CauseSplit)
    shares = {"relaxation": 0.6, "ADC": 0.25, "programming": 0.15}
    parts = tuple(
        dataclasses.replace(
            p,
            loss=shares.get(p.name, 0.0) * lost,
            low=shares.get(p.name, 0.0) * lost - 0.004,
            high=shares.get(p.name, 0.0) * lost + 0.004,
        )
        for p in split.parts
    )
    whole = dataclasses.replace(split, gap=lost, low=lost - 0.01, high=lost + 0.01, parts=parts)
    return dataclasses.replace(report, causes=whole)


def reports() -> dict[str, AgreementReport]:
    agree = synthetic_run()[0]
    disagree = synthetic_run(shift=900.0)[0]
    few = synthetic_run(images=120)[0]
    return {"agree": agree, "disagree": disagree, "inconclusive": few, "loss": with_loss(agree, 0.09)}


REPORTS = reports()


def test_the_invented_runs_are_what_they_are_called() -> None:
    assert REPORTS["agree"].verdict is REPORTS["loss"].verdict is Verdict.AGREE
    assert REPORTS["disagree"].verdict is Verdict.DISAGREE
    assert REPORTS["inconclusive"].verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", REPORTS)
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "ascii"])
def test_a_run_fits_any_width_and_breaks_no_number(name: str, width: int, encoding: str) -> None:
    text = rendered(summary_of(REPORTS[name]), width, encoding)
    assert too_wide(text, width) == []
    text.encode(encoding)
    if encoding == "utf-8":
        assert broken_numbers(text, rendered(summary_of(REPORTS[name]), 200)) == set()
        assert "…\n" not in text, "rich cut a cell"


@pytest.mark.parametrize("name", REPORTS)
def test_the_answer_stands_in_the_first_five_lines(name: str) -> None:
    report = REPORTS[name]
    lines = rendered(summary_of(report), 80).splitlines()[:5]
    assert any(report.verdict.value.upper() in line for line in lines)
    assert any("apart" in line for line in lines)


def test_causes_stand_largest_first_with_bars_and_what_is_not_told_from_0_in_one_line() -> None:
    lines = rendered(summary_of(REPORTS["loss"]), 100).splitlines()
    begin = next(k for k, line in enumerate(lines) if "Lost on the chip" in line)
    assert "9.0 points" in lines[begin]
    names = [line.split()[0] for line in lines[begin + 1 : begin + 4]]
    assert names == ["relaxation", "ADC", "programming"]
    bars = [line.count("█") for line in lines[begin + 1 : begin + 4]]
    assert bars == sorted(bars, reverse=True)
    assert bars[0] > 10
    assert lines[begin + 4].strip().startswith("not distinguishable from 0: quantisation, read noise, IR drop")


def commands(report: AgreementReport) -> list[str]:
    return [step.command for step in summary_of(report).steps]


def test_the_next_commands_follow_from_the_answer() -> None:
    assert commands(REPORTS["agree"])[0] == "hil simulate --calibration 0007/record.h5 --age 1d,30d"
    assert "--recalibrate" in commands(REPORTS["disagree"])[0]
    assert any(c.startswith("hil board mvm --port 'emulated:lab-128?seed=7'") for c in commands(REPORTS["disagree"]))
    assert "--samples 2000" in commands(REPORTS["inconclusive"])[0]
    lost = commands(REPORTS["loss"])
    assert re.search(r"points are lost to the cells: \d+ copies", str(summary_of(REPORTS["loss"]).steps))
    assert "--with rewrite=3" in lost[0]
    assert any(c.startswith("hil improve") and "--calibration 0007/record.h5" in c for c in lost)


def test_a_run_is_repeated_with_the_options_that_were_typed() -> None:
    typed = "hil deploy net.pt --port /dev/ttyUSB0 --data 'my set' --samples 100 --out here --recalibrate"
    report = dataclasses.replace(
        REPORTS["inconclusive"], environment={"command": typed}, asked={"network": "/far/net.pt", "data": "my set"}
    )
    again = commands(report)[0]
    assert again == "hil deploy net.pt --port /dev/ttyUSB0 --data 'my set' --recalibrate --samples 2000"
    fewer = dataclasses.replace(report, data=dataclasses.replace(report.data, available=1000))
    assert commands(fewer)[0].endswith("--samples 1000")  # not more than the set has


def test_what_was_typed_of_chip_and_techniques_stands_in_the_other_commands_too() -> None:
    typed = "hil deploy net.pt --emulated --chip my.toml --macros=4 --with rounds --with residual=2"
    asked = {"network": "net.pt", "data": "cifar10"}
    report = dataclasses.replace(REPORTS["agree"], environment={"command": typed}, asked=asked)
    chip = "--chip my.toml --macros 4"
    assert commands(report)[0].startswith(f"hil simulate net.pt --data cifar10 {chip} --with rounds --with residual=2 ")
    lost = dataclasses.replace(REPORTS["loss"], environment={"command": typed}, asked=asked)
    assert [chip in c for c in commands(lost) if c.startswith(("hil improve", "hil finetune"))] == [True, True]


def test_too_few_samples_are_asked_for_where_the_data_set_has_no_more() -> None:
    few = REPORTS["inconclusive"]
    few = dataclasses.replace(few, data=dataclasses.replace(few.data, available=200), asked={"data": "small.npz"})
    first = summary_of(few).steps[0]
    assert first.command == "hil deploy --port 'emulated:lab-128?seed=7' --data DATA"
    assert first.why == "there are 200 samples; a verdict takes 300"


PYTHON = dict.fromkeys(("module", "program", "train", "test", "more_test", "record"))


class OpenChip:
    def calibrate(self) -> None: ...


@pytest.mark.parametrize("name", REPORTS)
def test_a_run_from_python_is_followed_by_calls_that_python_takes(name: str) -> None:
    report = dataclasses.replace(REPORTS[name], asked={MADE_IN: "python"})
    calls = [c for c in commands(report) if not c.startswith("hil ")]
    assert calls
    assert not any(
        c.startswith(("hil deploy", "hil improve", "hil finetune", "hil simulate")) for c in commands(report)
    )
    for call in calls:
        tree = ast.parse(call, mode="eval").body
        assert isinstance(tree, ast.Call)
        assert isinstance(tree.func, ast.Attribute)
        arguments = [ast.unparse(a) for a in tree.args]
        named = {k.arg: ast.unparse(k.value) for k in tree.keywords if k.arg}
        given = {**PYTHON, "chip": OpenChip(), "hil": hil}
        values = {key: eval(value, given) for key, value in named.items()}
        inspect.signature(getattr(hil, tree.func.attr)).bind(*arguments, **values)


def test_a_command_goes_on_behind_a_backslash_and_a_shell_takes_it_as_one() -> None:
    command = "echo 'a b' --calibration runs/0001/record.h5 --age 1d,30d --data /a/very/long/place/of/images"
    lines = broken_command(command, 40)
    assert len(lines) > 1
    assert all(line.endswith("\\") for line in lines[:-1])
    said = subprocess.run(["sh", "-c", "\n".join(lines)], capture_output=True, text=True, check=True).stdout
    assert said.split() == shlex.split(command.replace("'", ""))[1:]


def test_the_next_commands_of_a_prediction_have_its_chip_macros_and_techniques_and_run_from_an_empty_folder(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.chdir(tmp_path)
    of = f"--data {small.data} --chip mnsim-256 --macros 6 --with residual=1 --without tune".split()
    assert run(["simulate", str(small.net), *of, "--chips", "2", "--samples", "20"]) == ExitCode.DONE
    said = re.sub(r" *\\\n *", " ", capsys.readouterr().out)
    found = re.findall(r"^ *(?:next +)?(hil (?:deploy|simulate) \S.*?)(?:   .*)?$", said, re.MULTILINE)
    assert [shlex.split(line)[1] for line in found] == ["deploy", "simulate"]
    for line in found:
        words = shlex.split(line)[1:]
        assert words[(at := words.index("--chip")) : at + 2] == ["--chip", "mnsim-256"]
        few = ["--dry-run"] if words[0] == "deploy" else ["--chips", "2"]
        assert run([*words, *few, "--samples", "20"]) == ExitCode.DONE, line


def test_a_verdict_has_its_colour_on_a_terminal_and_none_with_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    colours = {"agree": "32m", "disagree": "31m", "inconclusive": "33m"}
    for name, colour in colours.items():
        assert f"{colour}" in next(
            line for line in rendered(summary_of(REPORTS[name]), 80).splitlines() if name.upper() in line
        )
    monkeypatch.setenv("NO_COLOR", "1")
    assert not re.search(r"\x1b\[[\d;]*3[0-7]m", rendered(summary_of(REPORTS["agree"]), 80))
