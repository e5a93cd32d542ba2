"""The notebooks: cells of their scripts, with the outputs that those give today, and progress that looks right."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .scripts import loaded

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "examples" / "notebooks"
SCRIPTS = sorted(FOLDER.glob("*.py"))
IN_A_KERNEL = FOLDER / "module_to_verdict.py"
NUMBER = re.compile(r"[+−]?\d+(?:[.,]\d+)*")  # a sign is of a difference in points
COLOURS = re.compile(r"\x1b\[[\d;]*m")  # which a kernel asks for
TIMES = re.compile(r"[\d.]+ (s|min)\b.*")  # what the line of progress says at the end


def texts(notebook: Any, kind: str) -> list[str]:
    """Outputs of one kind, as text."""
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    outputs = [output for cell in cells for output in cell["outputs"] if output["output_type"] == kind]
    outputs = [output for output in outputs if output.get("name") != "stderr"]
    held = [output["text"] if kind == "stream" else output["data"]["text/plain"] for output in outputs]
    return [COLOURS.sub("", "".join(text)) for text in held]


def stored(script: Path) -> Any:
    return json.loads(script.with_suffix(".ipynb").read_text("utf-8"))


def surroundings() -> dict[str, str]:
    """Variables under which notebooks run: one thread, and a stand-in of AIHWKit where it is not installed."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    found = {**os.environ, "PATH": path, **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")}
    if importlib.util.find_spec("aihwkit") is None:
        found["PYTHONPATH"] = str(ROOT / "tests" / "stand_ins")
    return found


def assert_same(said: str, shown: str) -> None:
    """The same words, and numbers that another processor's last bits and two points of a share may move."""
    assert " ".join(NUMBER.sub("#", said).split()) == " ".join(NUMBER.sub("#", shown).split())
    for found, expected in zip(NUMBER.findall(said), NUMBER.findall(shown), strict=True):
        new, old = (float(number.replace(",", "").replace("−", "-")) for number in (found, expected))
        few = 2.0 if old > 1.0 or expected[0] in "+−" else 0.02
        assert new == pytest.approx(old, rel=0.05, abs=few), f"{said}\n{shown}"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_notebook_has_the_cells_of_its_script_and_outputs_without_an_error(script: Path) -> None:
    made, shown = loaded(ROOT / "docs" / "notebooks.py").notebook_of(script), stored(script)
    of_script = [(cell["cell_type"], cell["source"]) for cell in made["cells"]]
    assert [(cell["cell_type"], "".join(cell["source"])) for cell in shown["cells"]] == of_script
    assert not texts(shown, "error")
    pictures = [
        output for cell in shown["cells"] for output in cell.get("outputs", ()) if "image/png" in output.get("data", {})
    ]
    assert pictures
    assert "NOT SILICON" in "".join(shown["cells"][0]["source"])


@pytest.mark.parametrize("script", [path for path in SCRIPTS if path != IN_A_KERNEL], ids=lambda path: path.stem)
def test_a_notebook_run_as_a_script_prints_what_its_outputs_show(script: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, env={**surroundings(), "MPLBACKEND": "agg"}, capture_output=True,
        text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert_same(done.stdout, "".join(text for text in texts(stored(script), "stream")))


def test_a_notebook_run_in_a_kernel_shows_one_line_of_progress_a_call_and_figures_as_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in surroundings().items():
        monkeypatch.setenv(name, value)
    found, shown = loaded(ROOT / "docs" / "notebooks.py").run(IN_A_KERNEL, tmp_path), stored(IN_A_KERNEL)
    assert_same(*("".join(texts(one, "stream")) for one in (found, shown)))
    for new, old in zip(texts(found, "execute_result"), texts(shown, "execute_result"), strict=True):
        assert_same(new, old)
    lines = texts(found, "display_data")
    assert len(lines) == len(texts(shown, "display_data")) == 4
    assert all(TIMES.fullmatch(line) for line in lines), lines
    assert not [text for cell in found["cells"] for text in cell.get("outputs", ()) if text.get("name") == "stderr"]
