"""From a choice of model to a scorer, as workers and `dpiqa score` load it: by the settings, requirement included."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from sqlalchemy import Connection

from dpiqa.errors import ConfigurationError
from dpiqa.models.base import ModelCard, Scorer
from dpiqa.models.cards import find_card
from dpiqa.models.choice import ModelChoice, chosen_card, require_role
from dpiqa.models.loading import load_scorer
from dpiqa.profiles import Profile
from dpiqa.requirement import PreparedRequirement
from dpiqa.settings import Settings
from dpiqa.storage.engine import make_engine, transaction
from dpiqa.storage.requirements import find
from dpiqa.types import ModelKind, Stage

#: Opens a transaction; called only where a requirement is to be read.
Transact = Callable[[], AbstractContextManager[Connection]]


def load_chosen(choice: ModelChoice, settings: Settings, transact: Transact, *, stage: Stage | None = None) -> Scorer:
    """Return the chosen scorer on the settings' device, as a profile's model of `stage` where one is given.

    Raises what `load_scorer` does, what opening a transaction does, and `NotFound` or `ConfigurationError` for a
    requirement that is not there or not ready.
    """
    check_choice(choice, settings, stage)
    return load_scorer(
        choice,
        device=settings.device,
        models_dir=settings.models_dir,
        threads=settings.threads,
        requirement=_requirement(choice, settings, transact),
    )


@contextmanager
def database_of(settings: Settings) -> Iterator[Connection]:
    """Yield one transaction on the settings' database: how a process without a pool reads a requirement.

    Raises `ConfigurationError` where none is configured, `DatabaseUnavailable`.
    """
    if not settings.database_url:
        raise ConfigurationError(
            "requirements are kept in the database, and none is configured",
            hint="set DPIQA_DATABASE_URL, or start one with `dpiqa local up`",
        )
    engine = make_engine(settings.require_database_url(), pool_size=1, application_name="dpiqa-score")
    try:
        with transaction(engine) as connection:
            yield connection
    finally:
        engine.dispose()


def batch_size(card: ModelCard, settings: Settings) -> int:
    """Images that the device takes at once: few for large networks, whichever stage they serve."""
    large = card.kind in {ModelKind.TEACHER, ModelKind.PROMPTIQA}
    return settings.teacher_batch_size if large else settings.batch_size


def check_choice(choice: ModelChoice, settings: Settings, stage: Stage | None = None) -> None:
    """Raise `NotFound` or `ConfigurationError` for a model that is not here, or not to be run as chosen or at `stage`.

    Weights are not read, and a requirement is not looked up.
    """
    card = chosen_card(find_card(choice.model, settings.models_dir), choice)
    if stage is not None:
        require_role(card, stage)


def check_profile(profile: Profile, settings: Settings) -> None:
    """Do as `check_choice` for every model of the profile."""
    for stage, choice in profile.choices.items():
        check_choice(choice, settings, stage)


def _requirement(choice: ModelChoice, settings: Settings, transact: Transact) -> PreparedRequirement | None:
    if choice.requirement is None:
        return None
    card = chosen_card(find_card(choice.model, settings.models_dir), choice)
    with transact() as connection:
        return find(connection, choice.requirement, scorer_id=card.scorer_id)
