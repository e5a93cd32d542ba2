"""Modules with one operation each, for the tests of every way into a graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class Whole(nn.Module):
    """A function of the input, between a layer before it and the layers that it owns."""

    def __init__(self, function: Callable[..., Any], *parts: nn.Module, first: nn.Module | None = None) -> None:
        super().__init__()
        self.first = first or nn.Identity()
        self.parts = nn.ModuleList(parts)
        self.function = function

    def forward(self, x: Tensor) -> Any:
        found = self.function(self.first(x), *self.parts)
        return found


def param(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape, generator=torch.Generator().manual_seed(3)))


class Scaled(nn.Module):
    """Constants of every kind in sums and products."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.shift = param(4, 1, 1), param(1, 4, 8, 8)
        self.register_buffer("mean", torch.rand(4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = (x - self.mean) / (self.mean + 1) * self.scale + self.shift
        return torch.sub(2.0 - y, x, alpha=0.5) + torch.add(y, self.shift, alpha=3) / 7.0


def squeeze_and_excite(x: Tensor, down: nn.Module, up: nn.Module) -> Tensor:
    return x * torch.sigmoid(up(functional.relu(down(x.mean((2, 3), keepdim=True)))))


def attention_by_hand(x: Tensor, qkv: nn.Module, out: nn.Module) -> Tensor:
    b, t, f = x.shape
    q, k, v = qkv(x).reshape(b, t, 3, 2, f // 2).permute(2, 0, 3, 1, 4).unbind(0)
    weights = ((q @ k.transpose(-2, -1)) * (f // 2) ** -0.5).softmax(-1)
    return out((weights @ v).transpose(1, 2).reshape(b, t, f))


def windows_as_images(x: Tensor, layer: nn.Module) -> Tensor:
    """Windows of a map as more images, as in window attention."""
    b, c, h, w = x.shape
    x = x.view(b, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, c)
    scores = layer(x)
    scores = (scores @ scores.transpose(1, 2)).softmax(-1) @ x
    return scores.view(b, h // 4, w // 4, 4, 4, c).permute(0, 5, 1, 3, 2, 4).reshape(b, c, h, w)


def channel_shuffle(x: Tensor) -> Tensor:
    b, c, h, w = x.shape
    return x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)


def changed_in_place(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, 1:3] += 1.0
    y[:, :, ::2] = y[:, :, ::2] * 2
    return y


MAPS: dict[str, Callable[[Tensor], Any]] = {
    "relu": functional.relu,
    "relu6": functional.relu6,
    "hard tanh": lambda x: x.clamp(-0.5, 0.75),
    "sum of maps": lambda x: x + functional.relu(x),
    "channels padded": lambda x: functional.pad(x[:, 1:3, ::2, ::2], (0, 0, 0, 0, 1, 2)),
    "padded max pooling": lambda x: functional.max_pool2d(x, 3, 2, 1),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "gelu": functional.gelu,
    "gelu by tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "silu": functional.silu,
    "mish": functional.mish,
    "hard-swish": functional.hardswish,
    "hard-sigmoid": functional.hardsigmoid,
    "leaky relu": lambda x: functional.leaky_relu(x, 0.2),
    "elu": lambda x: functional.elu(x, 0.7),
    "selu": functional.selu,
    "celu": lambda x: functional.celu(x, 0.5),
    "softplus": lambda x: functional.softplus(x, 2, 10),
    "log-sigmoid": functional.logsigmoid,
    "soft shrink": functional.softshrink,
    "glu": lambda x: functional.glu(x, 1),
    "exp, log, sqrt": lambda x: torch.sqrt(torch.log(torch.exp(x) + 2)),
    "reciprocals": lambda x: torch.rsqrt(x * x + 1) + torch.reciprocal(x.abs() + 1) + 3 / (x**2 + 1),
    "powers": lambda x: x**3 + x.pow(2) + (x.abs() + 1) ** 0.7 - x,
    "sine and cosine": lambda x: x.sin() + x.cos() - x.erf(),
    "one bound": lambda x: torch.cat([x.clamp(min=0.2), x.clamp(max=0.3)], 1),
    "extremes of constants": lambda x: torch.maximum(x, torch.tensor(0.1)) + torch.minimum(x, torch.ones(4, 1, 1)),
    "extremes of two maps": lambda x: torch.maximum(x, x.flip(3)) - torch.minimum(x, x.flip(2)),
    "max of two and amax": lambda x: torch.max(x, x.roll(1, 2)) - x.amax((1, 2), keepdim=True),
    "product of maps": lambda x: x * x.flip(1),
    "difference of maps": lambda x: x - x.flip(1),
    "quotient of maps": lambda x: x / (x.abs() + 1),
    "broadcast": lambda x: x + x.mean((1, 2, 3), keepdim=True) * x.amax((2, 3), keepdim=True),
    "a choice by a stored mask": lambda x: torch.where(torch.arange(8) > 3, x, -x).masked_fill(
        torch.arange(8) == 2, 0.5
    ),
    "sums and means": lambda x: x.sum(1) + x.mean(1) - x.min(1).values + x.max(1)[0],
    "variance and norm": lambda x: (
        x.var(1, keepdim=True) + functional.normalize(x, dim=1) + x.std((2, 3), keepdim=True)
    ),
    "reshape": lambda x: x.reshape(-1, 2, 128),
    "permute": lambda x: x.permute(0, 3, 1, 2).exp().transpose(1, 2),
    "unflatten and squeeze": lambda x: x.flatten(2).unflatten(2, (2, 32)).unsqueeze(1).squeeze(),
    "chunk, split, unbind": lambda x: (
        torch.stack([*x.chunk(2, 1)], 1).sum(1)
        + x.split([1, 2, 1], 1)[1]
        - torch.cat(x.unbind(1)[:1] * 2, 1).reshape(-1, 2, 8, 8)
    ),
    "slices": lambda x: torch.cat([x[:, 1:, 2:7:2, 1::3], x[:, ::2, -3:, :3]], 1),
    "narrow and index": lambda x: x.narrow(2, 1, 4)[:, [0, 2, 2]][..., torch.tensor([[0, 1], [5, 4]])],
    "an index of two axes": lambda x: x[:, :, torch.tensor([[0], [3]]), torch.tensor([1, 2, 7])],
    "roll and flip": lambda x: torch.roll(x, (2, -3), (2, 3)) + x.flip((1, 2)),
    "repeat": lambda x: x.repeat(1, 2, 1, 2)[:, :, :, 3:] + x.repeat_interleave(2, 1)[..., :1],
    "expand": lambda x: x[:, :1].expand(-1, 4, -1, -1) + x,
    "joined along height": lambda x: torch.cat([x, torch.zeros(x.shape[0], 4, 1, 8), x.flip(2)], 2),
    "joined with constants": lambda x: torch.cat([torch.ones(x.shape[0], 2, 8, 8), x], 1),
    "zero padding": lambda x: functional.pad(x, (1, 2, 0, 3, 1, 0)),
    "padding by a number": lambda x: functional.pad(x, (1, 2, 0, 3), value=0.5),
    "reflect padding": lambda x: functional.pad(x, (1, 2, 3, 0), mode="reflect"),
    "replicate padding": lambda x: functional.pad(x, (1, 2, 3, 0), mode="replicate"),
    "circular padding": lambda x: functional.pad(x, (1, 2, 3, 0), mode="circular"),
    "cropping by padding": lambda x: functional.pad(x, (-1, 2, 0, -3)),
    "pixel shuffle": lambda x: functional.pixel_unshuffle(functional.pixel_shuffle(x, 2), 4),
    "channel shuffle": channel_shuffle,
    "channel shuffle of torch": lambda x: functional.channel_shuffle(x, 2),
    "unfold": lambda x: functional.unfold(x, (3, 2), 1, 1, 2),
    "folded windows": lambda x: functional.fold(functional.unfold(x, 2, stride=2), 8, 2, stride=2) * 2,
    "folded windows that overlap": lambda x: functional.fold(x.reshape(-1, 8, 32), (5, 9), 2),
    "a choice by computed values": lambda x: torch.where(x > 0.2, x, 0.1 * x) + torch.where(x.flip(3) <= x, x, 0.3),
    "a mask of comparisons": lambda x: x * ((x >= -0.5) & ~(x > 0.5)) + x.masked_fill(x < 0, -2.0),
    "running sums": lambda x: x.cumsum(1) + x.cumsum(-1),
    "logsumexp": lambda x: x.logsumexp(1, keepdim=True) + x.logsumexp((2, 3), keepdim=True),
    "in place through views": changed_in_place,
    "nearest": lambda x: functional.interpolate(x, scale_factor=2),
    "nearest to a size": lambda x: functional.interpolate(x, (5, 11)),
    "nearest-exact": lambda x: functional.interpolate(x, (5, 11), mode="nearest-exact"),
    "bilinear": lambda x: functional.interpolate(x, (13, 5), mode="bilinear"),
    "bilinear with corners": lambda x: functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True),
    "bicubic": lambda x: functional.interpolate(x, (12, 6), mode="bicubic"),
    "adaptive average": lambda x: functional.adaptive_avg_pool2d(x, (3, 5)),
    "adaptive max": lambda x: functional.adaptive_max_pool2d(x, (3, 4)),
    "max pooling with ceil mode": lambda x: functional.max_pool2d(x, 3, 2, ceil_mode=True),
    "dilated max pooling": lambda x: functional.max_pool2d(x, 2, 1, 1, dilation=3),
    "average pooling with ceil mode": lambda x: functional.avg_pool2d(x, 3, 2, 1, ceil_mode=True),
    "average pooling without its padding": lambda x: functional.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "average pooling with a divisor": lambda x: functional.avg_pool2d(x, 2, 2, divisor_override=3),
    "softmax over channels": lambda x: x.softmax(1) + x.softmax(3),
    "dropout, conversion, copies": lambda x: (
        functional.dropout(x, training=False).contiguous().clone().to(torch.float32)
    ),
    "a lone number": lambda x: x.mean((1, 2, 3)),
    "two outputs": lambda x: (x.relu(), x.mean((2, 3))),
    "outputs by name": lambda x: {"map": x, "score": x.amax((1, 2, 3)), "more": [x[:, 0]]},
}


LAYERS: dict[str, nn.Module] = {
    "grouped and dilated convolution": nn.Conv2d(4, 6, 3, stride=(2, 1), padding=(1, 0), groups=2, dilation=(1, 2)),
    "batch norm": nn.BatchNorm2d(4, eps=1e-3),
    "prelu": nn.PReLU(4),
    "prelu with one slope": nn.PReLU(),
    "constants in sums and products": Scaled(),
    "squeeze and excite": Whole(squeeze_and_excite, nn.Conv2d(4, 2, 1), nn.Conv2d(2, 4, 1)),
    "group norm": nn.GroupNorm(2, 4),
    "group norm of one group": nn.GroupNorm(1, 4),
    "instance norm": nn.InstanceNorm2d(4, affine=True),
    "layer norm of maps": nn.LayerNorm([4, 8, 8]),
    "layer norm channels last": Whole(lambda x, n: n(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), nn.LayerNorm(4)),
    "rms norm": Whole(lambda x, n: n(x.transpose(1, 3)), nn.RMSNorm(4)),
    "linear layer channels last": Whole(lambda x, f: f(x.permute(0, 2, 3, 1)), nn.Linear(4, 6)),
    "even kernel, same": nn.Conv2d(4, 5, 4, padding="same"),
    "reflecting convolution": nn.Conv2d(4, 5, 3, padding=1, padding_mode="reflect"),
    "transposed convolution": nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1),
    "transposed convolution of 4 by 4": nn.ConvTranspose2d(4, 6, 4, stride=2, padding=1, bias=False),
    "transposed convolution without stride": nn.ConvTranspose2d(4, 6, 3),
    "grouped and dilated transposed": nn.ConvTranspose2d(4, 6, (3, 2), stride=(3, 2), groups=2, dilation=(2, 1)),
    "transposed convolution with gaps": nn.ConvTranspose2d(4, 3, 2, stride=3, output_padding=2),
    "windows as images": Whole(windows_as_images, nn.Linear(4, 4)),
    "frames as images": Whole(
        lambda x, f: f(x.reshape(-1, 1, 8, 8)).reshape(-1, 12, 8, 8), nn.Conv2d(1, 3, 3, padding=1)
    ),
    "weights of each head": Whole(
        lambda x, w: x.reshape(-1, 4, 64)[:, :, None] @ w.weight.view(4, 64, 3), nn.Linear(64, 12)
    ),
    "stored matrix on the left": Whole(lambda x, w: w.weight @ x, nn.Linear(8, 5)),
    "einsum": Whole(lambda x: torch.einsum("bchw,bcvw->bchv", x, x)),
}


class Recurrent(nn.Module):
    """The last output and the last states of a recurrent layer."""

    def __init__(self, kind: type[nn.RNNBase], **options: Any) -> None:
        super().__init__()
        self.layer = kind(6, 5, batch_first=True, **options)

    def forward(self, x: Tensor) -> Any:
        out, state = self.layer(x)
        last = state[0] if isinstance(state, tuple) else state
        return out, last[-1]


class TimeFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.GRU(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.layer(x.transpose(0, 1))
        found: Tensor = out[-1]
        return found


class ClassToken(nn.Module):
    """A token and stored positions before an encoder layer: a small transformer."""

    def __init__(self, norm_first: bool) -> None:
        super().__init__()
        self.token, self.places = param(1, 1, 6), param(1, 8, 6)
        self.encoder = nn.TransformerEncoderLayer(6, 2, 12, batch_first=True, norm_first=norm_first, activation="gelu")

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.places
        found: Tensor = self.encoder(x)[:, 0]
        return found


def attended(x: Tensor, layer: nn.Module) -> Tensor:
    found: Tensor = layer(x, x, x, need_weights=False)[0]
    return found


SEQUENCES: dict[str, nn.Module] = {
    "linear": nn.Linear(6, 4),
    "layer norm": nn.LayerNorm(6),
    "mlp": nn.Sequential(nn.Linear(6, 9), nn.GELU(), nn.Linear(9, 6)),
    "no prefix tokens": Whole(lambda x, f: torch.cat([x[:, :0], f(x[:, 0:])], 1), nn.Linear(6, 6)),
    "mixed tokens": Whole(lambda x, f: f(x.transpose(1, 2)).transpose(1, 2) + x, nn.Linear(7, 7)),
    "lstm": Recurrent(nn.LSTM),
    "lstm in two layers and directions": Recurrent(nn.LSTM, num_layers=2, bidirectional=True),
    "gru": Recurrent(nn.GRU, num_layers=2),
    "gru without biases": Recurrent(nn.GRU, bias=False, bidirectional=True),
    "rnn": Recurrent(nn.RNN),
    "rnn by relu": Recurrent(nn.RNN, nonlinearity="relu"),
    "time first": TimeFirst(),
    "attention by hand": Whole(attention_by_hand, nn.Linear(6, 18), nn.Linear(6, 6)),
    "attention": Whole(attended, nn.MultiheadAttention(6, 2, batch_first=True)),
    "attention, time first": Whole(
        lambda x, f: attended(x.transpose(0, 1), f).transpose(0, 1), nn.MultiheadAttention(6, 3)
    ),
    "causal attention": Whole(lambda x: functional.scaled_dot_product_attention(x, x, x, is_causal=True)),
    "attention with shared keys": Whole(
        lambda x: functional.scaled_dot_product_attention(
            x.unflatten(1, (7, 1)).expand(-1, -1, 4, -1).transpose(1, 2),
            *[torch.stack([x, -x], 1)] * 2,
            enable_gqa=True,
        )
    ),
    "masked by infinity": Whole(lambda x: (x + torch.full((7, 6), -torch.inf).triu(1)).softmax(-1)),
    "filled with infinity": Whole(lambda x: x.masked_fill(torch.ones(7, 6).triu(1) > 0, -torch.inf).softmax(-1)),
    "masked by a large number": Whole(lambda x: (x + torch.full((7, 6), -1e9).triu(1)).softmax(-1)),
    "masked whole rows": Whole(lambda x: x.masked_fill((torch.arange(7) == 2)[:, None], -1e9).softmax(-1)),
    "masked, then moved": Whole(
        lambda x: (x + torch.full((7, 6), -torch.inf).triu(1)).transpose(1, 2).unflatten(1, (2, 3)).softmax(-1)
    ),
    "masked attention": Whole(
        lambda x: functional.scaled_dot_product_attention(
            x, x, x, attn_mask=torch.arange(7) < torch.arange(7)[:, None] + 3
        )
    ),
    "attention masked by what was computed": Whole(
        lambda x: functional.scaled_dot_product_attention(x, x, x, attn_mask=(x[:, :, :1] > x.mean(2)[:, None] - 2.0))
    ),
    "attention of several heads, keys masked by what was computed": Whole(
        lambda x: (
            functional.scaled_dot_product_attention(
                *[x.unflatten(2, (2, 3)).transpose(1, 2)] * 3, attn_mask=(x.mean(2) > -0.5)[:, None, None, :]
            )
            .transpose(1, 2)
            .flatten(2)
        )
    ),
    "either of two masks": Whole(lambda x: x * (((x > 0.5) + (x < -0.5)) & ((x > 0.9) | (x < 0.8)))),
    "encoder": ClassToken(False),
    "encoder, norm first": ClassToken(True),
    "stored positions": Whole(lambda x, f: x + f(torch.arange(7)), nn.Embedding(7, 6)),
}


LINES: dict[str, nn.Module] = {
    "conv1d": nn.Sequential(nn.Conv1d(3, 4, 5, stride=2, padding=2), nn.BatchNorm1d(4), nn.ReLU(), nn.Conv1d(4, 2, 3)),
    "conv1d, causal": Whole(lambda x, f: f(functional.pad(x, (4, 0))), nn.Conv1d(3, 4, 3, dilation=2)),
    "conv1d, same": nn.Conv1d(3, 4, 4, padding="same"),
    "transposed": nn.ConvTranspose1d(3, 4, 4, stride=2, padding=1),
    "pooling": Whole(lambda x: functional.max_pool1d(x, 3, 2, 1) + functional.avg_pool1d(x, 2)),
    "adaptive": Whole(lambda x: functional.adaptive_avg_pool1d(x, 5) - functional.adaptive_max_pool1d(x, 5)),
    "upsampling": Whole(lambda x: functional.interpolate(x, 30, mode="linear") + functional.interpolate(x, 30)),
    "padding": Whole(lambda x: functional.pad(x, (2, 3), mode="reflect") + functional.pad(x, (2, 3), mode="replicate")),
}
