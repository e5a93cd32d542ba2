"""The words of Python in the reference: examples that run in the order of work."""

from __future__ import annotations

import doctest
import inspect
from dataclasses import dataclass
from typing import Any

import matplotlib.figure
import numpy as np
import pytest

import hil

from ..search_files import SPACE, images
from .conftest import Stripes

WORDS = (
    "open_chip", "compile", "deploy", "tune", "simulate", "improve", "finetune", "judge", "search",
)  # fmt: skip
ANSWERS = (
    "Chip",
    "CompiledNetwork",
    "Report",
    "Simulation",
    "Improved",
    "FinetunedNetwork",
    "Retuned",
    "FinishedSearch",
)
SEARCH = {
    "batch": 20, "teacher_epochs": 2, "stage_epochs": 2, "samples": 5, "sample_epochs": 1, "simulations": 16,
    "networks": 1, "epochs": 2, "workers": 0, "chips": 2, "images": 20, "engine": "fast", "symmetry": "none", "seed": 1,
}  # fmt: skip


METHODS = {  # what answers offer besides fields
    f"{name}.{method}": value
    for name in ANSWERS
    for method, value in vars(getattr(hil, name)).items()
    if inspect.isfunction(value) and not method.startswith("_") and method not in ("summary_shown", "to_json")
}
ENTRIES = {name: getattr(hil, name) for name in WORDS} | METHODS
CLASSES = {name: getattr(hil, name) for name in ANSWERS}


@dataclass(frozen=True)
class Ran:
    """What the examples left behind, and what each of them told where it failed."""

    names: dict[str, Any]
    told: dict[str, str]


@pytest.fixture(scope="module")
def ran(stripes: Stripes, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Every example, in the order of work: one goes on with what those before it have made."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "space.toml").write_text(SPACE, "utf-8")
    chip, told = hil.open_chip("emulated:lab-128?seed=7", macros=2), {}
    names = {
        "hil": hil, "np": np, "module": stripes.module, "train": stripes.train, "test": stripes.test, "chip": chip,
        "record": chip.calibrate(budget="quick"), "answers": np.stack([stripes.test[1]] * 2), "data": images(160),
        "few": hil.DeployOptions(samples=60, repeats=2, virtual_chips=4, causes=False), "quick": SEARCH,
    }  # fmt: skip
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("hil.searching.run.check_learned", lambda *_: None)
        for name, value in (ENTRIES | CLASSES).items():
            example = doctest.DocTestParser().get_doctest(value.__doc__ or "", names, name, None, 0)
            said: list[str] = []
            runner = doctest.DocTestRunner(optionflags=flags)
            failed, tried = runner.run(example, out=said.append, clear_globs=False)
            names |= example.globs
            told[name] = "".join(said) if failed else "" if tried else "no example"
    return Ran(names, told)


@pytest.mark.parametrize("name", [*ENTRIES, *CLASSES])
def test_the_example_of_an_entry_runs_and_prints_what_it_shows(name: str, ran: Ran) -> None:
    assert not ran.told[name]


def test_a_figure_of_an_answer_is_one_that_no_window_holds(ran: Ran) -> None:
    assert isinstance(ran.names["simulation"].plot(), matplotlib.figure.Figure)


def test_a_frame_of_a_report_has_the_numbers_of_the_report(ran: Ran) -> None:
    report = ran.names["report"]
    assert report.to_frame().loc["chip", "mean"] == report.accuracy.chip


def test_answers_show_what_their_commands_print(ran: Ran, capsys: pytest.CaptureFixture[str]) -> None:
    said = {
        "improved": "held-out training images",
        "finetuned": "as deployed",
        "front": "predicted",
    }
    for name, words in said.items():
        ran.names[name].show()
        assert words in capsys.readouterr().out
        assert "<table" in ran.names[name]._repr_html_()
