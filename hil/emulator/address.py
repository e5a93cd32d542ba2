"""From an address to an emulated chip: ``emulated:lab-128?seed=7&macros=16&supply_droop=0.02``."""

from __future__ import annotations

import dataclasses
import math
from urllib.parse import parse_qsl

from cim.chip.file import idealised, load_chip
from cim.chip.spec import Sensing
from cim.files import read_text
from firmware_protocols.errors import LocalProtocolError
from firmware_protocols.extensions.authority import chip_key
from hil.emulator.chip import EmulatedChip
from hil.emulator.relaxation import TABLES, USUAL
from hil.emulator.sample import SIGNED, SampleParameters
from hil.errors import UsageError

SCHEME = "emulated:"
OWN_KEYS = ("seed", "macros", "ideal", "key", "traces")
EXAMPLE = "emulated:lab-128?seed=7"


def chip_from_address(address: str) -> EmulatedChip:
    """The chip that an address names.

    After the chip (a name or the path of a chip file) come, all optional: ``seed`` (default 0),
    ``macros``, ``ideal=1`` (every non-ideality off), ``key=FILE`` (64 hexadecimal digits that a host must
    prove before it changes anything), ``traces=levy-b`` (cells follow measured ones of another technology) and any
    parameter of the file's [sample];
    ``heat_to_c=60&heat_after_s=20000`` is an oven that comes on at that chip time.

    Raises:
        UsageError: not such an address, an unknown key or a value that is not a number.
        cim.chip.file.ChipFileError: no such chip, or a broken file.
    """
    if not address.startswith(SCHEME):
        raise UsageError(f"{address!r} is not an address of an emulated chip", hint=EXAMPLE)
    name, _, query = address[len(SCHEME) :].partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    known = (*OWN_KEYS, *(f.name for f in dataclasses.fields(SampleParameters)))
    for key, text in pairs:
        if key not in known:
            raise UsageError(f"unknown key {key!r} in {address!r}", likely=f"keys are {', '.join(known)}", hint=EXAMPLE)
        if key == "traces" and text not in TABLES:
            raise UsageError(f"no traces {text!r:.60} in {address!r}", likely=f"there are {', '.join(TABLES)}")
        if key not in ("key", "traces"):
            _number(address, key, text)
    values = dict(pairs)
    key_file = values.pop("key", None)
    macros, traces = values.pop("macros", None), values.pop("traces", USUAL)
    seed, ideal = int(values.pop("seed", "0")), values.pop("ideal", "0")
    spec = load_chip(name or "lab-128", macros=None if macros is None else int(macros))
    if spec.macro.sensing is not Sensing.CURRENT:
        raise UsageError(
            f"{spec.name} senses voltages, and an emulated chip senses currents",
            hint="hil simulate --chip FILE.toml, whose virtual chips know it",
        )
    if ideal == "1":
        spec = idealised(spec)
    chips_key = None if key_file is None else _key_in(key_file)
    sample = {name: float(text) for name, text in values.items()}
    return EmulatedChip(spec, seed, sample, key=chips_key, traces=traces)


def _key_in(path: str) -> bytes:
    try:
        return chip_key(read_text(path, 4096))
    except (OSError, UnicodeDecodeError, LocalProtocolError) as error:
        raise UsageError(f"no key of a chip in {path!r}: {error}", hint="64 hexadecimal digits are needed") from error


def _number(address: str, key: str, text: str) -> None:
    low = {"seed": 0, "macros": 1, "ideal": 0}.get(key)
    try:
        value = float(text) if low is None else int(text)
        if not math.isfinite(value):
            raise ValueError(text)
    except ValueError:
        raise UsageError(f"{key}={text!r} in {address!r} is no {'number' if low is None else 'whole number'}") from None
    if value < (low or 0) and key not in SIGNED:
        raise UsageError(f"{key}={text} in {address!r} is below {low or 0}")
    if key == "ideal" and value > 1:
        raise UsageError(f"ideal={text} in {address!r} is neither 0 nor 1")
