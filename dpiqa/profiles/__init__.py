"""Profiles: a named, versioned choice of student, teacher and routing policy. Pure but for reading TOML files.

A profile's id (`default@1`) is stored with every result, so a changed file needs a new version: the database
refuses a known id with another definition.
"""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from dpiqa.errors import ConfigurationError, NotFound
from dpiqa.models.choice import ModelChoice
from dpiqa.text import first_field_error
from dpiqa.types import Direction, Stage


class Cutoff(BaseModel):
    """A score at which a decision changes (keep or drop), and the margin in which the student is not trusted."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    at: float  #: MOS/100
    margin: Annotated[float, Field(ge=0)]  #: MOS/100; a score within `at` ± `margin` is borderline


class Profile(BaseModel):
    """The models that score an image, and the policy that selects images for the teacher."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    version: Annotated[int, Field(ge=1)]  #: any change of the file is a new version
    description: str = ""
    student: ModelChoice  #: sees every image
    teacher: ModelChoice | None = None  #: sees borderline images; None: the student decides alone
    cutoffs: tuple[Cutoff, ...] = ()
    #: of all images of a job, rounded down; above 0, at least one image may be escalated
    max_escalated_share: Annotated[float, Field(ge=0, le=1)] = 0.0

    @field_validator("student", "teacher")
    @classmethod
    def _pinned(cls, choice: ModelChoice | None) -> ModelChoice | None:
        if choice and choice.requirement and "@" not in choice.requirement:
            raise ValueError(
                f"name the requirement's version too, e.g. {choice.requirement}@1: a profile never changes"
            )
        return choice

    @property
    def id(self) -> str:
        """Name and version, as stored with every result."""
        return f"{self.name}@{self.version}"

    @property
    def choices(self) -> dict[Stage, ModelChoice]:
        """The model of each stage; without the teacher where there is none."""
        choices = {Stage.STUDENT: self.student, Stage.TEACHER: self.teacher}
        return {stage: choice for stage, choice in choices.items() if choice is not None}


def require_one_direction(profile: Profile, directions: Mapping[Stage, Direction]) -> None:
    """Raise `ConfigurationError` where the scores of student and teacher run against each other.

    `directions`: of the stages whose scale is known.
    """
    if len(set(directions.values())) > 1:
        scales = ", ".join(f"{stage}: {direction}" for stage, direction in directions.items())
        raise ConfigurationError(
            f"the scores of profile {profile.id} cannot be compared ({scales})",
            hint="choose models whose scales run the same way",
        )


def list_profiles(profiles_dir: Path | None = None) -> list[Profile]:
    """Return all profiles, sorted by name and version: the built-in ones and those in `profiles_dir`.

    Raises `ConfigurationError` for a file that is not a valid profile, two files of one id, or a folder that does not
    exist.
    """
    if profiles_dir is not None and not profiles_dir.is_dir():
        raise ConfigurationError(
            f"the folder of profiles {profiles_dir} does not exist",
            hint="create the folder, or unset DPIQA_PROFILES_DIR",
        )
    profiles: dict[str, Profile] = {profile.id: profile for profile in _built_in()}
    for path in sorted(profiles_dir.glob("*.toml")) if profiles_dir else []:
        profile = _parse(path.name, path.read_text("utf-8"))
        if profiles.setdefault(profile.id, profile) != profile:
            raise ConfigurationError(f"{path} defines {profile.id} again", hint="give it another name or version")
    return sorted(profiles.values(), key=lambda profile: (profile.name, profile.version))


def load_profile(name_or_id: str, profiles_dir: Path | None = None) -> Profile:
    """Return the profile of an id (`default@1`), or the newest version of a name. Raises `NotFound`."""
    profiles = list_profiles(profiles_dir)
    matches = [profile for profile in profiles if name_or_id in (profile.name, profile.id)]
    if not matches:
        raise NotFound(f"no profile {name_or_id!r}", hint=f"known: {', '.join(profile.id for profile in profiles)}")
    return matches[-1]


def newer_built_in(profile_id: str) -> Profile | None:
    """Return the built-in profile that an id is an older version of; None if it is of none, or the newest."""
    name, _, version = profile_id.partition("@")
    newest = max((profile for profile in _built_in() if profile.name == name), key=lambda p: p.version, default=None)
    return newest if newest is not None and version.isdecimal() and int(version) < newest.version else None


@cache
def _built_in() -> tuple[Profile, ...]:
    files = (entry for entry in resources.files(__name__).iterdir() if entry.name.endswith(".toml"))
    return tuple(_parse(entry.name, entry.read_text("utf-8")) for entry in files)


def _parse(file_name: str, text: str) -> Profile:
    try:
        return Profile.model_validate(tomllib.loads(text))
    except ValidationError as error:
        raise ConfigurationError(f"profile {file_name}: {first_field_error(error, 'the file')}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"profile {file_name} is not TOML: {error}") from error
