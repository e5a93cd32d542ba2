"""Architectures of the zoo: of torchvision and timm with seeded weights at small sizes, and small ones of their own.

``ZOO`` gives for each name what it needs to be built; ``benchmarks/studies/networks/zoo.py`` runs them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

CLASSES = 10


@dataclass(frozen=True)
class Network:
    """``build`` gives the module for inputs of ``shape``; ``small`` one of at most 6 million weights, if it has more.

    ``means``: channels of the preprocessing, which say what the axes of a sequence are.
    """

    build: Callable[[], nn.Module]
    shape: tuple[int, ...] = (3, 64, 64)
    small: Callable[[], nn.Module] | None = None
    means: int = 3


def vision(name: str, **options: Any) -> Callable[[], nn.Module]:
    """A classifier of torchvision."""

    def build() -> nn.Module:
        from torchvision import models

        return models.get_model(name, weights=None, num_classes=CLASSES, **options)  # type: ignore[no-any-return]

    return build


def pytorch_image_model(name: str, **options: Any) -> Callable[[], nn.Module]:
    """A classifier of timm."""

    def build() -> nn.Module:
        import timm

        return timm.create_model(name, pretrained=False, num_classes=CLASSES, **options)

    return build


def segmenter(name: str, **options: Any) -> Callable[[], nn.Module]:
    """A segmentation network of torchvision: its map of scores alone."""

    class Scores(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            from torchvision.models import segmentation

            self.net = segmentation.__dict__[name](weights=None, weights_backbone=None, num_classes=5, **options)

        def forward(self, x: Tensor) -> Tensor:
            scores: Tensor = self.net(x)["out"]
            return scores

    return Scores


class SsdLite(nn.Module):
    """Backbone and heads of SSDLite: boxes and scores of every anchor; choosing among them is left to the host."""

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import detection

        whole = detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=5)
        self.backbone, self.head = whole.backbone, whole.head

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = self.head(list(self.backbone(x).values()))
        return found


def block(inputs: int, outputs: int, stride: int = 1, kernel: int = 3, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class UNet(nn.Module):
    """Two levels down and up, by transposed convolution and by bilinear upsampling (arXiv 1505.04597)."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.first, self.second, self.third = block(3, width), block(width, 2 * width), block(2 * width, 4 * width)
        self.up = nn.ConvTranspose2d(4 * width, 2 * width, 2, 2)
        self.fourth, self.fifth = block(4 * width, 2 * width), block(3 * width, width)
        self.scores = nn.Conv2d(width, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.first(x)
        b = self.second(functional.max_pool2d(a, 2))
        c = self.third(functional.max_pool2d(b, 2))
        b = self.fourth(torch.cat([self.up(c), b], 1))
        a = self.fifth(torch.cat([functional.interpolate(b, scale_factor=2.0, mode="bilinear"), a], 1))
        scores: Tensor = self.scores(a)
        return scores


class YoloHead(nn.Module):
    """A small backbone with heads at two sizes: sigmoid of places and scores, exponential of sizes."""

    def __init__(self, boxes: int = 2, width: int = 16) -> None:
        super().__init__()
        self.boxes = boxes
        self.stem = nn.Sequential(block(3, width, 2), block(width, 2 * width, 2), block(2 * width, 4 * width, 2))
        self.deep = block(4 * width, 8 * width, 2)
        self.lift = block(8 * width, 4 * width, kernel=1)
        self.coarse = nn.Conv2d(8 * width, boxes * 8, 1)
        self.fine = nn.Conv2d(8 * width, boxes * 8, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        near = self.stem(x)
        far = self.deep(near)
        joined = torch.cat([functional.interpolate(self.lift(far), scale_factor=2.0), near], 1)
        return self.decoded(self.coarse(far)), self.decoded(self.fine(joined))

    def decoded(self, x: Tensor) -> Tensor:
        n, _, height, width = x.shape
        x = x.view(n, self.boxes, 8, height, width).permute(0, 1, 3, 4, 2)
        return torch.cat(
            [torch.sigmoid(x[..., :2]), torch.exp(x[..., 2:4].clamp(max=4)), torch.sigmoid(x[..., 4:])], -1
        )


class DsCnn(nn.Module):
    """Keyword spotting by depthwise separable convolutions on 49 frames of 10 features (arXiv 1711.07128)."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, width, (10, 4), (2, 2), (5, 1), bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.blocks = nn.Sequential(
            *(nn.Sequential(block(width, width, groups=width), block(width, width, kernel=1)) for _ in range(4))
        )
        self.scores = nn.Linear(width, 12)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.scores(self.blocks(self.stem(x)).mean((2, 3)))
        return scores


class Tcn(nn.Module):
    """Causal dilated convolutions with shortcuts (arXiv 1803.01271)."""

    def __init__(self, width: int = 24, levels: int = 4) -> None:
        super().__init__()
        self.gaps = [2**n for n in range(levels)]
        self.layers = nn.ModuleList(
            nn.Conv1d(4 if n == 0 else width, width, 3, dilation=gap) for n, gap in enumerate(self.gaps)
        )
        self.shortcut = nn.Conv1d(4, width, 1)
        self.scores = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        for n, (layer, gap) in enumerate(zip(self.layers, self.gaps, strict=True)):
            found = torch.relu(layer(functional.pad(x, (2 * gap, 0))))
            x = torch.relu(found + (self.shortcut(x) if n == 0 else x))
        scores: Tensor = self.scores(x[:, :, -1])
        return scores


class SequenceClassifier(nn.Module):
    """Scores from the last state of a recurrent layer."""

    def __init__(self, kind: type[nn.RNNBase], **options: Any) -> None:
        super().__init__()
        self.layer = kind(12, 32, batch_first=True, **options)
        self.scores = nn.Linear(64 if options.get("bidirectional") else 32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.layer(x)
        scores: Tensor = self.scores(out[:, -1])
        return scores


def convolutional_autoencoder() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 8, 1),
        nn.ConvTranspose2d(8, 16, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(16, 3, 4, 2, 1), nn.Sigmoid(),
    )  # fmt: skip


def dense_autoencoder() -> nn.Module:
    """The anomaly detector of MLPerf Tiny: 640 features to 8 and back."""
    sizes = [640, 128, 128, 128, 128, 8, 128, 128, 128, 128, 640]
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes[:-1]):
        layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


def vgg11(width: int = 64) -> Callable[[], nn.Module]:
    """VGG-11 with batch norm and one linear layer (arXiv 1409.1556), all widths in proportion."""

    def build() -> nn.Module:
        layers: list[nn.Module] = []
        inputs = 3
        for size in (1, 0, 2, 0, 4, 4, 0, 8, 8, 0, 8, 8, 0):
            layers += [block(inputs, size * width)] if size else [nn.MaxPool2d(2)]
            inputs = size * width or inputs
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, CLASSES))

    return build


def densenet(growth: int = 16) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from torchvision.models import DenseNet

        return DenseNet(growth, (6, 12, 24, 16), 2 * growth, num_classes=CLASSES)

    return build


def mixer(width: int = 128, depth: int = 8) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from timm.models.mlp_mixer import MlpMixer

        return MlpMixer(img_size=64, patch_size=8, num_blocks=depth, embed_dim=width, num_classes=CLASSES)

    return build


def swin(width: int = 96, depths: tuple[int, ...] = (2, 2, 6, 2)) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from torchvision.models import SwinTransformer

        return SwinTransformer([4, 4], width, list(depths), [3, 6, 12, 24], [4, 4], num_classes=CLASSES)

    return build


def convnext(width: int = 96, depths: tuple[int, ...] = (3, 3, 9, 3)) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from torchvision.models.convnext import CNBlockConfig, ConvNeXt

        widths = [width, 2 * width, 4 * width, 8 * width, None]
        settings = [CNBlockConfig(a, b, n) for a, b, n in zip(widths[:-1], widths[1:], depths, strict=True)]
        return ConvNeXt(settings, num_classes=CLASSES)

    return build


ZOO: dict[str, Network] = {
    "alexnet": Network(vision("alexnet")),
    "vgg11": Network(vgg11(), (3, 32, 32), vgg11(24)),
    "resnet18": Network(vision("resnet18"), small=pytorch_image_model("resnet10t")),
    "resnet26d": Network(pytorch_image_model("resnet26d")),
    "wide_resnet50_2": Network(vision("wide_resnet50_2")),
    "resnext50_32x4d": Network(vision("resnext50_32x4d")),
    "mobilenet_v2": Network(vision("mobilenet_v2")),
    "mobilenet_v3_small": Network(vision("mobilenet_v3_small")),
    "mobilenet_v3_large": Network(vision("mobilenet_v3_large")),
    "efficientnet_b0": Network(vision("efficientnet_b0")),
    "efficientnet_lite0": Network(pytorch_image_model("tf_efficientnet_lite0")),
    "mnasnet0_5": Network(vision("mnasnet0_5")),
    "shufflenet_v2_x0_5": Network(vision("shufflenet_v2_x0_5")),
    "squeezenet1_1": Network(vision("squeezenet1_1")),
    "densenet121": Network(vision("densenet121"), small=densenet()),
    "googlenet": Network(vision("googlenet", aux_logits=False, init_weights=False)),
    "inception_v3": Network(vision("inception_v3", init_weights=False), (3, 96, 96)),
    "regnet_x_400mf": Network(vision("regnet_x_400mf")),
    "regnet_y_400mf": Network(vision("regnet_y_400mf")),
    "convnext_tiny": Network(convnext(), small=convnext(32, (2, 2, 3, 2))),
    "swin_t": Network(swin(), small=swin(24)),
    "lraspp_mobilenet_v3_large": Network(segmenter("lraspp_mobilenet_v3_large")),
    "fcn_resnet50": Network(segmenter("fcn_resnet50")),
    "deeplabv3_mobilenet_v3_large": Network(segmenter("deeplabv3_mobilenet_v3_large")),
    "ssdlite320": Network(SsdLite, (3, 128, 128)),
    "repvgg_a0": Network(pytorch_image_model("repvgg_a0")),
    "ghostnet_100": Network(pytorch_image_model("ghostnet_100")),
    "mobileone_s0": Network(pytorch_image_model("mobileone_s0")),
    "mobilenetv4_conv_small": Network(pytorch_image_model("mobilenetv4_conv_small")),
    "lcnet_050": Network(pytorch_image_model("lcnet_050")),
    "tinynet_e": Network(pytorch_image_model("tinynet_e")),
    "fbnetc_100": Network(pytorch_image_model("fbnetc_100")),
    "rexnet_100": Network(pytorch_image_model("rexnet_100")),
    "hardcorenas_a": Network(pytorch_image_model("hardcorenas_a")),
    "seresnet18": Network(pytorch_image_model("legacy_seresnet18")),
    "skresnet18": Network(pytorch_image_model("skresnet18")),
    "resnest14d": Network(pytorch_image_model("resnest14d")),
    "dla46_c": Network(pytorch_image_model("dla46_c")),
    "hrnet_w18_small": Network(pytorch_image_model("hrnet_w18_small")),
    "ese_vovnet19b_dw": Network(pytorch_image_model("ese_vovnet19b_dw")),
    "selecsls42": Network(pytorch_image_model("selecsls42")),
    "res2net50_48w_2s": Network(pytorch_image_model("res2net50_48w_2s")),
    "darknet17": Network(pytorch_image_model("darknet17")),
    "convnext_atto": Network(pytorch_image_model("convnext_atto")),
    "edgenext_xx_small": Network(pytorch_image_model("edgenext_xx_small")),
    "starnet_s1": Network(pytorch_image_model("starnet_s1")),
    "poolformer_s12": Network(pytorch_image_model("poolformer_s12")),
    "fastvit_t8": Network(pytorch_image_model("fastvit_t8")),
    "vit_tiny": Network(pytorch_image_model("vit_tiny_patch16_224", img_size=64)),
    "deit_tiny": Network(pytorch_image_model("deit_tiny_patch16_224", img_size=64)),
    "pit_ti": Network(pytorch_image_model("pit_ti_224", img_size=96), (3, 96, 96)),
    "levit_128s": Network(pytorch_image_model("levit_128s", img_size=64)),
    "efficientformer_l1": Network(pytorch_image_model("efficientformer_l1"), (3, 224, 224)),
    "mobilevit_xxs": Network(pytorch_image_model("mobilevit_xxs")),
    "mobilevitv2_050": Network(pytorch_image_model("mobilevitv2_050")),
    "efficientvit_b0": Network(pytorch_image_model("efficientvit_b0")),
    "cait_xxs24": Network(pytorch_image_model("cait_xxs24_224", img_size=64)),
    "xcit_nano_12_p16": Network(pytorch_image_model("xcit_nano_12_p16_224", img_size=64)),
    "mixer": Network(mixer()),
    "resmlp_12": Network(pytorch_image_model("resmlp_12_224", img_size=64)),
    "gmlp_ti16": Network(pytorch_image_model("gmlp_ti16_224", img_size=64)),
    "convmixer": Network(pytorch_image_model("convmixer_768_32")),
    "unet": Network(UNet),
    "yolo_head": Network(YoloHead),
    "ds_cnn": Network(DsCnn, (1, 49, 10), means=1),
    "tcn": Network(Tcn, (4, 64), means=4),
    "lstm": Network(lambda: SequenceClassifier(nn.LSTM), (20, 12), means=1),
    "lstm_both_ways": Network(lambda: SequenceClassifier(nn.LSTM, bidirectional=True), (12, 12), means=1),
    "gru_two_layers": Network(lambda: SequenceClassifier(nn.GRU, num_layers=2), (12, 12), means=1),
    "convolutional_autoencoder": Network(convolutional_autoencoder, (3, 32, 32)),
    "dense_autoencoder": Network(dense_autoencoder, (640,), means=1),
}
