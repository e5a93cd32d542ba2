"""Networks of one block each, of kinds that published architectures are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .operators import param


class Block(nn.Module):
    """Named parts, and what is done with them."""

    def __init__(self, body: Callable[[Any, Tensor], Tensor], **parts: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.body = body
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x)


def conv(inputs: int, outputs: int, kernel: int = 3, **more: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **more)


def squeezed(m: Any, x: Tensor) -> Tensor:
    x = functional.silu(m.first(x))
    weight = torch.sigmoid(m.up(functional.relu(m.down(x.mean((2, 3))))))
    return (x * weight[:, :, None, None]).amax((2, 3))


def by_neighbouring_channels(m: Any, x: Tensor) -> Tensor:
    x = functional.relu(m.first(x))
    weight = m.across(x.mean((2, 3)).unsqueeze(1)).squeeze(1).sigmoid()
    return (x * weight[..., None, None]).flatten(2).mean(-1)


def by_place(m: Any, x: Tensor) -> Tensor:
    x = functional.relu(m.first(x))
    seen = torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True)[0]], 1)
    return x * torch.sigmoid(m.where(seen))


def focus(m: Any, x: Tensor) -> Tensor:
    parts = [x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]]
    found: Tensor = m.first(torch.cat(parts, 1))
    return found


def pools_in_a_row(m: Any, x: Tensor) -> Tensor:
    x = functional.silu(m.first(x))
    once = m.pool(x)
    twice = m.pool(once)
    return torch.cat([x, once, twice, m.pool(twice)], 1)


def pyramid(m: Any, x: Tensor) -> Tensor:
    whole = m.whole(functional.adaptive_avg_pool2d(x, 1))
    whole = functional.interpolate(whole, size=x.shape[-2:], mode="bilinear", align_corners=False)
    found: Tensor = m.last(functional.relu(torch.cat([*(part(x) for part in m.parts), whole], 1)))
    return found


def response_norm(m: Any, x: Tensor) -> Tensor:
    x = functional.gelu(m.first(x))
    size = torch.norm(x, p=2, dim=(2, 3), keepdim=True)
    found: Tensor = m.gain * (x * (size / (size.mean(1, keepdim=True) + 1e-6))) + x
    return found


def layer_scale(m: Any, x: Tensor) -> Tensor:
    seen = m.wide(x).permute(0, 2, 3, 1)
    return x + (m.gain * m.down(functional.gelu(m.up(m.norm(seen))))).permute(0, 3, 1, 2)


def shifted_windows(m: Any, x: Tensor) -> Tensor:
    n = len(x)
    x = torch.roll(x, (-2, -2), (2, 3)).permute(0, 2, 3, 1).reshape(n, 2, 4, 2, 4, 4)
    x = x.permute(0, 1, 3, 2, 4, 5).reshape(n * 4, 16, 4)
    query, key, value = m.first(x).chunk(3, -1)
    found = (query @ key.transpose(-1, -2) * 0.5 + m.bias).softmax(-1) @ value
    return found.reshape(n, -1, 4).mean(1)


def involution(m: Any, x: Tensor) -> Tensor:
    n, channels, height, width = x.shape
    windows = functional.unfold(x, 3, padding=1).reshape(n, channels, 9, height, width)
    return (windows * m.kernels(x).unsqueeze(1)).sum(2)


def mixed_kernels(m: Any, x: Tensor) -> Tensor:
    share = m.share(x.mean((2, 3))).softmax(1)
    return torch.stack([share[:, i, None, None, None] * part(x) for i, part in enumerate(m.parts)]).sum(0)


def wavelets(m: Any, x: Tensor) -> Tensor:
    top, bottom = x[:, :, ::2], x[:, :, 1::2]
    halves = ((top + bottom) / 2, (top - bottom) / 2)
    parts = [(y[..., ::2] + sign * y[..., 1::2]) / 2 for y in halves for sign in (1, -1)]
    found: Tensor = m.first(torch.cat(parts, 1))
    return found


def heads_of_patches(m: Any, x: Tensor) -> Tensor:
    parts = m.patches(x).flatten(2).transpose(1, 2).unflatten(2, (2, 3))
    return torch.einsum("nphd,hde->nphe", parts, m.heads).flatten(2).mean(1)


def linear_attention(m: Any, x: Tensor) -> Tensor:
    query, key, value = m.first(x).split(6, -1)
    query, key = functional.elu(query) + 1, functional.elu(key) + 1
    found: Tensor = query @ (key.transpose(1, 2) @ value) / (query @ key.sum(1).unsqueeze(-1) + 1e-3)
    return found


def mixer(m: Any, x: Tensor) -> Tensor:
    x = x + m.places(m.norm(x).transpose(1, 2)).transpose(1, 2)
    return x + functional.gelu(m.features(m.norm(x)))


def gated_by_places(m: Any, x: Tensor) -> Tensor:
    kept, gate = functional.gelu(m.first(x)).chunk(2, -1)
    found: Tensor = kept * m.places(gate)
    return found


def pooled_by_a_query(m: Any, x: Tensor) -> Tensor:
    found: Tensor = m.attend(m.query.expand(len(x), -1, -1), x, x, need_weights=False)[0].squeeze(1)
    return found


def experts(m: Any, x: Tensor) -> Tensor:
    return (m.experts(x).view(-1, 4, 3) * m.share(x).softmax(-1).unsqueeze(-1)).sum(1)


def siamese(m: Any, x: Tensor) -> Tensor:
    one, other = m.first(x[:, :6]), m.first(x[:, 6:])
    return torch.cat([functional.cosine_similarity(one, other, dim=1).unsqueeze(1), (one - other).abs()], 1)


def mean_and_variance(m: Any, x: Tensor) -> Tensor:
    seen = torch.tanh(m.first(x))
    return torch.cat([m.mean(seen), functional.softplus(m.variance(seen)) + 1e-2], 1)


def attention(m: Any, x: Tensor) -> Tensor:
    return functional.scaled_dot_product_attention(*m.first(x).chunk(3, -1), is_causal=True)


def u_shaped(m: Any, x: Tensor) -> Tensor:
    first = functional.relu(m.first(x))
    return torch.cat([first, m.up(functional.relu(m.down(first)))], 1)


def behind_a_class_token(m: Any, x: Tensor) -> Tensor:
    found: Tensor = m.layers(torch.cat([m.token.expand(len(x), -1, -1), x], 1))[:, 0]
    return found


ENCODER = nn.TransformerEncoderLayer(6, 2, 12, batch_first=True, norm_first=True)
MIXED_NORMS = nn.Sequential(
    conv(4, 8, bias=False), nn.BatchNorm2d(8), nn.PReLU(8), nn.Conv2d(8, 8, 3, groups=8), nn.GroupNorm(2, 8),
    nn.Hardswish(), nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(32, 3),
)  # fmt: skip

BLOCKS_ON_MAPS: dict[str, nn.Module] = {
    "squeeze and excitation": Block(squeezed, first=conv(4, 8), down=nn.Linear(8, 2), up=nn.Linear(2, 8)),
    "channel attention": Block(by_neighbouring_channels, first=conv(4, 8), across=nn.Conv1d(1, 1, 3, padding=1)),
    "attention by place": Block(by_place, first=conv(4, 8), where=conv(2, 1)),
    "shuffled channels": Block(lambda m, x: functional.channel_shuffle(m.first(x).relu(), 4), first=conv(4, 8, 1)),
    "focus": Block(focus, first=conv(16, 6, 1)),
    "pools in a row": Block(pools_in_a_row, first=conv(4, 6, 1), pool=nn.MaxPool2d(5, 1, 2)),
    "dilated pyramid": Block(
        pyramid,
        parts=nn.ModuleList(nn.Conv2d(4, 4, 3, padding=d, dilation=d) for d in (1, 2, 3)),
        whole=conv(4, 4, 1),
        last=conv(16, 3, 1),
    ),
    "gated linear unit": Block(lambda m, x: functional.glu(m.first(x), 1), first=conv(4, 12)),
    "global response norm": Block(response_norm, first=conv(4, 8, 1), gain=param(1, 8, 1, 1)),
    "layer scale": Block(
        layer_scale,
        wide=conv(4, 4, 7, groups=4),
        norm=nn.LayerNorm(4),
        up=nn.Linear(4, 16),
        down=nn.Linear(16, 4),
        gain=param(4),
    ),
    "shifted windows": Block(shifted_windows, first=nn.Linear(4, 12), bias=param(16, 16)),
    "generalised mean": Block(
        lambda m, x: functional.avg_pool2d(m.first(x).clamp(min=1e-2).pow(m.power), 6).pow(1 / m.power),
        first=nn.Conv2d(4, 8, 3),
        power=nn.Parameter(torch.tensor(3.0)),
    ),
    "U shape": Block(u_shaped, first=conv(4, 6), down=conv(6, 8, stride=2), up=nn.ConvTranspose2d(8, 6, 2, 2)),
    "pixel shuffle": Block(lambda m, x: functional.pixel_shuffle(m.first(x), 2), first=conv(4, 12)),
    "norms of four kinds": MIXED_NORMS,
    "involution": Block(involution, kernels=conv(4, 9, 1)),
    "kernels mixed by image": Block(
        mixed_kernels, share=nn.Linear(4, 3), parts=nn.ModuleList(conv(4, 6) for _ in range(3))
    ),
    "rounded codes": Block(
        lambda m, x: m.last(torch.round(functional.hardtanh(m.first(x)) * 2) / 2), first=conv(4, 6, 1), last=conv(6, 3)
    ),
    "wavelets": Block(wavelets, first=conv(16, 3, 1)),
    "heads of patches": Block(heads_of_patches, patches=nn.Conv2d(4, 6, 2, 2), heads=param(2, 3, 3)),
    "scaled residual": Block(
        lambda m, x: x + m.share * functional.mish(m.first(x)),
        first=conv(4, 4, padding_mode="reflect"),
        share=nn.Parameter(torch.tensor(0.5)),
    ),
    "norm of each image": Block(
        lambda m, x: functional.leaky_relu(m.norm(m.first(x)), 0.2),
        first=conv(4, 6, padding_mode="circular"),
        norm=nn.InstanceNorm2d(6, affine=True),
    ),
    "dropouts": nn.Sequential(nn.Conv2d(4, 6, 3), nn.Dropout2d(0.3), nn.SELU(), nn.AlphaDropout(0.2), conv(6, 3, 1)),
    "largest places": Block(lambda m, x: m.first(x).flatten(2).topk(4, dim=2)[0].mean(2), first=conv(4, 8, 1)),
}

BLOCKS_ON_SEQUENCES: dict[str, nn.Module] = {
    "gated feed-forward": Block(
        lambda m, x: m.down(functional.silu(m.gate(x)) * m.up(x)),
        gate=nn.Linear(6, 16, bias=False),
        up=nn.Linear(6, 16, bias=False),
        down=nn.Linear(16, 6, bias=False),
    ),
    "root mean square norm": Block(lambda m, x: m.last(m.norm(x)), norm=nn.RMSNorm(6), last=nn.Linear(6, 5)),
    "linear attention": Block(linear_attention, first=nn.Linear(6, 18)),
    "mixer": Block(mixer, norm=nn.LayerNorm(6), places=nn.Linear(7, 7), features=nn.Linear(6, 6)),
    "gated by places": Block(gated_by_places, first=nn.Linear(6, 12), places=nn.Conv1d(7, 7, 1)),
    "pooled by a query": Block(
        pooled_by_a_query, attend=nn.MultiheadAttention(6, 2, batch_first=True), query=param(1, 1, 6)
    ),
    "causal attention": Block(attention, first=nn.Linear(6, 18)),
    "class token": Block(
        behind_a_class_token,
        token=param(1, 1, 6),
        layers=nn.TransformerEncoder(ENCODER, 2, enable_nested_tensor=False),
    ),
    "causal convolution": Block(
        lambda m, x: functional.relu(m.first(functional.pad(x.transpose(1, 2), (4, 0))))[:, :, -1],
        first=nn.Conv1d(6, 8, 3, dilation=2),
    ),
    "recurrent both ways": Block(
        lambda m, x: m.last(m.cells(x)[0].mean(1)),
        cells=nn.GRU(6, 5, 2, batch_first=True, bidirectional=True),
        last=nn.Linear(10, 3),
    ),
    "attentive pooling": Block(
        lambda m, x: m.last((x * m.share(x).softmax(1)).sum(1)), share=nn.Linear(6, 1), last=nn.Linear(6, 3)
    ),
    "mean and spread": Block(lambda m, x: m.last(torch.cat([x.mean(1), x.std(1)], -1)), last=nn.Linear(12, 3)),
    "running sum": Block(lambda m, x: m.last(x.cumsum(1) / 7).mean(1), last=nn.Linear(6, 3)),
    "Fourier mixing": Block(lambda m, x: m.last(torch.fft.fft(x, dim=1).real), last=nn.Linear(6, 3)),
    "in order of size": Block(lambda m, x: m.last(x.mean(2).sort(1)[0]), last=nn.Linear(7, 3)),
}

BLOCKS_ON_FEATURES: dict[str, nn.Module] = {
    "mixture of experts": Block(experts, experts=nn.Linear(12, 12), share=nn.Linear(12, 4)),
    "two halves compared": Block(siamese, first=nn.Linear(6, 4)),
    "mean and variance": Block(
        mean_and_variance, first=nn.Linear(12, 8), mean=nn.Linear(8, 3), variance=nn.Linear(8, 3)
    ),
}
