"""Settings of a deployment, stored in its run folder so that it can be resumed with the same.

Consent to run code is not among what is stored: whoever hands over a folder could have written it.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

from cim.files import read_text
from cim.json_text import parse_json
from hil.atomic import write_text
from hil.datasets.image_set import Dataset
from hil.deployment.options import PATIENCE_S, RECORD_AGE_S, DeployOptions
from hil.errors import FileError, HilError, MismatchError
from hil.transports import DEFAULT_BAUD
from mapping.program.conductance import ConductanceProgram
from mapping.recipe.recipe import Recipe
from mapping.recipe.technique import RecipeError

SETTINGS_FILE = "run.json"
FORMAT, VERSION = "hil.deployment", "1.0"
MAX_BYTES = 1 << 20
CONSENT = {"trust": "--trust-model", "allow_code": "--allow-code"}  # of a run or of its options; asked for every time


@dataclasses.dataclass(frozen=True, slots=True)
class RunSettings:
    """Arguments of ``hil.deploy``; paths are absolute.

    ``mean``, ``std``: of each channel with commas, for a network that does not say them. ``begun``: date, ISO 8601.
    ``content``: digest of program and images. ``found_record``: record.h5 beside it is one of an earlier run.
    ``trust``: the network file may run code, in this process; like ``allow_code`` of the options it is not stored.
    """

    address: str
    network: str | None = None
    chip: str = "lab-128"
    macros: int | None = None
    data: str | None = None
    data_dir: str | None = None
    calibration: str | None = None
    recalibrate: bool = False
    record_age_s: float = RECORD_AGE_S
    baud: int = DEFAULT_BAUD
    trust: bool = False
    patience_s: float = PATIENCE_S
    mean: str | None = None
    std: str | None = None
    begun: str = ""
    content: str = ""
    found_record: bool = False
    options: DeployOptions = dataclasses.field(default_factory=DeployOptions)

    @classmethod
    def of(
        cls,
        address: str,
        network: str | Path | None,
        *,
        chip: str,
        data: str | None,
        data_dir: Path | None,
        calibration: Path | None,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        **more: Any,
    ) -> RunSettings:
        """Settings of a run that begins now, its paths as they are from here."""
        return cls(
            address,
            network=_absolute(network),
            chip=_absolute(chip) or chip if Path(chip).is_file() else chip,
            data=_absolute(data) if data and Path(data).exists() else data,
            data_dir=_absolute(data_dir),
            calibration=_absolute(calibration),
            mean=None if mean is None else ",".join(map(repr, mean)),
            std=None if std is None else ",".join(map(repr, std)),
            begun=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            **more,
        )

    @property
    def asked(self) -> dict[str, str]:
        """What was deployed, by name or absolute path, for commands that go on from there."""
        return asked_for(self.network, self.data, self.data_dir)

    @property
    def date(self) -> datetime.datetime:
        """When the run was begun."""
        return datetime.datetime.fromisoformat(self.begun)

    @property
    def means(self) -> tuple[float, ...] | None:
        return _numbers(self.mean)

    @property
    def stds(self) -> tuple[float, ...] | None:
        return _numbers(self.std)

    @property
    def consent(self) -> str:
        """Options that a command needs to go on with what was allowed to run code here."""
        given = {"trust": self.trust, "allow_code": self.options.allow_code}
        return "".join(f" {option}" for name, option in CONSENT.items() if given[name])

    def with_content(self, program: ConductanceProgram, images: Dataset) -> RunSettings:
        """These settings once network and data are loaded.

        Raises:
            MismatchError: the run was begun with others.
        """
        found = hashlib.sha256(f"{program.digest} {images.digest}".encode()).hexdigest()
        if self.content not in ("", found):
            raise MismatchError(
                "the run was begun with another network, data set or chip file",
                likely=f"{self.network or 'hil'} or {self.data or 'its images'} changed since",
                hint="hil deploy begins a new run",
            )
        return dataclasses.replace(self, content=found)

    def save(self, folder: Path) -> None:
        """Write ``run.json`` into ``folder``, whole or not at all."""
        record = {"format": FORMAT, "version": VERSION, **_without_consent(dataclasses.asdict(self))}
        record["options"] = {**_without_consent(record["options"]), "recipe": self.options.recipe.to_json()}
        write_text(folder / SETTINGS_FILE, json.dumps(record, indent=1) + "\n")


def _without_consent(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in CONSENT}


def _numbers(text: str | None) -> tuple[float, ...] | None:
    return None if text is None else tuple(float(part) for part in text.split(","))


def asked_for(network: str | Path | None, data: str | None, data_dir: str | Path | None) -> dict[str, str]:
    """Network, data set and folder of data sets of a run, as far as they were named."""
    place = _absolute(data) if data and Path(data).exists() else data
    named = {"network": _absolute(network), "data": place, "data_dir": _absolute(data_dir)}
    return {name: value for name, value in named.items() if value}


def _absolute(path: str | Path | None) -> str | None:
    return None if path is None else str(Path(path).absolute())


def load_settings(folder: Path, *, trust: bool = False, allow_code: bool = False) -> RunSettings:
    """Read ``run.json`` of an unfinished run, with the consent that is given now; one that it holds counts for nothing.

    Raises:
        FileError: missing or damaged. MismatchError: of a newer major version.
    """
    path, anew = folder / SETTINGS_FILE, f"rm -r {folder}; then hil deploy begins a new run"
    try:
        record = parse_json(read_text(path, MAX_BYTES))
        if record.get("format") != FORMAT:
            raise ValueError(f"it is not of {FORMAT}")
        version = str(record.get("version"))
        if int(version.split(".")[0]) > int(VERSION.split(".")[0]):
            raise MismatchError(f"{path} has version {version}, this program reads {VERSION}", hint="update hil")
        stored = _without_consent(record["options"])
        recipe = Recipe.from_json(stored.pop("recipe"))
        options = DeployOptions(**typed_fields(DeployOptions, stored), recipe=recipe, allow_code=allow_code)
        settings = RunSettings(**typed_fields(RunSettings, _without_consent(record)), options=options, trust=trust)
        _ = settings.means, settings.stds  # numbers, or ValueError
        if settings.date.tzinfo is None:
            raise ValueError("its date has no time zone")
        return settings
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecipeError) as error:
        raise FileError(f"{folder} is not a run that can go on: {SETTINGS_FILE}: {error}", hint=anew) from error
    except MismatchError:
        raise
    except HilError as error:
        raise FileError(f"{path} is damaged: {error}", hint=anew) from error


def typed_fields(kind: type, record: Mapping[str, Any]) -> dict[str, Any]:
    """Values of ``record`` for the fields of a dataclass, each of the type that it says.

    Raises:
        ValueError: one of another type.
    """
    hints, values = get_type_hints(kind), {}
    for field in dataclasses.fields(kind):
        if field.name not in record or field.name == "options":
            continue
        value, allowed = record[field.name], get_args(hints[field.name]) or (hints[field.name],)
        if float in allowed and type(value) is int:
            value = float(value)
        if type(value) not in allowed and not (value is None and NoneType in allowed):
            raise ValueError(f"{field.name} is {value!r:.60}")
        values[field.name] = value
    return values
