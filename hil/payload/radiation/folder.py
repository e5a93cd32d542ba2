"""The folder of a campaign: its settings, blocks of injections as they are done, the report at the end.

Accuracies over the years stand in it, one file a virtual chip: a stop costs one answer at most, and scenarios that are
asked for later are all that is simulated then.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cim.files import read_text
from cim.json_text import parse_json
from hil.atomic import write_text
from hil.errors import FileError
from hil.payload.mitigation import Mitigation
from hil.payload.radiation.block import InjectionResult
from hil.payload.settings import TimelineOptions
from hil.report.work_folder import WorkFolder, load_json

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
        """Folder of the accuracies over the years (``kept_years``)."""
        return self.root / "years"

    def begin(self, settings: Mapping[str, Any], *, restart: bool = False) -> WorkFolder:
        """Make the folder, or go on in one of the same settings.

        Raises:
            MismatchError: the folder holds a campaign of other settings. UsageError: something else is in it.
            OutputError: it cannot be made.
        """
        return WorkFolder(self.root, settings, kind="hil.radiation", about=self.settings.name, restart=restart)


def block_name(number: int) -> str:
    return f"blocks/{number:05d}.json"


def save_injections(results: list[InjectionResult], path: Path) -> None:
    write_text(path, injections_text(results))


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
    hint = f"rm {path} and give the same command again: it repeats that block"
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


@dataclass(frozen=True)
class KeptYears:
    """Right answers of virtual chips, of ``images`` each."""

    work: WorkFolder
    images: int

    def load(self, number: int) -> dict[str, int]:
        """Right answers of virtual chip ``number`` by ``key_of``; none where nothing is kept.

        Raises:
            FileError: a damaged file.
        """
        name = _chip_name(number)
        return self.work.load(name, lambda path: self._checked(load_json(path))) if self.work.has(name) else {}

    def save(self, number: int, right: Mapping[str, int]) -> None:
        """Keep the right answers of a virtual chip.

        Raises:
            OutputError: they cannot be written.
        """
        self.work.keep_json(_chip_name(number), dict(right))

    def _checked(self, found: dict[str, Any]) -> dict[str, int]:
        for value in found.values():
            if type(value) is not int or not 0 <= value <= self.images:
                raise ValueError(f"{value!r:.40} right answers of {self.images}")
        return found


def _chip_name(number: int) -> str:
    return f"{number:05d}.json"


def key_of(year: float, mitigations: Collection[Mitigation]) -> str:
    """The name of an answer: when, and what mitigates until then."""
    return f"{year!r} {' + '.join(sorted(mitigations)) or 'nothing'}"


def kept_years(options: TimelineOptions, root: Path) -> KeptYears:
    """Where what is simulated is kept, in the folder of a campaign, which fixes program, record, data and orbit."""
    settings = {
        "images": options.images,
        "scrub_s": options.scrub_s,
        "seed": options.seed,
        "left_out": [str(kind) for kind in options.left_out],
        "recipe": options.recipe.to_json(),
    }
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    return KeptYears(WorkFolder(root / key, settings, kind="hil.years"), options.images)
