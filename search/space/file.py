"""Space files: load, check, and name the exact line that is wrong.

``load_space`` takes the name of a shipped file (``space_names``) or the path of a user's own TOML.
An operator's table names a ``kind`` of ``search.space.operators``, or ``python = "module:object"``: that
imports and calls a user's code, so it is refused unless the caller allows it.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from cim.files import read_text
from cim.toml_file import MOST_BYTES, TomlError, TomlFile, major_version, parse_toml
from search.errors import CodeRefused, NewerFile, SearchFileError
from search.space.genes import Bits, BitsPer, Head, Position, Space, Stage, Stem
from search.space.operators import OPERATORS, Operator

FORMAT = "hil.space"
VERSION = (1, 0)
KEYS = {
    "": ("format", "version", "name", "input", "classes", "multiple", "stem", "head", "bits", "operators", "stage"),
    "stem": ("channels", "kernel", "stride"),
    "head": ("channels",),
    "bits": ("weight", "activation", "adc", "per", "edge_weight", "edge_activation"),
    "stage": ("layers", "stride", "channels", "widths", "operators", "first"),
}
OPTIONAL = ("multiple", "head", "per", "edge_weight", "edge_activation", "first")


def space_names() -> list[str]:
    """Names of the space files that come with the package."""
    return sorted(
        p.name[:-5] for p in resources.files("search").joinpath("spaces").iterdir() if p.name.endswith(".toml")
    )


def load_space(name_or_path: str | Path, *, allow_code: bool = False) -> Space:
    """Give a shipped space or a user's own (a path ending in ``.toml``).

    Args:
        allow_code: import and call the Python objects that the file names. Only for files you trust.

    Raises:
        FileError: unknown name, unreadable file, or a wrong value (with its line).
        CodeRefused: the file names Python code.
    """
    name = str(name_or_path)
    own = name.endswith(".toml")
    return parse_space(space_text(name), name if own else f"{name}.toml", allow_code=own and allow_code)


def space_text(name_or_path: str | Path) -> str:
    """The text of a shipped space or a user's own, unchecked. Raises ``SearchFileError`` when it cannot be read."""
    name = str(name_or_path)
    if not name.endswith(".toml"):
        file = resources.files("search").joinpath("spaces", f"{name}.toml")
        if not re.fullmatch(r"[\w-]+", name) or not file.is_file():
            raise SearchFileError(
                name, 0, "", f"no such space; there are {', '.join(space_names())}, or a path to a .toml"
            )
        return file.read_text("utf-8")
    try:
        return read_text(name, MOST_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        raise SearchFileError(name, 0, "", f"cannot be read ({error})") from error


def parse_space(text: str, origin: str, *, allow_code: bool = False) -> Space:
    """Check the text of a space file and give its space; ``origin`` names it in errors."""
    return _SpaceReader(text, origin, allow_code).space()


def _toml(text: str, origin: str) -> TomlFile:
    try:
        return parse_toml(text)
    except TomlError as error:
        raise SearchFileError(origin, error.line, "toml", error.text) from error


class _SpaceReader:
    """Turns one text into a ``Space``; knows on which line each field stands."""

    def __init__(self, text: str, origin: str, allow_code: bool) -> None:
        self.origin, self.allow_code = origin, allow_code
        self.file = _toml(text, origin)

    def fail(self, field: str, text: str) -> SearchFileError:
        return SearchFileError(self.origin, self.file.line(field), field, text)

    def space(self) -> Space:
        data = self.file.data
        self._head(data)
        self._keys("", data, "")
        name = data["name"]
        if not isinstance(name, str) or not re.fullmatch(r"[\w-]+", name):
            raise self.fail("name", f"{name!r:.60} must be letters, digits, _ and -")
        size = self.whole_list("input", data["input"], 1, 4096)
        if len(size) != 3:
            raise self.fail("input", "must be [channels, height, width]")
        operators = self._operators(self.table("operators", data["operators"]))
        stages, positions = self._stages(data["stage"], operators)
        stem, head = self.section("stem", data), self.section("head", data)
        bits = self.section("bits", data)
        space = Space(
            name=name,
            input_shape=(size[0], size[1], size[2]),
            classes=self.whole("classes", data["classes"], 2, 1 << 16),
            stem=Stem(**{k: self.whole(f"stem.{k}", stem[k], 1, 1 << 14) for k in KEYS["stem"]}),
            stages=stages,
            positions=positions,
            head=Head(self.whole("head.channels", head["channels"], 0, 1 << 14)) if head else Head(),
            multiple=self.whole("multiple", data.get("multiple", 4), 1, 64),
            operators=operators,
            weight_bits=self.bits("bits.weight", bits["weight"], 2, 16),
            activation_bits=self.bits("bits.activation", bits["activation"], 1, 16),
            adc_bits=self.bits("bits.adc", bits["adc"], 1, 16),
            bits_per=self._bits_per(bits),
            edges=self._edges(bits),
            skeleton=_skeleton(data),
        )
        return self._fitting(space)

    def _head(self, data: Mapping[str, Any]) -> None:
        if data.get("format") != FORMAT:
            raise self.fail("format", f"is {data.get('format')!r:.60}, a space file says {FORMAT!r}")
        if major_version(data.get("version"), self.fail) > VERSION[0]:
            text = f"{data['version']}; this program reads {VERSION[0]}.x"
            raise NewerFile(self.origin, self.file.line("version"), "version", text)

    def _keys(self, kind: str, table: Mapping[str, Any], where: str) -> None:
        for key in table:
            if key not in KEYS[kind]:
                raise self.fail(f"{where}{key}", f"unknown; there are {', '.join(KEYS[kind])}")
        for key in KEYS[kind]:
            if key not in table and key not in OPTIONAL:
                raise self.fail(where.rstrip(".") or key, f"{key} is missing")

    def table(self, field: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.fail(field, "must be a table")
        return value

    def section(self, name: str, data: Mapping[str, Any]) -> dict[str, Any]:
        if name not in data:
            return {}
        table = self.table(name, data[name])
        self._keys(name, table, f"{name}.")
        return table

    def whole(self, field: str, value: Any, least: int, most: int) -> int:
        if type(value) is not int or not least <= value <= most:
            raise self.fail(field, f"{value!r:.60} must be a whole number from {least} to {most}")
        return value

    def whole_list(self, field: str, value: Any, least: int, most: int) -> tuple[int, ...]:
        if not isinstance(value, list) or not value:
            raise self.fail(field, f"{value!r:.60} must be a list of whole numbers")
        return tuple(self.whole(field, one, least, most) for one in value)

    def bits(self, field: str, value: Any, least: int, most: int) -> tuple[int, ...]:
        found = self.whole_list(field, value, least, most)
        if list(found) != sorted(set(found)):
            raise self.fail(field, "must rise, each value once")
        return found

    def _bits_per(self, bits: Mapping[str, Any]) -> BitsPer:
        value = bits.get("per", "network")
        if value not in get_args(BitsPer):
            raise self.fail("bits.per", f"{value!r:.60} is none of {', '.join(get_args(BitsPer))}")
        per: BitsPer = value
        if per != "network" and "edge_weight" not in bits:
            raise self.fail("bits.per", f"bits of every {per} leave out stem and classifier: give edge_weight too")
        return per

    def _edges(self, bits: Mapping[str, Any]) -> Bits | None:
        given = [key for key in ("edge_weight", "edge_activation") if key in bits]
        if not given:
            return None
        if len(given) == 1:
            raise self.fail(f"bits.{given[0]}", "edge_weight and edge_activation come together")
        return Bits(*(self.whole(f"bits.{key}", bits[key], 2, 16) for key in given))

    def _operators(self, tables: Mapping[str, Any]) -> dict[str, Operator]:
        if not tables:
            raise self.fail("operators", "a space needs at least one operator")
        return {name: self._operator(f"operators.{name}", table) for name, table in tables.items()}

    def _operator(self, field: str, value: Any) -> Operator:
        options = dict(self.table(field, value))
        if ("kind" in options) == ("python" in options):
            raise self.fail(field, 'must name either kind = "…" or python = "module:object"')
        if "python" in options:
            make = self._code(field, options.pop("python"))
        else:
            kind = options.pop("kind")
            if kind not in OPERATORS:
                raise self.fail(field, f"kind {kind!r:.60} is none of {', '.join(OPERATORS)}")
            make = OPERATORS[kind]
            for number in options.values():
                if type(number) is not bool:
                    self.whole(field, number, 1, 64)
        try:
            made = make(**options)
        except (TypeError, ValueError) as error:
            raise self.fail(field, str(error)) from error
        if not (callable(getattr(made, "fits", None)) and callable(getattr(made, "layers", None))):
            raise self.fail(field, "is not an operator: it needs fits(slot) and layers(slot)")
        operator: Operator = made
        return operator

    def _code(self, field: str, reference: Any) -> Any:
        if not isinstance(reference, str) or not re.fullmatch(r"[\w.]+:\w+", reference):
            raise self.fail(field, f"python = {reference!r:.60} is not module:object")
        if not self.allow_code:
            raise CodeRefused(
                self.origin, self.file.line(field), field,
                f"names Python code ({reference}), which would run here; --allow-code runs it, if you trust the file",
            )  # fmt: skip
        module, _, name = reference.partition(":")
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise self.fail(field, f"{reference} cannot be imported ({error})") from error

    def _stages(self, tables: Any, operators: Mapping[str, Operator]) -> tuple[tuple[Stage, ...], tuple[Position, ...]]:
        if not isinstance(tables, list) or not tables:
            raise self.fail("stage", "one or more [[stage]] are needed")
        stages, positions = [], []
        for number, table in enumerate(tables):
            where = f"stage.{number + 1}"
            self._keys("stage", self.table(where, table), f"{where}.")
            stages.append(
                Stage(
                    self.whole(f"{where}.channels", table["channels"], 1, 1 << 14), self._widths(where, table["widths"])
                )
            )
            stride = self.whole(f"{where}.stride", table["stride"], 1, 8)
            every = self._names(f"{where}.operators", table["operators"], operators)
            first = self._names(f"{where}.first", table["first"], operators) if "first" in table else every
            for i in range(self.whole(f"{where}.layers", table["layers"], 1, 64)):
                name = f"{number + 1}.{i + 1}"
                positions.append(Position(name, number, i == 0, stride if i == 0 else 1, every if i else first))
        return tuple(stages), tuple(positions)

    def _names(self, field: str, value: Any, operators: Mapping[str, Operator]) -> tuple[str, ...]:
        if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
            raise self.fail(field, "must be a list of operator names")
        unknown = [name for name in value if name not in operators]
        if unknown or len(set(value)) < len(value):
            raise self.fail(field, f"{', '.join(unknown) or 'a name twice'}; [operators] has {', '.join(operators)}")
        return tuple(value)

    def _widths(self, where: str, value: Any) -> tuple[float, ...]:
        good = isinstance(value, list) and value and all(type(w) in (int, float) and 0 < w <= 8 for w in value)
        if not good or sorted(set(value)) != value:
            raise self.fail(f"{where}.widths", "must be rising factors above 0, at most 8")
        return tuple(float(w) for w in value)

    def _fitting(self, space: Space) -> Space:
        """The space without operators where their shapes do not match. Refused are operators that fit nowhere, and
        positions without any."""
        used: set[str] = set()
        positions = []
        for i, place in enumerate(space.positions):
            where = f"stage.{place.stage + 1}"
            left = tuple(
                name for name in place.operators if all(space.operators[name].fits(slot) for slot in space.slots(i))
            )
            if not left:
                raise self.fail(where, f"no operator fits position {place.name} at every width: {space.slots(i)}")
            used.update(left)
            positions.append(Position(place.name, place.stage, place.first, place.stride, left))
        named = {name for place in space.positions for name in place.operators}
        for name in space.operators:
            if name not in used:
                why = "fits no position at every width" if name in named else "is used by no stage"
                raise self.fail(f"operators.{name}", why)
        made = replace(space, positions=tuple(positions))
        self._sizes(made)
        return made

    def _sizes(self, space: Space) -> None:
        """An operator's code may give anything: layers are made once for every operator."""
        for i, place in enumerate(space.positions):
            for name in place.operators:
                for slot in space.slots(i):
                    try:
                        layers = space.operators[name].layers(slot)
                    except ValueError as error:
                        raise self.fail(f"operators.{name}", f"at {place.name}: {error}") from error
                    if layers and layers[-1].outputs != slot.outputs:
                        text = f"gives {layers[-1].outputs} channels at {place.name}, {slot.outputs} are needed"
                        raise self.fail(f"operators.{name}", text)


def _skeleton(data: Mapping[str, Any]) -> str:
    """Digest of what all networks of a space have in common: not its choices, not its name."""
    common = {
        **{k: data.get(k) for k in ("input", "classes", "stem", "head", "operators")},
        "multiple": data.get("multiple", 4),
        "edges": [data["bits"].get(k) for k in ("edge_weight", "edge_activation")],
        "stages": [[stage["layers"], stage["stride"], stage["channels"]] for stage in data["stage"]],
        **({"per": data["bits"]["per"]} if data["bits"].get("per", "network") != "network" else {}),
    }
    return hashlib.sha256(json.dumps(common, sort_keys=True).encode()).hexdigest()
