"""The steps of docs/bench.md, as a stranger takes them: an instrument is added by one file."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from hil.cli import run
from hil.driver.open_chip import open_chip
from hil.emulator.chip import EmulatedChip
from hil.server.bench.bench_file import load_bench
from tests.hil.bench.benches import chip_text
from tests.hil.bench.served import bench_served

PAGE = Path(__file__).parents[3] / "docs" / "bench.md"


def files_of_the_page(folder: Path) -> Path:
    """The page's files by the names in their first lines, and a chip file; gives the bench file."""
    for name, text in re.findall(r"```toml\n# (\S+\.toml)\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL):
        (folder / name).write_text(text.replace('"./board"', f'"{folder / "board"}"'))
    (folder / "macro.toml").write_text(chip_text())
    return folder / "bench.toml"


def test_the_files_of_the_page_make_a_chip_of_a_board_that_nobody_knew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = files_of_the_page(tmp_path)
    bench = load_bench(path)
    targets_us = np.full((32, 32), np.nan, np.float32)
    targets_us[:4] = np.random.default_rng(1).choice(bench.chip.macro.levels_us, (4, 32))
    with bench_served(bench, EmulatedChip(bench.chip, 7)):
        assert run(["bench", "check", str(path), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        with open_chip(f"bench:{path}") as chip:
            outcome = chip.program_cells(0, targets_us)
    assert found["instruments"][0]["model"] == "acme-board"
    assert outcome.reached[:4].mean() > 0.9
