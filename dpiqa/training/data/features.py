"""Scene statistics and latents of whole pictures, kept on disk: nothing in them learns, so they are computed once."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from dpiqa.models.cards import sha256_of
from dpiqa.models.scene_statistics import CELL, CHANNELS, scene_statistics
from dpiqa.models.scoring_network import shrunk
from dpiqa.models.vae import VaeConfig, build_encoder, encode
from dpiqa.training.data.array_cache import cached_rows
from dpiqa.training.data.crops import as_images
from dpiqa.training.weights import fill_vae, vae_scaling

STATISTICS_VERSION = 2  #: of `scene_statistics`: raise it when its values change
LATENTS_VERSION = 1  #: of how latents are computed: raise it when their values change


def cached_statistics(pixels: np.ndarray, folder: Path) -> np.ndarray:
    """`pixels` (N, S, S, 3) uint8, to which `folder` belongs -> (N, S/CELL, S/CELL, CHANNELS) float16.

    Crops of it differ from the statistics of a crop only at the crop's edge, where the window reaches beyond it.
    """
    count, extent = pixels.shape[:2]
    shape = (count, extent // CELL, extent // CELL, CHANNELS)

    @torch.inference_mode()
    def make(rows: range) -> Iterator[np.ndarray]:
        for row in rows:
            yield scene_statistics(as_images(pixels[row : row + 1]))[0].permute(1, 2, 0).numpy()

    file = folder / f"statistics-{STATISTICS_VERSION}" / "statistics.npy"
    return cached_rows(file, shape, np.float16, make, label="scene statistics")


def as_maps(statistics: np.ndarray, device: torch.device) -> torch.Tensor:
    """(B, m, m, C) float16 -> (B, C, m, m) float32 on the device."""
    copied = np.array(statistics)  # a file that is mapped for reading cannot become a tensor without a warning
    return torch.from_numpy(copied).to(device).float().permute(0, 3, 1, 2)


def cached_latents(
    pixels: np.ndarray, folder: Path, file: Path, sizes: VaeConfig, shrink: int, device: str
) -> np.ndarray:
    """`pixels` (N, S, S, 3) uint8, to which `folder` belongs -> (N, 2, C, h, h) float16, h = S / shrink / reduction.

    The scaled means of the posteriors of each picture and of its mirror image, by the VAE of `file` (which brings its
    scaling factor). Their size is about 1: rounding to float16 moves those below 4 by a thousandth at most, and noise
    begins at 0.03. Raises `CheckpointError` if the file does not hold a VAE, or one of other sizes.
    """
    sizes = sizes.model_copy(update={"scaling_factor": vae_scaling(file)})
    vae = build_encoder(sizes)
    fill_vae(vae, file)
    vae.eval().to(device)
    side = pixels.shape[1] // shrink // sizes.reduction
    recipe = f"{LATENTS_VERSION} {sha256_of(file)} {sizes.model_dump_json()} {shrink}"
    key = hashlib.sha256(recipe.encode()).hexdigest()[:16]

    @torch.no_grad()
    def make(rows: range) -> Iterator[np.ndarray]:
        for row in rows:
            images = shrunk(as_images(pixels[row : row + 1], device), shrink)
            yield encode(vae, torch.cat([images, images.flip(-1)])).cpu().numpy()

    shape = (len(pixels), 2, sizes.latent_channels, side, side)
    return cached_rows(folder / f"latents-{key}" / "latents.npy", shape, np.float16, make, label="latents")
