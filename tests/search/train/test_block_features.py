"""Blocks that a student and its teacher share, whatever their widths."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mapping.network.architectures import build
from mapping.quantise.lower import lower
from search.train.finetune import feature_loss, shared_blocks


def test_blocks_of_a_smaller_network_are_found_in_its_teacher_and_differ_by_where_they_are_strong() -> None:
    classes = tuple("abcd")
    teacher = build("cifar_resnet20_a", classes=classes, rng=np.random.default_rng(0))
    blocks = shared_blocks(lower(teacher), teacher)
    assert len(blocks) == 9
    assert blocks["layer1.0.add"] == "layer1.0.relu_2"
    theirs = {node: torch.rand(2, 16, 8, 8) for node in blocks.values()}
    wider = {own: theirs[node].repeat(1, 2, 1, 1) for own, node in blocks.items()}
    assert float(feature_loss(wider, theirs, blocks)) == pytest.approx(0.0, abs=1e-6)
    elsewhere = {own: x.flip(3) for own, x in wider.items()}
    assert float(feature_loss(elsewhere, theirs, blocks)) > 0.01
