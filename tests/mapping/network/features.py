"""Networks with one feature each that real networks have: captured, compiled, and run in integers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .operators import Whole, param


class Stored(nn.Module):
    """A function of the input and of stored tensors."""

    def __init__(self, function: Callable[..., Any], *stored: Tensor) -> None:
        super().__init__()
        self.function = function
        self.count = len(stored)
        for n, values in enumerate(stored):
            self.register_buffer(f"stored{n}", values)

    def forward(self, x: Tensor) -> Any:
        return self.function(x, *(getattr(self, f"stored{n}") for n in range(self.count)))


class Queries(nn.Module):
    """Learned queries through decoder layers, as detectors by transformers have them."""

    def __init__(self) -> None:
        super().__init__()
        self.queries = param(3, 6)
        layer = nn.TransformerDecoderLayer(6, 2, 12, batch_first=True)
        self.decoder = nn.TransformerDecoder(layer, 2)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.decoder(self.queries.expand(len(x), -1, -1), x)
        return found


class Drops(nn.Module):
    """Stored positions through layers that end in dropout, added to the input."""

    def __init__(self) -> None:
        super().__init__()
        self.places = param(7, 6)
        self.layers = nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 6), nn.GELU(), nn.Dropout(0.1))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = x + self.layers(self.places)
        return found


class AttendsStored(nn.Module):
    """Attention among stored vectors, as a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.places = param(1, 7, 6)

    def forward(self, x: Tensor) -> Tensor:
        return x + functional.scaled_dot_product_attention(self.places, self.places, self.places)


class Relative(nn.Module):
    """A table of relative positions through a small network with dropout, read by stored places."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.arange(13).float()[:, None] / 6 - 1)
        self.register_buffer("at", torch.arange(7)[:, None] - torch.arange(7) + 6)
        self.mlp = nn.Sequential(nn.Linear(1, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 1))

    def forward(self, x: Tensor) -> Tensor:
        bias = self.mlp(self.steps)[self.at.view(-1)].view(7, 7)
        return (x @ x.transpose(1, 2) + 4 * torch.sigmoid(bias)).softmax(-1) @ x


class Mixed(nn.Module):
    """Constants of mixed types computed with each other: half, double, integers, truth values."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("short", param(6).detach().half())
        self.register_buffer("long_", param(6).detach().double())

    def forward(self, x: Tensor) -> Tensor:
        scale = self.short.double() * self.long_ + torch.arange(6)
        return x * functional.layer_norm(scale.float(), (6,)) + (torch.arange(7) % 2 == 0)[:, None]


class Fake(nn.Module):
    """Activations on a grid that training chose."""

    def __init__(self, signed: bool) -> None:
        super().__init__()
        self.first, self.low = nn.Conv2d(4, 4, 3, padding=1), -128 if signed else 0
        self.zero = 0 if signed else 100

    def forward(self, x: Tensor) -> Tensor:
        return torch.fake_quantize_per_tensor_affine(self.first(x), 0.01, self.zero, self.low, self.low + 255)


