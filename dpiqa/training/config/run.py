"""Tables of the configuration that all runs share: data, plan and output.

Written as TOML; `dpiqa.training.config.file` reads it. Paths are relative to the working directory.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from dpiqa.files import expanded
from dpiqa.training.config.precision import Arithmetic

UserPath = Annotated[Path, AfterValidator(expanded)]
ModelName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._-]*$")]


class ConfigTable(BaseModel):
    """A table of the document: unknown keys are errors, and nothing changes once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DataSet(ConfigTable):
    """One data set on disk."""

    name: str  #: name of its layout in `dpiqa.datasets`; `csv` for a file of your own
    path: UserPath  #: its folder, or the CSV file
    split: str = "published"  #: the official one where there is one; `random`: 80/20; or a folder of split files
    split_seed: NonNegativeInt = 0  #: of random splits


class DataConfig(ConfigTable):
    """The images to learn from, and those that choose the best checkpoint."""

    sets: tuple[DataSet, ...] = ()
    cache: UserPath = Path("runs/cache")  #: decoded pixels (0.8 MB an image of 512x512) and teachers' outputs
    select_on: Literal["val", "test"] = "val"  #: split used for validation; `test` is the papers' habit
    val_share: float = Field(0.1, ge=0, lt=1)  #: of the training side, where a set has no `val` and one is needed
    validation_images: PositiveInt | None = None  #: at most so many of them, evenly spread, while training
    unreadable: Literal["refuse", "skip"] = "refuse"  #: what to do about images that cannot be decoded


class Optimiser(StrEnum):
    """Optimisers of torch."""

    ADAM = "adam"  #: the paper's
    ADAMW = "adamw"


class Schedule(StrEnum):
    """Course of the learning rate over the run."""

    COSINE = "cosine"  #: warm-up, then half a cosine down to `floor`
    MULTISTEP = "multistep"  #: warm-up, then times `factor` after each of the `milestones` (the paper's)
    CONSTANT = "constant"  #: warm-up, then no change


class Plan(ConfigTable):
    """The numbers of one training run. Plan, data and seed give the same weights again on the same machine."""

    epochs: PositiveInt
    batch: PositiveInt = 32  #: images of one forward pass of one process; the ranking loss compares within it
    accumulation: PositiveInt = 1  #: forward passes for one update of the weights
    optimiser: Optimiser = Optimiser.ADAMW
    rate: PositiveFloat = 2e-3  #: the highest learning rate
    schedule: Schedule = Schedule.COSINE
    warmup: float = Field(0.05, ge=0, lt=1)  #: share of the run in which the rate rises linearly from zero
    floor: float = Field(0.01, ge=0, le=1)  #: share of the rate that `cosine` ends with
    milestones: tuple[PositiveInt, ...] = ()  #: epochs after which `multistep` lowers the rate
    factor: PositiveFloat = 0.2  #: of `multistep`
    slow: dict[str, PositiveFloat] = Field(default_factory=dict)  #: part of a tensor's name -> factor of its rate
    weight_decay: float = Field(0.02, ge=0)  #: of matrices and kernels; vectors do not decay
    clip: float = Field(1.0, ge=0)  #: longest gradient; 0: not clipped
    ema: float = Field(0.998, ge=0, lt=1)  #: decay per update of the weights' moving average; 0: no average
    precision: Arithmetic = Arithmetic.AUTO
    crop: PositiveInt | None = None  #: pixels a side of random crops at native resolution; unset: whole pictures
    mirror: bool = True  #: half of the pictures are mirrored
    seed: int = Field(0, ge=0)  #: of weights, order, crops and dropout
    validate_every_steps: PositiveInt | None = None  #: updates between two validations; unset: every epoch

    @model_validator(mode="after")
    def _consistent(self) -> "Plan":
        if (self.schedule is Schedule.MULTISTEP) != bool(self.milestones):
            raise ValueError("milestones belong to the schedule multistep, which needs some")
        return self


class Cadence(ConfigTable):
    """Intervals at which a run writes. They do not change the result."""

    checkpoint_every_steps: PositiveInt = 50  #: updates that a killed run loses at most
    log_every_steps: PositiveInt = 10  #: updates for one line of log.jsonl, which holds their mean
    tensorboard: bool = False  #: events below `tensorboard/` too


class OutputConfig(Cadence):
    """Folders of the run and of the model, and the texts of the model's card. Only `half` changes the weights."""

    folder: UserPath = Path("runs/model")  #: of the run's state, log and best weights; a killed run resumes from it
    name: ModelName = "my-model"  #: of the model
    models: UserPath | None = None  #: folder for the model and its card; unset: DPIQA_MODELS_DIR or its default
    bootstrap_draws: PositiveInt = 1000  #: of the intervals in the model's card
    half: bool = True  #: write float16: half the size, moves scores by less than 0.001 here; computed in float32
    licence: str = "not stated"  #: terms of the weights
    trained_on: str = ""  #: data and its terms; unset: names of the sets and numbers of images
    paper: str = ""  #: the architecture and its source
    notes: str = ""  #: known weaknesses


class RunConfig(ConfigTable):
    """The tables of every run; the kinds of runs add theirs."""

    makes_model: ClassVar[bool] = True  #: with a name and a card; else a file for another run
    data: DataConfig = DataConfig()
    plan: Plan
    output: OutputConfig = OutputConfig()
