"""The scorers of a worker, kept by model choice."""

import threading
from collections.abc import Callable
from functools import partial

import structlog
from sqlalchemy import Engine

from dpiqa.errors import ConfigurationError, DpiqaError
from dpiqa.models.base import ModelCard, NamesDevice, Scorer
from dpiqa.models.choice import ModelChoice
from dpiqa.pipeline.scorers import LoadedScorer, batch_size, card_of, check_directions, load_for_settings, warm_up
from dpiqa.profiles import Profile
from dpiqa.settings import Settings
from dpiqa.storage.engine import transaction
from dpiqa.storage.profiles import read_profile
from dpiqa.types import Stage
from dpiqa.watchdog import WATCHDOG

log = structlog.get_logger()

#: For a model to be loaded, or for another thread to have loaded it.
LOAD_SECONDS = 3600.0


class LoadedScorers:
    """Scorers of one stage, loaded when a profile first needs them; profiles share them. Thread-safe.

    `load` replaces `load_for_settings`, for tests.
    """

    def __init__(
        self, settings: Settings, stage: Stage, engine: Engine, *, load: Callable[[ModelChoice], Scorer] | None = None
    ) -> None:
        self._settings, self._stage, self._engine = settings, stage, engine
        self._load = load or partial(
            load_for_settings, settings=settings, transact=partial(transaction, engine), stage=stage
        )
        self._profiles: dict[str, Profile] = {}
        self._scorers: dict[ModelChoice, LoadedScorer] = {}
        self._cards: dict[ModelChoice, ModelCard] = {}  # of scorers that are not loaded
        self._lock = threading.Lock()
        self.default_scorer_id = ""  #: of the default profile, once loaded
        self.default_device: str | None = None  #: that it runs on; None: it does not say

    def load_default(self, profile: Profile) -> None:
        """Load the scorer that most work will need, before the worker reports ready. Raises as `scorer_of`."""
        if self._stage in profile.choices:
            scorer = self.scorer_of(profile).scorer
            self.default_scorer_id = scorer.card.scorer_id
            self.default_device = scorer.device if isinstance(scorer, NamesDevice) else None
        else:
            log.info("no_default_model", profile=profile.id, stage=self._stage)

    def profile(self, profile_id: str) -> Profile:
        """Return a profile of the database. Raises `DatabaseUnavailable`, `NotFound`."""
        profile = self._profiles.get(profile_id)
        if profile is None:
            with transaction(self._engine) as c:
                profile = self._profiles[profile_id] = read_profile(c, profile_id)
        return profile

    def scorer(self, profile_id: str) -> LoadedScorer:
        """Return the profile's scorer of this stage; loads it if needed. Raises as `profile` and `scorer_of`."""
        return self.scorer_of(self.profile(profile_id))

    def scorer_of(self, profile: Profile) -> LoadedScorer:
        """Return the profile's scorer of this stage; loads it if needed.

        Raises as `load_for_settings`, and `ConfigurationError` for a profile without a model of this stage, or with one
        of the other stage whose scores run against this one's.
        """
        choice = profile.choices.get(self._stage)
        if choice is None:
            raise ConfigurationError(f"profile {profile.id} has no {self._stage}", hint="give the job another profile")
        with WATCHDOG.watch("model", LOAD_SECONDS), self._lock:  # loading takes seconds: do it once
            if choice not in self._scorers:
                scorer = self._load(choice)
                self._scorers[choice] = warm_up(scorer, batch_size(scorer, self._settings))
            check_directions(profile, self._settings, {self._stage: self._scorers[choice].card})
            return self._scorers[choice]

    def card(self, profile_id: str) -> ModelCard | None:
        """Return the card of the profile's scorer of this stage, which need not be loaded.

        None for a model that is not installed, or cannot run as chosen. Raises as `profile`.
        """
        choice = self.profile(profile_id).choices.get(self._stage)
        if choice is None:
            return None
        if choice in self._scorers:
            return self._scorers[choice].card
        if choice not in self._cards:
            try:
                card = card_of(choice, self._settings)
            except DpiqaError:
                return None
            self._cards[choice] = card.model_copy(update={"requirement": choice.requirement})
        return self._cards[choice]

    def scorer_ids(self) -> dict[str, str]:
        """Return the scorer ids of the profiles that this process has met, by profile id."""
        cards = {profile_id: self.card(profile_id) for profile_id in list(self._profiles)}
        return {profile_id: card.scorer_id for profile_id, card in cards.items() if card is not None}
