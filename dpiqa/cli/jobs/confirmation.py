"""The size of a job before it is submitted: `--dry-run`, and the question that a large job asks."""

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Engine

from dpiqa.cli.jobs.origin import Origin
from dpiqa.cli.support import console
from dpiqa.cli.support.progress import duration
from dpiqa.errors import InvalidRequest, StoreUnavailable
from dpiqa.pipeline.submission import count, describe_tally, passed_over
from dpiqa.profiles import Profile
from dpiqa.settings import Settings
from dpiqa.sources.base import Source
from dpiqa.sources.spec import Tally
from dpiqa.storage.engine import transaction
from dpiqa.storage.estimates import Estimate, estimate
from dpiqa.types import JobKind

_LINE_SECONDS = 5.0  #: between two lines of progress


class Progress:
    """Lines on stderr, one every five seconds at most, while a large source is read."""

    def __init__(self) -> None:
        self._printed_at = time.monotonic()

    def __call__(self, tally: Tally) -> None:
        """Show how much has been read."""
        if time.monotonic() - self._printed_at >= _LINE_SECONDS:
            self._printed_at = time.monotonic()
            console.note(f"{tally.read:,} read, {tally.taken:,} of them to be scored")


def confirm(settings: Settings, tally: Tally, *, yes: bool, at_least: bool = False) -> None:
    """Ask whether so many objects are to be submitted. Raises `InvalidRequest` where nobody can say so, or says no.

    `at_least`: the source has more than were counted.
    """
    if yes or tally.taken < settings.confirm_objects:
        return
    n = f"{'at least ' if at_least else ''}{tally.taken:,} objects"
    if not sys.stdin.isatty():
        raise InvalidRequest(
            f"{n} would be submitted, and nobody can be asked (DPIQA_CONFIRM_OBJECTS is {settings.confirm_objects:,})",
            hint="look with --dry-run, then repeat it with --yes",
        )
    if not console.confirm(f"Submit {n}?"):
        raise InvalidRequest("nothing was submitted", hint="--dry-run says more about the source")


def check_source(settings: Settings, origin: Origin, source: Source, *, yes: bool) -> None:
    """Look at a source that workers will read: whether it can be read, and whether it is large.

    Raises `InvalidRequest`, `ConfigurationError`. A store that does not answer is only a warning.
    """
    spec = origin.spec
    bound = min(spec.limit or settings.confirm_objects, spec.sample or settings.confirm_objects)
    is_bounded = bound < settings.confirm_objects
    at_most = 1 if yes or is_bounded else settings.confirm_objects
    try:
        tally = count(source, spec.model_copy(update={"sample": None}), at_most=at_most, on_page=Progress())
    except StoreUnavailable as error:
        console.warn(f"{error.message}; the job waits until the workers reach S3")
        return
    if not tally.taken and tally.read < at_most:
        is_glob = origin.kind is JobKind.PREFIX and any(sign in origin.prefix for sign in "*?[")
        advice = "a prefix is not a pattern, use --include" if is_glob else "keys are case-sensitive"
        console.warn(f"nothing is to be scored in {origin}: {describe_tally(tally)}; {advice}")
    confirm(settings, tally, yes=yes or is_bounded, at_least=True)


def show_dry_run(
    engine: Engine, settings: Settings, origin: Origin, profiles: Sequence[Profile], *, as_json: bool
) -> None:
    """Read the whole source and print what would become of it."""
    with origin.opened(settings) as source:
        tally = count(source, origin.spec, on_page=Progress())
    with transaction(engine) as c:
        work = {profile.id: estimate(c, profile, tally.taken) for profile in profiles}
    if as_json:
        counted = tally.model_dump(exclude={"threshold", "taken", "taken_bytes"})
        sizes = {"objects": tally.taken, "bytes": tally.taken_bytes}
        console.print_json(
            "dry-run@1",
            {"source": str(origin), "kind": origin.kind}
            | sizes
            | counted
            | {"estimates": [{"profile": profile} | asdict(its) for profile, its in work.items()]},
        )
        return
    pairs: list[tuple[str, Any]] = [
        ("source", origin),
        ("objects", f"{tally.taken:,}"),
        ("bytes", f"{tally.taken_bytes:,}" if tally.taken_bytes or not tally.taken else "not named by the source"),
        ("passed over", passed_over(tally)),
        ("malformed rows", f"{tally.malformed:,}: {'; '.join(tally.examples)}" if tally.malformed else ""),
    ]
    for profile, its in work.items():
        pairs += [("profile", profile), ("  time", _time(its)), ("  teacher", _teacher(its, tally.taken))]
    console.fields((name, value) for name, value in pairs if value != "")
    console.note("nothing was submitted")


def _time(work: Estimate) -> str:
    if work.seconds is None:
        return "unknown: no job of at least 20 images was completed under this profile in the last 30 days"
    jobs = "job" if work.n_jobs == 1 else f"{work.n_jobs} jobs"
    return f"{duration(max(work.seconds, 1))} at {work.rate:.1f}/s, as in the last {jobs} of this profile"


def _teacher(work: Estimate, n_objects: int) -> str:
    if not work.escalated_share:
        return "none"
    origin = "by the same jobs" if work.n_jobs else "at most, by the budget of the profile"
    return f"{round(work.escalated_share * n_objects):,} of them ({work.escalated_share:.1%}), {origin}"
