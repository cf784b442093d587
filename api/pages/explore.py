"""Explore scores: a grid of pictures, worst first, with filters, a histogram and the folders; and one image."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, StreamingResponse
from sqlalchemy import Connection

from dpiqa.access import Grants
from dpiqa.errors import InvalidRequest, NotFound, Unavailable
from dpiqa.exports.formats import Format
from dpiqa.exports.rows import named_score_batches
from dpiqa.exports.schemas import SCORES
from dpiqa.http_api.common import Bucket, Key, ProfileName
from dpiqa.settings import Settings
from dpiqa.storage.engine import reading
from dpiqa.storage.explanations import read_explanation
from dpiqa.storage.lookups import lookup
from dpiqa.storage.score_filter import ScoreFilter
from dpiqa.storage.scorers import list_scorers, list_used_profiles
from dpiqa.storage.scores import ScoreRow
from dpiqa.storage.stats import ScoreStats, read_folders, read_stats
from dpiqa.types import Band, GroupBy, ResultStatus, Route, ScoreOrder

from ..dependencies import EngineDep, ReaderDep, SettingsDep
from ..exports import export_response
from ..routes.scores import ScoreParameters
from .rendering import PageRoute, is_part, read_query, render

_PAGE = 60  #: pictures of one page
_NEIGHBOURS = 6  #: images shown on each side of one
_FOLDERS = 200  #: shown at most
_MARKED = 600  #: pictures: ten pages

router = APIRouter(route_class=PageRoute, include_in_schema=False)


@router.get("/scores")
def explore(request: Request, caller: ReaderDep, engine: EngineDep, settings: SettingsDep) -> HTMLResponse:
    """Show the pictures that the address chooses; htmx, which names a cursor, gets the next ones alone."""
    parameters = read_query(request, ScoreParameters, lists={"band"})
    with reading(engine) as c:
        query = parameters.query(c, settings, caller.grants)
        page = query.page(c, limit=_PAGE, cursor=parameters.cursor)
        chosen = _chosen(parameters)
        if parameters.cursor is not None and is_part(request):
            return render(request, "score_cards.html", page=page, chosen=chosen)
        conditions = query.conditions
        profiles = [row.id for row in list_used_profiles(c, caller.grants)]
        models = sorted({row.model for row in list_scorers(c, caller.grants)})
        whole, note = _statistics(c, conditions)
        folders, folder_note = _folders(c, conditions)
    return render(
        request,
        "scores.html",
        page=page,
        chosen=chosen,
        profile=conditions.profile,
        profiles=profiles,
        models=models,
        whole=whole,
        note=note,
        folders=folders,
        folder_note=folder_note,
        parents=_parents(conditions.bucket, conditions.prefix),
        bands=list(Band),
        routes=list(Route),
        statuses=list(ResultStatus),
        orders=list(ScoreOrder),
    )


@router.post("/scores/marked")
def export_marked(
    caller: ReaderDep,
    engine: EngineDep,
    profile: Annotated[ProfileName, Form()],
    marked: Annotated[list[str], Form(max_length=_MARKED)],
) -> StreamingResponse:
    """Send the scores of the pictures that were marked, as Parquet of the schema `scores@1`."""
    named = marked_objects(marked, caller.grants)
    return export_response(SCORES, Format.PARQUET, named_score_batches(engine, profile, named))


def marked_objects(marked: Sequence[str], grants: Grants) -> list[tuple[str, str]]:
    """Return bucket and key of each picture, once. Raises `InvalidRequest`, and `NotFound` for one beyond grants."""
    objects = []
    for text in marked:
        fields = parse_qs(text)
        if set(fields) != {"bucket", "key"}:
            raise InvalidRequest("a marked picture is not a bucket and a key", hint="mark pictures in the grid")
        bucket, key = fields["bucket"][0], fields["key"][0]
        grants.require(bucket, key)
        objects.append((bucket, key))
    return list(dict.fromkeys(objects))


def _chosen(parameters: ScoreParameters) -> dict[str, Any]:
    """Return the filters as the address has them, without the place in the list."""
    return parameters.model_dump(mode="json", exclude={"cursor", "limit"})


def _statistics(c: Connection, conditions: ScoreFilter) -> tuple[ScoreStats | None, str]:
    """Return the distribution over the whole range of scores, or the reason why there is none."""
    try:
        return read_stats(c, replace(conditions, min=None, max=None), step=0.02), ""
    except (InvalidRequest, Unavailable) as error:
        return None, error.message


def _folders(c: Connection, conditions: ScoreFilter) -> tuple[list[Mapping[str, Any]], str]:
    """Return the buckets, or the folders directly below the prefix: name, prefix, count, mean."""
    by_bucket = conditions.bucket is None
    within = ScoreFilter(profile=conditions.profile, bucket=conditions.bucket, prefix=conditions.prefix)
    try:
        groups = read_stats(c, within, group_by=GroupBy.BUCKET).groups if by_bucket else read_folders(c, within)
    except (InvalidRequest, Unavailable) as error:
        return [], error.message
    shown: list[Mapping[str, Any]] = [
        {
            "bucket": group.name if by_bucket else conditions.bucket,
            "prefix": "" if by_bucket else group.name,
            "name": group.name if by_bucket else group.name[len(conditions.prefix or "") :],
            "n": group.n,
            "mean": group.mean,
        }
        for group in groups[:_FOLDERS]
        if group.name != (conditions.prefix or "") or by_bucket
    ]
    return shown, "" if len(groups) <= _FOLDERS else f"the largest {_FOLDERS} of {len(groups)}"


def _parents(bucket: str | None, prefix: str | None) -> list[tuple[str, str]]:
    """Return the folders above a prefix, as name and prefix, the bucket first."""
    if bucket is None:
        return []
    parts = (prefix or "").split("/")[:-1]
    return [(bucket, ""), *((part, "/".join(parts[: n + 1]) + "/") for n, part in enumerate(parts))]


@router.get("/image")
def show_image(
    request: Request,
    caller: ReaderDep,
    bucket: Annotated[Bucket, Query()],
    key: Annotated[Key, Query()],
    engine: EngineDep,
    settings: SettingsDep,
) -> HTMLResponse:
    """Show one image: the picture, its scores and what they mean, its route, its origin and its neighbours."""
    with reading(engine) as c:
        found = lookup(c, bucket, key, caller.grants)
        result = found.results[0] if found.results else None
        explanation = None if result is None else read_explanation(c, bucket, key, result.profile, caller.grants)
        near = [] if result is None else _around(c, settings, caller.grants, result, None)
        folder = key[: key.rfind("/") + 1]
        beside = [] if result is None else _around(c, settings, caller.grants, result, folder)
    return render(
        request,
        "image.html",
        found=found,
        items=found.items,
        measures=_measures(result),
        result=result,
        near=near,
        beside=beside,
        folder=folder,
        explanation=explanation,
    )


#: Heading, measure, and its meaning on the page of one image.
_MEASURES = (
    ("Sharpness", "sharpness", "0 (blurred or flat) to 1"),
    ("Contrast", "contrast", "0 to 1: between the darkest and the brightest parts"),
    ("Black", "clipped_dark", "share of the pixels that are black"),
    ("White", "clipped_bright", "share of the pixels that are white"),
    ("Noise", "noise", "grain, in steps of brightness, of which there are 255"),
    ("Blocks", "blockiness", "0 or more: steps on the grid of JPEG"),
    ("Colour cast", "colour_cast", "0 to about 0.6: distance of the mean colour from grey"),
)


def _measures(result: ScoreRow | None) -> list[tuple[str, str, str]]:
    """Return heading, value and meaning of each measure of a picture; a dash where it is too small for one."""
    if result is None or result.measures is None:
        return []
    values = result.measures.as_row()
    shown = []
    for heading, name, meaning in _MEASURES:
        value = values[name]
        text = "-" if value is None else f"{value:.1%}" if name.startswith("clipped") else f"{value:.3f}"
        shown.append((heading, text, meaning))
    return shown


def _around(c: Connection, settings: Settings, grants: Grants, result: ScoreRow, folder: str | None) -> list[ScoreRow]:
    """Return the images whose scores are next to one's, lowest first: of the bucket, or of a folder."""
    if folder is not None and not folder:
        return []
    parts = []
    for order, bound in ((ScoreOrder.HIGHEST_FIRST, "max"), (ScoreOrder.LOWEST_FIRST, "min")):
        chosen = ScoreParameters.model_validate(
            {"bucket": result.bucket, "prefix": folder, "profile": result.profile, "sort": order, bound: result.score}
        )
        try:
            rows = chosen.query(c, settings, grants).page(c, limit=_NEIGHBOURS + 1).items
        except (InvalidRequest, NotFound):
            return []
        parts.append([row for row in rows if row.key != result.key][:_NEIGHBOURS])
    return [*reversed(parts[0]), *parts[1]]
