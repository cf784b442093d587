"""First step: an autoencoder whose latents the teacher reads. Learns to rebuild photographs, without any labels."""

import json
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file
from torch import nn

from dpiqa.files import replace_file, replace_text
from dpiqa.models.cards import sha256_of
from dpiqa.models.vae import VaeConfig, build_autoencoder, encode
from dpiqa.provenance import stamp
from dpiqa.training.config import VaeRun
from dpiqa.training.crops import as_images, random_crops
from dpiqa.training.labelled import Labelled
from dpiqa.training.student import check_crop
from dpiqa.training.task import Validation, shuffled_batches

FILE_NAME = "vae.safetensors"
_JUDGED = 64  #: pictures that the rebuilding is judged on, and the latents' scale is taken from


class Rebuilder(nn.Module):
    """Autoencoder as one call: images (B, 3, H, W) in [0, 1] -> rebuilt images, KL divergence of the latents."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        self.vae: AutoencoderKL = build_autoencoder(config)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See the class."""
        posterior = self.vae.encode(images).latent_dist
        rebuilt: torch.Tensor = self.vae.decode(posterior.sample()).sample
        return rebuilt, posterior.kl()


class VaeTask:
    """See `dpiqa.training.task.Task`. Labels are not used; both sides' pictures are those of the split."""

    def __init__(self, network: Rebuilder, data: Labelled, config: VaeRun) -> None:
        self.network, self.data, self.config = network, data, config
        self._extent = data.pixels.shape[1]
        self._crop = config.plan.crop or self._extent
        check_crop(self._crop, self._extent, config.model.architecture.reduction)

    def batches(self, rng: np.random.Generator) -> list[np.ndarray]:
        """Shuffle the training rows."""
        return shuffled_batches(self.data.train, self.config.plan.batch, rng)

    def loss(self, network: nn.Module, rows: np.ndarray, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        """How far what was rebuilt is from the picture, in values and in edges, and the latents from a Gaussian."""
        crops = random_crops(rows, self._extent, self._crop, 1, rng, mirror=self.config.plan.mirror)
        images = as_images(crops.cut(self.data.pixels), next(self.network.parameters()).device)
        rebuilt, kl = network(images)
        weights = self.config.loss
        return {
            "rebuilt": absolute_error(rebuilt.float(), images),
            "edges": weights.edges * edge_error(rebuilt.float(), images),
            "kl": weights.kl * kl.float().mean(),
        }

    def validate(self, network: nn.Module) -> Validation:
        """Rebuild the middle of some validation pictures from the mean of their latents; less error is better."""
        images = self._middles(self.data.val)
        latents = network.get_submodule("vae").encode(images).latent_dist.mean  # type: ignore[operator]
        rebuilt = network.get_submodule("vae").decode(latents).sample  # type: ignore[operator]
        error, edges = float(absolute_error(rebuilt, images)), float(edge_error(rebuilt, images))
        return Validation(merit=-(error + self.config.loss.edges * edges), figures={"error": error, "edges": edges})

    def latent_deviation(self) -> float:
        """Return the standard deviation of the latents of some training pictures."""
        with torch.no_grad():
            means = encode(self.network.vae, self._middles(self.data.train))
        return float(means.std()) / float(self.network.vae.config.scaling_factor)

    def _middles(self, rows: np.ndarray) -> torch.Tensor:
        start = (self._extent - self._crop) // 2
        middle = slice(start, start + self._crop)
        return as_images(self.data.pixels[rows[:_JUDGED], middle, middle], next(self.network.parameters()).device)


def absolute_error(rebuilt: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference."""
    return (rebuilt - images).abs().mean()


def edge_error(rebuilt: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of neighbours' differences, down and across."""
    error = rebuilt - images
    return error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()


def save_vae(task: VaeTask, out: Path, command: str) -> Path:
    """Write the encoder as `out`/vae.safetensors, with the scaling factor 1 / deviation of the latents as metadata.

    Beside it goes vae.json, with the command that made it and the file's sha256: a teacher's card repeats both. (In the
    file itself a second entry of metadata would make equal weights unequal bytes, see `dpiqa.models.weights_file`.)
    """
    kept = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in task.network.vae.state_dict().items()
        if name.startswith(("encoder.", "quant_conv."))
    }
    metadata = {"scaling_factor": f"{1 / task.latent_deviation():.5f}"}
    file = replace_file(out / FILE_NAME, lambda partial: save_file(kept, partial, metadata=metadata))
    record = json.dumps({"sha256": sha256_of(file)} | stamp(command, {}), indent=1)
    replace_text(file.with_suffix(".json"), record + "\n")
    return file
