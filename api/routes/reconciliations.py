"""Reconciliations: request, list, show. A worker does the work."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from dpiqa.doorbell import ring_reconcile
from dpiqa.errors import ConfigurationError, InvalidRequest, NotFound
from dpiqa.http_api.common import Bucket, Cursor, Limit, Prefix
from dpiqa.http_api.watches import (
    NewReconciliation,
    ReconciliationAccepted,
    ReconciliationId,
    ReconciliationOut,
    ReconciliationPage,
)
from dpiqa.storage.engine import transaction
from dpiqa.storage.profiles import profile_for, remember_profile
from dpiqa.storage.reconciliations import (
    ReconciliationRequest,
    list_reconciliations,
    read_reconciliation,
    request_reconciliation,
)
from dpiqa.types import OPEN_RECONCILIATION_STATES

from ..dependencies import (
    BacklogDep,
    DoorbellDep,
    EngineDep,
    PageReplyDep,
    ReaderDep,
    SettingsDep,
    StoreDep,
    SubmitterDep,
    profile_named,
)
from ..errors import as_invalid_request
from ..manners import REVALIDATED

router = APIRouter(prefix="/v1/reconciliations", tags=["reconciliations"])


@router.post(
    "",
    operation_id="request_reconciliation",
    status_code=202,
    summary="Compare a bucket with the ledger",
    responses={409: {"description": "A process works on one of the same prefix with other options."}},
)
def request(
    caller: SubmitterDep,
    submission: NewReconciliation,
    response: Response,
    settings: SettingsDep,
    engine: EngineDep,
    doorbell: DoorbellDep,
    store: StoreDep,
    backlog: BacklogDep,
) -> ReconciliationAccepted:
    """Request a comparison: it queues what is missing or changed, and marks what was deleted. See the `Location`.

    A bucket that does not exist is refused, if S3 can be asked.
    """
    backlog.check()
    caller.grants.require(submission.address.bucket, submission.address.key)
    if submission.inventory is not None:
        caller.grants.require_address(submission.inventory)
    with as_invalid_request(ConfigurationError):
        store.require_bucket(submission.address.bucket)
    with transaction(engine) as connection:
        if len(submission.profile_names) > 1:
            raise InvalidRequest("a reconciliation compares the results of one profile", hint="request one for each")
        if submission.requirement is None:
            profile = profile_named(connection, settings, submission.profile_names[0], caller)
        else:
            with as_invalid_request(NotFound, ConfigurationError):
                profile = profile_for(connection, submission.requirement, caller.grants)
        remember_profile(connection, profile)
        requested = request_reconciliation(
            connection,
            ReconciliationRequest(
                address=submission.address,
                profile=profile.id,
                inventory=submission.inventory,
                dry_run=submission.dry_run,
                max_deleted=submission.max_deleted,
                grants=caller.grants,
            ),
        )
    warning = ring_reconcile(doorbell, str(requested.id))
    response.headers["Location"] = f"/v1/reconciliations/{requested.id}"
    return ReconciliationAccepted.model_validate(requested).model_copy(update={"warning": warning})


@router.get(
    "",
    operation_id="list_reconciliations",
    summary="List reconciliations, newest first",
    response_model=ReconciliationPage,
)
def list_all(
    caller: ReaderDep,
    engine: EngineDep,
    reply: PageReplyDep,
    bucket: Annotated[Bucket | None, Query()] = None,
    prefix: Annotated[Prefix | None, Query()] = None,
    limit: Limit = 100,
    cursor: Cursor | None = None,
) -> Response:
    """List the stored reports, newest first; those of exactly this bucket and prefix, if given."""
    with transaction(engine) as connection:
        page = list_reconciliations(
            connection, bucket=bucket, prefix=prefix, grants=caller.grants, limit=limit, cursor=cursor
        )
    return reply(ReconciliationPage, page)


@router.get(
    "/{reconciliation}",
    operation_id="get_reconciliation",
    summary="One reconciliation",
    responses={404: {"description": "No such one."}},
)
def show(
    caller: ReaderDep, reconciliation: ReconciliationId, engine: EngineDep, response: Response
) -> ReconciliationOut:
    """Show a report: counts and examples of each kind of difference, and the job that the objects went to."""
    with transaction(engine) as connection:
        found = read_reconciliation(connection, reconciliation, caller.grants)
    if found.state not in OPEN_RECONCILIATION_STATES:
        response.headers["Cache-Control"] = REVALIDATED
    return ReconciliationOut.model_validate(found)
