"""Findings: what is wrong with a running system, as its database knows it, and what to do about each.

`dpiqa doctor` and the overview of the pages show them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sqlalchemy import Connection

from dpiqa.doorbell import Queue
from dpiqa.errors import ConfigurationError, NotFound
from dpiqa.models.cards import find_card
from dpiqa.profiles import Profile, newer_built_in
from dpiqa.scorer_id import ScorerId
from dpiqa.storage.backlog import read_backlog
from dpiqa.storage.postponed_buckets import read_postponed
from dpiqa.storage.profiles import read_profile, weights_of
from dpiqa.storage.watches import list_watches
from dpiqa.storage.workers import live_workers
from dpiqa.types import Stage

_LIVE_SECONDS = 120.0  #: an event that waits longer is worth a look
_OVERDUE_SECONDS = 120.0  #: a lease that ran out is taken back long before
_EXPIRY_SECONDS = 14 * 86400.0  #: of notice before an API key expires


class Level(StrEnum):
    """Severity of a finding."""

    OK = "ok"
    WARN = "warn"  #: works, but not as well as it could, or not yet
    FAIL = "fail"  #: something will not work


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one check: a line of the report."""

    name: str
    level: Level
    message: str
    hint: str = ""


def ok(name: str, message: str) -> Finding:
    """Return a finding that needs no action."""
    return Finding(name, Level.OK, message)


def warn(name: str, message: str, hint: str) -> Finding:
    """Return a finding of something that works partly, or not yet."""
    return Finding(name, Level.WARN, message, hint)


def fail(name: str, message: str, hint: str) -> Finding:
    """Return a finding of something that must be fixed."""
    return Finding(name, Level.FAIL, message, hint)


def find_postponed(c: Connection) -> Finding:
    """Report whether a bucket is postponed because its fetches fail."""
    rows = read_postponed(c)
    if not rows:
        return ok("buckets", "none is postponed")
    hint = (
        "they are tried again by themselves; see whether S3 answers, and whether the workers may read them; "
        "`dpiqa jobs cancel JOB` ends a job that need not wait"
    )
    return warn("buckets", "; ".join(map(str, rows)), hint)


def find_waiting(c: Connection) -> Finding:
    """Report whether what waits is taken, and whether leases that ran out are taken back."""
    backlog = read_backlog(c, overdue_seconds=_OVERDUE_SECONDS)
    waits = {queue: seconds for queue, seconds in backlog.oldest_seconds.items() if seconds > 0}
    message = ", ".join(f"{queue}: {seconds:.0f} s" for queue, seconds in waits.items())
    message = f"longest waits: {message}" if waits else "nothing waits"
    if backlog.overdue_leases:
        message = f"{message}; {backlog.overdue_leases} lease(s) ran out and no worker takes them back"
        return warn("queues", message, "start a worker; docs/operations.md: leases that run out")
    if waits.get(Queue.LIVE, 0) > _LIVE_SECONDS or waits.get(Queue.MAINTENANCE, 0) > _LIVE_SECONDS:
        return warn("queues", message, "see `dpiqa workers` and docs/operations.md: stuck queue")
    return ok("queues", message)


def find_expiring_keys(c: Connection) -> Finding:
    """Report whether an API key expires soon."""
    seconds = read_backlog(c).next_key_expiry_seconds
    if seconds is None:
        return ok("API keys", "no live key expires")
    message = f"the next one expires in {seconds / 86400:.1f} days"
    if seconds < _EXPIRY_SECONDS:
        return warn("API keys", message, "`dpiqa keys list` names it; `dpiqa keys create` makes its successor")
    return ok("API keys", message)


def find_workers(c: Connection, profile: Profile) -> Finding:
    """Report whether both models of a profile are served."""
    alive = live_workers(c)
    needed = [Stage.STUDENT] + ([Stage.TEACHER] if profile.teacher else [])
    missing = [stage.value for stage in needed if not any(worker.stage == stage for worker in alive)]
    if missing:
        hint = "start " + " and ".join(f"`dpiqa worker {stage}`" for stage in missing)
        return warn("workers", f"no {' and no '.join(missing)} worker is alive: submitted work waits", hint)
    served = {worker.stage: worker.scorer_id for worker in alive}
    mixed = sorted({worker.stage.value for worker in alive if worker.scorer_id != served[worker.stage]})
    if mixed:
        message = f"{' and '.join(mixed)} workers serve different scorers"
        return warn("workers", message, "give all workers the same version, models and precision")
    return ok("workers", ", ".join(f"{worker.stage} {worker.host}:{worker.pid}" for worker in alive))


def find_old_profiles(c: Connection, profile: Profile, models_dir: Path | None) -> Finding:
    """Report watches, and the profile in use, of an older version of a built-in profile with other weights today.

    `models_dir`: as in the settings. Models that are not installed here, or are broken, are not compared.
    """
    messages, hints = [], []
    newer = newer_built_in(profile.id)
    if newer is not None and (changed := _models_with_other_weights(c, profile, models_dir)):
        messages.append(f"DPIQA_PROFILE is {profile.id}, and {_have_other_weights(changed)}")
        hints.append(f"set DPIQA_PROFILE={newer.name}")
    for watch in list_watches(c):
        for profile_id in watch.job.profiles:
            newer = newer_built_in(profile_id)
            if newer is None:
                continue
            if changed := _models_with_other_weights(c, read_profile(c, profile_id), models_dir):
                what = f"{watch.address} is watched under {profile_id} ({watch.job.short_id})"
                messages.append(f"{what}, and {_have_other_weights(changed)}")
                hints.append(f"add a watch of {watch.address} under {newer.id} and end the old one")
    if not messages:
        return ok("profiles", "none that is in use has got other weights")
    consequence = "further images are scored with the new weights beside the old results"
    hint = "; ".join([*hints, "docs/profiles.md: when a model gets other weights"])
    return warn("profiles", f"{'; '.join(messages)}: {consequence}", hint)


def _models_with_other_weights(c: Connection, profile: Profile, models_dir: Path | None) -> list[str]:
    """Return the models of a profile that have scored with other weights than they have here."""
    changed = set()
    for choice in profile.choices.values():
        try:
            today = ScorerId.parse(find_card(choice.model, models_dir).scorer_id).weights
        except (ConfigurationError, NotFound):  # of a model that is broken: the check of models says so
            continue
        if weights_of(c, choice.model) - {today}:
            changed.add(choice.model)
    return sorted(changed)


def _have_other_weights(models: Sequence[str]) -> str:
    return f"{' and '.join(models)} {'has' if len(models) == 1 else 'have'} other weights now"


def find_problems(c: Connection, profile: Profile, models_dir: Path | None) -> list[Finding]:
    """Return what is wrong now; nothing where all is well. `models_dir`: as for `find_old_profiles`."""
    findings = [
        find_workers(c, profile),
        find_waiting(c),
        find_postponed(c),
        find_expiring_keys(c),
        find_old_profiles(c, profile, models_dir),
    ]
    return [finding for finding in findings if finding.level is not Level.OK]
