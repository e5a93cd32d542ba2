"""``hil estimate``: what it prints, what it counts, what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..browser import BROWSER, faults
from ..cli.test_cli import Cli, cli, python
from ..conftest import Small

__all__ = ["cli"]


def test_estimate_prints_layers_modules_and_totals(cli: Cli) -> None:
    out = cli("estimate", "lenet5")
    for word in ("conv1", "latency", "images/s in a row", "TOPS/W", "mJ·ms", "mm2", "of 64 macros of lab-128", "adc"):
        assert word in out
    assert "written anew" not in out


def test_its_json_adds_up(cli: Cli) -> None:
    value = cli.json("estimate", "lenet5")
    assert value["format"] == "hil.estimate/1.0"
    energy = sum(e for layer in value["layers"] for e in layer["energy_pj"].values()) + sum(value["shared_pj"].values())
    assert energy == pytest.approx(value["energy_pj"], rel=1e-12)
    latency = sum(layer["latency_ns"] for layer in value["layers"]) + value["host_ns"] + value["rewrite_ns"]
    assert latency == pytest.approx(value["latency_ns"], rel=1e-12)
    assert value["edp_mj_ms"] == pytest.approx(value["energy_pj"] * 1e-9 * value["latency_ns"] * 1e-6)
    assert value["area_mm2"] == pytest.approx(sum(value["area_um2"].values()) * 1e-6)


def test_a_network_and_its_program_cost_the_same(cli: Cli, small: Small, tmp_path: Path) -> None:
    program = tmp_path / "program.h5"
    for options in ((), ("--without", "copies"), ("--effort", "2")):
        cli("compile", small.net, "-o", program, *options)
        a, b = cli.json("estimate", small.net, *options), cli.json("estimate", program)
        assert a["network"] == small.net.stem
        for key in ("energy_pj", "latency_ns", "interval_ns", "area_mm2", "cells"):
            assert a[key] == b[key], (options, key)


def test_the_scale_of_the_field_is_a_chip_by_name(cli: Cli) -> None:
    out = cli("estimate", "vgg8", "--chip", "mnsim-default")
    assert "EDP      22.9198 mJ·ms" in out
    assert "MNSIM 2.0" in out
    value = cli.json("estimate", "lenet", "--chip", "mnsim-default", "--set", "ADC_Choice=7")
    assert value["model"] == "mnsim2"
    assert value["latency_ns"] != cli.json("estimate", "lenet", "--chip", "mnsim-default")["latency_ns"]


def test_both_models_of_cost_say_their_json_in_the_same_words(cli: Cli) -> None:
    ours, theirs = (
        cli.json("estimate", "vgg8", "--macros", "2000"),
        cli.json("estimate", "vgg8", "--chip", "mnsim-default"),
    )
    for key in ("network", "latency_ns", "energy_pj", "edp_mj_ms", "area_mm2"):
        assert type(ours[key]) is type(theirs[key]), key
    for value in (ours, theirs):
        assert value["edp_mj_ms"] == pytest.approx(value["energy_pj"] * 1e-9 * value["latency_ns"] * 1e-6)
        for layer in value["layers"]:
            assert {"name", "energy_pj"} <= layer.keys()
    parts = theirs["energy_by_module_pj"]
    assert sum(parts.values()) - parts["adder"] == pytest.approx(theirs["energy_pj"])
    assert "_nj" not in repr(theirs)


def test_the_share_of_the_hosts_line_in_the_latency_is_printed(cli: Cli) -> None:
    value = cli.json("estimate", "lenet5")
    assert f"{value['host_ns'] / value['latency_ns']:.1%} of it the host's line" in cli("estimate", "lenet5")


@pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome is installed")
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_browser_draws_the_page_of_an_estimate(cli: Cli, tmp_path: Path, theme: str) -> None:
    page = tmp_path / "cost.html"
    assert str(page) in cli("estimate", "mobilenet_v2_tiny", "--macros", "200", "--plot", page)
    text = page.read_text("utf-8")
    assert "mJ·ms" in text
    assert faults(text, tmp_path, dark=theme == "dark", plots=3) == []


def test_what_cannot_be_estimated_says_why(cli: Cli, tmp_path: Path) -> None:
    assert "neither a file nor an architecture" in cli("estimate", "resnet19", code=2) + cli.err
    assert "macros" in cli("estimate", "resnet18", code=6) + cli.err
    assert "--set is for chips" in cli("estimate", "lenet5", "--set", "ADC_Choice=7", code=2) + cli.err
    assert "no such chip" in cli("estimate", "lenet5", "--chip", "lab-129", code=7) + cli.err
    assert "NAME=VALUE" in cli("estimate", "lenet", "--chip", "mnsim-default", "--set", "x", code=2) + cli.err
    assert (
        "ADC_Chance" in cli("estimate", "lenet", "--chip", "mnsim-default", "--set", "ADC_Chance=1", code=7) + cli.err
    )
    assert "whole numbers" in cli("estimate", "lenet5", "--input", "1,a,3", code=2) + cli.err
    bare = tmp_path / "bare.toml"
    text = Path("cim/chips/lab-128.toml").read_text("utf-8")
    bare.write_text(text[: text.index("[cost]")] + text[text.index("[sample]") :], "utf-8")
    assert "no [cost] section" in cli("estimate", "lenet5", "--chip", bare, code=7) + cli.err


def test_an_estimate_of_a_program_needs_no_torch_and_little_memory(cli: Cli, small: Small, tmp_path: Path) -> None:
    program = tmp_path / "program.h5"
    cli("compile", small.net, "-o", program)
    assert peak_without_torch("estimate", str(program)) < 100


@pytest.mark.parametrize(
    "arguments", [("vgg8", "--macros=2000"), ("resnet18:stem=7", "--input=3,224,224", "--macros=2000")]
)
def test_an_estimate_of_an_architecture_needs_no_torch_and_little_memory(arguments: tuple[str, ...]) -> None:
    assert peak_without_torch("estimate", *arguments) < 80


def peak_without_torch(*arguments: str) -> float:
    """MB that a command takes at most; it must not import torch."""
    code = (
        "import sys; from hil.cli import run\n"
        f"assert run({list(arguments)!r}) == 0\n"
        "peak = [line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')]\n"
        "print('torch' in sys.modules, *peak)"
    )
    done = python("-c", code)
    torch, kilobytes = done.stdout.split()[-2:]
    assert torch == "False", done.stderr
    return int(kilobytes) * 1024e-6


def test_options_of_an_architecture_are_given_behind_its_name(cli: Cli) -> None:
    narrow, wide = (cli.json("estimate", f"mobilenet_v2_tiny:width={width}", "--macros=400") for width in (0.5, 1))
    assert narrow["network"] == "mobilenet_v2_tiny:width=0.5"
    assert narrow["cells"] < wide["cells"]
    assert "deep" in cli("estimate", "vgg8:deep=3", code=2) + cli.err
    assert "NAME=NUMBER" in cli("estimate", "vgg8:wide", code=2) + cli.err
