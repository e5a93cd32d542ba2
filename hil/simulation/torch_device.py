"""Whether this machine has the torch device that training asks for."""

from __future__ import annotations

from hil.errors import UsageError


def check_device(device: str) -> None:
    """Refuse a torch device that this machine does not have, before hours are spent.

    Raises:
        UsageError: unknown, or no such accelerator here.
    """
    if device == "cpu":
        return
    import torch

    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(
            f"training cannot run on {device!r}: {str(error).splitlines()[0]}", hint="train on the device cpu"
        ) from error
