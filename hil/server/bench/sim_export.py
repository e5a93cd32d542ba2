"""Model files for pyvisa-sim: a file of its devices, for tests of programs of others without a bench.

pyvisa-sim has no physics: it answers each question with what the file says, so that currents are 0 and a limit is what
was set last. ``hil emulate --bench`` is the stand-in with cells behind it. Orders of several values are left out.
"""

from __future__ import annotations

import json
from typing import Any

from hil.server.bench.model_file import InstrumentModel, ModelOrder
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
    for name, order in model.orders.items():
        assert isinstance(order.send, TextOrder)
        match len(order.send.places), order.reply:
            case 0, None:
                dialogues.append({"q": order.send.template})
            case 0, _:
                dialogues.append({"q": order.send.template, "r": _answer(model, name, order)})
            case 1, None:
                place = order.send.places[0]
                properties[name] = {"default": 0.0, "setter": {"q": _with_one_place(order.send, place.form)}}
            case _:
                left_out.append(name)
    device = {
        "eom": {kind: {"q": end, "r": end} for kind in ("TCPIP SOCKET", "GPIB INSTR", "USB INSTR", "ASRL INSTR")},
        "error": "ERROR",
        "dialogues": dialogues,
        "properties": properties,
    }
    file = {"spec": "1.1", "devices": {model.name: device}, "resources": {resource: {"device": model.name}}}
    note = f"# {model.name} for pyvisa-sim, from its model file; left out: {', '.join(left_out) or 'nothing'}\n"
    return note + json.dumps(file, indent=2) + "\n"


def _answer(model: InstrumentModel, name: str, order: ModelOrder) -> str:
    if name == "identity":
        return model.identity
    if name == "errors":
        return model.no_error
    assert order.reply is not None
    return "" if order.reply.form is ReplyForm.TEXT else ",".join(["0"] * (order.reply.count or 1))


def _with_one_place(order: TextOrder, form: str) -> str:
    begin, _, rest = order.template.partition("{")
    return f"{begin}{{:{form}}}{rest.partition('}')[2]}"
