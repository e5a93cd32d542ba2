"""How many epochs of how many images a fine-tuning has; decided once, so that one that goes on has the same answer."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from hil.atomic import write_text
from hil.deployment.run_settings import typed_fields
from hil.errors import MismatchError
from hil.improvement.finetuning.settings import FinetuneSettings
from search.files import read_json

FORMAT, PLAN = "hil.finetuning-plan", "plan.json"


@dataclass(frozen=True, slots=True)
class FinetunePlan:
    """``asked``: the settings in words that it was made for; ``cut``: it keeps a budget of minutes."""

    epochs: int
    images: int
    asked: str
    cut: bool = False


def asked_for(settings: FinetuneSettings) -> str:
    return json.dumps(asdict(settings), sort_keys=True)


def read_plan(folder: Path, asked: str) -> FinetunePlan | None:
    """The plan of a folder; None where it has none. Raises ``MismatchError`` where it was made for other settings."""
    path = folder / PLAN
    if not path.exists():
        return None
    data = read_json(path, FORMAT, 1)
    found = FinetunePlan(int(data["epochs"]), int(data["images"]), str(data["asked"]), bool(data["cut"]))
    if found.asked != asked:
        before, now = json.loads(found.asked), json.loads(asked)
        other = ", ".join(f"{k} {before.get(k)!r}, now {v!r}" for k, v in now.items() if before.get(k) != v)
        raise MismatchError(
            f"{folder} was begun with other settings: {other}",
            hint="--restart begins again; the settings of before go on",
        )
    return found


def begun_settings(folder: Path) -> FinetuneSettings | None:
    """The settings of a fine-tuning that was begun in a folder; None where none was."""
    path = folder / PLAN
    if not path.exists():
        return None
    asked = json.loads(str(read_json(path, FORMAT, 1)["asked"]))
    return FinetuneSettings(**typed_fields(FinetuneSettings, asked))


def write_plan(folder: Path, plan: FinetunePlan) -> None:
    write_text(folder / PLAN, json.dumps({"format": FORMAT, "version": "1.0", **asdict(plan)}, indent=1) + "\n")
