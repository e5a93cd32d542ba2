"""Versions: floors without known holes, and the ones that CI installs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
GROUPS = {
    "": PROJECT["project"]["dependencies"],
    "build": PROJECT["build-system"]["requires"],
    **PROJECT["project"]["optional-dependencies"],
}
LOCK = ROOT / ".ci" / "constraints.txt"
MENDED = {  # first version without the holes that are known
    "torch": "2.10",  # CVE-2025-32434, CVE-2026-24747
    "jinja2": "3.1.6",  # CVE-2024-56201, CVE-2024-56326, CVE-2025-27516
    "pillow": "13.0",  # CVE-2026-25990, CVE-2026-59199, CVE-2026-112403
    "onnx": "1.21",  # CVE-2025-51480, CVE-2026-27489, CVE-2026-34445, CVE-2026-34447
    "distributed": "2026.1",  # CVE-2026-23528
    "setuptools": "78.1.1",  # CVE-2024-6345, CVE-2025-47273
    "pytest": "9.0.3",  # CVE-2025-71176
}


def floor(wanted: Requirement) -> Version:
    return max((Version(s.version) for s in wanted.specifier if s.operator in (">=", "==")), default=Version("0"))


def locked() -> dict[str, Requirement]:
    lines = [line for line in LOCK.read_text("utf-8").splitlines() if not line.startswith("#")]
    return {re.sub("[._-]+", "-", r.name).lower(): r for r in map(Requirement, lines)}


@pytest.mark.parametrize("name", MENDED)
def test_the_floor_of_a_dependency_has_no_known_hole(name: str) -> None:
    asked = [r for group in GROUPS.values() for r in map(Requirement, group) if r.name.lower() == name]
    assert asked
    assert all(floor(wanted) >= Version(MENDED[name]) for wanted in asked)


def test_the_locked_versions_are_those_that_are_allowed() -> None:
    found = locked()
    for wanted in map(Requirement, GROUPS[""] + GROUPS["dev"]):
        name = re.sub("[._-]+", "-", wanted.name).lower()
        if name not in ("torch", "torchvision", "setuptools"):  # builds for one processor have versions of their own
            assert wanted.specifier.contains(floor(found[name])), name


def test_the_lock_fixes_every_version_but_that_of_torch_and_names_no_place() -> None:
    found = locked()
    assert str(found.pop("torch").specifier) == next(
        str(r.specifier) for r in map(Requirement, GROUPS[""]) if r.name == "torch"
    )
    assert all(len(r.specifier) == 1 and str(r.specifier).startswith("==") for r in found.values())
    assert not any(r.url or r.marker or "+" in str(r.specifier) for r in found.values())
    assert "://" not in LOCK.read_text("utf-8")
