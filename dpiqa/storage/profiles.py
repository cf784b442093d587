"""Profiles as jobs used them, and the profile that a requirement stands for."""

from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, bindparam, false, func, select
from sqlalchemy.dialects.postgresql import insert

from dpiqa.access import EVERYTHING, Grants
from dpiqa.errors import ConfigurationError, NotFound
from dpiqa.models.choice import ModelChoice
from dpiqa.profiles import Profile, require_one_direction
from dpiqa.scorer_id import ScorerId
from dpiqa.storage.requirements import find_prepared, read_requirement
from dpiqa.storage.tables import profiles, scorers
from dpiqa.types import Direction, RequirementState, Stage

INSERT_PROFILE = insert(profiles).on_conflict_do_nothing()
PROFILE_BY_ID = select(profiles.c.definition).where(profiles.c.id == bindparam("profile_id"))
IS_PROFILE_UNCHANGED = select(profiles.c.definition == bindparam("expected", type_=profiles.c.definition.type)).where(
    profiles.c.id == bindparam("profile_id")
)
#: Of a model's newest scorer; false where the card does not say.
LOWER_IS_BETTER = (
    select(func.coalesce(scorers.c.card["lower_is_better"].as_boolean(), false()))
    .where(func.split_part(scorers.c.id, ":", 1) == bindparam("model"))
    .order_by(scorers.c.first_seen_at.desc())
    .limit(1)
)

SCORERS_OF_MODEL = select(scorers.c.id).where(func.split_part(scorers.c.id, ":", 1) == bindparam("model"))


def weights_of(c: Connection, model: str) -> set[str]:
    """Return the weights with which a model has scored, as scorer ids name them."""
    return {ScorerId.parse(scorer_id).weights for scorer_id in c.execute(SCORERS_OF_MODEL, {"model": model}).scalars()}


def read_profile(c: Connection, profile_id: str) -> Profile:
    """Return the profile as it was when it was first used. Raises `NotFound`."""
    definition = c.execute(PROFILE_BY_ID, {"profile_id": profile_id}).scalar_one_or_none()
    if definition is None:
        raise NotFound(f"no job used profile {profile_id}", hint="see `dpiqa jobs`")
    return Profile.model_validate(definition)


def remember_profile(c: Connection, profile: Profile) -> None:
    """Store the definition behind the profile's id.

    Raises `ConfigurationError` if the id had another one, it needs a requirement that is not ready, or the scales of
    its models run against each other.
    """
    check_profile(c, profile)
    definition = profile.model_dump(mode="json")
    c.execute(INSERT_PROFILE, {"id": profile.id, "definition": definition})
    if not c.execute(IS_PROFILE_UNCHANGED, {"profile_id": profile.id, "expected": definition}).scalar_one():
        raise ConfigurationError(
            f"profile {profile.id} is not what it was when it was first used",
            hint="give the changed file a new version",
        )


def check_profile(c: Connection, profile: Profile) -> None:
    """Raise `ConfigurationError` if a requirement is not ready, or the scales of the models run against each other."""
    require_one_direction(profile, _directions(c, profile))


def _directions(c: Connection, profile: Profile) -> dict[Stage, Direction]:
    """Return which end of each model's scores is better; without a plug-in's model that never scored."""
    directions = {}
    for stage, choice in profile.choices.items():
        if choice.requirement:
            directions[stage] = _direction(c, profile, choice.requirement)
        elif (known := _direction_of_model(c, choice.model)) is not None:
            directions[stage] = known
        elif "." not in choice.model:  # not `PLUGIN.MODEL`, so its scores are MOS
            directions[stage] = Direction.HIGHER
    return directions


def _direction_of_model(c: Connection, model: str) -> Direction | None:
    """Return which end of a model's scores is better, by its newest scorer's card; None where it never scored."""
    is_lower = c.execute(LOWER_IS_BETTER, {"model": model}).scalar_one_or_none()
    return None if is_lower is None else Direction.LOWER if is_lower else Direction.HIGHER


def _direction(c: Connection, profile: Profile, name: str) -> Direction:
    try:
        requirement = read_requirement(c, name)
    except NotFound as error:
        raise ConfigurationError(f"profile {profile.id}: {error.message}", hint=error.hint) from None
    if requirement.state is not RequirementState.READY:
        raise ConfigurationError(
            f"profile {profile.id}: requirement {requirement.id} is {requirement.state}",
            hint=f"see `dpiqa requirements show {requirement.id}`",
        )
    return requirement.direction


def choice_for(c: Connection, name_or_id: str, grants: Grants = EVERYTHING) -> ModelChoice:
    """Return the model that prepared the requirement last, with its version. Raises as `find_prepared`."""
    prepared = find_prepared(c, name_or_id, grants=grants)
    model = ScorerId.parse(prepared.base_scorer_id).model
    return ModelChoice(model=model, requirement=prepared.id)


def profile_for(c: Connection, name_or_id: str, grants: Grants = EVERYTHING) -> Profile:
    """Return the profile of jobs that name a requirement: every image is scored by it, and by nothing else.

    Its version is the requirement's: `portraits-by-promptiqa-koniq@1`. Raises as `find_prepared`.
    """
    choice = choice_for(c, name_or_id, grants)
    name, _, version = str(choice.requirement).partition("@")
    return Profile(
        name=f"{name}-by-{choice.model.lower()}",
        version=int(version),
        description=f"Every image by the requirement {choice.requirement}.",
        student=choice,
    )


def direction_of(c: Connection, profile_id: str) -> Direction:
    """Return which end of the scores under a stored profile is better. One that no job used counts as MOS.

    The requirement says so, or else the card of its student's scorers: a plug-in's scores may be better the lower.
    """
    known = _DIRECTIONS.setdefault(c.engine, {})
    if profile_id not in known:
        try:
            student = read_profile(c, profile_id).student
        except NotFound:
            return Direction.HIGHER
        if student.requirement is not None:
            known[profile_id] = read_requirement(c, student.requirement).direction
        else:
            direction = _direction_of_model(c, student.model)
            if direction is None:  # nothing was scored yet
                return Direction.HIGHER
            known[profile_id] = direction
    return known[profile_id]


#: By profile id: neither a stored profile nor the direction of its scores ever changes.
_DIRECTIONS: WeakKeyDictionary[Engine, dict[str, Direction]] = WeakKeyDictionary()
