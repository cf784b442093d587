"""Finding a requirement that is ready to score by."""

from sqlalchemy import Connection

from dpiqa.errors import ConfigurationError
from dpiqa.requirements.prepared import PreparedRequirement
from dpiqa.storage.requirement_features import read_preparations
from dpiqa.storage.requirements import Requirement, read_requirement
from dpiqa.types import RequirementState


def find(connection: Connection, name_or_id: str, *, scorer_id: str | None = None) -> PreparedRequirement:
    """Return `name@version`, or the newest ready version of `name`, with the prompt features of a checkpoint.

    `scorer_id`: of the checkpoint, in any precision; without it, the newest features count. Raises
    `NotFound`, and `ConfigurationError` for a requirement that is not ready or has no features of this checkpoint.
    """
    requirement = read_requirement(connection, name_or_id)
    _require_ready(requirement)
    made = read_preparations(connection, requirement, scorer_id)
    if not made:
        raise ConfigurationError(
            f"requirement {requirement.id} has no prompt features of {scorer_id or 'any model'}",
            cure=f"make them: `dpiqa requirements prepare {requirement.id}{_option(scorer_id)}`",
        )
    newest = made[0].preparation
    return PreparedRequirement(
        name=requirement.name,
        version=requirement.version,
        base_scorer_id=newest.scorer_id,
        features=newest.features,
        direction=requirement.direction,
    )


def _option(scorer_id: str | None) -> str:
    return f" --model {scorer_id.partition(':')[0]}" if scorer_id else ""


def _require_ready(requirement: Requirement) -> None:
    if requirement.state is RequirementState.REFUSED:
        raise ConfigurationError(
            f"requirement {requirement.id} was refused: {requirement.error}", cure="create it again with other pairs"
        )
    if requirement.state is RequirementState.PENDING:
        raise ConfigurationError(
            f"requirement {requirement.id} is not checked yet",
            cure=f"`dpiqa requirements show {requirement.id}` says how it stands; it needs a worker",
        )
