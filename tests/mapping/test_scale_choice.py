"""The rule of weight scales by what ideal keeps of float: the usual one where it does, another where it does not."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest

from cim.chip.file import load_chip
from hil.cli import run
from hil.deployment.network_source import BUNDLED_NETWORK, program_of
from hil.deployment.options import NetworkOptions
from hil.watch import Watch
from mapping.bits import LayerBits
from mapping.compile import compile_network
from mapping.network.file import NetworkFile, load_network, save_network
from mapping.network.float_run import float_logits
from mapping.network.graph import NetworkGraph, Output, Preprocess
from mapping.operators.moves import Flatten
from mapping.operators.node import Node
from mapping.operators.products import Conv, Linear
from mapping.program.conductance import ConductanceProgram
from mapping.program.execute import IdealMultiply
from mapping.program.execute import run as execute
from mapping.quantise.weight_scales import ScaleRule
from mapping.scale_choice import USUAL, KeptAnswers, compared_images, judged_by_float

SPEC = load_chip("lab-128", macros=120)
FEW = LayerBits(3, 8)


@cache
def deep(layers: int, images: int = 64) -> NetworkFile:
    """Layers of few large weights, one after the other: each keeps a share of its output when those are clipped; in two
    groups, so that their inputs stay whole (``mapping.quantise.halves``)."""
    rng = np.random.default_rng(0)
    nodes: list[Node] = []
    before, channels = "input", 3
    for n in range(layers):
        groups = 2 if n else 1
        weight = (rng.laplace(size=(16, channels // groups, 1, 1)) ** 3).astype(np.float32)
        weight /= np.sqrt((weight**2).sum((1, 2, 3), keepdims=True))
        nodes.append(Conv(name=f"conv{n}", inputs=(before,), weight=weight, groups=groups))
        before, channels = f"conv{n}", 16
    last = rng.normal(size=(5, 16 * 16)).astype(np.float32)
    nodes += [Flatten(name="flat", inputs=(before,)), Linear(name="fc", inputs=("flat",), weight=last)]
    graph = NetworkGraph((3, 4, 4), tuple(nodes), Preprocess((0.5,) * 3, (0.25,) * 3), tuple("abcde"))
    return NetworkFile(graph, 8, 8, rng.integers(0, 256, (images, 4, 4, 3), dtype=np.uint8))


def compiled(network: NetworkFile, asked: ScaleRule | None = None) -> tuple[ConductanceProgram, KeptAnswers]:
    make = partial(compile_network, network, SPEC)
    return judged_by_float(network, make, asked)


def test_a_deep_network_that_the_usual_rule_wipes_out_is_compiled_by_the_rule_that_loses_least() -> None:
    program, kept = compiled(deep(30))
    assert kept.instead is not None
    assert kept.rule is not ScaleRule.OUTPUT
    assert kept.instead.rule is ScaleRule.OUTPUT
    assert kept.lost < 0.5 * kept.instead.lost
    rounded, alone = compiled(deep(30), ScaleRule.ROUNDING)
    assert (program.digest, kept.lost) == (rounded.digest, alone.lost)


def test_hil_compile_says_in_its_first_line_what_is_lost_and_takes_a_rule_that_was_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_network(deep(30), tmp_path / "net.pt")
    command = ["compile", str(tmp_path / "net.pt"), "--macros=120", "--without", "copies"]
    assert run(command) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("quantised keeps the answer of float on ")
    assert "the usual rule, output, has " in first
    assert run([*command, "--weight-scales=output", "--json"]) == 0
    kept = json.loads(capsys.readouterr().out)["kept"]
    assert (kept["rule"], kept["instead_of"]) == ("output", None)
    assert kept["same_answer"] < 0.9 * kept["images"]
    assert kept["helps"].startswith("hil compile --weight-")


def test_ideal_outputs_of_many_layers_are_as_large_as_those_of_float() -> None:
    """Clipped weights made each layer's output a little too small, and thirty of them a fifth of the last."""
    network = deep(30)
    program = compile_network(network, SPEC, scale_rule=ScaleRule.OUTPUT)
    images = network.calibration_images
    ideal = execute(program, images, IdealMultiply(program)) * program.logit_scale
    wanted = float_logits(network.graph, images)
    about = wanted - wanted.mean(0)
    assert 0.9 < (about * (ideal - ideal.mean(0))).sum() / (about**2).sum() < 1.1


