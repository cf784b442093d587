"""The teacher's eye: the encoder half of a Stable Diffusion VAE, by diffusers."""

import torch
from diffusers import AutoencoderKL
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


def encode(vae: AutoencoderKL, images: torch.Tensor) -> torch.Tensor:
    """`images` (B, 3, H, W) in [0, 1] -> scaled latents (B, C, H/r, W/r), the posterior's mean.

    The published code samples the posterior without a seed: its scores differ from run to run, these do not.
    """
    moments = vae.quant_conv(vae.encoder(images))
    mean, _ = moments.chunk(2, dim=1)
    latents: torch.Tensor = mean * vae.config.scaling_factor
    return latents
