"""Tensors of a training in a file: written whole or not at all, and read without running anything. Imports torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from cim.files import new_file, open_regular
from search.errors import SearchFileError, SearchMismatch


class ResumeError(SearchMismatch):
    """A checkpoint belongs to other settings."""


def load_checkpoint(path: Path | None, key: str) -> dict[str, Any] | None:
    """Checkpoint saved under ``key``; None when there is no file.

    Raises:
        ResumeError: it has another key. SearchFileError: it is no checkpoint.
    """
    if path is None or not path.exists():
        return None
    saved = read_tensors(path)
    if saved.get("key") != key:
        raise ResumeError(f"{path} was made with other settings, images or networks\n  try     another folder")
    return saved


def write_tensors(path: Path, state: dict[str, Any]) -> None:
    """Write a whole file or none."""
    with new_file(path) as part, part.open("wb") as file:
        torch.save(state, file)


def read_tensors(path: Path) -> dict[str, Any]:
    """What ``write_tensors`` wrote; nothing in the file runs.

    Raises:
        SearchFileError: it is no such file.
    """
    try:
        with open_regular(path) as file:
            saved = torch.load(file, map_location="cpu", weights_only=True)
        if not isinstance(saved, dict):
            raise TypeError(f"it holds a {type(saved).__name__}")
    except Exception as error:  # torch raises many kinds on broken data, and none of them is ours
        reason = str(error).strip().partition("\n")[0]
        raise SearchFileError(
            str(path), 0, "", f"is not what training left ({reason:.200})\n  try     rm {path}"
        ) from error
    return saved
