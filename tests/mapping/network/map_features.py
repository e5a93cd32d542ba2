"""Networks on maps with one feature each that real networks have."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from .features import Fake, FakeModule, Flipped, Stored, Twice, behind, sampled, written
from .operators import Whole

MAPS: dict[str, nn.Module] = {
    "threshold": behind(lambda x: functional.threshold(x, 0.3, -0.2)),
    "threshold at zero to a number": behind(lambda x: functional.threshold(x, 0.0, 0.5)),
    "sign": behind(torch.sign),
    "ceil": behind(lambda x: torch.ceil(4 * x)),
    "trunc": behind(lambda x: torch.trunc(4 * x)),
    "fractional part": behind(torch.frac),
    "remainder by a number": behind(lambda x: torch.remainder(x, 0.7)),
    "truncated remainder": behind(lambda x: torch.fmod(x, 0.7)),
    "division rounded to zero": behind(lambda x: torch.div(x, 0.3, rounding_mode="trunc")),
    "floor division": behind(lambda x: x // 0.3),
    "rounding to decimals": behind(lambda x: torch.round(x, decimals=1)),
    "atan": behind(torch.atan),
    "sinh": behind(torch.sinh),
    "cosh": behind(torch.cosh),
    "asinh": behind(torch.asinh),
    "tan": behind(lambda x: torch.tan(x / 2)),
    "asin": behind(lambda x: torch.asin(torch.tanh(x))),
    "acos": behind(lambda x: torch.acos(torch.tanh(x) * 0.9)),
    "atanh": behind(lambda x: torch.atanh(torch.tanh(x) * 0.9)),
    "acosh": behind(lambda x: torch.acosh(x.abs() + 1.5)),
    "complementary error function": behind(torch.erfc),
    "exp2": behind(torch.exp2),
    "two to the power": behind(lambda x: 2**x),
    "log2 and log10": behind(lambda x: torch.log2(x.abs() + 1) + torch.log10(x.abs() + 1)),
    "logit": behind(lambda x: torch.logit(torch.sigmoid(x), 1e-3)),
    "hard shrink": behind(lambda x: functional.hardshrink(x, 0.4)),
    "tanh shrink": behind(functional.tanhshrink),
    "relu squared": behind(lambda x: functional.relu(x) ** 2),
    "rrelu": behind(lambda x: functional.rrelu(x, training=False)),
    "elu with scales": behind(lambda x: torch.ops.aten.elu(x, 1.2, 0.9, 1.0)),
    "sinc": behind(torch.sinc),
    "log-softmax at the end": behind(lambda x: functional.log_softmax(x.mean((2, 3)), 1)),
    "log-softmax of maps": behind(lambda x: functional.log_softmax(x, 1)),
    "softmin": behind(lambda x: functional.softmin(x, 1)),
    "logical and, or, xor": behind(
        lambda x: (
            torch.logical_and(x > 0, x < 0.5) * 1.0
            + torch.logical_or(x > 0.5, x < -0.5) * 2.0
            + torch.logical_xor(x > 0, x.flip(3) > 0) * 3.0
        )
    ),
    "bitwise operations on masks": behind(lambda x: torch.where(((x > 0.5) | (x < -0.5)) ^ (x.flip(3) > 0), x, 0.0)),
    "a mask as numbers": behind(lambda x: (x > 0.1).float() * x),
    "equality": behind(lambda x: torch.where(x.relu() == 0, 0.3, x)),
    "inequality": behind(lambda x: (x.relu() != 0).to(x.dtype)),
    "heaviside": behind(lambda x: torch.heaviside(x, torch.tensor(0.5))),
    "fake quantisation": Fake(signed=False),
    "fake quantisation, signed": Fake(signed=True),
    "modules of fake quantisation": FakeModule(),
    "bounds by channel": Stored(lambda x, b: torch.clamp(x, -b, b), torch.rand(4, 1, 1) + 0.2),
    "lower bound by channel": Stored(lambda x, b: torch.clamp(x, min=b), torch.rand(4, 1, 1) - 0.5),
    "addcdiv": behind(lambda x: torch.addcdiv(x, x.flip(3), x.abs() + 1, value=0.5)),
    "outer product": behind(lambda x: x.mean((2, 3))[:, :, None] * x.mean((2, 3))[:, None, :]),
    "repeat-interleave of all": behind(lambda x: x.mean((2, 3)).repeat_interleave(2, 1)),
    "repeat-interleave by counts": Stored(lambda x, n: x.repeat_interleave(n, 1), torch.tensor([1, 0, 2, 3])),
    "repeat-interleave by counts of a list": behind(
        lambda x: torch.repeat_interleave(x, torch.tensor([2, 1, 1, 3]), dim=1, output_size=7)
    ),
    "gather": Stored(
        lambda x, at: x.gather(1, at.expand(len(x), -1, -1, -1)),
        torch.randint(0, 4, (1, 3, 8, 8), generator=torch.Generator().manual_seed(0)),
    ),
    "take along an axis": Stored(
        lambda x, at: torch.take_along_dim(x, at[None, :, :, None], 2), torch.tensor([[0, 2, 5]] * 4)
    ),
    "scatter": Stored(
        lambda x, at: torch.zeros(len(x), 6, 8, 8).scatter(1, at.expand(len(x), -1, 8, 8), x),
        torch.tensor([5, 0, 3, 1]).view(1, 4, 1, 1),
    ),
    "index_add": Stored(lambda x, at: torch.zeros(len(x), 3, 8, 8).index_add(1, at, x), torch.tensor([0, 1, 1, 2])),
    "index_copy": Stored(lambda x, at: x.index_copy(1, at, 2 * x[:, :2]), torch.tensor([3, 1])),
    "places written": Stored(written, torch.tensor([3, 0])),
    "places added to": Stored(lambda x, at: written(x, at, 1), torch.tensor([3, 0])),
    "diagonal": behind(lambda x: x.diagonal(0, 2, 3)),
    "diagonal beside": behind(lambda x: torch.diagonal(x, 2, 2, 3).sum(-1)),
    "diagonal filled": behind(lambda x: torch.diag_embed(x.mean(3))),
    "trace by einsum": behind(lambda x: torch.einsum("bchh->bc", x)),
    "triangle": behind(lambda x: torch.tril(x) + torch.triu(x, 1) * 0.5),
    "indices not neighbours": Stored(
        lambda x, a, b: x[:, a, :, b].transpose(0, 1), torch.tensor([0, 2]), torch.tensor([1, 3])
    ),
    "a mask as index": Stored(lambda x, m: x[:, :, m], torch.arange(64).view(8, 8) % 3 == 0),
    "rot90": behind(lambda x: torch.rot90(x, 1, (2, 3))),
    "sampling at a stored grid": sampled(align_corners=False),
    "nearest places of a stored grid": sampled(align_corners=True, mode="nearest"),
    "sampling with repeated border": sampled(align_corners=False, padding_mode="border"),
    "sampling with mirrored border": sampled(align_corners=True, padding_mode="reflection"),
    "local response norm": behind(lambda x: functional.local_response_norm(x, 3, 0.1, 0.75, 1.0)),
    "antialiased bilinear": behind(lambda x: functional.interpolate(x, (5, 3), mode="bilinear", antialias=True)),
    "antialiased bicubic": behind(lambda x: functional.interpolate(x, (5, 3), mode="bicubic", antialias=True)),
    "area": behind(lambda x: functional.interpolate(x, (5, 3), mode="area")),
    "lp pooling": behind(lambda x: functional.lp_pool2d(x.abs() + 0.1, 2, 2)),
    "called twice in one batch": Twice(),
    "a mirror image in the batch": Flipped(),
    "cosine similarity": behind(lambda x: functional.cosine_similarity(x, x.flip(3), 1)),
    "pairwise distance": behind(lambda x: functional.pairwise_distance(x.flatten(2), x.flip(3).flatten(2))),
    "three operands of einsum": behind(lambda x: torch.einsum("bchw,bcw,bch->bc", x, x.mean(2), x.mean(3))),
    "einsum with dots": Stored(lambda x, w: torch.einsum("bc...,oc->bo...", x, w), torch.randn(5, 4) * 0.5),
    "weights for each image": behind(lambda x: torch.bmm(x.mean(3), x.mean(2).transpose(1, 2))),
    "median of three": behind(
        lambda x: torch.maximum(torch.minimum(x, x.flip(2)), torch.minimum(torch.maximum(x, x.flip(2)), x.flip(3)))
    ),
    "product of channels": behind(lambda x: torch.prod(x + 1.5, 1)),
    "minimum with places unread": behind(lambda x: x.max(3)[0] - torch.aminmax(x, dim=3)[0]),
    "all and any": behind(lambda x: (x > 0).any(1).float() + (x > -0.3).all(1).float()),
    "channels last": behind(lambda x: x.contiguous(memory_format=torch.channels_last) + 1),
    "unfolded by strides": behind(lambda x: x.unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2))),
    "pooling with places unread": behind(lambda x: functional.max_pool2d(x, 2, return_indices=True)[0]),
    "padding by hand with new_zeros": behind(lambda x: torch.cat([x, x.new_zeros(len(x), 2, 8, 8)], 1)),
    "zeros_like and ones_like": behind(lambda x: torch.where(x > 0, x, torch.zeros_like(x)) + torch.ones_like(x)),
    "full_like of a choice": behind(lambda x: torch.where(x > 0, torch.full_like(x, 0.5), x)),
    "empty filled": behind(lambda x: torch.empty_like(x).fill_(0.25) + x),
    "nan to numbers": behind(lambda x: torch.nan_to_num(x)),
    "drop path": behind(lambda x: x + functional.dropout2d(x, 0.2, training=False)),
    "autocast": behind(lambda x: x.float().to(torch.float64).to(torch.float32)),
    "meshgrid added": behind(
        lambda x: x + torch.stack(torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")).sum(0) / 8
    ),
    "volume convolution": Whole(
        lambda x, f: f(x[:, None]).flatten(1, 2), nn.Conv3d(1, 3, (2, 3, 3), padding=(0, 1, 1))
    ),
    "volume convolution with stride": Whole(
        lambda x, f: f(x.unflatten(1, (2, 2))).flatten(1, 2), nn.Conv3d(2, 3, (2, 3, 3), stride=(1, 2, 2), padding=1)
    ),
    "volume pooling": Whole(
        lambda x, f: (f(x[:, None]) + functional.avg_pool3d(x[:, None], 2)).flatten(1, 2), nn.MaxPool3d(2)
    ),
    "volume norm": Whole(lambda x, f: f(x.unflatten(1, (2, 2))).flatten(1, 2), nn.BatchNorm3d(2)),
    "adaptive volume pooling": Whole(lambda x, f: f(x.unflatten(1, (2, 2))).flatten(1), nn.AdaptiveAvgPool3d(1)),
    "weight norm": Whole(lambda x, f: f(x), nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 5, 3))),
    "spectral norm": Whole(lambda x, f: f(x), nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 5, 3))),
    "standardised weights": Whole(
        lambda x, f: functional.conv2d(
            x, functional.batch_norm(f.weight.reshape(1, 5, -1), None, None, training=True).reshape_as(f.weight)
        ),
        nn.Conv2d(4, 5, 3),
    ),
}
