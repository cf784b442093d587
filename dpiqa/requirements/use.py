"""What a requirement means to a job: a choice of model, and a profile of its own."""

from sqlalchemy import Connection

from dpiqa.errors import NotFound
from dpiqa.models.choice import ModelChoice
from dpiqa.profiles import Profile
from dpiqa.requirements.store import find
from dpiqa.storage.jobs import read_profile
from dpiqa.storage.requirements import read_requirement
from dpiqa.types import Direction


def choose(c: Connection, name_or_id: str) -> ModelChoice:
    """Return the model that prepared the requirement last, with the requirement's version. Raises as `find`."""
    prepared = find(c, name_or_id)
    model = prepared.base_scorer_id.partition(":")[0]
    return ModelChoice(model=model, requirement=prepared.id)


def profile_for(c: Connection, name_or_id: str) -> Profile:
    """Return the profile of jobs that name a requirement: every image is scored by it, and by nothing else.

    Its version is the requirement's: `portraits-by-promptiqa-koniq@1`. Raises as `find`.
    """
    choice = choose(c, name_or_id)
    name, _, version = str(choice.requirement).partition("@")
    return Profile(
        name=f"{name}-by-{choice.model.lower()}",
        version=int(version),
        description=f"Every image by the requirement {choice.requirement}.",
        student=choice,
    )


def direction_of(c: Connection, profile_id: str) -> Direction:
    """Say how the scores under a stored profile are to be read. One that no job used counts as MOS."""
    try:
        requirement = read_profile(c, profile_id).student.requirement
    except NotFound:
        return Direction.HIGHER
    return Direction.HIGHER if requirement is None else read_requirement(c, requirement).direction
