"""What a training run is: data, model, loss, plan and output, as one typed document.

Written as TOML; `dpiqa.training.configfile` reads it. Paths are relative to the working directory.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    field_validator,
    model_validator,
)

from dpiqa.imaging.distortions import KINDS
from dpiqa.models.choice import ModelChoice
from dpiqa.models.student import StudentConfig
from dpiqa.models.teacher import TeacherConfig
from dpiqa.models.vae import VaeConfig
from dpiqa.training.plan import Cadence, Plan

ModelName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._-]*$")]


class Part(BaseModel):
    """A table of the document: unknown keys are errors, nothing changes once read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DataSet(Part):
    """One data set on disk."""

    name: str  #: how `dpiqa.datasets` calls its layout; `csv` for a file of your own
    path: Path  #: its folder, or the CSV file
    split: str = "published"  #: the official one where there is one; `random`: 80/20; or a folder of split files
    split_seed: NonNegativeInt = 0  #: of random splits


class DataConfig(Part):
    """What is learned from, and what the best checkpoint is chosen on."""

    sets: tuple[DataSet, ...] = ()
    cache: Path = Path("runs/cache")  #: folder for decoded pixels (0.8 MB an image of 512x512) and teachers' answers
    select_on: Literal["val", "test"] = "val"  #: split that is validated on; `test` is the papers' habit
    val_share: float = Field(0.1, ge=0, lt=1)  #: of the training side where a set has no `val` and one is wanted
    validation_images: PositiveInt | None = None  #: at most so many of them, evenly spread, while training
    unreadable: Literal["refuse", "skip"] = "refuse"  #: what to do about images that cannot be decoded


class OutputConfig(Cadence):
    """Where the run and the model go, and what the model's card says. Nothing of it changes the weights but `half`."""

    folder: Path = Path("runs/model")  #: of the run's state, log and best weights; a killed run goes on from it
    name: ModelName = "my-model"  #: of the model
    models: Path | None = None  #: folder for the model and its card; unset: DPIQA_MODELS_DIR or its default
    bootstrap_draws: PositiveInt = 1000  #: of the intervals in the model's card
    half: bool = True  #: write float16: half the size, moves scores by less than 0.001 here; computed in float32
    licence: str = "not stated"  #: terms of the weights
    trained_on: str = ""  #: data and its terms; unset: names of the sets and numbers of images
    paper: str = ""  #: what the architecture is, and from where
    notes: str = ""  #: where it fails


class Unit(StrEnum):
    """What errors are measured in."""

    MOS = "mos"  #: labels as they are, 0-1: the paper's
    DEVIATION = "deviation"  #: labels' standard deviation, and the maps' power: terms of like size for any data set


class ScoreLoss(Part):
    """Squared error plus margin ranking (DP-IQA, equations 9-11)."""

    unit: Unit = Unit.MOS
    ranking: NonNegativeFloat = 1.0  #: weight of the ranking term
    margin: NonNegativeFloat = 0.25  #: of the batch's standard deviation of labels


