"""The network that a card describes."""

import torch
from pydantic import ValidationError
from torch import nn

from dpiqa.errors import CheckpointError
from dpiqa.models.base import ModelCard
from dpiqa.text import reason_of
from dpiqa.types import ModelKind


def build_network(card: ModelCard) -> nn.Module:
    """Build the card's network on the meta device, without weights. Raises `CheckpointError` if its sizes are wrong.

    Each kind is imported when it is built: a student needs no diffusers, which takes seconds to import.
    """
    try:
        with torch.device("meta"):
            match card.kind:
                case ModelKind.STUDENT:
                    from dpiqa.models.student import build_student  # noqa: PLC0415
                    from dpiqa.models.student_config import StudentConfig  # noqa: PLC0415

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
