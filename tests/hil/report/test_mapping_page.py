"""The page of a compiled program: complete, self-contained, and drawn by a real browser where one is installed."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from cim.chip.file import load_chip
from hil.cli import run
from hil.report.mapping_page import macro_usage, mapping_page, occupancy_figure
from mapping.compile import compile_network, plan
from mapping.network.architectures import build
from mapping.network.file import NetworkFile, save_network
from mapping.program.conductance import ConductanceProgram

from ..browser import BROWSER, faults, look
from ..page_parts import figures_of, own

COUNT_TILES = 'window.asked = () => document.querySelectorAll(".point").length'


def network(architecture: str, shape: tuple[int, int, int]) -> NetworkFile:
    rng = np.random.default_rng(0)
    graph = build(architecture, classes=tuple("0123456789"), rng=rng)
    return NetworkFile(graph, 4, 8, rng.integers(0, 256, (2, *shape), dtype=np.uint8))


@pytest.fixture(scope="module")
def resnet() -> ConductanceProgram:
    return compile_network(network("cifar_resnet20_a", (32, 32, 3)), load_chip("lab-128"))


@pytest.fixture(scope="module")
def packed() -> ConductanceProgram:
    return compile_network(network("lenet5", (28, 28, 1)), load_chip("lab-128", macros=11))


@pytest.fixture(scope="module")
def text(resnet: ConductanceProgram) -> str:
    return mapping_page(resnet)


def test_resnet20_takes_less_than_two_megabytes_of_its_own(text: str) -> None:
    assert len(own(text)) < 2_000_000
    assert not re.search(r"https?://|@import|url\(", own(text))
    assert "default-src 'none'" in text


def test_every_plot_has_its_place_and_says_in_words_what_it_shows(text: str) -> None:
    assert set(figures_of(text)) == set(re.findall(r'id="plot-(\w+)"', text)) == {"tiles"}
    assert len(re.findall(r'role="group" aria-label="[^"]{20,}"></div>', text)) == 1


@pytest.mark.parametrize("which", ["resnet", "packed"])
def test_every_tile_is_a_rectangle_in_its_macro_and_none_overlap(which: str, request: pytest.FixtureRequest) -> None:
    program: ConductanceProgram = request.getfixturevalue(which)
    drawing = occupancy_figure(program)
    boxes = [(s["x0"], s["x1"], s["y0"], s["y1"]) for s in drawing["layout"]["shapes"]]
    assert len(boxes) == len(program.macros)
    seen = []
    for trace, step in zip(drawing["data"], program.matrices, strict=True):
        assert trace["name"] == step.name
        for x, width, base, y, words in zip(*(trace[k] for k in ("x", "width", "base", "y", "hovertext")), strict=True):
            left, right, top, bottom = x - width / 2, x + width / 2, base, base + y
            inside = [b for b in boxes if b[0] <= left and right <= b[1] and b[2] <= top and bottom <= b[3]]
            assert len(inside) == 1
            assert words.startswith(f"{step.name}<br>macro ")
            assert not any(left < r and a < right and top < d and c < bottom for a, r, c, d in seen)
            seen.append((left, right, top, bottom))
    assert len(seen) == plan(program).tiles


def test_usage_adds_up_to_the_plan(packed: ConductanceProgram) -> None:
    usage, summary = macro_usage(packed), plan(packed)
    assert sum(u.tiles for u in usage) == summary.tiles
    assert np.mean([u.share for u in usage]) == pytest.approx(summary.utilisation)
    assert any(len(u.layers) > 1 for u in usage)


def test_names_of_layers_cannot_inject_markup(packed: ConductanceProgram) -> None:
    hostile = "</script><img src=x onerror=alert(1)>"
    first = packed.matrices[0]
    renamed = dataclasses.replace(first, name=hostile)
    readers = [s for s in packed.steps if first.name in s.inputs]
    taken = {s.name: tuple(hostile if name == first.name else name for name in s.inputs) for s in readers}
    steps = [
        renamed if s is first else dataclasses.replace(s, inputs=taken.get(s.name, s.inputs)) for s in packed.steps
    ]
    assert "<img" not in own(mapping_page(dataclasses.replace(packed, steps=tuple(steps))))


def test_compile_writes_the_page(tmp_path: Path) -> None:
    save_network(network("lenet5", (28, 28, 1)), tmp_path / "net.pt")
    page = tmp_path / "page.html"
    assert run(["compile", str(tmp_path / "net.pt"), "--plot", str(page)]) == 0
    assert 'id="plot-tiles"' in page.read_text("utf-8")
    assert run(["compile", str(tmp_path / "net.pt"), "--plot", str(tmp_path / "none" / "page.html")]) == 11


@pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome is installed")
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_browser_draws_every_plot_without_an_error(text: str, tmp_path: Path, theme: str) -> None:
    assert faults(text, tmp_path, dark=theme == "dark", plots=1) == []
    (one,) = look(text, tmp_path, dark=theme == "dark", widths=(800,), also=COUNT_TILES)
    assert one["asked"] == 59  # one rectangle a tile
