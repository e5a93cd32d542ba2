"""Effort 3 of a deployment: the network is fine-tuned for the chip's errors before it is compiled."""

from __future__ import annotations

from pathlib import Path

from hil.deployment.options import NetworkOptions
from hil.errors import UsageError
from hil.improvement.finetuning.settings import FinetuneSettings, working_folder
from hil.watch import Watch
from mapping.network.file import load_network


def trained_ahead(
    network: str | Path | None, source: NetworkOptions, calibration: Path | None, age_s: float, watch: Watch
) -> Path:
    """Fine-tune a network file as ``hil finetune`` does by default, into a new file beside it.

    An existing file trained from the same network is reused.

    Raises:
        UsageError: no network file or no data set to train with. The errors of a fine-tuning.
    """
    if network is None or Path(network).suffix != ".pt" or source.data is None:
        raise UsageError(
            "effort 3 trains a network, which takes a net.pt and a data set with training images",
            hint="hil deploy net.pt --data DATA --effort 3; hil import makes a net.pt",
        )
    given = Path(network)
    out = given.with_name(f"{given.stem}.trained.pt")
    if out.exists() and not working_folder(out).exists():
        if load_network(out).graph.provenance.get("fine-tuned from") == load_network(given).digest:
            watch.message(f"{out} was trained from this network already")
            return out
        raise UsageError(f"{out} is of another network", hint="move it away, or name it as the network")
    from hil.improvement.finetuning.run import finetune  # late: deployments that train nothing do without its libraries

    finetune(
        given, source.data, out, chip=source.chip, macros=source.macros, calibration=calibration,
        settings=FinetuneSettings(age_s=age_s), watch=watch,
    )  # fmt: skip
    return out
