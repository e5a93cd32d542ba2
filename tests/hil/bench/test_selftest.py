"""`hil board selftest` passes on a bench, and says what such a chip does not have."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.cli import run
from hil.emulator.chip import EmulatedChip
from hil.server.bench.bench_file import load_bench
from tests.hil.bench.benches import chip_text, write_bench
from tests.hil.bench.served import bench_served


def test_a_bench_passes_the_selftest_which_lists_what_it_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_bench(tmp_path, port=str(tmp_path / "board"))
    bench = load_bench(path)
    with bench_served(bench, EmulatedChip(bench.chip, 7)):
        assert run(["board", "selftest", "--port", f"bench:{path}"]) == 0
    said = capsys.readouterr().out
    assert " 0 failed" in said
    for lacking in ("no SWEEP", "no LAYER", "no PLAN", "no JOURNAL", "no WAIT"):
        assert lacking in said


def test_a_macro_of_few_lines_is_asked_for_no_more_than_it_has(tmp_path: Path) -> None:
    (tmp_path / "macro-4.toml").write_text(chip_text(4))
    assert run(["board", "selftest", "--emulated", "--chip", str(tmp_path / "macro-4.toml"), "--only", "messages"]) == 0