class FakeModule(nn.Module):
    """The modules of quantisation-aware training, ranges observed before."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.weights = torch.ao.quantization.FakeQuantize(
            observer=torch.ao.quantization.PerChannelMinMaxObserver,
            quant_min=-128, quant_max=127, dtype=torch.qint8, qscheme=torch.per_channel_symmetric,
        )  # fmt: skip
        self.out = torch.ao.quantization.FakeQuantize(quant_min=0, quant_max=255)
        self.out(self.conv(torch.randn(8, 4, 8, 8)))
        self.weights(self.conv.weight)
        for part in (self.weights, self.out):
            part.disable_observer()

    def forward(self, x: Tensor) -> Tensor:
        found = functional.conv2d(x, self.weights(self.conv.weight), self.conv.bias, padding=1)
        return self.out(found)  # type: ignore[no-any-return]


class Twice(nn.Module):
    """Two halves of the channels through one network at once: joined and split along the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(2, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.body(torch.cat([x[:, :2], x[:, 2:]], 0)).chunk(2, 0)
        return left - right  # type: ignore[no-any-return]


class Flipped(nn.Module):
    """A map and its mirror image in one batch, means of both."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(4, 3, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, x: Tensor) -> Tensor:
        both = self.body(torch.cat([x, x.flip(3)], 0))
        return both[: len(x)] + both[len(x) :]  # type: ignore[no-any-return]


class Projected(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.layer = nn.LSTM(6, 5, proj_size=3, batch_first=True, **options)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layer(x)[0]
        return found


class Bilinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.both = nn.Linear(12, 3), nn.Linear(12, 4), nn.Bilinear(3, 4, 5)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.both(self.first(x), self.second(x))
        return found


def sampled(**options: Any) -> nn.Module:
    """Maps read at stored places between theirs."""
    turned = torch.tensor([[[0.8, -0.5, 0.1], [0.5, 0.8, -0.2]]])
    grid = functional.affine_grid(turned, [1, 4, 6, 7], align_corners=False)
    return Stored(lambda x, g: functional.grid_sample(x, g.expand(len(x), -1, -1, -1), **options), grid)


def written(x: Tensor, at: Tensor, more: int = 0) -> Tensor:
    y = x.clone()
    y[:, at] = 2 * x[:, :2] + more * y[:, at]
    return y


def behind(function: Callable[[Tensor], Any]) -> nn.Module:
    """A function behind a convolution."""
    return Whole(function, first=nn.Conv2d(4, 4, 3, padding=1))


SEQUENCES: dict[str, nn.Module] = {
    "learned queries through a decoder": Queries(),
    "dropout of constants": Drops(),
    "attention of constants": AttendsStored(),
    "relative positions by a network": Relative(),
    "constants of mixed types": Mixed(),
    "boolean mask in attention": Stored(
        lambda x, m: functional.scaled_dot_product_attention(x, x, x, attn_mask=m), torch.ones(7, 7).tril(1) > 0
    ),
    "boolean mask for heads": Stored(
        lambda x, m: functional.scaled_dot_product_attention(
            *[x.unflatten(2, (2, 3)).transpose(1, 2)] * 3, attn_mask=m[None, None]
        ),
        torch.ones(7, 7).tril(2) > 0,
    ),
    "stored keys and values": Stored(
        lambda x, k, v: functional.scaled_dot_product_attention(x, k.expand(len(x), -1, -1), v.expand(len(x), -1, -1)),
        torch.randn(1, 5, 6),
        torch.randn(1, 5, 6),
    ),
    "transformer": Whole(lambda x, f: f(x, x[:, :3]), nn.Transformer(6, 2, 1, 1, 8, batch_first=True)),
    "multihead attention with a mask": Whole(
        lambda x, f: f(x, x, x, attn_mask=torch.ones(7, 7).triu(1) > 0, need_weights=False)[0],
        nn.MultiheadAttention(6, 2, batch_first=True),
    ),
    "multihead attention with its weights": Whole(
        lambda x, f: f(x, x, x)[1], nn.MultiheadAttention(6, 2, batch_first=True)
    ),
    "batched matrices with the batch inside": Whole(
        lambda x, f: torch.matmul(x.transpose(0, 1), f.weight.view(7, 6, 5)).transpose(0, 1), nn.Linear(6, 35)
    ),
    "matrices of each window": Stored(
        lambda x, w: torch.matmul(x.reshape(-1, 7, 2, 3).transpose(1, 2), w), torch.randn(2, 3, 4)
    ),
    "distance to stored points": Stored(lambda x, p: torch.cdist(x, p.expand(len(x), -1, -1)), torch.randn(1, 5, 6)),
    "distance in one norm": Stored(lambda x, p: torch.cdist(x, p.expand(len(x), -1, -1), p=1), torch.randn(1, 5, 6)),
    "distances among places": Whole(lambda x: torch.cdist(x, x + 1)),
    "lstm with a projection": Projected(),
    "lstm with a projection, both ways": Projected(bidirectional=True, num_layers=2),
    "lstm cell": Whole(lambda x, f: f(x[:, 0])[0], nn.LSTMCell(6, 5)),
    "gru cell": Whole(lambda x, f: f(x[:, 1], f(x[:, 0])), nn.GRUCell(6, 5)),
    "rnn cell": Whole(lambda x, f: f(x[:, 1], f(x[:, 0])), nn.RNNCell(6, 5)),
    "rotary positions": Stored(
        lambda x, s, c: x * c + torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2) * s,
        torch.sin(torch.arange(42.0).view(7, 6)),
        torch.cos(torch.arange(42.0).view(7, 6)),
    ),
    "embedding bag of constants": Whole(lambda x, f: x + f(torch.arange(7).view(7, 1)), nn.EmbeddingBag(7, 6)),
    "one-hot of constants": Whole(lambda x: x + functional.one_hot(torch.arange(7) % 6, 6)),
    "tensordot": Stored(lambda x, w: torch.tensordot(x, w, dims=([2], [1])), torch.randn(4, 6)),
    "kronecker and outer": Stored(lambda x, w: x[:, 0, :, None] * w, torch.randn(3)),
    "difference of neighbours": Whole(lambda x: x - torch.roll(x, 1, 1)),
    "softmax with temperature": Whole(lambda x: functional.softmax(x / 0.3, dim=-1)),
    "entropy": Whole(lambda x: -(x.softmax(-1) * x.log_softmax(-1)).sum(-1)),
    "l1 norm": Whole(lambda x: functional.normalize(x, p=1.0, dim=-1)),
    "cube norm": Whole(lambda x: torch.linalg.vector_norm(x, 3, dim=-1)),
    "moving average by convolution": Whole(
        lambda x: functional.conv1d(x.transpose(1, 2), torch.ones(6, 1, 3) / 3, groups=6, padding=1)
    ),
    "batch-first expand": Stored(lambda x, t: torch.cat([t.repeat(len(x), 1, 1), x], 1), torch.randn(1, 2, 6)),
}


FEATURES: dict[str, nn.Module] = {
    "bilinear layer": Bilinear(),
    "maxout": Whole(lambda x, f: f(x).view(-1, 4, 3).amax(2), nn.Linear(12, 12)),
    "radial basis": Stored(lambda x, p: torch.exp(-((x[:, None] - p) ** 2).sum(-1) / 12), torch.randn(5, 12)),
    "polynomial": Whole(lambda x: torch.stack([x, x**2, x**3], -1).flatten(1)),
    "fourier features": Stored(lambda x, w: torch.cat([torch.sin(x @ w), torch.cos(x @ w)], 1), torch.randn(12, 5) / 4),
    "soft voting": Whole(lambda x, f, g: (f(x).softmax(1) + g(x).softmax(1)) / 2, nn.Linear(12, 4), nn.Linear(12, 4)),
    "log-softmax of features": Whole(lambda x, f: functional.log_softmax(f(x), -1), nn.Linear(12, 4)),
    "nn.LogSoftmax": nn.Sequential(nn.Linear(12, 4), nn.LogSoftmax(1)),
}
