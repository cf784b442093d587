"""What a run of `dpiqa train diffusion` is, as one typed document; see `dpiqa.training.config`."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from dpiqa.models.teacher import UnetConfig
from dpiqa.models.vae import VaeConfig
from dpiqa.training.config import Part, RunConfig


class DenoiserConfig(BaseModel):
    """Sizes, under the names that they have in the `TeacherConfig` of the teacher that is to begin with the U-Net."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input_size: PositiveInt = 512  #: pixels a side of the pictures
    shrink: PositiveInt = 1  #: pixels a side that are averaged to one before the VAE sees the picture
    vae: VaeConfig = VaeConfig()  #: of the file; its scaling factor is the file's
    unet: UnetConfig = UnetConfig()
    prompts: str = "small-90"  #: table whose embeddings are learned; every picture is seen with all of them


class DiffusionModel(Part):
    """The U-Net, and the frozen VAE whose latents it learns."""

    architecture: DenoiserConfig = DenoiserConfig()
    vae: Path  #: vae.safetensors of `dpiqa train vae`


class DiffusionLoss(Part):
    """How timesteps are drawn. Each picture's squared error of the predicted noise counts alike."""

    near_share: float = Field(0.25, ge=0, le=1)  #: of the timesteps that are drawn among the first 100 of 1,000


class DiffusionRun(RunConfig):
    """`dpiqa train diffusion`."""

    makes_model = False
    kind: Literal["diffusion"] = "diffusion"
    model: DiffusionModel
    loss: DiffusionLoss = DiffusionLoss()

    @model_validator(mode="after")
    def _whole(self) -> "DiffusionRun":
        if self.plan.crop is not None:
            raise ValueError("plan.crop: the latents of whole pictures are learned; leave it out")
        return self
