"""Bits by layer for a loss: fewest where they cost least, and what a chip has no room for is said."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from cim.chip.file import load_chip
from hil.cli import run
from mapping.auto_bits import CODES, WEIGHTS, bits_within, fewest_bits, layer_prices
from mapping.compile import LayoutOptions, compile_network
from mapping.errors import CannotMap
from mapping.network.file import NetworkFile, save_network
from mapping.network.float_run import float_logits
from mapping.network.graph import NetworkGraph, Preprocess
from mapping.operators.moves import Flatten
from mapping.operators.node import Node
from mapping.operators.products import Conv, Linear

SPEC = load_chip("lab-128", macros=60)


def labelled(layers: int = 4, images: int = 96) -> NetworkFile:
    """Convolutions of random weights whose answers are the labels."""
    rng = np.random.default_rng(3)
    nodes: list[Node] = []
    before, channels = "input", 3
    for n in range(layers):
        weight = (rng.normal(size=(8, channels, 3, 3)) / np.sqrt(9 * channels)).astype(np.float32)
        nodes.append(Conv(name=f"conv{n}", inputs=(before,), weight=weight, padding=(1, 1)))
        before, channels = f"conv{n}", 8
    last = rng.normal(size=(4, 8 * 16)).astype(np.float32)
    nodes += [Flatten(name="flat", inputs=(before,)), Linear(name="fc", inputs=("flat",), weight=last)]
    graph = NetworkGraph((3, 4, 4), tuple(nodes), Preprocess((0.5,) * 3, (0.25,) * 3), tuple("abcd"))
    stored = rng.integers(0, 256, (images, 4, 4, 3), dtype=np.uint8)
    return NetworkFile(graph, 4, 8, stored, float_logits(graph, stored).argmax(1))


def test_bits_that_keep_to_a_loss_cost_less_than_eight_everywhere_and_more_loss_takes_no_more() -> None:
    network = labelled()
    prices, make = (
        layer_prices(network, SPEC),
        partial(compile_network, network, SPEC, options=LayoutOptions(halves=False)),
    )  # a bit less

    def cost(loss: float) -> float:
        program, kept = fewest_bits(network, SPEC, make, loss)
        assert kept.right is not None
        assert kept.right[0] - kept.right[1] <= loss * kept.images
        widths = {m.name: (program.weight_bits_of(m.name), m.group.input_bits) for m in program.matrices}
        return sum(prices[n].costs[WEIGHTS.index(w), CODES.index(a)] for n, (w, a) in widths.items())

    strict, wide = cost(0.05), cost(0.3)
    assert wide <= strict < 2.0  # energy and time at eight bits are one each


def test_a_smaller_budget_of_errors_never_takes_fewer_bits() -> None:
    prices = layer_prices(labelled(), SPEC)
    wide, tight = bits_within(prices, 0.1), bits_within(prices, 0.001)
    for name in prices:
        assert (tight[name].weight or 0) >= (wide[name].weight or 0)
        assert (tight[name].activation or 0) >= (wide[name].activation or 0)
    assert tight != wide


def test_a_loss_that_no_bits_keep_to_is_refused_with_what_was_tried() -> None:
    network = labelled()
    with pytest.raises(CannotMap, match=r"no bits from W3A4 to W8A8 lose 0\.0% or less: the last that was tried lost"):
        fewest_bits(network, SPEC, partial(compile_network, network, SPEC), 1e-9)


def test_the_command_prints_bits_by_layer_and_takes_no_others_beside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_network(labelled(), tmp_path / "net.pt")
    command = ["compile", str(tmp_path / "net.pt"), "--macros=60", "--bits"]
    assert run([*command, "auto=5", "--json"]) == 0
    layers = json.loads(capsys.readouterr().out)["layers"]
    assert all(layer["weight_bits"] in WEIGHTS and layer["input_bits"] in CODES for layer in layers)
    assert run([*command, "auto", "--weight-bits=4"]) == 2
    assert "chooses bits and rule by itself" in capsys.readouterr().err
    for wrong in ("few", "auto=no", "auto=0"):
        assert run([*command, wrong]) == 2
        assert "auto=POINTS" in capsys.readouterr().err
