"""The autoencoder whose latents the teacher reads: it learns to rebuild photographs, without labels."""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import nn

from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.models.vae import VaeConfig, build_autoencoder, encode
from dpiqa.training.config.command import reproducing_command
from dpiqa.training.config.kinds import VaeRun
from dpiqa.training.data.crops import as_images, check_crop, random_crops
from dpiqa.training.data.labelled import Labelled, load_images, load_labelled
from dpiqa.training.loop.task import Validation, shuffled_batches
from dpiqa.training.runs.context import RunContext, fit_run, identity_of
from dpiqa.training.weights import save_vae

_SAMPLE = 64  #: pictures that validation rebuilds, and that the latents' scale is taken from


def train_vae(config: VaeRun, context: RunContext) -> Path | None:
    """Train the autoencoder (labels unused); returns its file, None in a process that is not the main one."""
    size = Preprocessing(width=config.input_size, height=config.input_size)
    data = load_labelled(load_images(config.data), size, config.data)
    torch.manual_seed(config.plan.seed)
    task = VaeTask(Autoencoder(config.model.architecture), data, config)
    result = fit_run(task, config, identity_of(config, data.digest), context)
    if not result.is_main:
        return None
    return save_vae(task.network.vae, task.latent_deviation(), config.output.folder, reproducing_command(config))


class Autoencoder(nn.Module):
    """Encoder and decoder as one call."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        self.vae: AutoencoderKL = build_autoencoder(config)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (B, 3, H, W) in [0, 1] -> rebuilt images (B, 3, H, W), KL divergence of the latents (B,)."""
        posterior = self.vae.encode(images).latent_dist
        rebuilt: torch.Tensor = self.vae.decode(posterior.sample()).sample
        return rebuilt, posterior.kl()


class VaeTask:
    """See `dpiqa.training.loop.task.Task`. Labels are not used; the sides are those of the split."""

    def __init__(self, network: Autoencoder, data: Labelled, config: VaeRun) -> None:
        self.network, self.data, self.config = network, data, config
        self._crop = config.plan.crop or data.extent
        check_crop(self._crop, data.extent, config.model.architecture.reduction)

    def batches(self, rng: np.random.Generator) -> list[np.ndarray]:
        """Shuffle the training rows."""
        return shuffled_batches(self.data.train, self.config.plan.batch, rng)

    def loss(self, network: nn.Module, rows: np.ndarray, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        """Errors of the rebuilt picture, in values and in edges, and the distance of the latents from a Gaussian."""
        crops = random_crops(rows, self.data.extent, self._crop, 1, rng, mirror=self.config.plan.mirror)
        images = as_images(crops.cut(self.data.pixels), next(self.network.parameters()).device)
        rebuilt, kl = network(images)
        weights = self.config.loss
        return {
            "rebuilt": absolute_error(rebuilt.float(), images),
            "edges": weights.edges * edge_error(rebuilt.float(), images),
            "kl": weights.kl * kl.float().mean(),
        }

    def validate(self, network: nn.Module) -> Validation:
        """Rebuild the centre of some validation pictures from the mean of their latents; less error is better."""
        images = self._centres(self.data.val)
        latents = network.get_submodule("vae").encode(images).latent_dist.mean  # type: ignore[operator]
        rebuilt = network.get_submodule("vae").decode(latents).sample  # type: ignore[operator]
        error, edges = float(absolute_error(rebuilt, images)), float(edge_error(rebuilt, images))
        return Validation(merit=-(error + self.config.loss.edges * edges), figures={"error": error, "edges": edges})

    def latent_deviation(self) -> float:
        """Return the standard deviation of the latents of some training pictures."""
        with torch.no_grad():
            means = encode(self.network.vae, self._centres(self.data.train))
        return float(means.std()) / float(self.network.vae.config.scaling_factor)

    def _centres(self, rows: np.ndarray) -> torch.Tensor:
        start = (self.data.extent - self._crop) // 2
        centre = slice(start, start + self._crop)
        return as_images(self.data.pixels[rows[:_SAMPLE], centre, centre], next(self.network.parameters()).device)


def absolute_error(rebuilt: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference."""
    return (rebuilt - images).abs().mean()


def edge_error(rebuilt: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of neighbours' differences, down and across."""
    error = rebuilt - images
    return error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
