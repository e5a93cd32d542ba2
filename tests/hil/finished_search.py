"""One finished search in a space of seconds, for tests to look at, copy and go on with."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hil.searching.folder import begin_folder  # noqa: E402
from hil.searching.run import run_search  # noqa: E402
from hil.searching.settings import SearchSettings  # noqa: E402
from hil.watch import Watch  # noqa: E402

from .search_files import CLASSES, SPACE, images  # noqa: E402

QUICK = {
    "macros": 64, "batch": 20, "teacher_epochs": 2, "stage_epochs": 2, "samples": 5, "sample_epochs": 1,
    "simulations": 16, "networks": 1, "epochs": 2, "workers": 0, "chips": 2, "images": 20, "engine": "fast", "seed": 1,
}  # fmt: skip
ANSWERS = ("front.json", "significance.json")


def options_of(settings: Mapping[str, object]) -> list[str]:
    """Settings of a search as a command line takes them."""
    named = {"engine": "evaluation-mode"}
    return [str(p) for n, value in settings.items() for p in (f"--{named.get(n, n).replace('_', '-')}", value)]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    """One thread, and no question what a search of seconds has learned (``searching/test_nothing_learned.py`` asks)."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hil.searching.run.check_learned", lambda *_: None)
        yield
    torch.set_num_threads(before)


@dataclasses.dataclass(frozen=True)
class Files:
    data: Path
    space: Path
    run: Path

    def arguments(self, out: Path, **changes: object) -> list[str]:
        named = {"data": self.data, "space": self.space, "out": out, **QUICK, **changes}
        return ["search", "run", "--symmetry", "none", *options_of(named)]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Images, space, and one finished search."""
    folder = tmp_path_factory.mktemp("search")
    pixels, labels = images(160)
    np.savez(folder / "images.npz", images=pixels, labels=labels, classes=np.array(CLASSES))
    (folder / "space.toml").write_text(SPACE, "utf-8")
    settings = SearchSettings(str(folder / "images.npz"), "lab-128", symmetry="none", **QUICK)  # type: ignore[arg-type]
    run_search(begin_folder(folder / "run", settings, SPACE), settings, Watch())
    return Files(folder / "images.npz", folder / "space.toml", folder / "run")


def change_settings(run: Path, **changes: object) -> None:
    data = json.loads((run / "settings.json").read_text("utf-8"))
    (run / "settings.json").write_text(json.dumps(data | changes), "utf-8")
