"""report.json and its readers: the shape that others rely on, the schema file, screen and Markdown."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from typing import Any

import pytest

from cim.chip.file import load_chip
from cim.record.published import nominal_record
from hil.errors import ExitCode, FileError, MismatchError
from hil.pages.shell import page
from hil.pages.summary import Bars, Fact
from hil.report.account import account_of, causes_table, summary_of
from hil.report.files import report_text
from hil.report.schema import report_schema
from hil.report.tables import questions
from hil.verdict.agreement import AgreementReport
from mapping.compile import compile_network

from ..small_net import small_network

SCHEMA = json.loads(json.dumps(report_schema()))


def faults(value: Any, schema: dict[str, Any], path: str = "$") -> list[str]:
    """What of ``value`` breaks ``schema``; the keywords that the schema file uses."""
    if "$ref" in schema:
        return faults(value, SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")], path)
    if isinstance(schema.get("type"), list):
        schema = {**schema, "anyOf": [{**schema, "type": kind} for kind in schema["type"]]}
    if "anyOf" in schema:
        tries = [faults(value, option, path) for option in schema["anyOf"]]
        return [] if any(not t for t in tries) else tries[0]
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float)}
    kind = schema.get("type")
    if kind == "null":
        return [] if value is None else [f"{path}: not null"]
    if kind and (not isinstance(value, kinds[kind]) or (kind in ("integer", "number") and isinstance(value, bool))):
        return [f"{path}: {value!r} is no {kind}"]
    found = []
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{path}: {value!r} is none of {schema['enum']}")
    if "pattern" in schema and not re.search(schema["pattern"], value):
        found.append(f"{path}: {value!r} does not match {schema['pattern']}")
    if kind == "number" and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        found.append(f"{path}: {value} out of range")
    if kind == "array":
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            found.append(f"{path}: {len(value)} items")
        found += [f for i, item in enumerate(value) for f in faults(item, schema["items"], f"{path}[{i}]")]
    if kind == "object":
        properties, rest = schema.get("properties", {}), schema.get("additionalProperties")
        found += [f"{path}.{name}: missing" for name in schema.get("required", ()) if name not in value]
        for name, item in value.items():
            part = properties.get(name, rest)
            found += [f"{path}.{name}: not in the schema"] if part is None else faults(item, part, f"{path}.{name}")
    return found


def test_the_report_is_what_the_schema_file_says(run):
    assert faults(json.loads(report_text(run[0])), SCHEMA) == []


def test_markdown_shows_text_of_a_chip_as_text(run):
    told = "<img src=x onerror=alert(1)> [a](javascript:b) `|` &lt;\r# c"
    chip = dataclasses.replace(run[0].chip, serial=told, name=told, firmware=told)
    report = dataclasses.replace(
        run[0], chip=chip, notes=(told,), network=dataclasses.replace(run[0].network, name=told)
    )
    text = account_of(report).markdown()
    shown = r"&lt;img src=x onerror=alert(1)> [a\](javascript:b) \`\|\` &amp;lt; # c"
    assert text.count(shown) >= 5
    assert "<img" not in text
    assert "](" not in text.replace(r"\](", "")
    assert "\r" not in text


def test_the_schema_knows_every_field_of_the_report(run):
    value = json.loads(report_text(run[0]))
    assert set(SCHEMA["properties"]) == set(value)
    for name in value:
        broken = {k: v for k, v in value.items() if k != name}
        optional = name not in SCHEMA["required"]
        assert (faults(broken, SCHEMA) == []) == optional


def test_json_has_the_keys_that_programs_read(run):
    value = run[0].to_json()
    assert value["backend"] == "emulated"
    assert value["accuracy"].keys() == {"float", "ideal", "simulated", "measured"}
    for column in ("simulated", "measured"):
        assert {"mean", "low", "high"} <= value["accuracy"][column].keys()
    assert value["verdict"] == "agree"
    assert {"total", "unreached"} <= value["cells"].keys()
    assert isinstance(value["layers"], list)
    assert value["link"]["retransmissions"] == 0
    assert value["difference"]["mean"] == pytest.approx(
        value["accuracy"]["measured"]["mean"] - value["accuracy"]["simulated"]["mean"]
    )


def test_json_holds_everything_that_a_verdict_must_state(run):
    for question in run[0].to_json()["questions"].values():
        stated = {
            "verdict", "claim", "mode", "tolerance", "n", "repeats", "chips", "simulator_reads", "look", "looks",
            "ideal", "measured", "measured_repeats", "simulated", "difference", "interval90", "interval95",
            "prediction", "equivalence", "components", "discordance", "power", "loss", "fidelity", "trend", "mcnemar",
        }  # fmt: skip
        assert stated <= question.keys()
        assert question["prediction"].keys() >= {"statistic", "limit", "p_rank"}
        assert question["components"].keys() == {"image", "read", "chip"}
        assert question["power"].keys() >= {"agree_if_equal", "smallest_gap", "images_enough"}
    assert {"seeds", "readback", "digests", "environment", "age_s"} <= run[0].to_json().keys()


def test_a_report_comes_back_from_its_json(run):
    assert AgreementReport.from_text(report_text(run[0])) == run[0]


def test_a_report_without_optional_parts_comes_back_too(run):
    bare = dataclasses.replace(run[0], float_accuracy=None, this_chip=None, readback=None, layers=(), link={})
    assert AgreementReport.from_text(report_text(bare)) == bare
    assert faults(json.loads(report_text(bare)), SCHEMA) == []
    assert bare.verdict is run[0].other_chips.verdict
    assert "other chips" in "\n".join(summary_of(bare).lines())
    assert account_of(bare).markdown()


def test_keys_of_a_newer_minor_version_are_skipped(run):
    value = {**run[0].to_json(), "schema": "hil.report/2.1", "invented_later": 1}
    assert AgreementReport.from_json(json.loads(json.dumps(value))) == run[0]


def test_a_newer_major_version_is_a_mismatch(run):
    with pytest.raises(MismatchError, match=re.escape("hil.report/3.0")):
        AgreementReport.from_json({**run[0].to_json(), "schema": "hil.report/3.0"})


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"schema": 3}', '{"schema": "other/1.0"}'])
def test_other_files_are_no_reports(text):
    with pytest.raises(FileError, match=r"not JSON|not a report"):
        AgreementReport.from_text(text)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("cells", "total"), "many"),
        (("chip",), None),
        (("layers",), {}),
        (("questions", "this_chip", "verdict"), "yes"),
    ],
)
def test_damage_is_named_with_its_place(run, path, value):
    broken = copy.deepcopy(json.loads(report_text(run[0])))
    at = broken
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    with pytest.raises(FileError, match=re.escape(path[-1])):
        AgreementReport.from_json(broken)


def test_exit_code_is_zero_for_agreement_only(run, make_run):
    wrong, _ = make_run(shift=520)
    assert (run[0].verdict.value, run[0].exit_code) == ("agree", ExitCode.DONE)
    assert (wrong.verdict.value, wrong.exit_code) == ("disagree", ExitCode.OUTSIDE_TOLERANCE)
    few, _ = make_run(images=600, seed=2, shift=150)
    assert (few.verdict.value, few.exit_code) == ("inconclusive", ExitCode.OUTSIDE_TOLERANCE)


def test_a_disagree_names_the_first_layer_that_virtual_chips_do_not_show(make_run):
    wrong, _ = make_run(shift=520)
    far = (0.1, -4.0, 2.9, 8.0, 0.0)
    layers = tuple(dataclasses.replace(s, residual_z=z, error_z=z) for s, z in zip(wrong.layers, far, strict=True))
    parts = summary_of(dataclasses.replace(wrong, layers=layers)).parts
    [said] = [p.text for p in parts if isinstance(p, Fact) and p.name == "First layer off"]
    assert re.match("conv2, layer 2 of 5: z −4.0, .*; 1 after it$", said)


def test_screen_and_markdown_never_call_an_emulated_chip_measured(run, make_run):
    screen, text = "\n".join(summary_of(run[0]).lines()), account_of(run[0]).markdown()
    assert "EMULATED · nothing was measured on silicon" in screen
    assert "NOT SILICON" in text
    assert "| chip |" in text
    silicon, _ = make_run(kind="silicon")
    assert "measured on silicon" in summary_of(silicon).lines()[0]
    assert "NOT SILICON" not in account_of(silicon).markdown()


def test_the_age_stands_beside_the_accuracies(run):
    assert any("1 h after writing" in line for line in summary_of(run[0]).lines())
    assert "1 h after programming" in account_of(run[0]).markdown()


# --- where the gap comes from --------------------------------------------------------------------


def test_the_screen_names_the_causes_largest_first(make_run):
    report, _ = make_run(shift=600.0)
    lost = lost_bars(report)
    assert next(iter(lost)) == "relaxation"
    assert list(lost.values()) == sorted(lost.values(), key=abs, reverse=True)
    assert any("chip − float" in line for line in summary_of(report).lines())


def lost_bars(report):
    """Causes that the screen shows, with the points that it says."""
    bars = [part for part in summary_of(report).parts if isinstance(part, Bars)]
    return {row.name: _number(row.shown) for part in bars for row in part.rows}


def test_the_causes_in_words_sum_to_the_gap(make_run):
    report, _ = make_run(shift=600.0)
    text = account_of(report).markdown()
    table = text[text.index("## Where the gap comes from") : text.index("## Causes by layer")]
    rows = re.findall(r"^\| ([\w ]+) \| ([−+]\d+\.\d\d) \|", table, re.MULTILINE)
    values = {name: float(value.replace("−", "-")) for name, value in rows}
    assert sum(v for name, v in values.items() if name != "sum") == pytest.approx(values["sum"], abs=0.05)
    assert values["sum"] == pytest.approx(100 * report.causes.gap, abs=0.005)
    assert report.causes.gap > 0.03


def test_causes_have_one_sign_on_screen_page_markdown_and_in_json(make_run):
    """Of a run that gained: what is lost is above zero, what is gained below, wherever it is read."""
    report, data = make_run(shift=600.0)
    split = report.causes
    turned = tuple(dataclasses.replace(p, loss=-p.loss, low=-p.high, high=-p.low) for p in split.parts)
    gained = dataclasses.replace(split, gap=-split.gap, low=-split.high, high=-split.low, parts=turned)
    for causes in (split, gained):
        run = dataclasses.replace(report, causes=causes)
        lost = {p["name"]: 100 * p["loss"] for p in run.to_json()["causes"]["parts"]}
        assert sum(lost.values()) == pytest.approx(100 * run.to_json()["causes"]["gap"])

        said = lost_bars(run)
        assert bool(said) == (causes.gap > 0)
        for name, value in said.items():
            assert value == pytest.approx(lost[name], abs=0.051)

        rows = {row[0]: row[1] for row in causes_table(causes).rows}
        assert causes_table(causes).header[1] == "lost, points"
        for name, value in lost.items():
            assert _number(rows[name]) == pytest.approx(value, abs=0.0051)
        assert f"| relaxation | {rows['relaxation']} |" in account_of(run).markdown()
        assert "below zero: gained" in page(account_of(run, data))


def test_what_was_lost_from_ideal_has_the_sign_of_what_was_lost_to_causes(make_run):
    report, _ = make_run(shift=600.0)
    value, j = report.to_json(), report.decisive
    lost = value["accuracy"]["ideal"] - value["accuracy"]["measured"]["mean"]
    assert lost > 0.02
    found = value["questions"]["this_chip"]["lost"]
    assert found["mean"] == pytest.approx(lost)
    assert found["low"] < lost < found["high"]
    row = next(row for row in questions(report).rows if "quantised to chip" in row[0])
    assert row[0].startswith("lost")
    assert _number(row[1].split()[0]) == pytest.approx(100 * lost, abs=0.0051)
    worse = dataclasses.replace(j, metric=dataclasses.replace(j.metric, greater=False))
    assert worse.lost == j.loss


def _number(words: str) -> float:
    return float(words.replace("−", "-"))


def test_a_report_without_causes_leaves_their_place_out(run):
    plain = dataclasses.replace(run[0], causes=None)
    assert faults(json.loads(report_text(plain)), SCHEMA) == []
    assert "Where the gap" not in account_of(plain).markdown()
    assert not lost_bars(plain)


def test_a_chip_that_held_its_program_is_said_to_leave_two_causes_together(run):
    split = dataclasses.replace(run[0].causes, early_age_s=None)
    assert (
        "nothing separates programming from relaxation"
        in account_of(dataclasses.replace(run[0], causes=split)).markdown()
    )


def test_a_report_without_causes_is_read(run):
    value = json.loads(report_text(run[0]))
    del value["causes"]
    assert AgreementReport.from_json(value).causes is None


@pytest.mark.parametrize(
    ("kind", "mark", "words"),
    [
        ("silicon", "MEASURED ELSEWHERE", "measured elsewhere"),
        ("emulated", "NOT SILICON, ELSEWHERE", "emulated (NOT SILICON)"),
        ("unknown", "ELSEWHERE, BACKEND UNKNOWN", "unknown backend"),
    ],
)
def test_answers_that_a_file_told_of_are_never_said_to_have_come_over_a_wire(run, kind, mark, words):
    told = dataclasses.replace(
        run[0], chip=dataclasses.replace(run[0].chip, kind=kind, told_by="measured.npz"), saturated_share=None
    )
    assert told.backend_words == words
    for text in (account_of(told).markdown(), page(account_of(told, run[1]))):
        assert mark in text
        assert "by their file, measured.npz" in text or "their file, measured.npz, does not say" in text
    assert (mark.split(",")[0] if kind == "silicon" else mark) in summary_of(told).lines()[0]
    assert AgreementReport.from_json(told.to_json()) == told


def test_every_result_has_a_short_form(run) -> None:
    program = compile_network(small_network(), load_chip("lab-128", macros=4))
    for value in (*run, program, nominal_record(program.spec, program.macros)):
        assert repr(value).startswith(f"<{type(value).__name__}")
        assert len(repr(value)) < 250