class SpoiledLoss(Part):
    """Order of pictures and their spoiled copies; not in the paper. See `dpiqa.training.spoiled`."""

    share: float = Field(0, ge=0, le=1)  #: of the training pictures that are also shown spoiled, at two strengths each
    weight: NonNegativeFloat = 1.0
    margin: NonNegativeFloat = 0.05  #: by which each further strength must lower the score, in the loss's unit
    kinds: tuple[str, ...] = ()  #: distortions to draw from; all if empty

    @field_validator("kinds")
    @classmethod
    def _known(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown:
            raise ValueError(f"no distortion is called {unknown[0]!r}; known: {', '.join(sorted(KINDS))}")
        return kinds


class PhotographLoss(ScoreLoss):
    """What students and teachers have in common."""

    spoiled: SpoiledLoss = SpoiledLoss()


class StudentLoss(PhotographLoss):
    """What a student learns from its teacher besides."""

    teacher_map: NonNegativeFloat = 1.0  #: weight of the squared error against the teacher's quality map (equation 12)
    teacher_score: NonNegativeFloat = 0.0  #: weight of the squared error against its score; not in the paper


class TeacherLoss(PhotographLoss):
    """What a teacher learns."""

    guide_share: float = Field(0.5, ge=0, le=1)  #: of the guide's calibrated score in the targets


class Begin(StrEnum):
    """How a regressor starts."""

    RANDOM = "random"  #: torch's default
    POOLING = "pooling"  #: as an average over the picture at the labels' mean: for few pictures


class ScorerModel(Part):
    """What students and teachers have in common: sizes, or a model to go on from."""

    start: str | None = None  #: name of a model whose weights and sizes are fine-tuned
    begin: Begin = Begin.RANDOM  #: the regressor of a new network
    calibrate_on: NonNegativeInt = 0  #: images for a last straight line from scores to labels, at most; 0: none
    calibrate_side: Literal["train", "select"] = "train"  #: `select`: those it is chosen on, which it fits less closely


_M = TypeVar("_M", bound=ScorerModel)


class StudentModel(ScorerModel):
    """A student: `start`, or an `architecture` that begins random."""

    architecture: StudentConfig | None = None
    backbone_weights: Path | None = None  #: of a new architecture: .pth or .safetensors, torchvision's or timm's names

    @model_validator(mode="after")
    def _one(self) -> "StudentModel":
        if self.start is not None and self.backbone_weights is not None:
            raise ValueError(f"backbone_weights belongs to a new architecture; {self.start} brings its own")
        return _one_of_start_and_architecture(self, self.architecture)


class TeacherMode(StrEnum):
    """What of a teacher learns (DP-IQA, Table XIII). The VAE never does."""

    QFD = "qfd"  #: quality feature decoder
    ADAPTERS_QFD = "adapters+qfd"  #: and text and image adapter
    LORA_QFD = "lora+qfd"  #: decoder, and low-rank changes of the U-Net's attention
    ADAPTERS_LORA_QFD = "adapters+lora+qfd"
    FULL = "full"  #: U-Net, adapters and decoder: the paper's choice

    @property
    def adapters(self) -> bool:
        """Whether the text and image adapters learn."""
        return self in {TeacherMode.ADAPTERS_QFD, TeacherMode.ADAPTERS_LORA_QFD, TeacherMode.FULL}

    @property
    def lora(self) -> bool:
        """Whether the U-Net learns low-rank changes."""
        return self in {TeacherMode.LORA_QFD, TeacherMode.ADAPTERS_LORA_QFD}


class TeacherModel(ScorerModel):
    """A teacher: `start`, or an `architecture` whose parts come from the files named here, else begin random."""

    architecture: TeacherConfig | None = None
    mode: TeacherMode = TeacherMode.FULL
    lora_rank: PositiveInt = 16
    diffusion: str | None = None  #: Stable Diffusion in diffusers' layout, folder or hub id: its VAE and U-Net
    embeddings: Path | None = None  #: embedded prompts, as `dpiqa models embed-text` writes them
    vae: Path | None = None  #: vae.safetensors of `dpiqa train vae`
    unet: Path | None = None  #: unet.safetensors of `dpiqa train diffusion` on that VAE: U-Net and learned prompts
    trunk_from: str | None = None  #: student whose backbone stands under the image adapter
    head_from: str | None = None  #: student whose statistics branch and regressor the decoder begins with
    normalise_decoder: bool = False  #: batch normalisation in the decoder while training, folded in afterwards

    @model_validator(mode="after")
    def _one(self) -> "TeacherModel":
        parts = ("diffusion", "embeddings", "vae", "unet", "trunk_from", "head_from")
        given = [name for name in parts if getattr(self, name) is not None]
        if self.start is not None and given:
            raise ValueError(f"{given[0]} belongs to a new architecture; {self.start} brings its own")
        return _one_of_start_and_architecture(self, self.architecture)


class VaeModel(Part):
    """The autoencoder."""

    architecture: VaeConfig = VaeConfig()


class VaeLoss(Part):
    """What the autoencoder is held to: absolute error, edges, and a little order among its latents."""

    kl: NonNegativeFloat = 1e-6
    edges: NonNegativeFloat = 1.0  #: of the error in neighbour differences: sharpness matters to quality


class RunConfig(Part):
    """What all runs have in common."""

    makes_model: ClassVar[bool] = True  #: with a name and a card; else a file for another run
    data: DataConfig = DataConfig()
    plan: Plan
    output: OutputConfig = OutputConfig()


class VaeRun(RunConfig):
    """`dpiqa train vae`."""

    makes_model = False
    kind: Literal["vae"] = "vae"
    model: VaeModel = VaeModel()
    loss: VaeLoss = VaeLoss()
    input_size: PositiveInt = 512  #: pixels a side of the pictures that crops are cut from


class TeacherRun(RunConfig):
    """`dpiqa train teacher`."""

    kind: Literal["teacher"] = "teacher"
    model: TeacherModel
    #: a student whose scores are learned too: they hold less noise than thirty people's
    guide: ModelChoice | None = None
    loss: TeacherLoss = TeacherLoss()


class StudentRun(RunConfig):
    """`dpiqa train student`."""

    kind: Literal["student"] = "student"
    model: StudentModel
    teacher: ModelChoice | None = None  #: what it is distilled from; unset: labels alone
    loss: StudentLoss = StudentLoss()


def _one_of_start_and_architecture(model: _M, architecture: object) -> _M:
    if (model.start is None) == (architecture is None):
        raise ValueError("give either start (a model's name) or architecture (sizes)")
    return model
