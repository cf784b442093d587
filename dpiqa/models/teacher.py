"""The DP-IQA teacher: a Stable Diffusion U-Net that is conditioned on distortions and read through its up blocks.

`Teacher` is the published network, written from the paper (Fu et al., DP-IQA, section 3) and the published checkpoints'
names. `SmallTeacher` and `StageTeacher` are this project's own. diffusers provides the VAE, the U-Net and the
T2I-Adapter; nothing of theirs is repeated: forward hooks read the U-Net's up blocks.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from pydantic import BaseModel, ConfigDict, PositiveInt, model_validator
from torch import nn

from dpiqa.imaging.preprocessing import Preprocessing, ResizeFilter
from dpiqa.models.adapter import STRIDES, StageAdapter, TrunkConfig, build_adapter
from dpiqa.models.base import Posterior
from dpiqa.models.conditioning import TextAdapter, build_prompts, freeze_text, freeze_timestep
from dpiqa.models.quality_decoder import AddingDecoder, QfdConfig, QualityFeatureDecoder, build_decoder
from dpiqa.models.regressor import MapPooling
from dpiqa.models.scene_statistics import check_size, scene_statistics
from dpiqa.models.scoring_network import ScoringNetwork, shrunk
from dpiqa.models.stage_student import StageStudent
from dpiqa.models.student_config import StudentConfig
from dpiqa.models.text.embeddings import TextSource
from dpiqa.models.vae import VaeConfig, build_encoder, encode, latents_of, noise_of, posterior_of

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
    """Sizes of a teacher, published or our own.

    The defaults are the published model's (1.07 B parameters without the text encoder).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    input_size: int = 512  #: pixels a side
    resize_filter: ResizeFilter = ResizeFilter.BILINEAR
    enlarge_to: PositiveInt | None = None  #: see `Preprocessing`
    view_size: PositiveInt | None = None  #: the score is the mean over views of so many pixels; None: the whole picture
    mirrored: bool = False  #: every picture or view is scored mirrored, too: the score is the mean
    shrink: PositiveInt = 1  #: pixels a side that are averaged to one before VAE and adapter see the picture
    vae: VaeConfig = VaeConfig()
    unet: UnetConfig = UnetConfig()
    qfd: QfdConfig = QfdConfig()
    trunk: TrunkConfig | None = None  #: CNN under the image adapter; None: the T2I-Adapter
    #: a student that reads stages: the image adapter sees its maps, and its regressor gives the score, from its moments
    #: and those of the quality map; `qfd.hidden` is not used then
    student: StudentConfig | None = None
    prompts: str | None = None  #: table whose embeddings are learned; None: the checkpoint holds embeddings
    prompt_count: int = 1485  #: number of embeddings that the checkpoint holds
    text: TextSource | None = None  #: origin of the embeddings that the checkpoint holds, if it is known
    posterior: Posterior = Posterior.MEAN  #: of the VAE, for the U-Net; a sample's seed is the image's content

    @model_validator(mode="after")
    def _cells_fit(self) -> "TeacherConfig":
        check_size(self.qfd.statistics_channels, self.input_size)
        return self

    @model_validator(mode="after")
    def _student_fits(self) -> "TeacherConfig":
        if self.student is None:
            return self
        if self.student.pooling is not MapPooling.STAGES:
            raise ValueError(f'student.pooling is "{self.student.pooling}": a teacher looks through one with "stages"')
        if (self.student.preprocessing, self.student.view_size) != (self.preprocessing, self.view_size):
            fields = "input_size, resize_filter, enlarge_to and view_size"
            raise ValueError(f"{fields} of the student must be the teacher's")
        if self.trunk is not None:
            raise ValueError("trunk: the image adapter sees the student's maps; leave it out")
        if self.qfd.pooling is not MapPooling.MOMENTS or self.qfd.statistics_channels:
            raise ValueError('a teacher with a student needs qfd.pooling = "moments" and no qfd.statistics_channels')
        if self.shrink * self.vae.reduction % STRIDES[0]:
            raise ValueError(f"with a student, shrink times the VAE's reduction must be a multiple of {STRIDES[0]}")
        return self

    @property
    def preprocessing(self) -> Preprocessing:
        """Return the preprocessing of the network's input."""
        size = self.input_size
        return Preprocessing(width=size, height=size, filter=self.resize_filter, enlarge_to=self.enlarge_to)

    @property
    def is_published(self) -> bool:
        """Return whether `Teacher` is the network of these sizes; otherwise one of our own is."""
        own_parts = (self.trunk, self.student, self.prompts)
        return self.shrink == 1 and own_parts == (None, None, None) and self.qfd.is_published


