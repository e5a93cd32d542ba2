"""Model files for pyvisa-sim: a file of its devices, for tests of programs of others without a bench.

pyvisa-sim has no physics: it answers each question with what the file says, so that currents are 0 and a limit is what
was set last (where there are several: 0). ``hil emulate --bench`` is the stand-in with cells behind it. Lines of
several values are left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from hil.server.bench.model_file import InstrumentModel
from hil.server.bench.order_tables import ModelOrder
from hil.server.bench.orders import ReplyForm, TextOrder

RESOURCE = "TCPIP0::localhost::5025::SOCKET"


def sim_devices(model: InstrumentModel, resource: str = RESOURCE) -> str:
    """The file as JSON, which is YAML, too.

    Raises:
        ValueError: orders in binary words, which pyvisa-sim has not.
    """
    if model.link.words:
        raise ValueError(f"{model.name} takes binary words, and pyvisa-sim lines of text only")
    end = model.link.end.decode()
    dialogues, properties, left_out = list[dict[str, str]](), dict[str, Any](), list[str]()
    for name, line, says in _lines(model):
        answer = {} if says is None else {"r": says}
        if len(line.places) > 1:
            left_out.append(name)
        elif line.places:
            asked = {"q": _with_one_place(line), **answer}
            key = name if name not in properties else f"{name} {len(properties)}"  # a further line of it
            properties[key] = {"default": "0", "specs": {"type": "float"}, "setter": asked}
        elif name == "limits_now" and len(model.orders["limits"].values) == 1:  # answers what was set last
            properties["limits"]["getter"] = {"q": line.template, "r": "{:.9g}"}
        else:
            dialogues.append({"q": line.template, **answer})
    device = {
        "eom": {kind: {"q": end, "r": end} for kind in ("TCPIP SOCKET", "GPIB INSTR", "USB INSTR", "ASRL INSTR")},
        "delimiter": "",  # an order of several parts is one
        "error": "ERROR",
        "dialogues": dialogues,
        "properties": properties,
    }
    file = {"spec": "1.1", "devices": {model.name: device}, "resources": {resource: {"device": model.name}}}
    note = f"# {model.name} for pyvisa-sim, from its model file; left out: {', '.join(left_out) or 'nothing'}\n"
    return note + json.dumps(file, indent=2) + "\n"


def _lines(model: InstrumentModel) -> Iterator[tuple[str, TextOrder, str | None]]:
    """Lines of every order, ``limits`` before ``limits_now``, with what is answered; None: nothing."""
    said = model.link.acknowledge
    for name, order in sorted(model.orders.items()):
        assert isinstance(order.send, TextOrder)
        *before, last = order.send.lines
        yield from ((name, line, said) for line in before)
        if (until := order.until) is not None:
            yield name, TextOrder.parse(until.ask), until.done[0]
        yield name, last, said if order.reply is None else _answer(model, name, order)


def _answer(model: InstrumentModel, name: str, order: ModelOrder) -> str:
    if name == "identity":
        return model.identity
    if name == "errors":
        return model.no_error
    reply = order.reply
    assert reply is not None
    count = reply.count or 1
    if reply.form is ReplyForm.BLOCK:
        size = str(count * np.dtype(reply.type).itemsize)
        return f"#{len(size)}{size}" + "\0" * int(size)
    lines = [""] * reply.lines
    lines[reply.line - 1] = "" if reply.form is ReplyForm.TEXT else ",".join(["0"] * count)
    return model.link.end.decode().join(lines)


def _with_one_place(line: TextOrder) -> str:
    begin, _, rest = line.template.partition("{")
    return f"{begin}{{}}{rest.partition('}')[2]}"
