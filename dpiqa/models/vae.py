"""The teacher's image encoder: one half of a Stable Diffusion VAE, by diffusers."""

from collections.abc import Sequence

import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from pydantic import BaseModel, ConfigDict


class VaeConfig(BaseModel):
    """Sizes of the autoencoder. The defaults are Stable Diffusion 1.5's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    channels: tuple[int, ...] = (128, 256, 512, 512)  #: per level; every level but the last halves the map
    layers_per_block: int = 2
    latent_channels: int = 4
    norm_groups: int = 32
    middle_attention: bool = True
    scaling_factor: float = 0.18215  #: brings the latents to about unit variance

    @property
    def reduction(self) -> int:
        """Pixels per latent cell and side."""
        return int(2 ** (len(self.channels) - 1))


def build_autoencoder(config: VaeConfig) -> AutoencoderKL:
    """Build encoder and decoder, for training."""
    levels = len(config.channels)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=config.channels,
        layers_per_block=config.layers_per_block,
        latent_channels=config.latent_channels,
        norm_num_groups=config.norm_groups,
        mid_block_add_attention=config.middle_attention,
        scaling_factor=config.scaling_factor,
        use_post_quant_conv=True,
    )


def build_encoder(config: VaeConfig) -> AutoencoderKL:
    """Build the autoencoder without its decoder, which a score does not need."""
    vae = build_autoencoder(config)
    del vae.decoder, vae.post_quant_conv
    return vae


def encode(vae: AutoencoderKL, images: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
    """Encode images into scaled latents (B, C, H/r, W/r), r = `VaeConfig.reduction`.

    Args:
        vae: encoder and `quant_conv`.
        images: (B, 3, H, W) in [0, 1]; H and W multiples of r.
        noise: standard normal, of the latents' shape: the sample that it makes of the posterior. None: its mean.
    """
    return latents_of(vae, posterior_of(vae, images), noise)


def posterior_of(vae: AutoencoderKL, images: torch.Tensor) -> torch.Tensor:
    """Return what the encoder says of images: means, then logarithms of variances, (B, 2C, H/r, W/r)."""
    posterior: torch.Tensor = vae.quant_conv(vae.encoder(images))
    return posterior


def latents_of(vae: AutoencoderKL, posterior: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
    """Return the latents (B, C, H/r, W/r) of a posterior; `noise` as of `encode`."""
    normal = DiagonalGaussianDistribution(posterior)
    values = normal.mean if noise is None else normal.mean + normal.std * noise
    latents: torch.Tensor = values * vae.config.scaling_factor
    return latents


def noise_of(seeds: Sequence[int], shape: tuple[int, int, int], like: torch.Tensor) -> torch.Tensor:
    """Return standard normal noise (B, *shape), one seed for each image, with the device and type of `like`.

    It is drawn on the CPU in float32, one image at a time: neither batch, device nor precision changes it.
    """
    noise = [torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32) for seed in seeds]
    return torch.stack(noise).to(like.device, like.dtype)