def test_what_is_lost_names_options_that_lose_less_and_how_often_float_and_ideal_are_right(tmp_path: Path) -> None:
    network = deep(30)
    labels = float_logits(network.graph, network.calibration_images).argmax(1)
    program, kept = compiled(replace(network, weight_bits=3, calibration_labels=labels), ScaleRule.OUTPUT)
    assert program.weight_bits == 3
    assert kept.right == (kept.images, kept.alike)
    assert kept.line.split("; ")[1] == f"right: float {kept.images}, quantised {kept.alike}"
    option, keeps = kept.helps.removeprefix("hil compile ").split(" keeps ")
    assert option in ("--weight-scales rounding", "--weight-bits 5 --weight-scales rounding")
    assert int(keeps.split()[0]) > (kept.alike or 0)


def test_a_deployment_notes_what_its_network_loses_before_any_chip(tmp_path: Path) -> None:
    save_network(deep(30), tmp_path / "net.pt")
    watch = Watch()
    program_of(tmp_path / "net.pt", NetworkOptions(macros=120), watch)
    assert [note for note in watch.notes if note.startswith("quantised keeps the answer of float on ")]


def test_a_network_that_the_usual_rule_keeps_has_the_same_bits_as_before_and_no_note() -> None:
    network, watch = load_network(BUNDLED_NETWORK), Watch()
    make = partial(compile_network, network, load_chip("lab-128"))
    usual = make(scale_rule=ScaleRule.OUTPUT)
    program, kept = judged_by_float(network, lambda **asked: usual if asked == {"scale_rule": USUAL} else make(**asked))
    assert program is usual
    assert kept.alike == kept.images
    assert not kept.much
    program_of(None, NetworkOptions(), watch)
    assert not watch.notes


def test_ideal_is_compared_on_images_that_no_scale_was_fitted_on_where_there_are_enough() -> None:
    few = deep(2)
    assert not compared_images(few)[1]
    assert "stored images that scales were fitted on, " in compiled(few)[1].line
    for stored in (192, 512, 700):
        network = deep(2, images=stored)
        places, held_out = compared_images(network)
        assert held_out
        assert (places % 2 == 1).all()
        others = network.calibration_images.copy()
        others[1::2] = 255 - others[1::2]
        programs = (compiled(own)[0] for own in (network, replace(network, calibration_images=others)))
        first, second = (pickle.dumps(program.steps) for program in programs)
        assert first == second


def test_a_network_without_classes_is_judged_by_the_error_of_its_outputs() -> None:
    network = deep(40)
    graph = replace(network.graph, classes=(), outputs=(Output("values", (5,)),))
    _, kept = compiled(replace(network, graph=graph))
    assert kept.alike is None
    assert kept.instead is not None
    assert kept.error < 0.5 * kept.instead.error
    assert "outputs off by" in kept.line


def test_what_is_lost_names_the_layer_that_loses_most_and_bits_that_help_there() -> None:
    network = deep(3)
    *others, last = network.graph.nodes
    assert isinstance(last, Linear)
    outliers = last.weight * np.where(np.arange(last.weight.shape[1]) % 64 == 0, 20.0, 1.0)
    graph = replace(network.graph, nodes=(*others, replace(last, weight=outliers.astype(np.float32))))
    make = partial(compile_network, replace(network, graph=graph), SPEC, layer_bits={"fc": FEW})
    _, kept = judged_by_float(replace(network, graph=graph), make, ScaleRule.ROUNDING)
    assert kept.worst == "fc"
    assert "rounding takes most in fc" in kept.line
    assert "hil compile --layer-bits fc=W8A8 keeps" in kept.helps
