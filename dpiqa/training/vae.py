"""First step: an autoencoder whose latents the teacher reads. Learns to rebuild photographs, without any labels."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import structlog
import torch
from safetensors.torch import save_file

from dpiqa.models.vae import VaeConfig, build_autoencoder
from dpiqa.training.dataset import random_crops

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class VaeTraining:
    """How the autoencoder is trained."""

    minutes: float = 8  #: stops by the clock
    crop: int = 96  #: pixels
    batch: int = 12
    rate: float = 2e-3
    kl_weight: float = 1e-6
    edge_weight: float = 1.0  #: of the error in neighbour differences: sharpness matters to quality more than to looks
    seed: int = 0


def train_vae(pixels: np.ndarray, config: VaeConfig, training: VaeTraining, out: Path) -> Path:
    """Train on random crops of `pixels` (N, H, W, 3) uint8; writes the encoder as `out`/vae.safetensors.

    The stored `scaling_factor` is in the returned file's metadata: 1 / standard deviation of the latents.
    """
    torch.manual_seed(training.seed)
    rng = np.random.default_rng(training.seed)
    vae = build_autoencoder(config).to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(vae.parameters(), lr=training.rate, weight_decay=0)
    started, step, spread = time.monotonic(), 0, 1.0
    while (done := (time.monotonic() - started) / (60 * training.minutes)) < 1:
        optimiser.param_groups[0]["lr"] = training.rate * min(1, (step + 1) / 100) * (1 - done) ** 0.5
        index = rng.integers(0, len(pixels), training.batch)
        crops = random_crops(index, pixels.shape[1], training.crop, 1, rng).cut(pixels)
        images = torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(images).latent_dist
            rebuilt = vae.decode(posterior.sample()).sample
        loss = _loss(rebuilt.float(), images, training) + training.kl_weight * posterior.kl().float().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimiser.step()
        spread = 0.99 * spread + 0.01 * float(posterior.mean.detach().float().std())
        if step % 100 == 0:
            log.info("vae_step", step=step, loss=round(float(loss.detach()), 4), latent_std=round(spread, 3))
        step += 1
    return _save(vae, out, spread, step)


def _loss(rebuilt: torch.Tensor, images: torch.Tensor, training: VaeTraining) -> torch.Tensor:
    error = rebuilt - images
    edges = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
    return error.abs().mean() + training.edge_weight * edges


def _save(vae: torch.nn.Module, out: Path, spread: float, step: int) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    kept = {k: v.contiguous() for k, v in vae.state_dict().items() if k.startswith(("encoder.", "quant_conv."))}
    file = out / "vae.safetensors"
    save_file(kept, file, metadata={"scaling_factor": f"{1 / spread:.5f}", "steps": str(step)})
    log.info("vae_saved", file=str(file), steps=step, scaling_factor=round(1 / spread, 5))
    return file
