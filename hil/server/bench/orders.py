"""The notation of model files for orders and their answers; one description serves host and stand-in.

An order is a **text** with places, or a list of **words**::

    send = "SOUR:VOLT {volts_v:.4f}"                       # a place: a value of the order, and a format
    send = "PULS {row},{width_s/1e-9:.0f},{volts_v/1e-3:.0f}"   # in units: ns, mV; several values get commas
    send = "DAC {volts_v/1e-3+750:.0f}"                    # 750 is added behind the division
    send = ["TRAIN 0,{volts_v:.3f}", "RUN"]                # several lines of one order
    send = ["u1:0x21", "u2:row", "u1:count", "i2:volts_v/1e-3"]  # words of types u1 u2 u4 i1 i2 i4 f4 f8

The values that an order may name are in ``hil.server.bench.order_tables.ORDERS``.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from hil.server.bench.roles import Value

WORD_TYPES = ("u1", "u2", "u4", "i1", "i2", "i4", "f4", "f8")
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_PLACE = re.compile(
    rf"\{{(?P<name>\w+)(?:/(?P<unit>{NUMBER}))?(?P<offset>[-+]{NUMBER})?(?::(?P<format>[.\w+-]{{1,8}}))?\}}"
)
_WORD = re.compile(
    rf"(?P<type>{'|'.join(WORD_TYPES)}):(?:(?P<code>0x[0-9a-fA-F]+|\d+)|(?P<name>[a-z]\w*)(?:/(?P<unit>{NUMBER}))?)"
)


@dataclass(frozen=True, slots=True)
class ValuePlace:
    """Where a value stands in an order: value / unit + offset, as text by ``form`` or as a word of ``form``."""

    name: str
    unit: float
    form: str
    offset: float = 0.0


@dataclass(frozen=True, slots=True)
class TextOrder:
    """An order in text, of one line or several; ``between``: what stands between the values of a list."""

    template: str
    places: tuple[ValuePlace, ...]
    between: str = ","

    @property
    def lines(self) -> tuple[TextOrder, ...]:
        return tuple(self.parse(line, self.between) for line in self.template.split("\n"))

    @classmethod
    def parse_lines(cls, lines: list[str], between: str) -> TextOrder:
        parts = [cls.parse(line, between) for line in lines]
        return cls("\n".join(lines), tuple(place for part in parts for place in part.places), between)

    @classmethod
    def parse(cls, template: str, between: str = ",") -> TextOrder:
        rest = _PLACE.sub("", template)
        if "{" in rest or "}" in rest or not template.isprintable():
            raise ValueError(
                f"{template!r:.80} is not an order: a place is {{name}}, {{name:.4f}} or {{name/1e-3:.0f}}"
            )
        found = _PLACE.finditer(template)
        places = tuple(
            ValuePlace(m["name"], float(m["unit"] or 1), m["format"] or "", float(m["offset"] or 0)) for m in found
        )
        for place in places:
            try:
                format(1.0, place.form)
            except ValueError:
                try:
                    format(1, place.form)
                except ValueError:
                    raise ValueError(f"{place.form!r} is not a format of numbers") from None
        return cls(template, places, between)

    def encode(self, values: Mapping[str, Value]) -> bytes:
        places = iter(self.places)
        return _PLACE.sub(lambda _: _as_text(next(places), values, self.between), self.template).encode("ascii")

    def decode(self, message: bytes) -> dict[str, Value] | None:
        """The values of a message that is this order, else None: for the stand-in."""
        pattern, end, names = "", 0, []
        for found in _PLACE.finditer(self.template):
            names.append(found["name"])
            inside = r"([^{};]*?)" if self.between.isspace() and found["name"] in SEVERAL else r"([^{};\s]*?)"
            pattern += re.escape(self.template[end : found.start()]) + inside
            end = found.end()
        matched = re.fullmatch(pattern + re.escape(self.template[end:]), message.decode("ascii", "replace"))
        if matched is None:
            return None
        return {
            p.name: _from_text(p, text, self.between) for p, text in zip(self.places, matched.groups(), strict=True)
        }


@dataclass(frozen=True, slots=True)
class WordOrder:
    """An order in binary words; ``head`` is its code."""

    head: bytes
    places: tuple[ValuePlace, ...]

    @classmethod
    def parse(cls, words: list[str], byte_order: str) -> WordOrder:
        head, places = b"", []
        for word in words:
            matched = _WORD.fullmatch(word) if isinstance(word, str) else None
            if matched is None:
                raise ValueError(
                    f"{word!r:.60} is not a word: type:number or type:value/unit, types {' '.join(WORD_TYPES)}"
                )
            form = byte_order + matched["type"]
            if matched["code"] is None:
                places.append(ValuePlace(matched["name"], float(matched["unit"] or 1), form))
            elif places:
                raise ValueError(f"{word!r} is a number after a value; numbers stand first")
            else:
                head += _whole(np.array([int(matched["code"], 0)]), form, word)
        if not head:
            raise ValueError("the first word is the number of the order, as u1:0x21")
        return cls(head, tuple(places))

    def encode(self, values: Mapping[str, Value]) -> bytes:
        body = b"".join(_whole(_numbers(values[p.name]) / p.unit, p.form, p.name) for p in self.places)
        return self.head + body

    def take(self, data: bytes) -> tuple[dict[str, Value], int] | None:
        """Values and length of the order at the start of ``data``, None while it is not whole: for the stand-in.

        A value behind ``count`` stands that many times, where its order has several.
        """
        values: dict[str, Value] = {}
        at, count = len(self.head), None
        for place in self.places:
            form = np.dtype(place.form)
            many = 1 if count is None or place.name not in SEVERAL else count
            if at + many * form.itemsize > len(data):
                return None
            numbers = np.frombuffer(data, form, many, at).astype(np.float64) * place.unit
            values[place.name] = numbers if place.name in SEVERAL else float(numbers[0])
            if place.name == "count":
                count = int(numbers[0])
            at += many * form.itemsize
        return values, at


@dataclass(frozen=True, slots=True)
class AskedUntilDone:
    """How an instrument is asked whether an order is done, which it goes on with behind its answer.

    ``ask``: a line; ``done``, ``busy``: first words of its answers, any other is a fault. ``within_s``: it is given up
    then. ``lines_behind``: how many lines of the order are sent once it is done.
    """

    ask: str
    done: tuple[str, ...]
    busy: tuple[str, ...]
    every_s: float
    within_s: float
    lines_behind: int

    @staticmethod
    def word(answer: str) -> str:
        """The first word of an answer; between words are blanks or commas."""
        return next(iter(re.split(r"[,\s]+", answer.strip(", \t\r\n"))))


CONTACTS = ("row", "column")
SEVERAL = ("volts_v", "rows_volts_v")  # values that may be a list
Order: TypeAlias = TextOrder | WordOrder


class ReplyForm(enum.StrEnum):
    """How an answer is written."""

    NUMBERS = "numbers"  # a line of decimal numbers
    TEXT = "text"  # a line
    BLOCK = "block"  # #<digits><length><bytes>, as IEEE 488.2 has it, then the end of a line
    WORDS = "words"  # so many binary words, no end


@dataclass(frozen=True, slots=True)
class OrderReply:
    """The answer to an order.

    ``count``: numbers of it; None: as many as bit lines were selected. ``unit``: worth of one in A, V or °C.
    ``tripped``: a piece of text (a regular expression), or a word, that says of a reading that the compliance holds it.
    ``lines``, ``line``: of how many lines it is, and which of them has the numbers, from 1.
    """

    form: ReplyForm
    type: str = ""
    count: int | None = None
    unit: float = 1.0
    tripped: str | int | None = None
    lines: int = 1
    line: int = 1

    def numbers(self, text: str) -> NDArray[np.float64]:
        """Raises ``ValueError`` for a text without numbers."""
        found = [float(x) for x in re.findall(rf"{NUMBER}", text)]
        if not found:
            raise ValueError(f"no number in {text!r:.60}")
        return np.array(found) * self.unit

    def words(self, data: bytes) -> NDArray[np.float64]:
        return np.frombuffer(data, self.type).astype(np.float64) * self.unit

    def trips(self, answer: bytes) -> NDArray[np.bool_] | None:
        """Which readings of an answer are held by the compliance; None: none."""
        if self.tripped is None:
            return None
        if isinstance(self.tripped, str):
            parts = answer.decode("ascii", "replace").split(",")
            held = np.array([re.search(self.tripped, part) is not None for part in parts])
        else:
            held = np.frombuffer(answer, self.type) == self.tripped
        return held if held.any() else None


def _numbers(value: Value) -> NDArray[np.float64]:
    return np.atleast_1d(np.asarray(value, np.float64))


def _whole(numbers: NDArray[np.float64], form: str, what: str) -> bytes:
    """Numbers as words, refused where they do not fit."""
    if form[1] == "f":
        return numbers.astype(form).tobytes()
    rounded = np.rint(numbers)
    limits = np.iinfo(form[1:])
    if rounded.size and not (limits.min <= rounded.min() and rounded.max() <= limits.max):
        raise ValueError(f"{what} of {rounded.min():g} to {rounded.max():g} does not fit a word {form[1:]}")
    return rounded.astype(form).tobytes()


def _as_text(place: ValuePlace, values: Mapping[str, Value], between: str) -> str:
    value = values[place.name]
    if isinstance(value, str):
        return value
    scaled = _numbers(value) / place.unit + place.offset
    if isinstance(value, int) and place.unit == 1.0 and not place.offset and not place.form:
        return str(value)
    if place.form[-1:] in ("d", "x", "X", "b"):
        return between.join(format(round(x), place.form) for x in scaled)
    return between.join(format(x, place.form or ".9g") for x in scaled)


def _from_text(place: ValuePlace, text: str, between: str) -> Value:
    if place.name in CONTACTS and not text.isdecimal():
        return text  # "1E05" is a crosspoint, and no number
    try:
        numbers = (np.array([float(x) for x in text.split(between)]) - place.offset) * place.unit
    except ValueError:
        return text
    return numbers if place.name in SEVERAL else float(numbers[0])
