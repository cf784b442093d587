"""How a network is trained, in numbers: the `[plan]` of a run, and how often it writes."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator


class Optimiser(StrEnum):
    """Which of torch's optimisers."""

    ADAM = "adam"  #: the paper's
    ADAMW = "adamw"


class Schedule(StrEnum):
    """How the learning rate moves over the run."""

    COSINE = "cosine"  #: warm-up, then half a cosine down to `floor`
    MULTISTEP = "multistep"  #: warm-up, then times `factor` after each of the `milestones` (the paper's)
    CONSTANT = "constant"  #: warm-up, then no change


class Arithmetic(StrEnum):
    """What forward passes are computed in; weights and their updates stay in float32."""

    AUTO = "auto"  #: bfloat16 where the hardware has it, else float32; settled when the configuration is read
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"  #: autocast
    FLOAT16 = "float16"  #: autocast with loss scaling, for GPUs that know no bfloat16


class Plan(BaseModel):
    """One training run. The same plan, data and seed on the same machine give the same weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: PositiveInt
    batch: PositiveInt = 32  #: images of one forward pass of one process; the ranking loss compares within it
    accumulation: PositiveInt = 1  #: forward passes to one update of the weights
    optimiser: Optimiser = Optimiser.ADAMW
    rate: PositiveFloat = 2e-3  #: the highest learning rate
    schedule: Schedule = Schedule.COSINE
    warmup: float = Field(0.05, ge=0, lt=1)  #: share of the run in which the rate rises linearly from nought
    floor: float = Field(0.01, ge=0, le=1)  #: share of the rate that `cosine` ends with
    milestones: tuple[PositiveInt, ...] = ()  #: epochs after which `multistep` lowers the rate
    factor: PositiveFloat = 0.2  #: of `multistep`
    slow: dict[str, PositiveFloat] = Field(default_factory=dict)  #: part of a tensor's name -> factor of its rate
    weight_decay: float = Field(0.02, ge=0)  #: of matrices and kernels; vectors do not decay
    clip: float = Field(1.0, ge=0)  #: longest gradient; 0: not cut
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


class Cadence(BaseModel):
    """How often a run writes. Nothing of it changes the result."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    checkpoint_every_steps: PositiveInt = 50  #: updates that a killed run loses at most
    log_every_steps: PositiveInt = 10  #: updates to one line of log.jsonl, which holds their mean
    tensorboard: bool = False  #: events below `tensorboard/` too
