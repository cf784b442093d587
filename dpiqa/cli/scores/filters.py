"""Which scores `dpiqa scores` shows: ranges, profiles, bands and shares. Reads the ledger, changes nothing."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from dpiqa.cli.support import console
from dpiqa.cli.support.options import parse_percent
from dpiqa.errors import InvalidRequest, NotFound
from dpiqa.types import Band, Direction

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from dpiqa.settings import Settings
    from dpiqa.storage.scores import ScoreFilter


def check_range(minimum: float | None, maximum: float | None) -> None:
    """Raise `InvalidRequest` for bounds that leave nothing or are no numbers."""
    if any(bound is not None and not math.isfinite(bound) for bound in (minimum, maximum)):
        raise InvalidRequest("--min and --max must be finite numbers", hint="scores are nominally 0 to 1")
    if minimum is not None and maximum is not None and minimum > maximum:
        raise InvalidRequest("--min is above --max", hint="exchange them")


def profile_id(
    engine: "Engine", settings: "Settings", chosen: "ScoreFilter", profile: str | None, requirement: str | None
) -> str:
    """Choose the profile: the named one, else the requirement's, else the job's, else the settings' own."""
    from dpiqa.profiles import load_profile
    from dpiqa.storage.engine import transaction
    from dpiqa.storage.jobs import read_job
    from dpiqa.storage.profiles import profile_for

    if profile and requirement:
        raise InvalidRequest("--profile and --requirement exclude each other", hint="give one of them")
    if profile and "@" in profile:
        return profile  # it may be older than those installed, or a requirement's: scores outlive files
    if profile is None and (requirement or chosen.job):
        with transaction(engine) as connection:
            if requirement:
                return profile_for(connection, requirement).id
            return read_job(connection, str(chosen.job)).profile
    return load_profile(profile or settings.profile, settings.profiles_dir).id


def direction(engine: "Engine", profile_id: str) -> Direction:
    """Say which end of a profile's scores is better."""
    from dpiqa.storage.engine import transaction
    from dpiqa.storage.profiles import direction_of

    with transaction(engine) as connection:
        return direction_of(connection, profile_id)


def in_bands(engine: "Engine", chosen: "ScoreFilter", wanted: Sequence[Band]) -> "ScoreFilter":
    """Leave scores of these bands; says on stderr whose scores have none."""
    from dpiqa.storage.engine import transaction
    from dpiqa.storage.references import ranges_of

    if not wanted:
        return chosen
    with transaction(engine) as connection:
        ranges, without = ranges_of(connection, str(chosen.profile), wanted)
    if without:
        console.warn(f"scores of {', '.join(without)} are left out: they have no bands, for want of a reference")
    return replace(chosen, within=ranges)


def share(
    engine: "Engine", chosen: "ScoreFilter", worst: str | None, best: str | None, better: Direction
) -> "ScoreFilter":
    """Turn a share into a bound on the score. Raises `NotFound` when there is nothing to take a share of."""
    from dpiqa.storage.engine import transaction
    from dpiqa.storage.scores import percentile

    if worst and best:
        raise InvalidRequest("--worst and --best exclude each other", hint="ask for one, then for the other")
    asked = worst or best
    if asked is None:
        return chosen
    share = parse_percent(asked) / 100
    lowest = bool(worst) is (better is Direction.HIGHER)
    with transaction(engine) as connection:
        threshold = percentile(connection, chosen, share, descending=not lowest)
    if threshold is None:
        raise NotFound("nothing is scored that fits", hint="ask with fewer options; `dpiqa jobs` shows what runs")
    side = "at most" if lowest else "at least"
    console.note(f"the {'worst' if worst else 'best'} {share * 100:g}%: scores of {side} {threshold:.4f}")
    return replace(chosen, max=threshold) if lowest else replace(chosen, min=threshold)
