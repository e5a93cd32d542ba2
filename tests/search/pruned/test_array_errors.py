"""Weights that are found for the errors of an array."""

from __future__ import annotations

import numpy as np

from cim.chip.file import load_chip
from mapping.network.float_run import float_logits
from mapping.operators.fused import MatrixOp
from mapping.quantise.lower import lower
from search.pruned.array_errors import ArrayErrors, LayerOnArray
from search.pruned.make import make_pruned, teacher_of
from search.pruned.plan import PruningPlan
from search.pruned.refit import FitSettings

from .test_pruned import images, residual

ARRAY = ArrayErrors.of(load_chip("mnsim-256"))


def test_an_array_that_errs_gets_larger_integers() -> None:
    op = next(op for op in lower(teacher_of(residual()).graph) if isinstance(op, MatrixOp) and op.name == "one.a")
    assert op.window is not None
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 16, (20, op.window.channels, op.window.height, op.window.width)).astype(np.int16)
    vectors = rng.integers(0, 16, (1, op.stored.shape[2], 3000)).astype(np.float32)
    weight, covariance = rng.normal(0, 1, op.stored.shape), np.cov(vectors[0])[None]
    perfect = ArrayErrors(ARRAY.spec, type(ARRAY.cells)(0 * ARRAY.cells.written_us2, 0 * ARRAY.cells.read_us2, 0.0))
    found = [
        LayerOnArray(op, 4, 4, False, codes, 0.5, array).weights(weight, covariance / 4, vectors / 2)
        for array in (perfect, ARRAY)
    ]
    for weights in found:
        np.testing.assert_allclose(weights.levels * weights.scale[:, :, None], weight, atol=2.5)
    assert np.abs(found[1].levels).mean() > np.abs(found[0].levels).mean()
    assert (found[1].added > found[0].added).all()


def test_a_network_for_an_array_is_judged_with_its_errors_in() -> None:
    teacher, fit, held = teacher_of(residual()), images(300, 0).pixels, images(200, 1)
    wanted = float_logits(teacher.graph, held.pixels)
    plain, errs = (
        make_pruned(teacher, PruningPlan(4, 6), fit, held, wanted, 0.0, FitSettings(array=array))
        for array in (None, ARRAY)
    )
    assert errs.answers.divergence > plain.answers.divergence
    again = make_pruned(teacher, PruningPlan(4, 6), fit, held, wanted, 0.0, FitSettings(array=ARRAY))
    assert again.answers == errs.answers
