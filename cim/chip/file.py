"""Chip files: load, check, and name the exact line that is wrong.

A chip file is TOML; every value is ``key = { value = …, source = "…" }`` and every source
begins with ``measured:``, ``published:``, ``borrowed from:`` or ``assumed``. ``load_chip`` takes the name of a
shipped file (``hil chip list``) or the path of a user's own.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from cim.chip.evidence import MeasuredNumber
from cim.chip.schema import OPTIONAL, OPTIONAL_SECTIONS, RANGED_SECTION, SECTIONS, broken_rules
from cim.chip.sourced_values import read_section
from cim.chip.spec import (
    AdcSpec,
    CellIv,
    ChipSpec,
    CostSpec,
    FormRecipe,
    InputSpec,
    Limits,
    MacroGroups,
    MacroSpec,
    ModelSpec,
    Sensing,
    Timing,
    WordLine,
    WriteRecipe,
)
from cim.errors import CimFileError, CimMismatch
from cim.files import read_text
from cim.toml_file import MOST_BYTES, TomlError, TomlFile, major_version, parse_toml

FORMAT = "hil.chip"
MOST_MACROS_TRIED = 1024  # numbers of macros by which a digest is known again
COST_FORMAT = "hil.cost"  # files of the same folder and form that hold a cost model's chip (cim.mnsim)
# 1.1: [models]; 1.2: [cost], [groups], sample.dac_inl; 1.3: chip.technology, [evidence], ranges, columns, macro.sensing
# 1.4: values borrowed from other chips, models.programming_mean_us, evidence.fitted, [form]
VERSION = (1, 4)


class ChipFileError(CimFileError):
    """A chip file is missing or wrong; holds the path, line, field and reason."""

    def __init__(self, path: str, line: int, field: str, text: str) -> None:
        where = f"{path}:{line}: {field}: " if field else f"{path}: "
        super().__init__(where + text)
        self.path, self.line, self.field, self.text = path, line, field, text


class NewerChipFile(ChipFileError, CimMismatch):
    """The file was written for a newer major version of the format."""


def chip_names() -> list[str]:
    """Names of the chip files that come with the package; those of cost models are not among them.

    Returns:
        the names, sorted.

    Example:
        >>> "lab-128" in chip_names()
        True
    """
    return _shipped(FORMAT)


def load_chip(name_or_path: str | Path, *, macros: int | None = None) -> ChipSpec:
    """Give the specification of a shipped chip or of a user's file.

    Args:
        name_or_path: ``"lab-128"``, or a path ending in ``.toml``.
        macros: another macro count than the file's.

    Returns:
        the specification, checked.

    Raises:
        ChipFileError: unknown name, unreadable file, or a wrong value (with its line).

    Example:
        >>> load_chip("lab-128", macros=4).macros
        4
    """
    text, origin = chip_text(str(name_or_path))
    return parse_chip(text, origin, macros=macros)


def is_cost_model(name_or_path: str) -> bool:
    """Whether a file, or a shipped one by name, describes a cost model (``cim.mnsim``) and not a programmable chip.

    Raises:
        ChipFileError: unknown name or unreadable file.
    """
    text, _ = chip_text(name_or_path, lambda: [*chip_names(), *_shipped(COST_FORMAT)])
    return _says(text, COST_FORMAT)


def chip_text(name: str, known: Callable[[], Sequence[str]] = chip_names) -> tuple[str, str]:
    """Text of a shipped file (by name) or of a user's (by path), and what to call it in errors.

    ``known`` gives the names that an error lists.

    Raises:
        ChipFileError: no such name, or a file that cannot be read.
    """
    if not name.endswith(".toml"):
        file = resources.files("cim").joinpath("chips", f"{name}.toml")
        if not re.fullmatch(r"[\w-]+", name) or not file.is_file():
            raise ChipFileError(name, 0, "", f"no such chip; there are {', '.join(known())}, or a path to a .toml")
        return file.read_text("utf-8"), f"{name}.toml"
    try:
        return read_text(name, MOST_BYTES), name
    except (OSError, UnicodeDecodeError) as error:
        raise ChipFileError(name, 0, "", f"cannot be read ({error}); hil chip new writes one") from error


def _shipped(form: str) -> list[str]:
    """Names of the files of one format that come with the package."""
    files = [p for p in resources.files("cim").joinpath("chips").iterdir() if p.name.endswith(".toml")]
    return sorted(p.name[:-5] for p in files if _says(p.read_text("utf-8"), form))


def _says(text: str, form: str) -> bool:
    return re.search(f'^format = "{re.escape(form)}"$', text, re.MULTILINE) is not None


def parse_chip(text: str, origin: str, *, macros: int | None = None) -> ChipSpec:
    """Check the text of a chip file and give its specification; ``origin`` names it in errors."""
    return _ChipReader(text, origin).chip(macros)


def idealised(spec: ChipSpec, adc_bits: int | None = None) -> ChipSpec:
    """The same chip with every non-ideality off and converters fine enough to be exact.

    Levels are whole multiples of one step, the one ADC range has an LSB of exactly that
    step, and ``adc_bits`` (default: as many as the largest possible sum needs) never saturate.
    """
    macro = spec.macro
    step = max(round(macro.level_step_us * 16), 1) / 16
    ground = max(round(macro.levels_us[0] / step), 1)
    values = macro.values.values
    levels = tuple(step * (ground + v) for v in values)
    unit = (1 << macro.inputs.bits_per_cycle) - 1
    largest = macro.rows * unit * (ground + values[-1])
    bits = adc_bits or largest.bit_length() + macro.adc_signed
    ideal = dataclasses.replace(
        macro,
        levels_us=levels,
        tolerance_us=step / 4 if macro.even_levels else 3 * step / values[-1],  # too small for coarser values
        cell_iv=CellIv.LINEAR,
        cell_iv_k_per_v2=(),
        adc=AdcSpec(bits, (step * float(1 << (bits - macro.adc_signed)),), macro.adc.shared_by),
        dead_rows=(),
    )
    changed = _with_digest(
        dataclasses.replace(
            spec,
            revision=f"{spec.revision}-ideal",
            macro=ideal,
            sample=dict.fromkeys(spec.sample, 0.0),
            models=None,
            evidence=None,
            form=None,
        )
    )
    return dataclasses.replace(changed, text=render_chip(changed))


def render_chip(spec: ChipSpec) -> str:
    """The text of a chip file that reads back as ``spec`` (comments are not kept)."""
    macro = spec.macro
    cell = {
        "levels_us": list(macro.levels_us),
        "tolerance_us": macro.tolerance_us,
        "iv": macro.cell_iv,
        "iv_k_per_v2": list(macro.cell_iv_k_per_v2),
    }
    sections: dict[str, Mapping[str, Any]] = {
        "chip": {k: getattr(spec, k) for k in SECTIONS["chip"]},
        "macro": {k: getattr(macro, k) for k in SECTIONS["macro"]},
        "cell": cell,
        "input": dataclasses.asdict(macro.inputs),
        "adc": dataclasses.asdict(macro.adc),
        **{k: dataclasses.asdict(getattr(spec, k)) for k in ("write", "limits", "timing")},
        "sample": spec.sample,
        **{k: dataclasses.asdict(found) for k in OPTIONAL_SECTIONS if (found := getattr(spec, k)) is not None},
    }
    ranges = dict(spec.models.ranges) if spec.models else {}
    lines = [f'format = "{FORMAT}"', f'version = "{VERSION[0]}.{VERSION[1]}"']
    for section, fields in sections.items():
        lines.append(f"\n[{section}]")
        for key, value in fields.items():
            if key == "ranges":
                continue
            plain = list(value) if isinstance(value, tuple) else value
            name = f"{section}.{key}"
            unstated = name not in spec.provenance and plain == OPTIONAL.get(name)
            if name in OPTIONAL and (unstated or plain in ([], None)):
                continue
            if name == "macro.column_order" and plain == list(range(macro.columns)):
                plain = "linear"
            source = json.dumps(spec.provenance.get(name, "assumed"), ensure_ascii=False)
            ends = f", range = {json.dumps(ranges[key])}" if section == RANGED_SECTION and key in ranges else ""
            lines.append(f"{key} = {{ value = {json.dumps(plain)}{ends}, source = {source} }}")
    return "\n".join(lines) + "\n"


def description(spec: ChipSpec) -> dict[str, Any]:
    """Everything that the digest covers, as plain data: values in which a board must agree with its chip file.

    Left out are [sample] (of the emulated chip), [models] (assumptions before measurement), [cost] (prices), [groups]
    (placement of layers), [form] (pulses within the limits) and [evidence], since no reply of a board depends on them.
    """
    parts = {k: dataclasses.asdict(getattr(spec, k)) for k in ("macro", "write", "limits", "timing")}
    if spec.macro.word_line is WordLine.GATE:  # as in files from before the field, so their digests stand
        del parts["macro"]["word_line"]
    if spec.macro.sensing is Sensing.CURRENT:
        del parts["macro"]["sensing"]
    return {"name": spec.name, "revision": spec.revision, "macros": spec.macros, **parts}


def _with_digest(spec: ChipSpec) -> ChipSpec:
    canonical = json.dumps(description(spec), sort_keys=True, separators=(",", ":"))
    return dataclasses.replace(spec, digest=hashlib.sha256(canonical.encode()).hexdigest())


def _toml(text: str, origin: str) -> TomlFile:
    try:
        return parse_toml(text)
    except TomlError as error:
        raise ChipFileError(origin, error.line, "toml", error.text) from error


def _broken_sample(spec: ChipSpec) -> tuple[tuple[str, str], ...]:
    """Broken rules of section [sample]; nothing but this check and the emulated chip reads that section."""
    names = ("stuck_low_share", "stuck_high_share")
    whole = sum(spec.sample[name] for name in names) >= 1
    return ((" ".join(f"sample.{name}" for name in names), "leaves no cell"),) if whole else ()


class _ChipReader:
    """Turns one text into a ``ChipSpec``; knows on which line each field stands."""

    def __init__(self, text: str, origin: str) -> None:
        self.text, self.origin = text, origin
        self.file = _toml(text, origin)
        self.provenance: dict[str, str] = {}

    def fail(self, field: str, text: str) -> ChipFileError:
        return ChipFileError(self.origin, self.file.line(field), field, text)

    def chip(self, macros: int | None) -> ChipSpec:
        data = self.file.data
        self._check_version(data)
        for name in data:
            if name not in SECTIONS and name not in ("format", "version"):
                raise self.fail(name, f"unknown section; there are {', '.join(SECTIONS)}")
        here = [name for name in SECTIONS if name in data or name not in OPTIONAL_SECTIONS]
        ranges: dict[str, tuple[float, float]] = {}
        values = {
            name: read_section(
                name,
                data.get(name),
                SECTIONS[name],
                self.provenance,
                self.fail,
                OPTIONAL,
                ranges if name == RANGED_SECTION else None,
            )
            for name in here
        }
        values.get(RANGED_SECTION, {})["ranges"] = ranges
        spec = self._spec(values, macros)
        for fields, text in (*broken_rules(spec), *_broken_sample(spec)):
            field, *others = fields.split()
            lines = ", ".join(f"{other} on line {self.file.line(other)}" for other in others)
            raise self.fail(field, f"{text} (beside {lines})" if lines else text)
        return _with_digest(spec)

    def _check_version(self, data: Mapping[str, Any]) -> None:
        if data.get("format") == COST_FORMAT:
            model = data.get("model")
            raise self.fail("format", f"is a cost model ({model!s:.60}) for `hil estimate`, not a chip to program")
        if data.get("format") != FORMAT:
            raise self.fail("format", f"is {data.get('format')!r:.60}, a chip file says {FORMAT!r}")
        if major_version(data.get("version"), self.fail) > VERSION[0]:
            text = f"{data['version']}; this program reads {VERSION[0]}.x"
            raise NewerChipFile(self.origin, self.file.line("version"), "version", text)

    def _spec(self, v: Mapping[str, dict[str, Any]], macros: int | None) -> ChipSpec:
        macro, cell, adc = v["macro"], v["cell"], v["adc"]
        order = tuple(range(macro["columns"])) if macro["column_order"] == "linear" else macro["column_order"]
        return ChipSpec(
            name=v["chip"]["name"],
            revision=v["chip"]["revision"],
            process=v["chip"]["process"],
            source=self.origin,
            macros=v["chip"]["macros"] if macros is None else macros,
            macro=MacroSpec(
                **{k: macro[k] for k in macro if k != "column_order"},
                column_order=order,
                levels_us=cell["levels_us"],
                tolerance_us=cell["tolerance_us"],
                cell_iv=cell["iv"],
                cell_iv_k_per_v2=cell["iv_k_per_v2"],
                inputs=InputSpec(**v["input"]),
                adc=AdcSpec(**adc),
            ),
            write=WriteRecipe(**v["write"]),
            limits=Limits(**v["limits"]),
            timing=Timing(**v["timing"]),
            sample=v["sample"],
            provenance=self.provenance,
            digest="",
            text=self.text,
            models=ModelSpec(**v["models"]) if "models" in v else None,
            cost=CostSpec(**v["cost"]) if "cost" in v else None,
            groups=MacroGroups(**v["groups"]) if "groups" in v else None,
            form=FormRecipe(**v["form"]) if "form" in v else None,
            evidence=MeasuredNumber(**v["evidence"]) if "evidence" in v else None,
            technology=v["chip"]["technology"],
        )


def described(digest: str, spec: ChipSpec) -> ChipSpec | None:
    """Specification with this digest: ``spec``, or the same file with another macro count; None: another chip file."""
    if digest == spec.digest:
        return spec
    for macros in range(1, MOST_MACROS_TRIED + 1):
        try:
            found = _with_digest(dataclasses.replace(spec, macros=macros))
        except ValueError:  # groups of the file that so few macros do not fill
            continue
        if found.digest == digest:
            return found
    return None


def description_words(digest: str, spec: ChipSpec) -> str:
    """The chip description of a digest in words, as seen from ``spec``: "lab-128 with 16 macros".

    The words name the number of macros where only that differs; else they say that the file is another one.
    """
    if found := described(digest, spec):
        return f"{found.name} with {found.macros} macros"
    return f"another file than {spec.source or spec.name} is (digest {digest[:12]}…)"
