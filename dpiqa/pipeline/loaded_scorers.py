"""The models of one stage, loaded when a profile that needs them is first met."""

import threading
import time
from collections.abc import Callable

import numpy as np
import structlog

from dpiqa.errors import ConfigurationError
from dpiqa.models.base import ModelCard, Scorer
from dpiqa.models.choice import ModelChoice
from dpiqa.pipeline.device import Model
from dpiqa.profiles import Profile
from dpiqa.types import Stage

log = structlog.get_logger()

#: How much longer than the warm-up says a batch may take before the device counts as hung.
PATIENCE = 10


class ModelShelf:
    """Profiles met so far, and their models of this stage. Thread-safe."""

    def __init__(
        self,
        stage: Stage,
        *,
        load: Callable[[ModelChoice], Scorer],
        find: Callable[[str], Profile],
        max_batch: Callable[[ModelCard], int],
    ) -> None:
        self._stage, self._load, self._find, self._max_batch = stage, load, find, max_batch
        self._profiles: dict[str, Profile] = {}
        self._models: dict[ModelChoice, Model] = {}  # profiles share them
        self._lock = threading.Lock()

    def profile(self, profile_id: str) -> Profile:
        """Return the profile. Raises what `find` raises."""
        profile = self._profiles.get(profile_id)
        if profile is None:
            profile = self._profiles[profile_id] = self._find(profile_id)
        return profile

    def model(self, profile_id: str) -> Model:
        """Return the profile's model of this stage, loading it if need be.

        Raises what `find` and `load` raise, and `ConfigurationError` for a profile without a model of this stage.
        """
        return self.model_of(self.profile(profile_id))

    def model_of(self, profile: Profile) -> Model:
        """Do as `model` does, for a profile in hand."""
        choice = self._choice(profile)
        if choice is None:
            raise ConfigurationError(f"profile {profile.id} has no {self._stage}", hint="give the job another profile")
        with self._lock:  # loading takes seconds: once is enough
            if choice not in self._models:
                self._models[choice] = self._ready(choice)
            return self._models[choice]

    def card(self, profile_id: str) -> ModelCard | None:
        """Return the card of the profile's model of this stage; None while it is not loaded."""
        choice = self._choice(self.profile(profile_id))
        model = self._models.get(choice) if choice else None
        return model.scorer.card if model else None

    def scorer_ids(self) -> dict[str, str]:
        """Return scorer ids by profile id, of the models that are loaded."""
        choices = {profile_id: self._choice(profile) for profile_id, profile in list(self._profiles.items())}
        loaded = {profile_id: self._models.get(choice) for profile_id, choice in choices.items() if choice}
        return {profile_id: model.scorer_id for profile_id, model in loaded.items() if model}

    def _ready(self, choice: ModelChoice) -> Model:
        scorer = self._load(choice)
        return _warmed_up(scorer, self._max_batch(scorer.card))

    def _choice(self, profile: Profile) -> ModelChoice | None:
        return profile.student if self._stage is Stage.STUDENT else profile.teacher


def _warmed_up(scorer: Scorer, max_batch: int) -> Model:
    """Score one blank image: the first call of a model is slow, and one that cannot run should say so at once.

    Its time says what a batch may take here: a large teacher needs minutes on a CPU, and is not hung.
    """
    wanted = scorer.card.preprocessing
    started = time.monotonic()
    scorer.score(np.zeros((1, wanted.height, wanted.width, 3), dtype=np.uint8))
    seconds = time.monotonic() - started
    log.info("model_ready", scorer=scorer.card.scorer_id, first_image_seconds=round(seconds, 3))
    return Model(scorer, max_batch, batch_seconds=PATIENCE * max_batch * seconds)
