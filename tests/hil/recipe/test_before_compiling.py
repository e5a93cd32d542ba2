"""Techniques that act before a network is compiled: what is written, priced and simulated is what they made of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import hil
from mapping.network.file import save_network

from ..cli.test_cli import Cli
from ..cli.test_cli import cli as cli
from ..small_net import small_network

SHARE = 60
ASKED = f"prune={SHARE}"


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ahead") / "net.pt"
    save_network(small_network(), path)
    return path


def test_a_network_is_pruned_before_it_is_compiled_and_costs_the_share_that_was_asked_for(
    cli: Cli, net: Path, tmp_path: Path
) -> None:
    chip = "--macros", 8
    whole = cli.json("estimate", net, *chip)["edp_mj_ms"]
    planned = cli.json("estimate", net, *chip, "--with", ASKED)["edp_mj_ms"]
    assert planned <= SHARE / 100 * whole
    program = tmp_path / "program.h5"
    cli("compile", net, *chip, "--with", ASKED, "-o", program)
    assert cli.json("estimate", program)["edp_mj_ms"] == pytest.approx(planned)
    assert cli.json("estimate", program, "--with", ASKED)["edp_mj_ms"] == pytest.approx(planned)
    compiled = hil.compile(net, "lab-128", having=[ASKED])
    plain = hil.compile(net, "lab-128")
    assert compiled.file is not None
    assert plain.file is not None
    assert compiled.file.digest != plain.file.digest
    assert "technique prune=share=60" in compiled.file.graph.provenance["pruned by"]


def test_what_acts_before_compiling_is_refused_for_what_is_compiled_or_has_no_weights(
    cli: Cli, net: Path, tmp_path: Path
) -> None:
    program = tmp_path / "program.h5"
    cli("compile", net, "--macros", 8, "-o", program)
    cli("simulate", program, "--with", ASKED, "--chips", 2, code=2)
    assert "prune=share=60 acts on a network before it is compiled, and program.h5 is a compiled program" in cli.err
    cli("simulate", program, "--with", "reads=4", "--with", "copies=2", "--chips", 2, code=2)
    assert "copies=macros=2, reads=times=4 acts on a network before it is compiled" in cli.err, (
        "not left out without a word"
    )
    cli("estimate", "lenet5", "--with", ASKED, code=2)
    assert "lenet5 is no net.pt" in cli.err
    few = small_network()
    few = replace(few, calibration_images=few.calibration_images[:40], calibration_labels=None)
    save_network(few, tmp_path / "few.pt")
    cli("compile", tmp_path / "few.pt", "--macros", 8, "--with", ASKED, "-o", program, code=2)
    assert "stores 40 training images" in cli.err
