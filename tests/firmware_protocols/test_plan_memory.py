"""Memory that the plans of known networks take of a chip, which the how-to of ports tells."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hil.deployment.network_source import program_of
from hil.deployment.options import NetworkOptions
from hil.deployment.plans.network_plan import network_plan
from hil.watch import Watch
from mapping.program.copies import copies_of

ROOT = Path(__file__).parents[2]
SEARCHES = ROOT / "examples" / "searches"
LIMITS = (ROOT / "firmware_protocols" / "reference_firmware" / "core" / "limits.h").read_text("utf-8")
HOW_TO = (ROOT / "docs" / "my-board.md").read_text("utf-8")
NETWORKS = {
    "bundled network": (None, None),
    "EuroSAT": (SEARCHES / "eurosat" / "networks" / "bedf875d" / "net.pt", 16),
    "ResNet-20": (SEARCHES / "cifar10-residual" / "resnet20" / "net.pt", None),
}


def limit(name: str) -> int:
    """Of the firmware, unless another is chosen."""
    found = re.search(rf"#define {name} (\d+)", LIMITS)
    assert found is not None
    return int(found[1])


@pytest.mark.parametrize("network", NETWORKS)
def test_memory_of_a_plan_is_as_told_and_within_what_the_firmware_is_built_with(network: str) -> None:
    file, macros = NETWORKS[network]
    program, _ = program_of(file, NetworkOptions(macros=macros), Watch())
    layers = ((layer.name, copy.number) for layer in program.matrices for copy in copies_of(layer.group))
    plan = network_plan(program, {key: number for number, key in enumerate(layers)})
    words = len(plan.words())
    told = re.search(rf"{network}[^,]*? ([\d,]*\d)(?: words)? and\s+([\d,]*\d)", HOW_TO)
    assert told is not None
    assert (f"{words:,}", f"{plan.arena:,}") == told.groups()
    assert words <= limit("PLAN_WORDS")
    assert len(plan.steps) <= limit("PLAN_STEPS")
    assert len(plan.values) <= limit("PLAN_VALUES")
    chosen = re.search(r"-DPLAN_MEMORY=(\d+)", HOW_TO)
    assert chosen is not None
    assert plan.arena <= (limit("PLAN_MEMORY") if network == "bundled network" else int(chosen[1]))
