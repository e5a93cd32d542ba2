"""Configuration files of the model, and changes of single options in MNSIM's own names.

``load_mnsim("mnsim-default")`` gives the shipped default, ``with_options(config, {"Xbar_Size": "128,128"})``
a changed copy. Files have the form of chip files (``cim.chip.file``) and fail in the same way.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cim.chip.file import COST_FORMAT, ChipFileError, NewerChipFile, chip_text
from cim.chip.sourced_values import read_section
from cim.mnsim.config import Cell, CellArea, DeviceKind, MnsimConfig, Operation, TileConnection
from cim.mnsim.schema import SECTIONS, broken_rules
from cim.toml_file import Fail, TomlError, TomlFile, major_version, parse_toml

Read = Callable[[str], Any]


def options_as_fields(option: str, given: Any) -> dict[str, Any]:
    """The fields that one option sets, with their values.

    Raises ValueError for an unknown option, a text that cannot be read, or a change that the model cannot follow.
    """
    name = option.rpartition("/")[2]
    section, dot, key = name.partition(".")
    if dot:
        if section not in SECTIONS or key not in SECTIONS[section][1]:
            raise ValueError("there is no such field in the file")
        return {name: _as_in_the_file(given) if isinstance(given, str) else given}
    text = ",".join(str(v) for v in given) if isinstance(given, list | tuple) else str(given).strip()
    if name in WITHOUT_EFFECT:
        return {}
    if name in ONLY_DEFAULT:
        if _plain(text) != ONLY_DEFAULT[name]:
            raise ValueError(f"is {text}; the model follows it only at its default {ONLY_DEFAULT[name]}")
        return {}
    if name not in OPTIONS:
        known = ", ".join(sorted({*OPTIONS, *ONLY_DEFAULT, *WITHOUT_EFFECT}))
        raise ValueError(f"is none of MNSIM's ({known}) and no field of the file (section.name)")
    fields, read = OPTIONS[name]
    parts = [p.strip() for p in text.split(",")] if len(fields) > 1 else [text]
    if len(parts) != len(fields):
        raise ValueError(f"{text!r} is not {len(fields)} values with a comma between")
    return {field: read(part) for field, part in zip(fields, parts, strict=True)}


def _as_in_the_file(text: str) -> Any:
    """The TOML value of a text; a text that is not TOML is taken as a word, such as `1T1R`."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, KeyError):
        return text


def _plain(text: str) -> str:
    try:
        return f"{float(text):g}"
    except ValueError:
        return text


def _whole(text: str) -> int:
    value = float(text)
    if value != int(value):
        raise ValueError(f"{text!r} is not a whole number")
    return int(value)


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def _choice(table: Mapping[str, Any]) -> Read:
    def read(text: str) -> Any:
        if text not in table:
            raise ValueError(f"{text!r} is none of {', '.join(table)}")
        return table[text]

    return read


