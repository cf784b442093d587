"""Networks that score pictures: what they have in common, and which one a card describes."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from pydantic import ValidationError
from torch import nn

from dpiqa.errors import CheckpointError
from dpiqa.models.base import ModelCard
from dpiqa.models.views import content_seeds
from dpiqa.text import reason_of
from dpiqa.types import ModelKind


class ScoringNetwork(nn.Module):
    """A network that `TorchScorer` runs.

    Forward: images (B, 3, S, S) in [0, 1], not normalised, of `input_dtype` -> scores (B,), and a map or vector of
    each image.
    """

    view_size: int | None = None  #: score = mean over views of so many pixels a side; None: the whole picture at once

    @property
    def input_dtype(self) -> torch.dtype:
        """Precision of the images: that of the weights, unless a network needs more."""
        return next((parameter.dtype for parameter in self.parameters()), torch.float32)

    @property
    def draws_noise(self) -> bool:
        """Return whether forward takes `seeds`, one for each image."""
        return False

    def prepare(self) -> None:
        """Compute once everything independent of the image. For inference only: it cannot be undone."""

    def seeded(self, pixels: np.ndarray) -> Callable[..., tuple[torch.Tensor, ...]]:
        """Return the network as a function of images; one that draws noise gets each image's own seed.

        `pixels`: (B, H, W, 3) uint8, of which the images are made. Views of one image have the same seed.
        """
        return partial(self, seeds=content_seeds(pixels)) if self.draws_noise else self


def build_network(card: ModelCard) -> nn.Module:
    """Build the card's network on the meta device, without weights. Raises `CheckpointError` if its sizes are wrong.

    Each kind is imported when it is built: a student needs no diffusers, which takes seconds to import.
    """
    try:
        with torch.device("meta"):
            match card.kind:
                case ModelKind.STUDENT:
                    from dpiqa.models.student import StudentConfig, build_student  # noqa: PLC0415

                    return build_student(StudentConfig.model_validate(card.architecture))
                case ModelKind.TEACHER:
                    from dpiqa.models.teacher import TeacherConfig, build_teacher  # noqa: PLC0415

                    return build_teacher(TeacherConfig.model_validate(card.architecture))
                case ModelKind.PROMPTIQA:
                    from dpiqa.models.promptiqa.config import PromptIQAConfig  # noqa: PLC0415
                    from dpiqa.models.promptiqa.network import PromptIQA  # noqa: PLC0415

                    return PromptIQA(PromptIQAConfig.model_validate(card.architecture))
                case _:
                    raise ValueError(f"a {card.kind} has no network in torch")
    except (ValidationError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{card.name}: its architecture cannot be built: {reason_of(error)}",
            hint="fix the architecture in its card",
        ) from error
