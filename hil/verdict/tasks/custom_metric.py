"""A user's own metric: a Python function in a file, run only where it was allowed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hil.errors import FileError, UsageError
from hil.verdict.metric import Metric

Floats = NDArray[np.float64]
Function = Callable[[Any, NDArray[Any]], Any]


@dataclass(frozen=True, slots=True)
class CustomMetric:
    """``function(outputs, targets)`` gives a score for each sample (n,), or one number for all of them.

    ``outputs`` is an array (n, …) of values, or a dict of them by name where there are several. Constants of the
    module say the rest: ``SET = True`` for one number, ``UNIT`` ("points" with shares from 0 to 1, or the score's
    own), ``GREATER = False`` where less is better.
    """

    function: Function
    metric: Metric

    def scores(self, outputs: Any, targets: NDArray[Any]) -> Floats:
        """Scores (n,), checked."""
        found = self._called(outputs, targets)
        if found.shape != (len(targets),) or not np.isfinite(found).all():
            raise UsageError(
                f"{self.metric.name} gave {found.shape} for {len(targets)} samples, or numbers that are not finite",
                hint="one finite score a sample; SET = True beside a function that gives one number for all",
            )
        return found

    def total(self, outputs: Any, targets: NDArray[Any]) -> float:
        """One number for all samples, checked."""
        found = self._called(outputs, targets)
        if found.shape != () or not np.isfinite(found):
            raise UsageError(f"{self.metric.name} gave {found.shape}, not one finite number, and SET is True")
        return float(found)

    def _called(self, outputs: Any, targets: NDArray[Any]) -> Floats:
        try:
            return np.asarray(self.function(outputs, targets), np.float64)
        except Exception as error:  # whatever a user's function raises
            named = outputs if isinstance(outputs, dict) else {"outputs": outputs}
            given = {name: values.shape for name, values in named.items()}
            raise FileError(
                f"{self.metric.name} stopped with {type(error).__name__}: {error}",
                where="--metric",
                likely=f"it was given outputs {given} and targets {targets.shape}",
            ) from error


def custom_metric(named: str, *, allowed: bool) -> CustomMetric:
    """The function of "file.py:function".

    Raises:
        UsageError: nobody allowed its code to run. FileError: no such file or function, or it does not run.
    """
    place, _, name = named.rpartition(":")
    if not allowed:
        raise UsageError(f"{named} is Python code, which nobody allowed to run", hint="--allow-code, if you trust it")
    path = Path(place)
    if not path.is_file():
        raise FileError(f"no file {place!r}", where="--metric", hint="--metric score.py:function")
    spec = importlib.util.spec_from_file_location(f"metric_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise FileError(f"{place} is no Python file", where="--metric", hint="--metric score.py:function")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        function: Function = getattr(module, name)
    except Exception as error:  # whatever a user's file raises
        raise FileError(f"{named} cannot be used: {type(error).__name__}: {error}", where="--metric") from error
    unit = str(getattr(module, "UNIT", "points"))
    shares = unit == "points"
    return CustomMetric(
        function,
        Metric(
            name,
            name.replace("_", " "),
            unit,
            factor=100.0 if shares else 1.0,
            greater=bool(getattr(module, "GREATER", True)),
            paired=not getattr(module, "SET", False),
        ),
    )
