"""Facts about a published network that its file does not state: sizes, input, scale. Defaults are the authors'."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError

from dpiqa.errors import InvalidRequest
from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.models.base import ModelCard
from dpiqa.models.promptiqa.config import SCORE_SCALE, PromptIQAConfig
from dpiqa.text import first_field_error
from dpiqa.types import ModelKind

if TYPE_CHECKING:
    from dpiqa.models.student_config import StudentConfig
    from dpiqa.models.teacher import TeacherConfig


class OnnxConfig(BaseModel):
    """Sizes of a network in an ONNX file. The default is the published student's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input_size: PositiveInt = 512  #: pixels a side

    @property
    def preprocessing(self) -> Preprocessing:
        """Return the preprocessing of the network's input."""
        return Preprocessing(width=self.input_size, height=self.input_size)


def read_architecture(file: Path) -> dict[str, Any]:
    """Read the sizes of a network that is not the published one: a JSON object, or a card with one at `architecture`.

    Raises `InvalidRequest` naming the file.
    """
    try:
        document = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise InvalidRequest(
            f"{file} is not a JSON document: {error}", hint="name a card or its architecture"
        ) from error
    architecture = document.get("architecture", document) if isinstance(document, dict) else document
    if not isinstance(architecture, dict):
        raise InvalidRequest(f"{file} does not hold a JSON object", hint="name a card or its architecture")
    return architecture


def complete_sizes(kind: ModelKind, sizes: dict[str, Any]) -> dict[str, Any]:
    """Check sizes and fill in the published ones; returns what a card has as its `architecture`.

    Raises `InvalidRequest` naming the field.
    """
    try:
        return _config(kind).model_validate(sizes).model_dump(mode="json")
    except ValidationError as error:
        wrong = first_field_error(error, "the architecture")
        raise InvalidRequest(str(wrong), hint=f"correct the architecture of this {kind}") from error


def preprocessing_of(kind: ModelKind, sizes: dict[str, Any]) -> Preprocessing:
    """Return the preprocessing of this network's input."""
    return _config(kind).model_validate(sizes).preprocessing


def scale_of(kind: ModelKind) -> str:
    """Return the scale of this network's scores."""
    return SCORE_SCALE if kind is ModelKind.PROMPTIQA else str(ModelCard.model_fields["score_scale"].default)


def _config(
    kind: ModelKind,
) -> "type[StudentConfig] | type[TeacherConfig] | type[PromptIQAConfig] | type[OnnxConfig]":
    """Import the config of one kind, and no other kind's network."""
    match kind:
        case ModelKind.STUDENT:
            from dpiqa.models.student_config import StudentConfig  # noqa: PLC0415 - needs torch

            return StudentConfig
        case ModelKind.TEACHER:
            from dpiqa.models.teacher import TeacherConfig  # noqa: PLC0415 - needs diffusers

            return TeacherConfig
        case ModelKind.PROMPTIQA:
            return PromptIQAConfig
        case ModelKind.ONNX:
            return OnnxConfig
        case ModelKind.PIXELS | ModelKind.PLUGIN:
            raise InvalidRequest(f"models of kind {kind} have no weights to import", hint="name another kind")
