"""Watches: add, list, show, end. Whether their events arrive is checked by `dpiqa watches check`."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from dpiqa.doorbell import ring_expand
from dpiqa.errors import ConfigurationError, NotFound
from dpiqa.http_api.common import JobName
from dpiqa.http_api.watches import NewWatch, WatchAccepted, WatchOut
from dpiqa.storage import watches
from dpiqa.storage.engine import transaction
from dpiqa.storage.jobs import read_job
from dpiqa.storage.profiles import profile_for
from dpiqa.storage.steering import cancel_job

from ..dependencies import (
    BacklogDep,
    DoorbellDep,
    EngineDep,
    ReaderDep,
    SettingsDep,
    StoreDep,
    SubmitterDep,
    profile_named,
)
from ..errors import as_invalid_request

router = APIRouter(prefix="/v1/watches", tags=["watches"])
_NO_SUCH: dict[int | str, dict[str, Any]] = {404: {"description": "No such watch."}}


@router.post("", operation_id="add_watch", status_code=202, summary="Watch a prefix")
def add(
    caller: SubmitterDep,
    request: NewWatch,
    response: Response,
    settings: SettingsDep,
    engine: EngineDep,
    doorbell: DoorbellDep,
    store: StoreDep,
    backlog: BacklogDep,
) -> WatchAccepted:
    """Score what events announce under a prefix, and what is there. Repeated, it changes the schedule at most.

    A prefix that S3 does not list, because there is no such bucket or these credentials may not, is refused.
    """
    backlog.check()
    caller.grants.require(request.address.bucket, request.address.key)
    with as_invalid_request(ConfigurationError):
        next(iter(store.list(request.address.bucket, request.address.key)), None)
    with transaction(engine) as connection:
        if request.requirement is None:
            profiles = [profile_named(connection, settings, name, caller) for name in request.profile_names]
        else:
            with as_invalid_request(NotFound, ConfigurationError):
                profiles = [profile_for(connection, request.requirement, caller.grants)]
        added = watches.add_watch(
            connection,
            request.address,
            profiles,
            backfill=request.backfill,
            details=request.details,
            caller=caller,
        )
        if request.reconcile_seconds is not None:
            watches.set_schedule(connection, added.watch.job.id, request.reconcile_seconds)
        watch = watches.read_watch(connection, added.watch.job.id)
    warning = ring_expand(doorbell, str(added.backfill.id)) if added.backfill else None
    response.headers["Location"] = f"/v1/watches/{watch.job.id}"
    return WatchAccepted.model_validate(watch).model_copy(update={"warning": warning})


@router.get("", operation_id="list_watches", summary="List the watches")
def list_all(
    caller: ReaderDep,
    engine: EngineDep,
    *,
    ended: Annotated[bool, Query(description="Also those that were ended.")] = False,
) -> list[WatchOut]:
    """List the standing watches, oldest first."""
    with transaction(engine) as connection:
        found = watches.list_watches(connection, ended=ended, grants=caller.grants)
    return [WatchOut.model_validate(watch) for watch in found]


@router.get("/{job_id}", operation_id="get_watch", summary="One watch", responses=_NO_SUCH)
def show(caller: ReaderDep, job_id: JobName, engine: EngineDep) -> WatchOut:
    """Show a watch: its events, its back-fill and its schedule."""
    with transaction(engine) as connection:
        watch = watches.read_watch(connection, read_job(connection, job_id, caller.grants).id)
    return WatchOut.model_validate(watch)


@router.delete("/{job_id}", operation_id="end_watch", summary="End a watch", responses=_NO_SUCH)
def end(caller: SubmitterDep, job_id: JobName, engine: EngineDep) -> WatchOut:
    """End a watch: its waiting images are not scored any more; scores and results stay. Idempotent."""
    with transaction(engine) as connection:
        watch = watches.read_watch(connection, read_job(connection, job_id, caller.grants).id)
        watches.set_schedule(connection, watch.job.id, None)
        cancel_job(connection, watch.job.id)
        watch = watches.read_watch(connection, watch.job.id)
    return WatchOut.model_validate(watch)
