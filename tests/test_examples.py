"""The examples run as they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from mapping.network.file import save_network

from .hil.small_net import NAMES, images, small_network

ROOT = Path(__file__).parent.parent


def test_the_first_measurement_programs_reads_multiplies_and_plots(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "first_measurement.py"), "emulated:lab-128?seed=7&macros=1"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "4096 cells" in done.stdout
    assert float(done.stdout.split("R² ")[1].split()[0]) > 0.8
    assert (tmp_path / "first_measurement.html").stat().st_size > 10_000


def deploy_lines(template: str) -> str:
    """The shell lines of a CI template that deploy."""
    content = yaml.safe_load((ROOT / "examples" / "ci" / template).read_text("utf-8"))
    if template == "gitlab.yml":
        return "\n".join(content[".hil-deploy"]["script"])
    return str(next(s["run"] for s in content["runs"]["steps"] if s.get("id") == "deploy"))


@pytest.mark.parametrize("template", ["action.yml", "gitlab.yml"])
def test_the_lines_of_a_ci_template_leave_junit_and_json(template: str, tmp_path: Path) -> None:
    save_network(small_network(), tmp_path / "net.pt")
    pixels, labels = images(60, seed=9)
    np.savez(tmp_path / "test.npz", images=pixels, labels=labels, classes=list(NAMES))
    (tmp_path / "hil").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m hil "$@"\n', "utf-8")
    (tmp_path / "hil").chmod(0o755)
    gitlab = {"HIL_NETWORK": "net.pt", "HIL_SET": "test.npz", "HIL_CHIP": "lab-128", "HIL_SAMPLES": "60"}
    github = {"NETWORK": "net.pt", "DATA": "test.npz", "CHIP": "lab-128", "SAMPLES": "60", "GITHUB_OUTPUT": "out"}
    done = subprocess.run(
        ["bash", "-e", "-c", deploy_lines(template)],
        cwd=tmp_path,
        env={
            **os.environ,
            **(gitlab if template == "gitlab.yml" else github),
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 1, done.stderr  # 60 images are too few for a verdict
    answer = json.loads((tmp_path / "hil-report" / "answer.json").read_text("utf-8"))
    assert answer["verdict"] == "inconclusive"
    assert "<failure" in (tmp_path / "hil-report" / "junit.xml").read_text("utf-8")
    assert (tmp_path / "hil-report" / "run" / "report.html").is_file()
