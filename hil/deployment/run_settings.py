"""Settings of a deployment: what the folder of an unfinished run says that it is of, so that the same command goes on.

Consent to run code is not among what is stored: whoever hands over a folder could have written it.
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

    ``mean``, ``std``: of each channel with commas, for a network that does not say them.
    ``trust``: the network file may run code, in this process; like ``allow_code`` of the options it is not stored.
    """

    address: str
    network: str | None = None
    chip: str = "lab-128"
    macros: int | None = None
    data: str | None = None
    calibration: str | None = None
    recalibrate: bool = False
    record_age_s: float = RECORD_AGE_S
    trust: bool = False
    reconnect_timeout_s: float = RECONNECT_TIMEOUT_S
    mean: str | None = None
    std: str | None = None
    options: DeployOptions = dataclasses.field(default_factory=DeployOptions)

    @classmethod
    def of(
        cls,
        address: str,
        network: str | Path | None,
        *,
        chip: str,
        data: str | None,
        calibration: Path | None,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        **more: Any,
    ) -> RunSettings:
        """Settings of a run that begins now, its paths as they are from here."""
        return cls(
            address,
            network=_network(network),
            chip=_absolute(chip) or chip if Path(chip).is_file() else chip,
            data=_absolute(data) if data and Path(data).exists() else data,
            calibration=_absolute(calibration),
            mean=None if mean is None else ",".join(map(repr, mean)),
            std=None if std is None else ",".join(map(repr, std)),
            **more,
        )

    @property
    def asked(self) -> dict[str, str]:
        """Name or absolute path of the deployed network, for commands that follow the run."""
        return asked_for(self.network, self.data)

    @property
    def source(self) -> NetworkOptions:
        """Chip and images of the network."""
        return NetworkOptions(
            self.chip,
            self.macros,
            self.data,
            _numbers(self.mean),
            _numbers(self.std),
            self.trust,
        )

    def fingerprint(self) -> dict[str, Any]:
        """All that the run hangs on, as plain data; consent to run code is not of it."""
        record = _without_consent(dataclasses.asdict(self))
        return record | {"options": {**_without_consent(record["options"]), "recipe": self.options.recipe.to_json()}}


def _without_consent(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in CONSENT}


def _numbers(text: str | None) -> tuple[float, ...] | None:
    return None if text is None else tuple(float(part) for part in text.split(","))


def asked_for(network: str | Path | None, data: str | None) -> dict[str, str]:
    """Network and data set of a run, as far as they were named."""
    place = _absolute(data) if data and Path(data).exists() else data
    named = {"network": _network(network), "data": place}
    return {name: value for name, value in named.items() if value}


def _network(network: str | Path | None) -> str | None:
    named = network is not None and (names_library_model(str(network)) or names_architecture(network))
    return str(network) if named else _absolute(network)


def _absolute(path: str | Path | None) -> str | None:
    return None if path is None else str(Path(path).absolute())