# Option -> fields it sets and how one value of its text is read.
OPTIONS: Mapping[str, tuple[tuple[str, ...], Read]] = {
    "Device_Tech": (("device.technology_nm",), float),
    "Device_Type": (("device.kind",), _choice({"NVM": DeviceKind.NVM, "SRAM": DeviceKind.SRAM})),
    "Device_Area": (("device.area_um2",), float),
    "Read_Voltage": (("device.read_v",), _numbers),
    "Read_Latency": (("device.read_latency_ns",), float),
    "Device_Resistance": (("device.resistance_ohm",), _numbers),
    "Xbar_Size": (("array.rows", "array.columns"), _whole),
    "Subarray_Size": (("array.subarray_rows",), _whole),
    "Cell_Type": (("array.cell",), _choice({str(c): c for c in Cell})),
    "Transistor_Tech": (("array.transistor_nm",), float),
    "Area_Calculation": (("array.area",), _choice({"0": CellArea.GIVEN, "1": CellArea.TECHNOLOGY})),
    "DAC_Choice": (("dac.choice",), _whole),
    "DAC_Area": (("dac.own_area_um2",), float),
    "DAC_Precision": (("dac.own_bits",), _whole),
    "DAC_Power": (("dac.own_power_w",), float),
    "DAC_Sample_Rate": (("dac.own_rate_gs",), float),
    "ADC_Choice": (("adc.choice",), _whole),
    "ADC_Area": (("adc.own_area_um2",), float),
    "ADC_Precision": (("adc.own_bits",), _whole),
    "ADC_Power": (("adc.own_power_w",), float),
    "ADC_Sample_Rate": (("adc.own_rate_gs",), float),
    "PIM_Type": (("pe.operation",), _choice({"0": Operation.ANALOG, "1": Operation.DIGITAL})),
    "Xbar_Polarity": (("pe.polarity",), _whole),
    "Sub_Position": (("pe.sub_position",), _whole),
    "Group_Num": (("pe.groups",), _whole),
    "DAC_Num": (("pe.dacs",), _whole),
    "ADC_Num": (("pe.adcs",), _whole),
    "PE_inBuf_Size": (("pe.input_buffer_kb",), float),
    "Digital_Frequency": (("digital.frequency_mhz",), float),
    "Adder_Tech": (("digital.adder_nm",), float),
    "ShiftReg_Tech": (("digital.shift_register_nm",), float),
    "Reg_Tech": (("digital.register_nm",), float),
    "JointModule_Tech": (("digital.joint_nm",), float),
    "PE_Num": (("tile.pe_rows", "tile.pe_columns"), _whole),
    "Pooling_shape": (("pooling.rows", "pooling.columns"), _whole),
    "Pooling_unit_num": (("pooling.units",), _whole),
    "Pooling_Tech": (("pooling.technology_nm",), float),
    "Inter_Tile_Bandwidth": (("chip.inter_tile_gbit_s",), float),
    "Intra_Tile_Bandwidth": (("tile.intra_tile_gbit_s",), float),
    "Tile_outBuf_Size": (("tile.output_buffer_kb",), float),
    "Buffer_Choice": (("buffer.choice",), _whole),
    "Buffer_Technology": (("buffer.technology_nm",), float),
    "Buffer_Bitwidth": (("buffer.bus_bits",), _whole),
    "Tile_Connection": (
        ("chip.tile_connection",),
        _choice(dict(zip("0123", TileConnection, strict=True))),
    ),
    "Tile_Num": (("chip.tile_rows", "chip.tile_columns"), _whole),
    "Simulation_Level": (("device.simulation_level",), _whole),
    "Pipeline": (("chip.pipeline",), _choice({"0": False, "1": True})),
}
# Read by MNSIM, but no cost depends on them.
WITHOUT_EFFECT = frozenset(
    {
        "Read_Level", "Write_Level", "Write_Voltage", "Write_Latency", "Device_Level", "Device_Variation",
        "Device_SAF", "Read_Energy", "Write_Energy", "Wire_Resistance", "Wire_Capacity", "Load_Resistance",
        "ADC_Interval_Thres", "Weight_Polarity",
    }
)  # fmt: skip
# Options whose effect is not known: the default is taken, anything else refused.
ONLY_DEFAULT: Mapping[str, str] = {
    **dict.fromkeys(("Logic_Op",), "-1"),
    **dict.fromkeys(("PE_inBuf_Area", "Tile_outBuf_Area", "DFU_Buf_Size", "DFU_Buf_Area"), "0"),
    **dict.fromkeys(
        ("Adder_Area", "Adder_Power", "Multiplier_Area", "Multiplier_Power", "ShiftReg_Area", "ShiftReg_Power"), "0"
    ),
    **dict.fromkeys(("Reg_Area", "Reg_Power", "JointModule_Area", "JointModule_Power", "Pooling_area"), "0"),
    "Multiplier_Tech": "45",
    **dict.fromkeys(("Tile_Adder_Num", "Tile_Adder_Level", "Tile_ShiftReg_Num", "Tile_ShiftReg_Level"), "0"),
    **dict.fromkeys(("Buffer_ReadPower", "Buffer_WritePower", "LUT_Area", "LUT_Power", "LUT_Bandwidth"), "0"),
    "LUT_Capacity": "1",
    "NoC_enable": "0",
}