def build_teacher(config: TeacherConfig) -> "Teacher":
    """Build the network of these sizes, with random weights."""
    width, channels = config.unet.text_width, config.unet.channels
    parts: dict[str, Any] = {
        "prompts": build_prompts(config.prompts, config.prompt_count, width),
        "text_adapter": TextAdapter(width),
        "vae": build_encoder(config.vae),
    }
    if config.student is not None:
        student = StageStudent(config.student)
        adapter: nn.Module = StageAdapter(student.base_model, channels)
        unet = build_unet(config.unet, config.vae.latent_channels)
        decoder = AddingDecoder(channels, config.qfd, config.student.hidden)
        return StageTeacher(config, student, img_adapter=adapter, unet=unet, decoder=decoder, **parts)
    network = Teacher if config.is_published else SmallTeacher
    return network(
        config,
        img_adapter=build_adapter(config.trunk, channels, config.vae.reduction),
        unet=build_unet(config.unet, config.vae.latent_channels),
        decoder=build_decoder(channels, config.qfd),
        **parts,
    )


class Teacher(ScoringNetwork):
    """The published teacher, of built parts. Attribute names are those of the published state dicts."""

    def __init__(
        self,
        config: TeacherConfig,
        *,
        prompts: nn.Module,
        text_adapter: TextAdapter,
        vae: AutoencoderKL,
        img_adapter: nn.Module,
        unet: UNet2DConditionModel,
        decoder: QualityFeatureDecoder,
    ) -> None:
        super().__init__()
        self.config, self.view_size, self.mirrored = config, config.view_size, config.mirrored
        self.prompts = prompts
        self.gamma = nn.Parameter(torch.full((config.unet.text_width,), 1e-4))
        self.text_adapter = text_adapter
        self.vae = vae
        self.img_adapter = img_adapter
        self.unet = unet
        self.QFD = decoder
        self._text: torch.Tensor | None = None  # the conditioning, once it is final

    @property
    def draws_noise(self) -> bool:
        """Return whether the U-Net gets a sample of the VAE's posterior."""
        return self.config.posterior != Posterior.MEAN

    def forward(
        self, images: torch.Tensor, latents: torch.Tensor | None = None, *, seeds: Sequence[int] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Score images.

        Args:
            images: (B, 3, S, S) in [0, 1], not normalised; S a multiple of the pixels of the U-Net's coarsest cell (64
                in the published model).
            latents: (B, C, S/r, S/r), `encode` of the images, if they are known already; r = `vae.reduction`.
            seeds: one integer for each image, if the network draws noise and `latents` are not given.

        Returns:
            Scores (B,), MOS/100, not clamped, and the quality map (B, C, m, m), not negative, where m is
            `qfd.map_size` at the configured input size and shrinks with the input.

        Raises:
            ValueError: seeds are missing, or not one for each image.
        """
        images = images.to(self.gamma.dtype)
        if latents is None:
            latents = self.latents(images, seeds)
        scores, quality = self.QFD(self.features(images, latents), self.map_side(images))
        return scores, quality

    def map_side(self, images: torch.Tensor) -> int:
        """Return the side m of the quality map of images (B, 3, S, S)."""
        return self.config.qfd.map_size * images.shape[-1] // self.config.input_size

    def latents(self, images: torch.Tensor, seeds: Sequence[int] | None) -> torch.Tensor:
        """Images (B, 3, H, W) in [0, 1] -> scaled latents (B, C, H/r, W/r), of noise from `seeds` if it draws any."""
        reduction = self.config.vae.reduction
        rows, columns = (side // reduction for side in images.shape[-2:])
        return encode(self.vae, images, self.noise(images, rows, columns, seeds))

    def noise(self, like: torch.Tensor, rows: int, columns: int, seeds: Sequence[int] | None) -> torch.Tensor | None:
        """Return the noise (B, C, rows, columns) that latents are drawn with, or None if they are not.

        It has batch, device and type of `like`. Raises `ValueError` as `forward` does.
        """
        if not self.draws_noise:
            return None
        if seeds is None or len(seeds) != len(like):
            raise ValueError(f"a teacher that samples the posterior needs a seed for each of {len(like)} images")
        return noise_of(seeds, (self.config.vae.latent_channels, rows, columns), like)

    def features(self, images: torch.Tensor, latents: torch.Tensor) -> list[torch.Tensor]:
        """Return the outputs (B, C_l, h_l, w_l) of the U-Net's up blocks, finest first. Arguments as of `forward`."""
        return self.up_maps(latents, self.img_adapter(images))

    def up_maps(self, latents: torch.Tensor, adapted: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return the same as `features`, given the image adapter's maps."""
        text = self.conditioning() if self._text is None else self._text
        with outputs_of(self.unet.up_blocks) as maps:
            self.unet(
                latents,
                TIMESTEP,
                encoder_hidden_states=text.expand(len(latents), -1, -1),
                down_intrablock_additional_residuals=adapted,
                return_dict=False,
            )
        return maps[::-1]

    def conditioning(self) -> torch.Tensor:
        """Return the prompts' embeddings as the U-Net sees them, (1, N, width)."""
        embeddings = self.prompts()
        conditioned: torch.Tensor = embeddings + self.gamma * self.text_adapter(embeddings)
        return conditioned[None]

    def prepare(self) -> None:
        """Compute the text's keys and values and the timestep's part, and drop the U-Net's last layers.

        For inference only.
        """
        with torch.no_grad():
            self._text = self.conditioning()
        freeze_text(self.unet, self._text)
        freeze_timestep(self.unet, TIMESTEP)
        self.unet.conv_norm_out = None
        self.unet.conv_out = nn.Identity()


class SmallTeacher(Teacher):
    """Our own teacher, small enough to train from scratch.

    VAE and adapter see the picture smaller; the decoder may have channels of scene statistics at the picture's own
    size. Its prompts may be learned, and its image adapter may stand on a student's backbone.
    """

    @property
    def input_dtype(self) -> torch.dtype:
        """float32 where it looks at differences of neighbouring pixels."""
        return torch.float32 if self.config.qfd.statistics_channels else super().input_dtype

    def forward(
        self,
        images: torch.Tensor,
        latents: torch.Tensor | None = None,
        *,
        seeds: Sequence[int] | None = None,
        statistics: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Score images, as `Teacher.forward` does; `shrink` times larger images, of a multiple of `CELL` a side.

        Args:
            images: (B, 3, S, S) in [0, 1], not normalised.
            latents: `encode` of the shrunk images, if they are known already.
            seeds: one integer for each image, if the network draws noise and `latents` are not given.
            statistics: `scene_statistics` of the images, if they are known already.

        Returns:
            Scores (B,), and the quality map (B, C + statistics channels, m, m).

        Raises:
            ValueError: seeds are missing, or not one for each image.
        """
        if self.config.qfd.statistics_channels and statistics is None:
            statistics = scene_statistics(images)
        small = shrunk(images, self.config.shrink).to(self.gamma.dtype)
        if latents is None:
            latents = self.latents(small, seeds)
        maps, side = self.features(small, latents), self.map_side(images)
        if statistics is None:
            scores, quality = self.QFD(maps, side)
        else:
            scores, quality = self.QFD(maps, side, statistics)
        return scores, quality


class FrozenOutputs(NamedTuple):
    """Outputs of all that never learns of a `StageTeacher`: for a picture, all that the rest of it needs."""

    moments: torch.Tensor  #: (B, W), of the student's maps
    posterior: torch.Tensor  #: (B, 2C, h, h), of the VAE
    maps: tuple[torch.Tensor, ...]  #: three, of the student's stages, as `StageAdapter.pooled` makes them


class StageTeacher(Teacher):
    """Our own teacher that looks through a student of every stage, and whose score begins as that student's.

    The student sees the picture at its own size, and its maps are computed once for its own moments and for the image
    adapter; the VAE sees the picture smaller. The student's regressor gives the score, and what the quality feature
    decoder reads of its map is added to its first layers.
    """

    def __init__(self, config: TeacherConfig, student: StageStudent, **parts: Any) -> None:
        super().__init__(config, **parts)
        self.student = student

    @property
    def input_dtype(self) -> torch.dtype:
        """See `StageStudent.input_dtype`."""
        return self.student.input_dtype

    @property
    def further_layers(self) -> list[nn.Linear]:
        """Layers whose output is added to that of the student's last ones."""
        return [cast("AddingDecoder", self.QFD).linear]

    @property
    def last_layers(self) -> list[nn.Linear]:
        """Layers whose sum is the score."""
        return [*self.student.last_layers, *self.further_layers]

    def forward(  # type: ignore[override]
        self,
        images: torch.Tensor,
        frozen: FrozenOutputs | None = None,
        *,
        seeds: Sequence[int] | None = None,
        noise: torch.Tensor | None = None,
        statistics: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Score images.

        Args:
            images: (B, 3, S, S) in [0, 1], not normalised; not looked at where `frozen` is given.
            frozen: outputs of what never learns, for `images`, if they are known already.
            seeds: one integer for each image, if the network draws noise and `noise` is not given.
            noise: (B, C, h, h) standard normal, which the latents are drawn with.
            statistics: `scene_statistics` of the images, if they are known already.

        Returns:
            Scores (B,), MOS/100, not clamped, and the quality map (B, `qfd.map_channels`, m, m), not negative.

        Raises:
            ValueError: seeds are missing, or not one for each image.
        """
        if frozen is None:
            frozen = self.frozen_outputs(images, statistics)
        config, (rows, columns) = self.config, frozen.posterior.shape[-2:]
        if noise is None:
            noise = self.noise(frozen.posterior, rows, columns, seeds)
        maps = self.up_maps(latents_of(self.vae, frozen.posterior, noise), self.img_adapter(frozen.maps))
        pixels = rows * config.vae.reduction * config.shrink
        further, quality = self.QFD(maps, config.qfd.map_size * pixels // config.input_size)
        return self.student.regress(frozen.moments, further), quality

    def frozen_outputs(self, images: torch.Tensor, statistics: torch.Tensor | None = None) -> FrozenOutputs:
        """Compute what never learns for `images`. Arguments as of `forward`."""
        posterior = posterior_of(self.vae, shrunk(images, self.config.shrink).to(self.gamma.dtype))
        maps = self.student.maps(images)
        pooled = cast("StageAdapter", self.img_adapter).pooled(maps, posterior.shape[-1])
        return FrozenOutputs(self.student.moments_of(maps, images, statistics), posterior, pooled)


@contextmanager
def outputs_of(modules: Iterable[nn.Module]) -> Iterator[list[torch.Tensor]]:
    """Collect the outputs of modules while the block runs, in the order in which they are computed."""
    outputs: list[torch.Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
        outputs.append(output)

    hooks = [module.register_forward_hook(keep) for module in modules]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


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
