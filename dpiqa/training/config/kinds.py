"""Configuration of every kind of run as one typed document: VAE, diffusion prior, teacher, student, PromptIQA."""

from enum import StrEnum
from typing import Literal, TypeVar

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from dpiqa.imaging.distortions import KINDS
from dpiqa.models.choice import ModelChoice
from dpiqa.models.promptiqa.config import PromptIQAConfig
from dpiqa.models.regressor import MapPooling
from dpiqa.models.student_config import StudentConfig
from dpiqa.models.teacher import TeacherConfig, UnetConfig
from dpiqa.models.vae import VaeConfig
from dpiqa.training.config.run import ConfigTable, RunConfig, UserPath


class VaeModelConfig(ConfigTable):
    """The autoencoder."""

    architecture: VaeConfig = VaeConfig()


class VaeLoss(ConfigTable):
    """Weights beside the absolute error of rebuilt pixels."""

    kl: NonNegativeFloat = 1e-6  #: of the latents' divergence from a normal distribution
    edges: NonNegativeFloat = 1.0  #: of the error in neighbour differences: sharpness matters to quality


class VaeRun(RunConfig):
    """`dpiqa train vae`."""

    makes_model = False
    kind: Literal["vae"] = "vae"
    model: VaeModelConfig = VaeModelConfig()
    loss: VaeLoss = VaeLoss()
    input_size: PositiveInt = 512  #: pixels a side of the pictures that crops are cut from


class DenoiserConfig(ConfigTable):
    """Sizes, under the names that they have in the `TeacherConfig` of a teacher that begins with this U-Net."""

    input_size: PositiveInt = 512  #: pixels a side of the pictures
    shrink: PositiveInt = 1  #: pixels a side that are averaged to one before the VAE sees the picture
    vae: VaeConfig = VaeConfig()  #: sizes of the VAE in the file; its scaling factor is the file's
    unet: UnetConfig = UnetConfig()
    prompts: str = "small-90"  #: table whose embeddings are learned; every picture is seen with all of them


class DiffusionModelConfig(ConfigTable):
    """The U-Net, and the frozen VAE whose latents it learns."""

    architecture: DenoiserConfig = DenoiserConfig()
    vae: UserPath  #: vae.safetensors of `dpiqa train vae`


class DiffusionLoss(ConfigTable):
    """Distribution of timesteps. The squared error of the predicted noise counts alike for every picture."""

    near_share: float = Field(0.25, ge=0, le=1)  #: of the timesteps that are drawn among the first 100 of 1,000


class DiffusionRun(RunConfig):
    """`dpiqa train diffusion`."""

    makes_model = False
    kind: Literal["diffusion"] = "diffusion"
    model: DiffusionModelConfig
    loss: DiffusionLoss = DiffusionLoss()

    @model_validator(mode="after")
    def _whole(self) -> "DiffusionRun":
        if self.plan.crop is not None:
            raise ValueError("plan.crop: the latents of whole pictures are learned; leave it out")
        return self


class ErrorUnit(StrEnum):
    """Unit of the errors in the loss."""

    MOS = "mos"  #: labels as they are, 0-1: the paper's
    DEVIATION = "deviation"  #: labels' standard deviation, and the maps' power: terms of like size for any data set


class ScoreLoss(ConfigTable):
    """Squared error plus margin ranking (DP-IQA, equations 9-11)."""

    unit: ErrorUnit = ErrorUnit.MOS
    ranking: NonNegativeFloat = 1.0  #: weight of the ranking term
    margin: NonNegativeFloat = 0.25  #: of the batch's standard deviation of labels
    correlation: NonNegativeFloat = 0.0  #: weight of half of one minus a batch's linear correlation; not in the paper


