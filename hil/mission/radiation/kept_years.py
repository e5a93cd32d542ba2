"""Accuracies over the years that were simulated so far, one file a virtual chip in the folder of a campaign.

So that a stop costs one answer at most, and courses that are asked for later are all that is simulated then.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cim.files import read_text
from cim.json_text import parse_json
from hil.atomic import output_error, write_text
from hil.errors import FileError
from hil.mission.mitigation import Mitigation
from hil.mission.settings import TimelineOptions

FORMAT = "hil.years/1.0"
MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class KeptYears:
    """Right answers of virtual chips. ``settings``: what else they hang on, as plain data, which names their folder.
    ``images``: how many each chip answers."""

    root: Path
    settings: Mapping[str, Any]
    images: int

    def file(self, number: int) -> Path:
        key = hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:8]
        return self.root / key / f"{number:05d}.json"

    def load(self, number: int) -> dict[str, int]:
        """Right answers of virtual chip ``number`` by ``key_of``; none where nothing of these settings is kept.

        Raises:
            FileError: a damaged file.
        """
        path = self.file(number)
        if not path.exists():
            return {}
        try:
            found = parse_json(read_text(path, MOST_BYTES))
            if found["format"] != FORMAT:
                raise ValueError(f"format {found['format']!r:.60}")
            if found["settings"] != json.loads(json.dumps(self.settings)):
                return {}
            return {str(key): self._checked(value) for key, value in found["right"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            hint = f"rm {path} and give the same command again: it simulates that chip anew"
            raise FileError(f"cannot read accuracies {path}", likely=str(error), hint=hint) from error

    def save(self, number: int, right: Mapping[str, int]) -> None:
        """Keep the right answers of a virtual chip.

        Raises:
            OutputError: they cannot be written.
        """
        try:
            self.file(number).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise output_error(self.root, error) from error
        content = {"format": FORMAT, "settings": dict(self.settings), "right": dict(right)}
        write_text(self.file(number), json.dumps(content, indent=1) + "\n")

    def _checked(self, value: Any) -> int:
        if type(value) is not int or not 0 <= value <= self.images:
            raise ValueError(f"{value!r:.40} right answers of {self.images}")
        return value


def key_of(year: float, mends: Collection[Mitigation]) -> str:
    """The name of an answer: when, and what is mended until then."""
    return f"{year!r} {' + '.join(sorted(mends)) or 'nothing'}"


def kept_years(options: TimelineOptions, root: Path) -> KeptYears:
    """Where what is simulated is kept, in the folder of a campaign, which fixes program, record, data and orbit."""
    settings = {
        "images": options.images,
        "scrub_s": options.scrub_s,
        "seed": options.seed,
        "left_out": [str(kind) for kind in options.left_out],
        **({} if options.rewrite is None else {"rewrite": asdict(options.rewrite)}),
    }
    return KeptYears(root, settings, options.images)
