"""Tables of orders in a model file: their names, the values that each may use, answers, and waiting for their end."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cim.chip.field_checks import count, number, one_of, text
from hil.server.bench.orders import WORD_TYPES, AskedUntilDone, Order, OrderReply, ReplyForm, TextOrder, WordOrder
from hil.server.bench.toml_tables import CheckedFile

_AT = ("macro", "row", "column", "count")
ORDERS: Mapping[str, tuple[str, ...]] = {  # and the values that each may use
    "identity": (),
    "errors": (),  # answers the oldest error, or off.no_error
    "limits": ("volts_v", "current_a", "width_s"),
    "limits_now": (),  # answers the values of limits, in their order
    "timer": ("off_s",),
    "on": (),
    "off": (),
    "is_on": (),  # answers 0 where no output is on
    "select": _AT,
    "volts": ("volts_v", "current_a", *_AT),
    "rows_volts": ("rows_volts_v", "current_a", *_AT),
    "pulse": ("volts_v", "width_s", "current_a", *_AT),
    "pulse_down": ("volts_v", "width_s", "current_a", *_AT),  # below zero, where the sign is in the order; size without
    "settle": ("settle_s",),
    "currents": ("reads", "volts_v", "rows_volts_v", *_AT),
    "temperature": (),
}
ANSWERED = ("identity", "errors", "limits_now", "is_on", "currents", "temperature")


@dataclass(frozen=True, slots=True)
class ModelOrder:
    """One order of a model and its answer; ``send`` has the lines behind ``until``, too."""

    send: Order
    reply: OrderReply | None
    until: AskedUntilDone | None = None

    @property
    def values(self) -> tuple[str, ...]:
        """Names of the values that it uses."""
        return tuple(place.name for place in self.send.places)


def choice(*known: str) -> Any:
    def check(value: Any) -> str:
        if value not in known:
            raise ValueError(f"{value!r:.60} is none of {', '.join(known)}")
        return str(value)

    return check


def codes(value: Any) -> tuple[str, ...]:
    """A text or a list of texts; of an empty text none."""
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise ValueError(f"{value!r:.60} is neither a text nor a list of texts")
    return tuple(one for one in found if one)


@dataclass(frozen=True, slots=True)
class OrderForm:
    """How the orders of a file are written. ``between``: values of a list in text; none: orders are in words."""

    file: CheckedFile
    between: str
    byte_order: str

    def order(self, name: str, data: Any) -> ModelOrder:
        key = f"orders.{name}"
        checks: dict[str, Any] = {"send": self._send, "reply": functools.partial(self._reply, key), "then": self._lines}
        checks["until"] = lambda value: value  # it is read with how many lines are behind it
        table = self.file.table(key, data, checks, {"reply": None, "until": None, "then": []})
        until = None
        if table["until"] is not None:
            if not isinstance(table["send"], TextOrder):
                self.file.fail(f"{key}.until", "is of orders in text only")
            until = self._until(key, table["until"], len(table["then"]))
        elif table["then"]:
            self.file.fail(f"{key}.then", "stands without until: these lines are sent once that is done")
        send = table["send"]
        if table["then"]:
            send = TextOrder.parse_lines([*send.template.split("\n"), *table["then"]], self.between)
        unknown = [p.name for p in send.places if p.name not in ORDERS[name]]
        if unknown:
            known = ", ".join(ORDERS[name]) or "none"
            self.file.fail(f"{key}.send", f"{unknown[0]!r} is not a value of this order; there are {known}")
        if name in ANSWERED and table["reply"] is None:
            self.file.fail(f"{key}.reply", "is missing: this order asks", 'reply = { form = "numbers" }')
        return ModelOrder(send, table["reply"], until)

    def _lines(self, value: Any) -> list[str]:
        lines = [value] if isinstance(value, str) else value
        if not self.between or not isinstance(lines, list) or not all(isinstance(x, str) and x for x in lines):
            raise ValueError(
                f"{value!r:.60} is not {'a text' if self.between else 'a list of words'}, as link.form has it"
            )
        return lines

    def _send(self, value: Any) -> Order:
        if isinstance(value, list) and not self.between:
            return WordOrder.parse(value, self.byte_order)
        if not (lines := self._lines(value)):
            raise ValueError("an order of no lines")
        return TextOrder.parse_lines(lines, self.between)

    def _until(self, key: str, data: Any, lines_behind: int) -> AskedUntilDone:
        checks = {
            "ask": text, "done": codes, "busy": codes, "every_s": number(0, 60), "within_s": number(0.001, 3600),
        }  # fmt: skip
        found = self.file.table(f"{key}.until", data, checks, {"every_s": 0.05})
        for name in ("done", "busy"):
            if not found[name]:
                self.file.fail(f"{key}.until.{name}", "says no word", f'{name} = "1"')
        return AskedUntilDone(**found, lines_behind=lines_behind)

    def _reply(self, key: str, data: Any) -> OrderReply:
        checks = {
            "form": one_of(ReplyForm), "type": choice(*WORD_TYPES), "count": count(1, 1 << 20),
            "unit": number(1e-18, 1e18), "tripped": lambda value: value, "lines": count(1, 100), "line": count(1, 100),
        }  # fmt: skip
        usual = {"type": "", "count": None, "unit": 1.0, "tripped": None, "lines": 1, "line": 1}
        found = self.file.table(f"{key}.reply", data, checks, usual)
        binary = found["form"] in (ReplyForm.BLOCK, ReplyForm.WORDS)
        if binary != bool(found["type"]):
            what = "is missing" if binary else "is of blocks and words only"
            self.file.fail(f"{key}.reply.type", what, 'type = "f4"')
        if found["line"] > found["lines"] or (binary and found["lines"] > 1):
            self.file.fail(f"{key}.reply.line", f"{found['line']} of {found['lines']} lines; lines are of text only")
        if found["tripped"] is not None and not isinstance(found["tripped"], int if binary else str):
            what = "a word" if binary else "a regular expression"
            self.file.fail(f"{key}.reply.tripped", f"{found['tripped']!r:.40} is not {what}")
        return OrderReply(**{**found, "type": self.byte_order + found["type"] if binary else ""})
