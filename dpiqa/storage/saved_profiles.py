"""Profiles that are stored in the ledger: saved from a chosen cut-off, or left by earlier jobs.

A profile's file, in `DPIQA_PROFILES_DIR` of the process that submits, comes first. Workers read the definition of a
job's profile from the ledger, so a saved one needs no file anywhere.
"""

from pathlib import Path

from sqlalchemy import Connection, select
from sqlalchemy.dialects.postgresql import insert

from dpiqa.access import EVERYTHING, Grants
from dpiqa.errors import Conflict, NotFound
from dpiqa.profiles import Cutoff, Profile, list_profiles, load_profile
from dpiqa.storage.audit import audited
from dpiqa.storage.profiles import check_profile
from dpiqa.storage.scorers import list_used_profiles
from dpiqa.storage.tables import profiles
from dpiqa.types import AuditAction


def find_named_profile(
    c: Connection,
    name_or_id: str,
    profiles_dir: Path | None = None,
    *,
    grants: Grants = EVERYTHING,
    client: str | None = None,
) -> Profile:
    """Return the profile of a file, or else a stored one, of an id or the newest version of a name. Raises `NotFound`.

    Where the grants are limited, stored profiles count only with results within them, or if the client saved them.
    """
    try:
        return load_profile(name_or_id, profiles_dir)
    except NotFound as unknown:
        name, at, version = name_or_id.rpartition("@") if "@" in name_or_id else (name_or_id, "", "")
        versions = {profile.version: profile for profile in _stored(c, name) if _is_visible(c, profile, grants, client)}
        wanted = [number for number in versions if not at or str(number) == version]
        if not wanted:
            raise unknown from None
        return versions[max(wanted)]


def save_profile(
    c: Connection,
    name: str,
    base: Profile,
    cutoff: Cutoff,
    *,
    description: str = "",
    profiles_dir: Path | None = None,
    client: str | None = None,
) -> Profile:
    """Store a profile: the models of another one with a cut-off of its own, as the next version of a name.

    The same profile again is not stored again: the version that it has is returned. Raises `Conflict` if another
    request takes the version at the same time, `ConfigurationError` as `check_profile`.
    """
    known = [*_stored(c, name), *(profile for profile in list_profiles(profiles_dir) if profile.name == name)]
    version = 1 + max((profile.version for profile in known), default=0)
    changes = {"name": name, "description": description, "cutoffs": (cutoff,)}
    for profile in known:
        same = base.model_copy(update=changes | {"version": profile.version})
        if profile == same:
            return profile
    profile = base.model_copy(update=changes | {"version": version})
    check_profile(c, profile)
    row = {"id": profile.id, "definition": profile.model_dump(mode="json"), "client": client}
    stored = c.execute(insert(profiles).on_conflict_do_nothing().returning(profiles.c.id), row).one_or_none()
    if stored is None:
        raise Conflict(f"profile {profile.id} was saved by another request", hint="save it again")
    audited(c, AuditAction.PROFILE, profile.id, base=base.id, cutoff=cutoff.at, margin=cutoff.margin)
    return profile


def _stored(c: Connection, name: str) -> list[Profile]:
    """Return the stored versions of a profile."""
    of_name = profiles.c.id.startswith(f"{name}@", autoescape=True)
    return [
        Profile.model_validate(definition)
        for definition in c.execute(select(profiles.c.definition).where(of_name)).scalars()
    ]


def _is_visible(c: Connection, profile: Profile, grants: Grants, client: str | None) -> bool:
    if not grants.are_limited:
        return True
    saved_by = c.execute(select(profiles.c.client).where(profiles.c.id == profile.id)).scalar_one()
    if client is not None and saved_by == client:
        return True
    return profile.id in {used.id for used in list_used_profiles(c, grants)}
