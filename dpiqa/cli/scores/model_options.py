"""Models, requirements and profiles as the options of `dpiqa score` name them, checked before any image is fetched."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpiqa.cli.support import context
from dpiqa.errors import InvalidRequest
from dpiqa.models.base import Scorer
from dpiqa.models.choice import ModelChoice, parse_choice
from dpiqa.pipeline.scorers import check_choice, check_profile, database_of
from dpiqa.profiles import Profile
from dpiqa.settings import Settings
from dpiqa.types import Direction, Precision


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """The options that say what scores the images."""

    models: Sequence[str] = ()
    requirements: Sequence[str] = ()  #: names or ids
    profiles: Sequence[str] = ()
    pairs: Path | None = None  #: CSV of image-score pairs
    direction: Direction = Direction.HIGHER  #: of the scores of `pairs`
    force: bool = False  #: accept pairs that contradict each other
    precision: Precision | None = None
    channels_last: bool | None = None

    @property
    def _arithmetic(self) -> dict[str, Any]:
        return {"precision": self.precision, "channels_last": self.channels_last}

    @property
    def _has_arithmetic(self) -> bool:
        return any(value is not None for value in self._arithmetic.values())

    def check(self) -> None:
        """Raise `InvalidRequest` for options that contradict each other."""
        if len(self.models) > 1 and (self.requirements or self.pairs or self._has_arithmetic):
            raise InvalidRequest(
                "--requirement, --precision and --channels-last go with one --model",
                hint="write a profile for each choice (docs/profiles.md), and repeat --profile",
            )
        if self.profiles and (self.models or self.requirements or self.pairs):
            option = "--model" if self.models else "--requirement"
            raise InvalidRequest(f"{option} and --profile cannot be combined", hint="pass only one")
        if not (self.models or self.requirements or self.pairs) and self._has_arithmetic:
            raise InvalidRequest(
                "--precision and --channels-last need --model", hint="name the model; profiles name theirs"
            )
        if self.pairs and (self.requirements or not self.models or self._has_arithmetic):
            raise InvalidRequest(
                "--pairs goes with one --model alone", hint="dpiqa score --pairs pairs.csv -m promptiqa PATH"
            )
        for option, names in (("model", self.models), ("requirement", self.requirements)):
            if len(set(names)) < len(names):
                raise InvalidRequest(f"a {option} is named twice", hint=f"name each {option} once")

    def chosen(self, settings: Settings) -> tuple[list[Profile] | list[ModelChoice], dict[ModelChoice, Scorer]]:
        """Return the models or the profiles that are named, and the scorers that are in memory already.

        Raises as `check`, and `NotFound` or `ConfigurationError` for a model that cannot run.
        """
        self.check()
        if self.pairs:
            from dpiqa.cli.scores.pairs import scorer_by_pairs  # noqa: PLC0415 - it makes a requirement, of the database

            choice, scorer = scorer_by_pairs(settings, self.pairs, self.models[0], self.direction, force=self.force)
            return [choice], {choice: scorer}
        if not self.models and not self.requirements:
            profiles = context.profiles(settings, list(self.profiles) or None)
            for profile in profiles:
                check_profile(profile, settings)
            return profiles, {}
        choices = self._choices(settings)
        for choice in choices:
            check_choice(choice, settings)
        return choices, {}

    def _choices(self, settings: Settings) -> list[ModelChoice]:
        """Return a choice for each model or requirement. A requirement without a model brings its own."""
        if not self.requirements:
            return [parse_choice(model=model, **self._arithmetic) for model in self.models]
        if self.models:
            named = [(self.models[0], requirement) for requirement in self.requirements]
        else:
            from dpiqa.storage.profiles import choice_for  # noqa: PLC0415 - without a requirement no database is needed

            with database_of(settings) as connection:
                own = [choice_for(connection, requirement) for requirement in self.requirements]
            named = [(choice.model, choice.requirement or "") for choice in own]
        return [parse_choice(model=model, requirement=by, **self._arithmetic) for model, by in named]
