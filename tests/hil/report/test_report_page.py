"""The page: complete and self-contained. What a browser makes of it is in test_pages_in_browser."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import html
import re
import zlib
from pathlib import Path

import numpy as np
import pytest
from jinja2 import UndefinedError

import hil.pages
from cim.intervals import wilson
from hil.pages.account import Account, Bullets, Marked, Plot, Section
from hil.pages.figures import MOST_POINTS_DRAWN, block_largest, block_mean, dots, line, packed
from hil.pages.shell import page
from hil.pages.summary import Bar, Bars, Fact, Headline, NextStep, Scale, ScaleRow, Summary, Tone
from hil.pages.tables import Table
from hil.report import figures, tables
from hil.report.account import account_of
from hil.report.answers import class_accuracies, class_table, confusion, image_address

from ..page_parts import figures_of, own

TEMPLATES = sorted((Path(hil.pages.__file__).parent / "templates").glob("*.html"))


def page_of(*of) -> str:
    return page(account_of(*of))


@pytest.fixture(scope="module")
def text(run) -> str:
    return page_of(*run)


def test_plotly_is_inlined_once(text):
    (library,) = re.findall(r'<script type="text/plain" class="library">(.*?)</script>', text)
    assert re.search(r"\* plotly\.js v", gzip.decompress(base64.b64decode(library)).decode())


def test_nothing_is_loaded_from_outside(text):
    assert not re.search(
        r"((src|action|data)\s*=|href=\"(?!#))",
        re.sub(r'dataset|data-|src="data:image/png;base64,[A-Za-z0-9+/=]+"', "", own(text).split("<script", 1)[0]),
    )
    assert not re.search(r"https?://|@import|url\(", own(text))
    assert "default-src 'none'" in text


def test_every_plot_has_its_place(text):
    drawn = figures_of(text)
    assert set(drawn) == set(re.findall(r'id="plot-(\w+)"', text))
    assert {"errors", "occupancy", "conductance", "confusion", "layers"} <= set(drawn)


def test_banner_and_titles_follow_the_kind_of_chip(text, make_run):
    assert "NOT SILICON" in own(text)
    assert "NOT SILICON" not in own(page_of(*make_run(kind="silicon", macros=1)))


@pytest.mark.parametrize(("shift", "verdict"), [(0.0, "agree"), (520.0, "disagree")])
def test_the_verdict_is_said_in_plain_words(make_run, shift, verdict):
    report, data = make_run(shift=shift, macros=1)
    shown = html.unescape(own(page_of(report, data)))
    assert f'class="answer {"good" if verdict == "agree" else "bad"}"' in shown
    assert f'<p class="word">{verdict.upper()}</p>' in shown
    assert report.decisive.text[1:] in shown
    assert ("does not predict" in shown) == (verdict == "disagree")


def test_names_from_outside_cannot_inject_markup(make_run):
    report, data = make_run(macros=1)
    hostile = "</script><img src=x onerror=alert(1)>"
    report = dataclasses.replace(report, network=dataclasses.replace(report.network, name=hostile))
    data = dataclasses.replace(data, classes=(hostile, *data.classes[1:]))
    assert "<img src=x" not in own(page_of(report, data))


def test_maps_of_many_macros_are_reduced(make_run):
    _, data = make_run(macros=59, images=20)
    for draw in (figures.conductance_figure, figures.occupancy_figure, figures.error_map_figure):
        figure = draw(data)
        rows, columns = (int(n) for n in figure["data"][0]["z"]["shape"].split(", "))
        assert rows * columns <= MOST_POINTS_DRAWN
        assert figure["reduced"] == 4
        assert len(figure["layout"]["annotations"]) == 59


def test_reduction_keeps_means_and_the_largest_errors():
    a = np.arange(36, dtype=np.float32).reshape(6, 6)
    a[0, 0] = np.nan
    a[5, 5] = -90
    assert block_mean(a, 3)[1, 0] == pytest.approx(a[3:, :3].mean())
    assert block_mean(a, 3)[0, 0] == pytest.approx(np.nanmean(a[:3, :3]))
    assert block_largest(a, 3)[1, 1] == -90
    assert np.isnan(block_mean(np.full((3, 3), np.nan, np.float32), 3)).all()


def test_confusion_rows_are_shares(run):
    share = confusion(run[1])
    assert share.sum(axis=1) == pytest.approx(np.ones(10))
    assert np.diag(share).min() > 0.9


def test_images_that_only_the_chip_gets_wrong_are_shown_with_their_answers(make_run):
    report, data = make_run(shift=520.0, macros=1)
    assert 0 < len(data.telling) <= 12
    right = data.measured_logits[:, data.telling].argmax(-1) == data.labels[data.telling]
    predicted = data.simulated_logits[:, data.telling].argmax(-1) == data.labels[data.telling]
    assert right.mean(axis=0).max() < 0.5 < predicted.mean(axis=0).min()
    shown = own(page_of(report, data))
    assert shown.count('src="data:image/png') == len(data.telling)
    label = data.classes[data.labels[data.telling[0]]]
    assert f"Image {data.indices[data.telling[0]]:,}, label {label}: right in " in shown


def test_classes_have_wilson_intervals_and_sum_to_the_whole_accuracy(run):
    data = run[1]
    right, images = class_accuracies(data, "measured")
    assert right.sum() / images.sum() == pytest.approx(run[0].decisive.measured.mean)
    low, high = wilson(right[3], int(images[3]))
    cell = class_table(data).rows[3][-1]
    assert cell == f"{100 * right[3] / images[3]:.1f} ({100 * low:.1f} … {100 * high:.1f}) %"


def test_a_run_without_a_float_network_has_no_column_of_it(run):
    data = dataclasses.replace(run[1], float_logits=None)
    table = class_table(data)
    assert "float" not in table.header
    assert "Left out: float" in table.note


def test_an_image_in_the_page_is_the_image_of_the_set():
    rng = np.random.default_rng(0)
    for channels in (1, 3):
        pixels = rng.integers(0, 256, (5, 7, channels)).astype(np.uint8)
        content = base64.b64decode(image_address(pixels).partition(",")[2])
        start = content.index(b"IDAT")
        size = int.from_bytes(content[start - 4 : start], "big")
        lines = np.frombuffer(zlib.decompress(content[start + 4 : start + 4 + size]), np.uint8).reshape(5, -1)
        assert (lines[:, 1:].reshape(pixels.shape) == pixels).all()


def test_contents_lead_to_every_section(text):
    shown = own(text)
    links = re.findall(r'<a href="#([\w-]+)">', shown)
    assert links == re.findall(r'<h2 id="([\w-]+)">', shown)
    assert {"accuracy", "layers", "answers", "cells", "command-and-files"} <= set(links)


def test_the_page_names_the_command_and_the_files_that_lie_beside_it(run):
    report, data = run
    report = dataclasses.replace(report, environment={"command": "hil deploy net.pt --port /dev/ttyUSB0"})
    shown = own(page_of(report, data, ["report.html", "wire.log"]))
    assert "Made by hil deploy net.pt --port /dev/ttyUSB0" in shown
    assert "wire.log" in shown
    assert '<th scope="row">record.h5</th>' not in shown


def test_layers_far_from_the_virtual_chips_are_marked(run):
    report, data = run
    layers = [
        dataclasses.replace(s, residual_z=z, error_z=None)
        for s, z in zip(report.layers, (0.1, -4.0, 2.9, 8.0, 0.0), strict=True)
    ]
    shown = own(page_of(dataclasses.replace(report, layers=tuple(layers)), data))
    assert "|z| of 3 or more: conv4, conv2." in shown
    assert re.findall(r'<tr class="marked"><th scope="row">(conv\d)', shown.split('id="layers"')[1])[:2] == [
        "conv2",
        "conv4",
    ]


def test_columns_and_counters_without_a_value_are_named_once(run):
    report, data = run
    layers = tuple(dataclasses.replace(s, residual_z=None, error_z=None) for s in report.layers)
    link = {"frames_sent": 12.0, "bad_crc": 0.0, "acks_sent": 3.0, "resyncs": 0.0}
    report = dataclasses.replace(report, layers=layers, link=link)
    table = tables.layers(report)
    assert "z" not in table.header
    assert "Left out: z" in table.note
    rows = dict(tables.link(report).rows)
    assert rows["acknowledgements sent"] == "3"
    assert rows["none of"] == "frames with wrong checksums, sessions begun again"
    assert "bad_crc" not in own(page_of(report, data))


def test_a_page_of_a_whole_chip_is_at_most_2_9_megabytes(make_run):
    assert len(page_of(*make_run(macros=64, images=500))) <= 2_900_000


def test_packed_numbers_are_drawn_at_their_values_by_dots_as_by_lines():
    numbers = np.arange(3, dtype=np.float32)
    for draw in (dots, line):
        drawn = draw(packed(numbers), packed(numbers), "@ink", "")
        assert drawn["x"] == drawn["y"] == {"dtype": "f4", "bdata": base64.b64encode(numbers).decode()}
    assert dots(range(2), ("a", "b"), "@ink", "")["y"] == ["a", "b"]


def test_a_dash_in_a_table_has_its_reason_below(run):
    report, _ = run
    layers = (dataclasses.replace(report.layers[0], snr_db=None, exact=False), *report.layers[1:])
    table = tables.layers(dataclasses.replace(report, layers=layers))
    assert "—" in table.rows[0]
    assert table.note.endswith("—: not defined for this layer, as where it has no error or too few samples.")
    assert "—:" not in tables.layers(report).note


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda p: p.name)
def test_no_template_marks_content_as_safe_or_switches_escaping_off(path: Path) -> None:
    text = path.read_text("utf-8")
    assert not re.search(r"\|\s*safe|autoescape|\bMarkup\b|style=|\son\w+=", text)


def test_every_value_that_a_template_shows_is_escaped() -> None:
    hostile = '"><img src=x onerror=alert(1)>'
    table = Table(hostile, (hostile, "other"), ((hostile, hostile),), hostile)
    summary = Summary(
        hostile,
        hostile,
        Headline(Tone.GOOD, hostile, hostile),
        (
            Fact(hostile, hostile, hostile),
            Scale(hostile, hostile, (ScaleRow(hostile, hostile, 1.0),), hostile),
            Bars(hostile, (Bar(hostile, hostile, 1.0, hostile),), hostile),
            table,
        ),
        (NextStep(hostile, hostile),),
    )
    parts = (hostile, table, Marked(table, hostile, (hostile,)), Bullets((hostile,), hostile), Plot("a", hostile, {}))
    text = page(
        Account(
            summary, (Section(hostile, parts), Section(hostile, parts[:1], hostile)), title=hostile, subtitle=hostile
        )
    )
    assert "<img" not in text.split("<script", 1)[0]
    assert text.count("&#34;&gt;&lt;img src=x onerror=alert(1)&gt;") > 30


def test_a_part_that_no_template_draws_says_so() -> None:
    with pytest.raises(UndefinedError, match="object"):
        page(Account(Summary("runs"), (Section("Runs", (object(),)),)))
