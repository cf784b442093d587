"""One scorer for one command: the model a user names, with a requirement where it scores by one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from dpiqa.errors import ConfigurationError

if TYPE_CHECKING:
    from dpiqa.models.base import Scorer
    from dpiqa.settings import Settings

ModelName = Annotated[str, typer.Argument(help="Model, as `dpiqa models list` names it.", show_default=False)]
Requirement = Annotated[
    str | None,
    typer.Option(help="What quality means to a PromptIQA model: NAME or NAME@VERSION (`dpiqa requirements list`)."),
]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N; DPIQA_DEVICE by default.")]


def load(settings: "Settings", model: str, requirement: str | None) -> "Scorer":
    """Return the loaded scorer. Raises as `load_for_settings`, and `InvalidRequest` for an invalid requirement name."""
    from dpiqa.models.choice import parse_choice
    from dpiqa.pipeline.scorers import load_for_settings

    choice = parse_choice(model=model, requirement=requirement)
    return load_for_settings(choice, settings)


@contextmanager
def needing_extras() -> Iterator[None]:
    """Turn a missing library into the command that brings it. Raises `ConfigurationError`."""
    try:
        yield
    except ImportError as error:
        hint = "pip install 'dpiqa[train]'"
        raise ConfigurationError(f"this needs {error.name}, which is not installed", hint=hint) from error
