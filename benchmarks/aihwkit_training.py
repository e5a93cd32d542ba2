"""Fine-tunes a CIFAR-10 ResNet with AIHWKit; run by ``finetune_peers.py`` with a Python that has that toolkit.

Its recipe: the network is converted layer by layer to analog layers of AIHWKit's torch tile, one scale an output.
Weights get normal noise at every step in proportion to the largest of their tile (``ADD_NORMAL``), inputs have 8 bits,
weights are clipped at 2.5 sigma of their layer. The loss is the divergence from the float network's own answers to the
same moved images; AdamW, a cosine.

    PEER-PYTHON aihwkit_training.py job.npz out.npz      (what stands in job.npz: ``finetune_peers.job``)
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch
from aihwkit.nn.conversion import convert_to_analog
from aihwkit.simulator.configs import TorchInferenceRPUConfig, WeightClipType, WeightModifierType
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parent))
from torch_networks import ARCHITECTURES

SIGMAS, IO_BITS = 2.5, 8


def analog(module: nn.Module, share: float) -> nn.Module:
    """The module with analog layers whose weights are off by ``share`` of the largest, at every step anew."""
    config = TorchInferenceRPUConfig()
    config.mapping.weight_scaling_omega = 1.0
    config.mapping.weight_scaling_columnwise = True
    config.modifier.type = WeightModifierType.ADD_NORMAL
    config.modifier.std_dev = share
    config.modifier.rel_to_actual_wmax = True
    config.clip.type = WeightClipType.LAYER_GAUSSIAN
    config.clip.sigma = SIGMAS
    config.forward.inp_res = 1.0 / (2**IO_BITS - 2)
    config.forward.out_res = -1.0
    config.forward.out_noise = 0.0
    return convert_to_analog(module, config)


def moved(images: Tensor, rng: np.random.Generator, most: int) -> Tensor:
    """Images of a batch mirrored at random and shifted by up to ``most`` pixels, zeros behind them."""
    side = images.shape[-1]
    padded = functional.pad(images, (most,) * 4)
    out = torch.empty_like(images)
    for i in range(len(images)):
        y, x = rng.integers(0, 2 * most + 1, 2)
        square = padded[i, :, y : y + side, x : x + side]
        out[i] = square.flip(-1) if rng.random() < 0.5 else square
    return out


def main(job_path: str, out_path: str) -> None:
    job = np.load(job_path)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    images = torch.from_numpy(job["images"])  # (n, 3, height, width), preprocessed
    state = {name[len("state/") :]: torch.from_numpy(job[name]) for name in job.files if name.startswith("state/")}
    make = ARCHITECTURES[str(job["architecture"])]
    teacher = make(input_shape=tuple(images.shape[1:]), classes=10)
    teacher.load_state_dict(state, strict=False)
    teacher.eval()
    student = make(input_shape=tuple(images.shape[1:]), classes=10)
    student.load_state_dict(state, strict=False)
    student = analog(student, float(job["share"]))
    epochs, batch, rate = int(job["epochs"]), int(job["batch"]), float(job["rate"])
    optimiser = torch.optim.AdamW(student.parameters(), rate, weight_decay=0.0)
    steps = epochs * (len(images) // batch)
    cosine = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=0.05)
    began = time.process_time()
    student.train()
    for epoch in range(epochs):
        order = rng.permutation(len(images))
        for at in range(0, len(images) - batch + 1, batch):
            x = moved(images[order[at : at + batch]], rng, int(job["shift"]))
            with torch.no_grad():
                wanted = functional.log_softmax(teacher(x), 1)
            optimiser.zero_grad()
            loss = functional.kl_div(
                functional.log_softmax(student(x), 1), wanted, reduction="batchmean", log_target=True
            )
            loss.backward()
            optimiser.step()
            cosine.step()
        print(f"epoch {epoch + 1} of {epochs}, loss {float(loss.detach()):.4f}", file=sys.stderr, flush=True)
    seconds = time.process_time() - began
    out = {name: value.numpy() for name, value in student.state_dict().items() if "analog" not in name}
    for name, layer in student.named_modules():
        if hasattr(layer, "analog_module"):
            weight, bias = layer.get_weights()
            out[f"{name}.weight"] = weight.numpy().reshape(state[f"{name}.weight"].shape)
            if bias is not None and f"{name}.bias" in state:
                out[f"{name}.bias"] = bias.numpy()
    np.savez(out_path, seconds=seconds, **{f"state/{k}": v for k, v in out.items() if k in state})


if __name__ == "__main__":
    main(*sys.argv[1:])
