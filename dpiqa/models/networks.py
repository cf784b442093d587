"""Which network a card means. Each is imported when it is built: a student needs no diffusers, which takes seconds."""

import torch
from pydantic import ValidationError
from torch import nn

from dpiqa.errors import CheckpointError
from dpiqa.models.base import ModelCard
from dpiqa.types import ModelKind


def build_network(card: ModelCard) -> nn.Module:
    """Build the card's network on the meta device, without weights. Raises `CheckpointError` if its sizes are wrong."""
    builders = {ModelKind.STUDENT: _student, ModelKind.TEACHER: _teacher, ModelKind.PROMPTIQA: _promptiqa}
    try:
        with torch.device("meta"):
            return builders[card.kind](card)
    except (ValidationError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"{card.name}: its architecture cannot be built: {reason}", hint="mend its card"
        ) from error


def _student(card: ModelCard) -> nn.Module:
    from dpiqa.models.student import Student, StudentConfig  # noqa: PLC0415

    return Student(StudentConfig.model_validate(card.architecture))


def _teacher(card: ModelCard) -> nn.Module:
    from dpiqa.models.teacher import Teacher, TeacherConfig  # noqa: PLC0415

    return Teacher(TeacherConfig.model_validate(card.architecture))


def _promptiqa(card: ModelCard) -> nn.Module:
    from dpiqa.models.promptiqa.config import PromptIQAConfig  # noqa: PLC0415
    from dpiqa.models.promptiqa.network import PromptIQA  # noqa: PLC0415

    return PromptIQA(PromptIQAConfig.model_validate(card.architecture))
