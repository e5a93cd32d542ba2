"""JSON Schema of report.json, made from the types that hold a report: ``python -m hil.report.schema`` prints it.

What a key means is the comment beside its field, what an object is the first line of its class.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import io
import json
import re
import sys
import tokenize
import types
import typing
from collections.abc import Mapping
from typing import Any

from hil.verdict.agreement import SCHEMA, AgreementReport
from hil.verdict.survival import Survival
from hil.verdict.verdict import Interval, Judgement, Verdict

Schema = dict[str, Any]
PLAIN = {str: "string", bool: "boolean", int: "integer", float: "number"}
ANSWER = ("this_chip", "other_chips", "float_accuracy", "task")  # fields that stand elsewhere in the file
SINCE = frozenset({"survival", "task", "metric"})  # of the short answer, absent in the first reports


def report_schema() -> Schema:
    """The schema of ``AgreementReport.to_json``, with every type that a report holds."""
    found = _Types()
    fields = found.object(AgreementReport)
    properties = {name: part for name, part in fields["properties"].items() if name not in ANSWER}
    number, words, unsure = {"type": "number"}, {"type": "string"}, {"type": ["number", "null"]}
    half = {"mean": number, "low": number, "high": number}
    column = _object({**half, "interval": words})
    judged = {"anyOf": [found.of(Judgement), {"type": "null"}]}
    answer: Schema = {
        "schema": {"type": "string", "pattern": r"^hil\.report/2\.[0-9]+$"},
        "backend": {**words, "description": "the chip's own word, or that of a file of answers: silicon or emulated, "
                    "of a file also unknown"},
        "silicon": {"type": "boolean"},
        "verdict": found.of(Verdict),
        "verdict_text": words,
        "survival": {"anyOf": [found.of(Survival), {"type": "null"}], "description": "null: it keeps its accuracy"},
        "task": {**words, "description": "classify, segment, detect, regress, autoencode or sequence"},
        "metric": {"$ref": "#/$defs/Metric"},
        "tolerance": {**number, "description": "δ, a score of the metric: of a share 0.01 is one point"},
        "accuracy": {
            **_object({"float": unsure, "ideal": number, "simulated": column, "measured": column}),
            "description": "the metric in four columns; float is null when only program.h5 was given; low and high: of "
            "simulated a prediction band of one chip on these images, of measured 95 % over samples",
        },
        "difference": {
            **_object(
                {**half, "low95": number, "high95": number, "interval": words, "same_answers": unsure},
                optional=("interval", "same_answers"),
            ),
            "description": "measured − simulated; low and high 90 %, low95 and high95 95 %, all analyses at once",
        },
        "questions": {
            **_object({"this_chip": judged, "other_chips": judged}),
            "description": "both in full; the verdict of the run is this_chip's, or other_chips' where that is null",
        },
    }  # fmt: skip
    lost = {"$ref": "#/$defs/Interval", "description": "from ideal to measured, 90 %; below zero gained"}
    found.of(Interval)
    found.definitions["Judgement"]["properties"]["lost"] = lost
    required = [*(name for name in answer if name not in SINCE), *(n for n in fields["required"] if n in properties)]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": SCHEMA,
        "description": "report.json of one run of hil deploy. Accuracies and differences are fractions, or scores of "
        "the metric in its own unit. Readers skip keys they do not know.",
        "type": "object",
        "properties": {**answer, **properties},
        "required": required,
        "$defs": dict(sorted(found.definitions.items())),
    }


class _Types:
    """Schemas of types, each dataclass and enumeration once, by name."""

    def __init__(self) -> None:
        self.definitions: dict[str, Schema] = {}

    def of(self, kind: Any) -> Schema:
        origin, inner = typing.get_origin(kind), typing.get_args(kind)
        if origin in (typing.Union, types.UnionType):
            return {"anyOf": [{"type": "null"} if one is types.NoneType else self.of(one) for one in inner]}
        if origin is tuple and inner[-1] is Ellipsis:
            return {"type": "array", "items": self.of(inner[0])}
        if origin is tuple:
            return {"type": "array", "items": self.of(inner[0]), "minItems": len(inner), "maxItems": len(inner)}
        if origin is not None and issubclass(origin, Mapping):
            return {"type": "object", "additionalProperties": self.of(inner[1])}
        if kind in PLAIN:
            return {"type": PLAIN[kind]}
        if kind.__name__ not in self.definitions:
            self.definitions[kind.__name__] = {}
            made = {"enum": [m.value for m in kind]} if issubclass(kind, enum.Enum) else self.object(kind)
            self.definitions[kind.__name__] = made
        return {"$ref": f"#/$defs/{kind.__name__}"}

    def object(self, kind: Any) -> Schema:
        hints, comments = typing.get_type_hints(kind), _comments(kind)
        made = {f.name: self.of(hints[f.name]) for f in dataclasses.fields(kind)}
        described = {n: {**part, "description": comments[n]} if n in comments else part for n, part in made.items()}
        free = [f.name for f in dataclasses.fields(kind) if not _required(f)]
        about = (inspect.getdoc(kind) or "").split("\n", 1)[0]
        return {**_object(described, optional=free), "description": about}


def _object(properties: Mapping[str, Schema], optional: typing.Collection[str] = ()) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": dict(properties), "required": required}


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _comments(kind: Any) -> dict[str, str]:
    """Comments at the ends of the lines of a class's fields, by field."""
    found = {}
    for token in tokenize.generate_tokens(io.StringIO(inspect.getsource(kind)).readline):
        named = re.match(r"\s+(\w+): ", token.line)
        if token.type == tokenize.COMMENT and named:
            found[named[1]] = token.string.lstrip("# ")
    return found


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    sys.stdout.write(json.dumps(report_schema(), indent=1, ensure_ascii=False) + "\n")
