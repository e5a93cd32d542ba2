"""The networks of MNSIM 2.0's own studies as workloads: CIFAR-10 shaped, 9-bit weights and activations.

Their forms are MNSIM's, not the textbook's: ResNet-18 has a 2 x 2 pooling after its first
convolution, 3 x 3 convolutions on shortcuts, and two fully connected layers at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cim.cost.workload import INPUT, LayerWork, Shape3, WorkKind, Workload


class _Chain:
    """Layers one after the other; each method returns the name of the layer it added."""

    def __init__(self, size: int, bits: int) -> None:
        self.bits, self.input_shape = bits, (3, size, size)
        self.layers: list[LayerWork] = []
        self.shapes: dict[str, Shape3] = {INPUT: self.input_shape}
        self.last = INPUT

    def conv(self, outputs: int, kernel: int, stride: int = 1, padding: int = 0, source: str = "") -> str:
        return self._window(WorkKind.CONV, outputs, kernel, stride, padding, source)

    def pool(self, kernel: int, stride: int, kind: WorkKind = WorkKind.MAX_POOL) -> str:
        return self._window(kind, 0, kernel, stride, 0, "")

    def linear(self, outputs: int) -> str:
        channels, height, width = self.shapes[self.last]
        if height * width > 1:
            self._add(WorkKind.MOVE, (self.last,), (channels * height * width, 1, 1))
        return self._add(WorkKind.LINEAR, (self.last,), (outputs, 1, 1))

    def add(self, *sources: str) -> str:
        return self._add(WorkKind.ADD, sources, self.shapes[sources[0]])

    def workload(self, name: str) -> Workload:
        return Workload(name, self.input_shape, self.bits, tuple(self.layers))

    def _window(self, kind: WorkKind, outputs: int, kernel: int, stride: int, padding: int, source: str) -> str:
        channels, height, width = self.shapes[source or self.last]
        down, across = ((n + 2 * padding - kernel) // stride + 1 for n in (height, width))
        shape = (outputs or channels, down, across)
        return self._add(kind, (source or self.last,), shape, kernel, stride, padding)

    def _add(
        self, kind: WorkKind, inputs: tuple[str, ...], shape: Shape3, kernel: int = 1, stride: int = 1, padding: int = 0
    ) -> str:
        name = f"{kind.value}{len(self.layers)}"
        self.layers.append(
            LayerWork(
                name=name,
                kind=kind,
                inputs=inputs,
                in_shape=self.shapes[inputs[0]],
                out_shape=shape,
                kernel=(kernel, kernel),
                stride=(stride, stride),
                padding=(padding, padding),
                weight_bits=self.bits if kind.on_cells else 0,
                input_bits=self.bits,
                output_bits=self.bits,
                input_signed=True,
            )
        )
        self.shapes[name], self.last = shape, name
        return name


def lenet(size: int = 32, bits: int = 9) -> Workload:
    c = _Chain(size, bits)
    for outputs in (6, 16):
        c.conv(outputs, 5)
        c.pool(2, 2)
    c.conv(120, 5)
    c.linear(84)
    c.linear(10)
    return c.workload("lenet")


def resnet18(size: int = 32, bits: int = 9) -> Workload:
    c = _Chain(size, bits)
    c.conv(64, 3, padding=1)
    kept = c.pool(2, 2)
    for stage, channels in enumerate((64, 128, 256, 512)):
        for block in range(2):
            stride = 2 if stage and not block else 1
            c.conv(channels, 3, stride, 1)
            body = c.conv(channels, 3, 1, 1)
            if stride == 2:
                kept = c.add(c.conv(channels, 3, stride, 1, source=kept), body)
            else:
                kept = c.add(body, kept)
    c.linear(512)
    c.linear(10)
    return c.workload("resnet18")


def vgg8(size: int = 32, bits: int = 9) -> Workload:
    c = _Chain(size, bits)
    for channels in (128, 256, 512):
        c.conv(channels, 3, padding=1)
        c.conv(channels, 3, padding=1)
        c.pool(2, 2)
    c.conv(1024, 3)
    c.pool(2, 2)
    c.linear(10)
    return c.workload("vgg8")


NETWORKS: Mapping[str, Callable[..., Workload]] = {"lenet": lenet, "vgg8": vgg8, "resnet18": resnet18}
