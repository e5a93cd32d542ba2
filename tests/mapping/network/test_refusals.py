"""Whatever is refused on the way into a graph says what to write instead."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import mapping.network
from mapping.network.capture import UnsupportedOperation, capture
from mapping.network.graph import Preprocess

from .operators import Whole

PLACES = {
    "need": 2,
    "refuse": 1,
    "Unfit": 1,
    "CannotCompose": 1,
    "UnsupportedOperation": 3,
    "refusal": 2,
    "_refusal": 2,
}
"""Place of the hint among the arguments."""
OPEN = Preprocess((0.5,), (0.25,))


def test_every_refusal_of_capture_and_import_is_written_with_a_way_out() -> None:
    found, silent = 0, []
    for path in sorted(Path(mapping.network.__file__).parent.rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text())):
            name = getattr(getattr(call, "func", None), "id", getattr(getattr(call, "func", None), "attr", ""))
            if not isinstance(call, ast.Call) or name not in PLACES:
                continue
            found += 1
            hint = call.args[PLACES[name]] if len(call.args) > PLACES[name] else None
            if hint is None or (isinstance(hint, ast.Constant) and len(str(hint.value).split()) < 2):
                silent.append(f"{path.name}:{call.lineno}")
    assert found > 150
    assert not silent


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (Whole(lambda x: torch.linalg.svd(x).S), "no node takes matrices apart"),
        (Whole(lambda x: torch.fft.rfft(x).abs()), "stored cosines"),
        (Whole(lambda x: x.median(1)[0]), "max and min of neighbours"),
        (Whole(lambda x: torch.polygamma(1, x.abs() + 1)), "my-network"),
        (Whole(lambda x: x[x > 0].sum()), "stored places"),
        (Whole(lambda x: x if x.sum() > 0 else -x), "torch.where"),
        (nn.Linear(5, 2), "the module takes"),
        (Whole(lambda x: x * torch.rand(4)), "not random|stored numbers"),
        (Whole(lambda x: F.max_pool2d(x, 2, return_indices=True)[1] * 1.0), "the first result alone"),
    ],
)
def test_an_operation_that_is_refused_names_what_to_write_instead(module: nn.Module, words: str) -> None:
    with pytest.raises(UnsupportedOperation, match=rf"(?s)try     .*({words})"):
        capture(module, torch.zeros(1, 1, 4, 4), preprocess=OPEN, classes=())