MODEL = "mnsim2"
DEFAULT = "mnsim-default"
VERSION = (1, 0)


def load_mnsim(name_or_path: str | Path = DEFAULT) -> MnsimConfig:
    """Give the shipped configuration, or that of a user's file (a path ending in ``.toml``).

    Args:
        name_or_path: of a shipped configuration, or a path.

    Returns:
        the configuration.

    Raises:
        ChipFileError: unknown name, unreadable file, or a wrong value (with its line).

    Example:
        >>> load_mnsim().array.rows
        256
    """
    return parse_mnsim(*chip_text(str(name_or_path), lambda: [DEFAULT]))


def parse_mnsim(text: str, origin: str) -> MnsimConfig:
    """Check the text of a configuration file; ``origin`` names it in errors."""
    try:
        file = parse_toml(text)
    except TomlError as error:
        raise ChipFileError(origin, error.line, "toml", error.text) from error

    def fail(name: str, reason: str) -> ChipFileError:
        return ChipFileError(origin, file.line(name), name, reason)

    data = file.data
    _check_header(file, origin, fail)
    for name in data:
        if name not in SECTIONS and name not in ("format", "version", "model"):
            raise fail(name, f"unknown section; there are {', '.join(SECTIONS)}")
    provenance: dict[str, str] = {}
    values = {name: read_section(name, data.get(name), SECTIONS[name][1], provenance, fail) for name in SECTIONS}
    return _checked(values, origin, provenance, fail)


def with_options(config: MnsimConfig, options: Mapping[str, Any]) -> MnsimConfig:
    """A copy with some options changed.

    Args:
        config: to copy.
        options: MNSIM's own names and texts, with or without their section (``"Xbar_Size": "128,128"``,
            ``"Interface level/ADC_Choice": 7``, ``"Pipeline": 0``), or fields of the file (``"tile.pe_rows": 4``).

    Returns:
        the changed copy.

    Raises:
        ChipFileError: an unknown option or a wrong value; the text names the option.

    Example:
        >>> with_options(load_mnsim(), {"ADC_Choice": "7"}).adc.choice
        7
    """
    values: dict[str, dict[str, Any]] = {
        name: {f.name: getattr(getattr(config, name), f.name) for f in dataclasses.fields(kind)}
        for name, (kind, _) in SECTIONS.items()
    }
    provenance = dict(config.provenance)
    for option, given in options.items():
        try:
            fields = options_as_fields(option, given)
            for name, value in fields.items():
                section, _, key = name.partition(".")
                values[section][key] = SECTIONS[section][1][key](value)
                provenance[name] = f"assumed: option {option}"
        except ValueError as error:
            raise ChipFileError(config.source, 0, "", f"option {option}: {error}") from None

    def fail(name: str, reason: str) -> ChipFileError:
        return ChipFileError(config.source, 0, "", f"with options {', '.join(options)}: {name}: {reason}")

    return _checked(values, config.source, provenance, fail)


def _check_header(file: TomlFile, origin: str, fail: Fail) -> None:
    data = file.data
    if data.get("format") != COST_FORMAT:
        raise fail("format", f"is {data.get('format')!r:.60}, the file of a cost model says {COST_FORMAT!r}")
    if data.get("model") != MODEL:
        raise fail("model", f"is {data.get('model')!r:.60}; this model is {MODEL!r}")
    if major_version(data.get("version"), fail) > VERSION[0]:
        text = f"{data['version']}; this program reads {VERSION[0]}.x"
        raise NewerChipFile(origin, file.line("version"), "version", text)


def _checked(
    values: Mapping[str, Mapping[str, Any]], source: str, provenance: Mapping[str, str], fail: Fail
) -> MnsimConfig:
    sections: dict[str, Any] = {name: kind(**values[name]) for name, (kind, _) in SECTIONS.items()}
    config = MnsimConfig(**sections, source=source, provenance=provenance)
    for name, reason in broken_rules(config):
        raise fail(name, reason)
    return config