class DistortedLoss(ConfigTable):
    """Order of pictures and their distorted copies; not in the paper. See `dpiqa.training.data.distorted`."""

    share: float = Field(0, ge=0, le=1)  #: of the training pictures that get two distorted copies each
    weight: NonNegativeFloat = 1.0
    margin: NonNegativeFloat = 0.05  #: by which each further strength must lower the score, in the loss's unit
    kinds: tuple[str, ...] = ()  #: distortions to draw from; all if empty
    #: of these pictures, whose copies are JPEGs of high quality instead: hardly any of `kinds` is that slight
    light_jpeg: float = Field(0, ge=0, le=1)
    #: of the pictures before they are distorted, which removes noise and compression of their own; mirror images fill
    #: the rest
    shrink: int = Field(1, ge=1, le=8)
    #: share of the pictures with copies of `kinds` that are not shrunk: photographs as they come from a phone
    unshrunk: float = Field(0, ge=0, le=1)

    @field_validator("kinds")
    @classmethod
    def _known(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown:
            raise ValueError(f"no distortion is called {unknown[0]!r}; known: {', '.join(sorted(KINDS))}")
        return kinds

    @model_validator(mode="after")
    def _something_is_shrunk(self) -> "DistortedLoss":
        if self.unshrunk and self.shrink == 1:
            raise ValueError("unshrunk is the share that shrink leaves out: set shrink to 2 or more")
        return self


class ScorerLoss(ScoreLoss):
    """The terms that students and teachers share."""

    distorted: DistortedLoss = DistortedLoss()


class StudentLoss(ScorerLoss):
    """A student's loss: the shared terms, and those against its teacher's outputs."""

    teacher_map: NonNegativeFloat = 1.0  #: weight of the squared error against the teacher's quality map (equation 12)
    teacher_score: NonNegativeFloat = 0.0  #: weight of the squared error against its score; not in the paper


class TeacherLoss(ScorerLoss):
    """A teacher's loss: the shared terms, against labels mixed with a guide's scores."""

    guide_share: float = Field(0.5, ge=0, le=1)  #: of the guide's calibrated score in the targets


class RegressorStart(StrEnum):
    """Initialisation of a new regressor."""

    RANDOM = "random"  #: torch's default
    POOLING = "pooling"  #: as an average over the picture at the labels' mean: for few pictures


class ScorerModelConfig(ConfigTable):
    """Settings that students and teachers share: a model to fine-tune, initialisation and calibration."""

    start: str | None = None  #: name of a model whose weights and sizes are fine-tuned
    begin: RegressorStart = RegressorStart.RANDOM  #: the regressor of a new network
    calibrate_on: NonNegativeInt = 0  #: images for a last straight line from scores to labels, at most; 0: none
    calibrate_side: Literal["train", "select"] = "train"  #: `select`: the validation images, which are fitted less


_M = TypeVar("_M", bound=ConfigTable)


class TeacherMode(StrEnum):
    """Parts of a teacher that learn (DP-IQA, Table XIII). The VAE never does."""

    QFD = "qfd"  #: quality feature decoder
    ADAPTERS_QFD = "adapters+qfd"  #: and text and image adapter
    LORA_QFD = "lora+qfd"  #: decoder, and low-rank changes of the U-Net's attention
    ADAPTERS_LORA_QFD = "adapters+lora+qfd"
    FULL = "full"  #: U-Net, adapters and decoder: the paper's choice

    @property
    def adapters(self) -> bool:
        """Return whether the text and image adapters learn."""
        return self in {TeacherMode.ADAPTERS_QFD, TeacherMode.ADAPTERS_LORA_QFD, TeacherMode.FULL}

    @property
    def lora(self) -> bool:
        """Return whether the U-Net learns low-rank changes."""
        return self in {TeacherMode.LORA_QFD, TeacherMode.ADAPTERS_LORA_QFD}


class TeacherModelConfig(ScorerModelConfig):
    """A teacher: `start`, or an `architecture` whose parts come from the files named here, else begin random."""

    architecture: TeacherConfig | None = None
    mode: TeacherMode = TeacherMode.FULL
    lora_rank: PositiveInt = 16
    diffusion: str | None = None  #: Stable Diffusion in diffusers' layout, folder or hub id: its VAE and U-Net
    embeddings: UserPath | None = None  #: embedded prompts, as `dpiqa models embed-text` writes them
    vae: UserPath | None = None  #: vae.safetensors of `dpiqa train vae`
    unet: UserPath | None = None  #: unet.safetensors of `dpiqa train diffusion` on that VAE: U-Net and learned prompts
    trunk_from: str | None = None  #: student whose backbone becomes the trunk of the image adapter
    head_from: str | None = None  #: student whose statistics branch and regressor the decoder begins with
    normalise_decoder: bool = False  #: batch normalisation in the decoder while training, folded in afterwards

    @model_validator(mode="after")
    def _one(self) -> "TeacherModelConfig":
        return _start_or_architecture(self, "diffusion", "embeddings", "vae", "unet", "trunk_from", "head_from")


class TeacherRun(RunConfig):
    """`dpiqa train teacher`."""

    kind: Literal["teacher"] = "teacher"
    model: TeacherModelConfig
    #: a student whose scores are learned too: they hold less noise than the labels of thirty people
    guide: ModelChoice | None = None
    loss: TeacherLoss = TeacherLoss()


class StudentModelConfig(ScorerModelConfig):
    """A student: `start`, or an `architecture` that begins random."""

    architecture: StudentConfig | None = None
    backbone_weights: UserPath | None = (
        None  #: of a new architecture: .pth or .safetensors, names of torchvision or timm
    )
    backbone_package: str | None = None  #: installed Python package that holds them instead, as one .pth
    #: a new student that reads stages begins as the ridge regression of the labels with this penalty; unset: without
    ridge: PositiveFloat | None = None
    frozen_stages: NonNegativeInt = 0  #: first stages of a student that reads stages: they and the stem do not learn
    #: names of other fine-tunings of the backbone of `start`: it begins as the mean of theirs and its own
    average: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one(self) -> "StudentModelConfig":
        if self.average and self.start is None:
            raise ValueError("average names models whose backbones are averaged with that of start; set start, too")
        if self.backbone_weights is not None and self.backbone_package is not None:
            raise ValueError("backbone_weights and backbone_package both bring the backbone's weights; set only one")
        if self.frozen_stages and self.architecture is not None and self.architecture.pooling is not MapPooling.STAGES:
            raise ValueError('frozen_stages belong to a student with pooling = "stages"')
        return _start_or_architecture(self, "backbone_weights", "backbone_package")


class StudentRun(RunConfig):
    """`dpiqa train student`."""

    kind: Literal["student"] = "student"
    model: StudentModelConfig
    teacher: ModelChoice | None = None  #: scorer to distil; unset: labels alone
    loss: StudentLoss = StudentLoss()


class PromptIQAModelConfig(ConfigTable):
    """A PromptIQA network: `start`, or an `architecture` that begins random."""

    start: str | None = None  #: name of a model whose weights and sizes are fine-tuned
    architecture: PromptIQAConfig | None = None
    vit_weights: UserPath | None = None  #: of a new architecture's ViT: .pth or .safetensors with timm's names

    @model_validator(mode="after")
    def _one(self) -> "PromptIQAModelConfig":
        return _start_or_architecture(self, "vit_weights")


class PromptLoss(ConfigTable):
    """Conversion of batches to requirements. The error of every image is absolute, as in the paper."""

    scaling: float = Field(0.5, ge=0, le=1)  #: share of the batches whose labels are divided by their largest
    flipping: float = Field(0.1, ge=0, le=1)  #: share of the batches whose labels s become 1 - s


class PromptIQARun(RunConfig):
    """`dpiqa train promptiqa`."""

    kind: Literal["promptiqa"] = "promptiqa"
    model: PromptIQAModelConfig
    loss: PromptLoss = PromptLoss()
    validation_pairs: PositiveInt = 10  #: training images of a set that are the prompt when it is validated


def _start_or_architecture(model: _M, *parts: str) -> _M:
    """Require either `start` or `architecture`; `parts` name fields that belong to a new architecture."""
    start: str | None = getattr(model, "start", None)
    unused = [name for name in parts if getattr(model, name) is not None]
    if start is not None and unused:
        raise ValueError(f"{unused[0]} belongs to a new architecture; {start} brings its own")
    if (start is None) == (getattr(model, "architecture", None) is None):
        raise ValueError("give either start (a model's name) or architecture (sizes)")
    return model
