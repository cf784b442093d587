"""One scorer for one command: the model a user names, with a requirement where it scores by one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from dpiqa.cli import context
from dpiqa.errors import ConfigurationError

if TYPE_CHECKING:
    from dpiqa.models.base import ModelCard, Scorer
    from dpiqa.settings import Settings

ModelName = Annotated[str, typer.Argument(help="Model, as `dpiqa models list` names it.", show_default=False)]
Requirement = Annotated[
    str | None,
    typer.Option(help="What quality means to a PromptIQA model: NAME or NAME@VERSION (`dpiqa requirements list`)."),
]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N; DPIQA_DEVICE by default.")]


def load(settings: "Settings", model: str, requirement: str | None) -> "Scorer":
    """Return the scorer, in memory. Raises `NotFound`, `ConfigurationError`, `CheckpointError`."""
    from dpiqa.models.cards import find_card
    from dpiqa.models.choice import ModelChoice
    from dpiqa.models.loading import load_scorer
    from dpiqa.models.variants import chosen_card

    choice = ModelChoice(model=model, requirement=requirement)
    card = chosen_card(find_card(model, settings.models_dir), choice)
    prepared = None
    if requirement is not None:
        from dpiqa.requirements.store import find

        with context.connection(settings) as connection:
            prepared = find(connection, requirement, scorer_id=card.scorer_id)
    return load_scorer(
        choice,
        device=settings.device,
        models_dir=settings.models_dir,
        threads=settings.threads,
        requirement=prepared,
    )


def batch_size(settings: "Settings", card: "ModelCard") -> int:
    """Images per call: large networks get the teacher's."""
    from dpiqa.models.base import ModelKind

    large = card.kind in {ModelKind.TEACHER, ModelKind.PROMPTIQA}
    return settings.teacher_batch_size if large else settings.batch_size


@contextmanager
def needing_extras() -> Iterator[None]:
    """Turn a missing library into the command that brings it. Raises `ConfigurationError`."""
    try:
        yield
    except ImportError as error:
        cure = "pip install 'dpiqa[train]'"
        raise ConfigurationError(f"this needs {error.name}, which is not installed", cure=cure) from error
