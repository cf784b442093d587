"""What a PromptIQA run is, as one typed document; see `dpiqa.training.config`."""

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveInt, model_validator

from dpiqa.models.promptiqa.config import PromptIQAConfig
from dpiqa.training.config import Part, RunConfig


class PromptIQAModel(Part):
    """A PromptIQA network: `start`, or an `architecture` that begins random."""

    start: str | None = None  #: name of a model whose weights and sizes are fine-tuned
    architecture: PromptIQAConfig | None = None
    vit_weights: Path | None = None  #: of a new architecture's ViT: .pth or .safetensors with timm's names

    @model_validator(mode="after")
    def _one(self) -> "PromptIQAModel":
        if (self.start is None) == (self.architecture is None):
            raise ValueError("give either start (a model's name) or architecture (sizes)")
        if self.start is not None and self.vit_weights is not None:
            raise ValueError(f"vit_weights belongs to a new architecture; {self.start} brings its own")
        return self


class PromptLoss(Part):
    """How batches become requirements. Every image is held to its label by absolute error, as in the paper."""

    scaling: float = Field(0.5, ge=0, le=1)  #: share of the batches whose labels are divided by their largest
    flipping: float = Field(0.1, ge=0, le=1)  #: share of the batches whose labels s become 1 - s


class PromptIQARun(RunConfig):
    """`dpiqa train promptiqa`."""

    kind: Literal["promptiqa"] = "promptiqa"
    model: PromptIQAModel
    loss: PromptLoss = PromptLoss()
    validation_pairs: PositiveInt = 10  #: training images of a set that are the prompt when it is validated
