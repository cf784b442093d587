"""The DP-IQA teacher: a Stable Diffusion U-Net, told about distortions and looked at through its up blocks.

Written from the paper (Fu et al., DP-IQA, section 3) and the published checkpoints' names. diffusers provides the VAE,
the U-Net and the T2I-Adapter; nothing of theirs is repeated: forward hooks read the U-Net's up blocks.
"""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from pydantic import BaseModel, ConfigDict, PositiveInt, model_validator
from torch import nn

from dpiqa.models.adapter import TrunkConfig, build_adapter
from dpiqa.models.conditioning import GivenPrompts, LearnedPrompts, TextAdapter, freeze_text
from dpiqa.models.prompts import prompt_table
from dpiqa.models.quality_decoder import QfdConfig, QualityFeatureDecoder
from dpiqa.models.shrink import shrunk
from dpiqa.models.statistics import check_size, scene_statistics
from dpiqa.models.text.source import TextSource
from dpiqa.models.vae import Posterior, VaeConfig, build_encoder, encode, noise_of

TIMESTEP = 1  #: of 1,000: hardly any noise is expected, and none is added


class UnetConfig(BaseModel):
    """Sizes of the U-Net. The defaults are Stable Diffusion 1.5's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    channels: tuple[int, int, int, int] = (320, 640, 1280, 1280)
    layers_per_block: int = 2
    heads: int = 8
    text_width: int = 768
    norm_groups: int = 32
    self_attention: tuple[bool, bool, bool, bool] = (True, True, True, True)  #: per level; off saves most at the finest


class TeacherConfig(BaseModel):
    """Sizes of a teacher. The defaults are the published model's (1.07 B parameters without the text encoder)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input_size: int = 512  #: pixels a side
    view_size: int | None = None  #: score = mean over views of so many pixels a side; None: the whole picture at once
    shrink: PositiveInt = 1  #: pixels a side that are averaged to one before VAE and adapter see the picture
    vae: VaeConfig = VaeConfig()
    unet: UnetConfig = UnetConfig()
    qfd: QfdConfig = QfdConfig()
    trunk: TrunkConfig | None = None  #: CNN under the image adapter; None: the T2I-Adapter
    prompts: str | None = None  #: table whose embeddings are learned; None: embeddings are given in the checkpoint
    prompt_count: int = 1485  #: of given embeddings
    text: TextSource | None = None  #: what the given embeddings were made of, as far as it is known
    posterior: Posterior = Posterior.MEAN  #: what the U-Net gets of the VAE's; a sample's seed is the image's content

    @model_validator(mode="after")
    def _cells_fit(self) -> "TeacherConfig":
        check_size(self.qfd.statistics_channels, self.input_size)
        return self


class Teacher(nn.Module):
    """VAE encoder, adapters, U-Net and decoder. Names are those of the published state dicts."""

    def __init__(self, config: TeacherConfig) -> None:
        super().__init__()
        self.config = config
        width = config.unet.text_width
        self.prompts = (
            LearnedPrompts(prompt_table(config.prompts), width)
            if config.prompts
            else GivenPrompts(config.prompt_count, width)
        )
        self.gamma = nn.Parameter(torch.full((width,), 1e-4))
        self.text_adapter = TextAdapter(width)
        self.vae = build_encoder(config.vae)
        self.img_adapter = build_adapter(config.trunk, config.unet.channels, config.vae.reduction)
        self.unet = build_unet(config.unet, config.vae.latent_channels)
        self.QFD = QualityFeatureDecoder(config.unet.channels, config.qfd)
        self._maps: list[torch.Tensor] = []
        self._text: torch.Tensor | None = None  # the conditioning, once it is final
        for block in self.unet.up_blocks:
            block.register_forward_hook(self._keep_map)

    @property
    def wants_float32(self) -> bool:
        """Whether pictures must come in float32, whatever the weights are in."""
        return self.QFD.statistics is not None

    def forward(
        self,
        images: torch.Tensor,
        latents: torch.Tensor | None = None,
        seeds: Sequence[int] | None = None,
        statistics: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 3, S, S) in [0, 1], not normalised -> scores (B,), quality map (B, C, m, m).

        `m` is `qfd.map_size` at the configured input size and shrinks with the input. `latents`, `statistics`: those of
        `images`, if they are known already; `seeds`: one an image, see `dpiqa.models.seeds`. Raises `ValueError`
        without them if it samples the posterior.
        """
        side = self.config.qfd.map_size * images.shape[-1] // self.config.input_size
        if self.config.qfd.statistics_channels and statistics is None:
            statistics = scene_statistics(images)
        seen = shrunk(images, self.config.shrink).to(self.gamma.dtype)
        if latents is None:
            latents = encode(self.vae, seen, self._noise(seen, seeds))
        scores, quality = self.QFD(self.features(seen, latents), side, statistics)
        return scores, quality

    def _noise(self, images: torch.Tensor, seeds: Sequence[int] | None) -> torch.Tensor | None:
        if self.config.posterior is Posterior.MEAN:
            return None
        if seeds is None or len(seeds) != len(images):
            raise ValueError(f"a teacher that samples the posterior needs a seed for each of {len(images)} images")
        vae = self.config.vae
        rows, columns = (side // vae.reduction for side in images.shape[-2:])
        return noise_of(seeds, (vae.latent_channels, rows, columns), images)

    def features(self, images: torch.Tensor, latents: torch.Tensor) -> list[torch.Tensor]:
        """Return the outputs of the U-Net's up blocks, finest first."""
        self._maps.clear()
        text = self.conditioning() if self._text is None else self._text
        self.unet(
            latents,
            TIMESTEP,
            encoder_hidden_states=text.expand(len(images), -1, -1),
            down_intrablock_additional_residuals=self.img_adapter(images),
            return_dict=False,
        )
        maps = self._maps[::-1]
        self._maps.clear()
        return maps

    def conditioning(self) -> torch.Tensor:
        """Return the prompts' embeddings as the U-Net sees them, (1, N, width)."""
        embeddings = self.prompts()
        conditioned: torch.Tensor = embeddings + self.gamma * self.text_adapter(embeddings)
        return conditioned[None]

    def prepare(self) -> None:
        """Compute once what no image changes, and drop what no score needs. For inference only: it cannot be undone."""
        with torch.no_grad():
            self._text = self.conditioning()
        freeze_text(self.unet, self._text)
        self.unet.conv_norm_out = None
        self.unet.conv_out = nn.Identity()

    def _keep_map(self, _block: nn.Module, _given: Any, output: torch.Tensor) -> None:
        self._maps.append(output)


def build_unet(sizes: UnetConfig, latent_channels: int) -> UNet2DConditionModel:
    """Build a U-Net for latents of any extent that its levels can halve, with random weights."""
    return UNet2DConditionModel(
        in_channels=latent_channels,
        out_channels=latent_channels,
        block_out_channels=sizes.channels,
        layers_per_block=sizes.layers_per_block,
        attention_head_dim=sizes.heads,
        cross_attention_dim=sizes.text_width,
        norm_num_groups=sizes.norm_groups,
        only_cross_attention=tuple(not own for own in sizes.self_attention),
    )
