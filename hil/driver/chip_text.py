"""Chips in words: the rows of `hil chip list`, the page of `hil chip show`, the answer of `hil board info`."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from cim.chip.doubts import TRUTHS, doubts
from cim.chip.file import description
from cim.chip.spec import ChipSpec
from cim.gallery import Reproduction, found, of_source
from firmware_protocols.extensions.chip_side import OWN
from firmware_protocols.messages import Capability, StatusReply
from hil.driver.chip_driver import ChipDriver
from hil.pages.tables import Table, labelled


def gallery_rows(spec: ChipSpec) -> list[tuple[str, str]]:
    """A row of `hil chip list`: technology and size, a number measured on such chips, and assumptions."""
    told = found(spec)
    number = "no published number in this file" if told is None else f"{told.text} ({_origin(spec)})"
    return [
        (spec.name, chip_words(spec)),
        ("", number),
        ("", _counted(spec, "borrowed from", "borrowed from other chips")),
        ("", _counted(spec, "assumed", "assumed")),
        ("", ""),
    ]


def gallery_record(spec: ChipSpec) -> dict[str, Any]:
    told, m = found(spec), spec.macro
    return {
        "name": spec.name,
        "technology": spec.technology,
        "macros": spec.macros,
        "rows": m.rows,
        "columns": m.columns,
        "evidence": None if told is None else _evidence_record(spec, told),
        **{
            name: {section: {name: n, "values": of} for section, (n, of) in of_source(spec, word).items()}
            for name, word in (("assumed", "assumed"), ("borrowed", "borrowed from"))
        },
    }


def _counted(spec: ChipSpec, word: str, words: str) -> str:
    parts = of_source(spec, word)
    count, total = (sum(column) for column in zip(*parts.values(), strict=True))
    named = ", ".join(f"{section} {n} of {of}" for section, (n, of) in parts.items() if n)
    return f"{words}: {count} of {total} values" + (f" ({named})" if named else "")


def _evidence_record(spec: ChipSpec, told: Reproduction) -> dict[str, Any]:
    return {**asdict(told.evidence), "source": _origin(spec), "this_file": told.value, "within_error": told.holds}


def _origin(spec: ChipSpec) -> str:
    return spec.provenance["evidence.quantity"].split(": ", 1)[-1]


def chip_words(spec: ChipSpec) -> str:
    m = spec.macro
    levels = f"{'' if m.even_levels else 'uneven '}{len(m.levels_us)}"
    return (
        f"{spec.technology or 'cells not named'}, {spec.macros} macro{'s' * (spec.macros != 1)} of "
        f"{m.rows} x {m.columns}, {m.encoding}, {levels} levels of "
        f"{m.levels_us[0]:g}-{m.levels_us[-1]:g} µS, {m.inputs.coding} inputs, {m.adc.bits}-bit ADC"
    )


def chip_tables(spec: ChipSpec) -> list[str | Table]:
    """Every value of a chip file with its source."""
    head = [(spec.name, chip_words(spec)), ("digest", spec.digest)]
    if not (v := spec.macro.values).even:
        values = ", ".join(map(str, v.values))
        head.append(("values", f"{values} of {v.unit_us:.4g} µS, off by at most {v.error_us:.2g} µS"))
    facts = _flat(spec)
    rows = ((field, _short(facts.get(field)), source) for field, source in spec.provenance.items())
    return [labelled("Chip", *head), "", labelled("Values", *rows)]


def unlikely(spec: ChipSpec) -> list[tuple[str, str]]:
    """Unlikely values of a chip file with reasons; so is an emulated chip's truth outside the models' ranges."""
    ranges = {} if spec.models is None else spec.models.ranges
    outside = [
        (f"sample.{name}", f"is {spec.sample[name]:g}, outside models.{name}, {low:g} to {high:g}")
        for name, (low, high) in ranges.items()
        if name in TRUTHS and not low <= spec.sample[name] <= high
    ]
    return [*doubts(spec), *outside]


OFF_BIT = "off or ordered off: STATUS does not say which"


def info_table(driver: ChipDriver, status: StatusReply | None) -> Table:
    d, can = driver.description, driver.capabilities
    silicon = "" if d.kind == "silicon" else "      NOT SILICON"
    held = d.program_digest.hex()
    told = [("status", "not known: the firmware has no STATUS")]
    if status is not None:
        told = [
            ("temperature", f"{_celsius(status)}, outputs {'ON' if status.outputs_on else OFF_BIT}"),
            ("wear", f"{status.pulses_total} pulses, {status.programmed_cells} cells programmed"),
        ]
    own = Capability.DEAD_MAN | OWN  # of the chip role, whatever the board behind it can do
    names = [[c.name.lower() for c in Capability if c.name and c in part] for part in (can & ~own, can & own)]
    return labelled(
        "Chip",
        ("chip", f"{d.kind} {d.name} revision {d.revision}, serial {d.serial}{silicon}"),
        ("firmware", d.firmware),
        ("geometry", f"{d.macros} macros of {d.rows} x {d.columns} cells"),
        ("description", f"{d.spec_digest.hex()[:16]}… (equal to {driver.spec.source})"),
        ("program", f"{held[:16]}…" if any(d.program_digest) else "none held"),
        ("can", ", ".join(names[0])),
        ("link adds", ", ".join(names[1]) or "nothing more"),
        *told,
        ("chip time", f"{driver.chip_time_ns * 1e-9:.6f} s"),
        *(("note", text) for text in driver.fallbacks),
    )


def info_record(driver: ChipDriver, status: StatusReply | None) -> dict[str, Any]:
    d = driver.description
    return {
        "kind": d.kind,
        "name": d.name,
        "revision": d.revision,
        "serial": d.serial,
        "firmware": d.firmware,
        "macros": d.macros,
        "rows": d.rows,
        "columns": d.columns,
        "spec_digest": d.spec_digest.hex(),
        "program_digest": d.program_digest.hex(),
        "capabilities": [c.name.lower() for c in Capability if c.name and c in driver.capabilities],
        "temperature_c": None if status is None or math.isnan(status.temperature_c) else status.temperature_c,
        "outputs_on": None if status is None else status.outputs_on,
        "pulses_total": None if status is None else status.pulses_total,
        "notes": driver.fallbacks,
    }


def _flat(spec: ChipSpec) -> dict[str, Any]:
    """Value of each dotted field as the chip file names it."""
    content = description(spec)
    macro = content.pop("macro")
    facts = {f"input.{k}": v for k, v in macro.pop("inputs").items()}
    facts |= {f"adc.{k}": v for k, v in macro.pop("adc").items()}
    facts |= {f"macro.{k}": v for k, v in macro.items()} | {f"cell.{k}": v for k, v in macro.items()}
    facts |= {"cell.iv": macro["cell_iv"], "cell.iv_k_per_v2": macro["cell_iv_k_per_v2"]}
    for section in ("write", "limits", "timing"):
        facts |= {f"{section}.{k}": v for k, v in content[section].items()}
    facts |= {f"sample.{k}": v for k, v in spec.sample.items()}
    facts |= {f"models.{k}": v for k, v in ({} if spec.models is None else asdict(spec.models)).items()}
    facts |= {f"evidence.{k}": v for k, v in ({} if spec.evidence is None else asdict(spec.evidence)).items()}
    if spec.groups is not None:
        modes = " or ".join("+".join(map(str, mode)) for mode in spec.groups.modes)
        facts |= {"groups.size": spec.groups.size, "groups.modes": modes, "groups.joined": spec.groups.joined}
    return facts | {f"chip.{k}": getattr(spec, k) for k in ("name", "revision", "process", "technology", "macros")}


def _short(value: Any) -> str:
    if isinstance(value, tuple | list):
        shown = ", ".join(map(_short, value[:3]))
        return (
            f"[{shown}, … {_short(value[-1])}] ({len(value)})" if len(value) > 4 else f"[{', '.join(map(str, value))}]"
        )
    return f"{value:g}" if isinstance(value, float) else str(value)


def _celsius(status: StatusReply) -> str:
    return "unknown" if math.isnan(status.temperature_c) else f"{status.temperature_c:.1f} °C"
