"""Settings of a deployment, stored in the folder of an unfinished run, so that the same command resumes it.

Consent to run code is not stored: a folder from somebody else could contain it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hil.deployment.network_source import names_architecture
from hil.deployment.options import RECONNECT_TIMEOUT_S, RECORD_AGE_S, DeployOptions, NetworkOptions
from mapping.network.library_models import names_library_model

CONSENT = ("trust", "allow_code")  # of a run or of its options; asked for every time


@dataclasses.dataclass(frozen=True, slots=True)
class RunSettings:
    """Arguments of ``hil.deploy``; paths are absolute.

    ``trust`` of the source and ``allow_code`` of the options let a file run code in this process; they are not stored.
    """

    address: str
    network: str | None = None
    source: NetworkOptions = dataclasses.field(default_factory=NetworkOptions)
    calibration: str | None = None
    recalibrate: bool = False
    record_age_s: float = RECORD_AGE_S
    reconnect_timeout_s: float = RECONNECT_TIMEOUT_S
    options: DeployOptions = dataclasses.field(default_factory=DeployOptions)

    @classmethod
    def of(
        cls,
        address: str,
        network: str | Path | None,
        source: NetworkOptions,
        calibration: Path | None,
        **more: Any,
    ) -> RunSettings:
        """Settings of a new run, with paths made absolute."""
        chip = _absolute(source.chip) or source.chip if Path(source.chip).is_file() else source.chip
        here = dataclasses.replace(source, chip=chip, data=_place(source.data))
        return cls(address, _network(network), here, _absolute(calibration), **more)

    @property
    def asked(self) -> dict[str, str]:
        """Name or absolute path of the deployed network, for commands that follow the run."""
        return asked_for(self.network, self.source.data)

    def fingerprint(self) -> dict[str, Any]:
        """All settings that the result depends on, as plain data, without the consent to run code."""
        record = dataclasses.asdict(self)
        first = {"address": self.address, "network": self.network, **record.pop("source")}
        record = _without_consent({**first, **record})
        return record | {"options": {**_without_consent(record["options"]), "recipe": self.options.recipe.to_json()}}


def _without_consent(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in CONSENT}


def asked_for(network: str | Path | None, data: str | None) -> dict[str, str]:
    """Network and data set of a run, if the user named them; paths absolute."""
    named = {"network": _network(network), "data": _place(data)}
    return {name: value for name, value in named.items() if value}


def _network(network: str | Path | None) -> str | None:
    named = network is not None and (names_library_model(str(network)) or names_architecture(network))
    return str(network) if named else _absolute(network)


def _place(data: str | None) -> str | None:
    return _absolute(data) if data and Path(data).exists() else data


def _absolute(path: str | Path | None) -> str | None:
    return None if path is None else str(Path(path).absolute())
