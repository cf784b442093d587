"""Latents of whole pictures, kept on disk: the VAE is frozen, so they need not be computed each epoch."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from dpiqa.models.cards import sha256_of
from dpiqa.models.shrink import shrunk
from dpiqa.models.vae import VaeConfig, build_encoder, encode
from dpiqa.training.crops import as_images
from dpiqa.training.rows import filled_rows
from dpiqa.training.starts import fill_vae, vae_scaling

VERSION = 1  #: of how latents are made: raise it when their values change


def cached_latents(
    pixels: np.ndarray, folder: Path, file: Path, sizes: VaeConfig, shrink: int, device: str
) -> np.ndarray:
    """`pixels` (N, S, S, 3) uint8, to which `folder` belongs -> (N, 2, C, h, h) float16, h = S / shrink / reduction.

    The scaled means of the posteriors of each picture and of its mirror image, by the VAE of `file` (which brings its
    scaling factor). Their size is about 1: rounding to float16 moves those below 4 by a thousandth at most, and noise
    begins at 0.03. Raises `CheckpointError` if the file is no VAE, or not of these sizes.
    """
    sizes = sizes.model_copy(update={"scaling_factor": vae_scaling(file)})
    vae = build_encoder(sizes)
    fill_vae(vae, file)
    vae.eval().to(device)
    side = pixels.shape[1] // shrink // sizes.reduction
    key = hashlib.sha256(f"{VERSION} {sha256_of(file)} {sizes.model_dump_json()} {shrink}".encode()).hexdigest()[:16]
    target = folder / f"latents-{key}" / "latents.npy"
    shape = (len(pixels), 2, sizes.latent_channels, side, side)

    def make(rows: range) -> Iterator[np.ndarray]:
        return _encoded(vae, pixels, rows, shrink, device)

    return filled_rows(target, shape, np.float16, make, what="latents")


@torch.no_grad()
def _encoded(vae: AutoencoderKL, pixels: np.ndarray, rows: range, shrink: int, device: str) -> Iterator[np.ndarray]:
    for row in rows:
        images = shrunk(as_images(pixels[row : row + 1], device), shrink)
        yield encode(vae, torch.cat([images, images.flip(-1)])).cpu().numpy()
