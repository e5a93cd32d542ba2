"""``--effort 3`` from the command to the verdict: trained first, with every technique that the chip has room for."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

pytest.importorskip("torch")

from hil.cli import run
from hil.errors import ExitCode
from mapping.network.file import load_network, save_network
from mapping.recipe.recipe import recipe_of_effort

from ..small_net import images, small_network

CHIP = ["--macros", "4", "--samples", "300"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """net.pt, and a folder of IDX files with 240 training and 300 test images."""
    save_network(small_network(), tmp_path / "net.pt")
    (tmp_path / "data").mkdir()
    for split, count, seed in (("train", 240, 5), ("t10k", 300, 3)):
        pixels, labels = images(count, seed)
        head = struct.pack(">4i", 0x803, *pixels.shape[:3])
        (tmp_path / "data" / f"{split}-images-idx3-ubyte").write_bytes(head + pixels.tobytes())
        body = struct.pack(">2i", 0x801, count) + labels.astype("u1").tobytes()
        (tmp_path / "data" / f"{split}-labels-idx1-ubyte").write_bytes(body)
    return tmp_path


def test_effort_3_trains_a_network_once_and_deploys_it_with_every_technique(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(place / "net.pt"), "--data", str(place / "data"), "--effort", "3"]
    few = ["--repeat", "2", "--no-causes", "--tolerance", "3", "--mode", "fast"]
    code = run(["deploy", *files, "--emulated", *CHIP, *few, "-o", str(place / "run"), "--json"])
    assert code in (ExitCode.DONE, ExitCode.OUTSIDE_TOLERANCE)
    report = json.loads(capsys.readouterr().out)
    trained = place / "net.trained.pt"
    assert load_network(trained).graph.provenance["fine-tuned from"] == load_network(place / "net.pt").digest
    assert set(report["plan"]["recipe"].split()) == set(str(recipe_of_effort(3)).split())
    assert report["accuracy"]["measured"]["mean"] > 0.5

    written = trained.stat().st_mtime_ns
    assert run(["simulate", *files, *CHIP, "--chips", "2", "--mode", "fast", "--json"]) == ExitCode.DONE
    assert json.loads(capsys.readouterr().out)["accuracy"]["simulated"]["mean"] > 0.5
    assert trained.stat().st_mtime_ns == written
