"""Labels: what people decided about images, for choosing a cut-off."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from dpiqa.exports.formats import Format
from dpiqa.exports.rows import label_batches
from dpiqa.exports.schemas import LABELS
from dpiqa.http_api.common import Bucket, Cursor, Limit, Prefix
from dpiqa.http_api.cutoffs import LabelPage, LabelSet, LabelsSaved, NewLabels
from dpiqa.storage.audit import audited
from dpiqa.storage.engine import reading, transaction
from dpiqa.storage.labels import list_labels, save_labels
from dpiqa.types import AuditAction

from ..dependencies import EngineDep, PageReplyDep, ReaderDep, SubmitterDep
from ..exports import RESPONSES, export_response

router = APIRouter(prefix="/v1/labels", tags=["labels"])


class LabelSelection(BaseModel):
    """The parameters that select labels."""

    model_config = ConfigDict(extra="forbid")

    label_set: LabelSet = "default"
    bucket: Bucket | None = None
    prefix: Prefix | None = Field(None, description="Keys that begin with this.")


class LabelParameters(LabelSelection):
    """The query of `GET /v1/labels`."""

    limit: Limit = 100
    cursor: Cursor | None = None


class LabelExport(LabelSelection):
    """The query of `GET /v1/labels/export`."""

    format: Format = Field(Format.CSV, description="Format of the rows.")


@router.put(
    "",
    operation_id="save_labels",
    summary="Label images",
    responses={404: {"description": "One of the images is not known; none was labelled."}},
)
def save(caller: SubmitterDep, request: NewLabels, engine: EngineDep) -> LabelsSaved:
    """Store verdicts of people about images: all or none. A set holds one label for each version of an image."""
    labels, draw = request.requested()
    with transaction(engine) as connection:
        saved = save_labels(connection, request.label_set, labels, draw=draw, grants=caller.grants)
    removed = sum(label.verdict is None for label in labels)
    return LabelsSaved(label_set=request.label_set, saved=saved, removed=removed)


@router.get("", operation_id="list_labels", summary="Labels of a set", response_model=LabelPage)
def list_all(
    caller: ReaderDep, parameters: Annotated[LabelParameters, Query()], engine: EngineDep, reply: PageReplyDep
) -> Response:
    """List the labels of a set, in the order of their images. A set without labels is empty."""
    with reading(engine) as connection:
        page = list_labels(
            connection,
            parameters.label_set,
            bucket=parameters.bucket,
            prefix=parameters.prefix,
            grants=caller.grants,
            limit=parameters.limit,
            cursor=parameters.cursor,
        )
    return reply(LabelPage, page)


@router.get(
    "/export",
    operation_id="export_labels",
    summary="All labels of a set, as a file",
    response_class=StreamingResponse,
    responses=RESPONSES,
)
def export(caller: ReaderDep, parameters: Annotated[LabelExport, Query()], engine: EngineDep) -> StreamingResponse:
    """Stream the labels of a set, of the schema `labels@1` (`docs/exports.md`).

    As CSV it is a data set: `dpiqa evaluate scores ... --dataset csv --data labels.csv` reads it beside the images.
    """
    bucket, prefix = caller.grants.narrow(parameters.bucket, parameters.prefix)
    batches = label_batches(engine, parameters.label_set, bucket, prefix)
    with transaction(engine) as connection:
        audited(connection, AuditAction.EXPORT, parameters.label_set, schema=LABELS.id, bucket=bucket, prefix=prefix)
    return export_response(LABELS, parameters.format, batches)
