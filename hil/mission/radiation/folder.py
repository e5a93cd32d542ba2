"""The folder of a campaign: its settings, blocks of injections as they are done, the report at the end."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cim.files import read_text
from cim.json_text import parse_json
from hil.atomic import work_folder, write_text
from hil.errors import FileError, UsageError
from hil.mission.radiation.block import InjectionResult

FORMAT = "hil.injections/1.1"
BLOCK = 200  # injections of one block
MOST_BYTES = 1 << 26


@dataclass(frozen=True, slots=True)
class CampaignFolder:
    """Paths of one campaign."""

    root: Path

    @property
    def settings(self) -> Path:
        return self.root / "settings.json"

    @property
    def report(self) -> Path:
        return self.root / "campaign.json"

    @property
    def page(self) -> Path:
        return self.root / "campaign.html"

    @property
    def table(self) -> Path:
        return self.root / "injections.json"

    @property
    def years(self) -> Path:
        """Folder of the accuracies over the years (``hil.mission.radiation.kept_years``)."""
        return self.root / "years"

    def block(self, number: int) -> Path:
        return self.root / "blocks" / f"{number:05d}.json"

    def begin(self, settings: dict[str, Any]) -> None:
        """Make the folder, or go on in one of the same settings.

        Raises:
            UsageError: the folder holds a campaign of other settings.
            OutputError: it cannot be made.
        """
        text = json.dumps(settings, indent=1, sort_keys=True) + "\n"
        if self.settings.exists():
            work_folder(self.root)
            if read_text(self.settings, MOST_BYTES) != text:
                raise UsageError(
                    f"{self.root} holds a campaign of other settings",
                    where=str(self.settings),
                    hint="name another folder with -o, or give the same network, data, orbit and options",
                )
            return
        if self.root.exists() and any(self.root.iterdir()):
            raise UsageError(f"{self.root} is not empty and holds no campaign", hint="name another folder with -o")
        work_folder(self.root)
        work_folder(self.block(0).parent)
        write_text(self.settings, text)

    def save_block(self, number: int, results: list[InjectionResult]) -> None:
        write_text(self.block(number), injections_text(results))

    def load_block(self, number: int) -> list[InjectionResult]:
        return read_injections(self.block(number))


def injections_text(results: list[InjectionResult]) -> str:
    """Rows of injections as JSON, one a line."""
    names = json.dumps([f.name for f in dataclasses.fields(InjectionResult)])
    rows = ",\n".join(json.dumps(result.row()) for result in results)
    return f'{{"format": "{FORMAT}", "columns": {names}, "rows": [\n{rows}\n]}}\n'


def read_injections(path: Path) -> list[InjectionResult]:
    """Read what ``injections_text`` wrote.

    Raises:
        FileError: missing, or damaged.
    """
    hint = f"rm {path} and give the same command again: it does that block anew"
    try:
        found = parse_json(read_text(path, MOST_BYTES))
        if found["format"] != FORMAT:
            raise ValueError(f"format {found['format']!r:.60}")
        return [_checked(row) for row in found["rows"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileError(f"cannot read injections {path}", likely=str(error), hint=hint) from error


def _checked(row: Any) -> InjectionResult:
    fields = dataclasses.fields(InjectionResult)
    kinds = {"int": int, "str": str, "bool": bool}
    if not isinstance(row, list) or len(row) != len(fields):
        raise ValueError("a row of another length")
    for field, value in zip(fields, row, strict=True):
        if type(value) is not kinds[str(field.type)]:
            raise ValueError(f"{field.name} is {value!r:.60}")
    return InjectionResult(*row)
