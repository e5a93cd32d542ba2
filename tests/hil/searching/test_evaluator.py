"""A network of a search on simulated chips, in one call."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cim.chip.file import load_chip
from hil.datasets.image_set import Dataset
from hil.deployment.options import DeployOptions
from hil.searching.evaluator import Evaluation, SimulatedEvaluator
from mapping.network.file import save_network

from ..small_net import small_network


def test_an_evaluation_holds_together() -> None:
    good = Evaluation(0.9, 0.88, 0.87, 0.92, 20, 1000, 2e6, 1e9, "simulated from a record")
    assert good.edp_mj_ms == pytest.approx(2.0)
    with pytest.raises(ValueError, match="no evaluation"):
        replace(good, accuracy_worst=0.95)


def test_a_network_file_is_compiled_simulated_and_priced(tmp_path: Path) -> None:
    network = small_network()
    save_network(network, tmp_path / "net.pt")
    rng = np.random.default_rng(9)
    images = rng.integers(0, 256, (40, *network.calibration_images.shape[1:]), dtype=np.uint8)
    classes = network.graph.classes
    data = Dataset("noise", images, rng.integers(0, len(classes), 40), classes, "here", "0")
    evaluator = SimulatedEvaluator(
        load_chip("lab-128"), data, options=DeployOptions(samples=40, virtual_chips=20), mode="fast"
    )
    found = evaluator.evaluate(tmp_path / "net.pt")
    assert found.chips == 20
    assert found.images == 40
    assert found.low <= found.accuracy_mean <= found.high
    assert found.latency_ns > 0
    assert found.energy_pj > 0
    assert "simulated" in found.source
    assert found == evaluator.evaluate(tmp_path / "net.pt")
    assert pytest.approx(found.edp_mj_ms) == found.energy_pj * found.latency_ns * 1e-15
