"""Requirements: define quality by examples of one's own, see whether they agree, and try them on images."""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, File, Form, Query, Request, UploadFile
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import BaseModel, ValidationError
from sqlalchemy import Connection

from dpiqa.access import Grants
from dpiqa.addresses import is_s3, object_address, parse_s3, split_s3
from dpiqa.errors import DpiqaError, InvalidRequest
from dpiqa.http_api.common import Cursor, RequirementId
from dpiqa.http_api.job_requests import ListJob
from dpiqa.http_api.requirements import NewRequirement
from dpiqa.models.cards import list_cards
from dpiqa.requirement import MAX_PAIRS, Pair, check_pairs
from dpiqa.settings import Settings
from dpiqa.storage.engine import reading
from dpiqa.storage.job_queries import JobFilter, get_job, job_items, list_jobs
from dpiqa.storage.requirement_queries import PairRow, RequirementDetail, list_requirements, show_requirement
from dpiqa.types import ENDED_JOB_STATES, Direction, ItemState, ModelKind, RequirementState
from dpiqa.validation import problem_in_words

from ..dependencies import BacklogDep, DoorbellDep, EngineDep, ReaderDep, SettingsDep, StoreDep, SubmitterDep
from ..errors import FORMS
from ..routes import jobs, requirements
from ..routes.scores import ScoreParameters
from .examples import check_uploads, scored, store_uploads
from .explore import marked_objects
from .rendering import PageRoute, error_text, render

_PAGE = 100  #: requirements of one page
_ROWS = 10  #: of examples in the form: as many as PromptIQA's own demonstration has
_TRIED = 50  #: images that one trial names at most

Body = TypeVar("Body", bound=BaseModel)

router = APIRouter(prefix="/requirements", route_class=PageRoute, include_in_schema=False)

Texts = Annotated[list[str], Form()]
Files = Annotated[list[UploadFile], File()]
Text = Annotated[str, Form()]


@router.get("")
def show_all(request: Request, caller: ReaderDep, engine: EngineDep, cursor: Cursor | None = None) -> HTMLResponse:
    """List all versions of all requirements."""
    with reading(engine) as c:
        page = list_requirements(c, grants=caller.grants, limit=_PAGE, cursor=cursor or None)
    return render(request, "requirements.html", page=page)


@router.get("/new")
def show_form(
    request: Request,
    caller: ReaderDep,
    engine: EngineDep,
    settings: SettingsDep,
    correct: Annotated[RequirementId | None, Query(description="The requirement whose pairs are a start.")] = None,
) -> HTMLResponse:
    """Show an empty form, or one with the pairs of a requirement, to correct them."""
    with reading(engine) as c:
        start = None if correct is None else show_requirement(c, correct, caller.grants)
        picked = [(pair.path, f"{pair.score:g}") for pair in start.pairs] if start else []
        return _form(request, c, caller.grants, settings, picked, start)


@router.post("/new")
def show_form_of_marked(
    request: Request,
    caller: ReaderDep,
    engine: EngineDep,
    settings: SettingsDep,
    marked: Texts = [],  # noqa: B006
) -> HTMLResponse:
    """Show the form for pictures that were marked in the grid of scores."""
    if len(marked) > MAX_PAIRS:
        raise InvalidRequest(f"{len(marked)} pictures are too many", hint=f"mark at most {MAX_PAIRS}")
    addresses = [object_address(bucket, key) for bucket, key in marked_objects(marked, caller.grants)]
    with reading(engine) as c:
        return _form(request, c, caller.grants, settings, [(address, "") for address in addresses], None)


def _form(
    request: Request,
    c: Connection,
    grants: Grants,
    settings: Settings,
    picked: list[tuple[str, str]],
    start: RequirementDetail | None,
) -> HTMLResponse:
    known = {card.name for card in list_cards(settings.models_dir) if card.kind is ModelKind.PROMPTIQA}
    used = {row.model for row in list_requirements(c, grants=grants, limit=_PAGE).items}
    return render(
        request,
        "requirement_new.html",
        picked=[(address, _place(address), score) for address, score in picked],
        rows=max(2, _ROWS - len(picked)),
        start=start,
        models=sorted(known | used),
        directions=list(Direction),
        folder=_usual_folder(c, grants),
        max_pairs=MAX_PAIRS,
    )


def _usual_folder(c: Connection, grants: Grants) -> str:
    """Return where uploads are stored unless the user names another place; empty where nothing suggests one."""
    if grants.texts:
        place = next((text for text in grants.texts if is_s3(text)), "")
        return f"{place}requirements/" if place.endswith("/") else ""
    newest = list_jobs(c, JobFilter(), limit=1).items
    address = object_address(newest[0].bucket, "requirements/") if newest and newest[0].bucket else ""
    return address if is_s3(address) else ""


def _place(path: str) -> tuple[str, str] | None:
    """Return bucket and key of a pair's image; None for a file of another machine."""
    if not is_s3(path):
        return None
    address = split_s3(path)
    return address.bucket, address.key


@router.post("")
def submit(  # noqa: PLR0913, PLR0917 - what FastAPI passes to it
    request: Request,
    caller: SubmitterDep,
    engine: EngineDep,
    doorbell: DoorbellDep,
    store: StoreDep,
    name: Text = "",
    model: Text = "",
    direction: Text = Direction.HIGHER.value,
    force: Annotated[bool, Form()] = False,
    folder: Text = "",
    image: Texts = [],  # noqa: B006 - never changed
    image_score: Texts = [],  # noqa: B006
    file: Files = [],  # noqa: B006
    file_score: Texts = [],  # noqa: B006
) -> Response:
    """Store the uploads and submit the pairs as the next version of a name; pictures without a score are left out."""

    def work() -> str:
        pairs: list[dict[str, Any]] = [{"path": image[at], "score": score} for at, score in scored(image, image_score)]
        chosen = scored([upload.filename or "" for upload in file], file_score)
        unscored = [upload.filename for at, upload in enumerate(file) if upload.filename and at not in dict(chosen)]
        if unscored:
            raise InvalidRequest(f"{unscored[0]} has no score", hint="give each upload a score from 0 to 1")
        place = f"{folder.strip().rstrip('/')}/{name}/" if folder.strip() else ""
        files = [(file[at], score) for at, score in chosen if file[at].filename]
        uploads = check_uploads([upload for upload, _ in files], place, caller.grants, request.app.state.thumbnails)
        pairs += [
            {"path": str(upload.address), "score": score} for upload, (_, score) in zip(uploads, files, strict=True)
        ]
        check_pairs([Pair(**pair) for pair in pairs])
        values = {"name": name, "model": model.strip(), "direction": direction, "force": force, "pairs": pairs}
        submission = _validated(NewRequirement, values)  # what is wrong is found before anything is stored
        store_uploads(store, uploads)
        accepted = requirements.submit(caller, submission, Response(), engine, doorbell)
        return f"/requirements/{accepted.id}"

    return _answered(request, work)


@router.get("/{requirement}")
def show(
    request: Request,
    caller: ReaderDep,
    requirement: RequirementId,
    engine: EngineDep,
    settings: SettingsDep,
    job: Annotated[str | None, Query(max_length=36, description="A job that tried it.")] = None,
    part: Annotated[str, Query(max_length=20, description="Only what moves, for htmx: `state` or `tried`.")] = "",
) -> HTMLResponse:
    """Show a version: whether its pairs agree, and the images that it was tried on."""
    with reading(engine) as c:
        detail = show_requirement(c, requirement, caller.grants)
        tried = None if job is None or part == "state" else _tried(c, settings, caller.grants, job)
        folder = _usual_folder(c, caller.grants)
    is_ready = detail.state is RequirementState.READY
    template = {"state": "requirement_state.html", "tried": "requirement_tried.html"}.get(part, "requirement.html")
    return render(
        request,
        template,
        detail=detail,
        is_ready=is_ready,
        is_pending=detail.state is RequirementState.PENDING,
        check=detail.checks[0] if detail.checks else None,
        pairs=[(pair, _place(pair.path)) for pair in sorted(detail.pairs, key=_off, reverse=True)],
        off=_off,
        tried=tried,
        job=job,
        folder=folder,
    )


def _off(pair: PairRow) -> float:
    """Return how far the score by the other pairs is from the given one, 0 to 1."""
    return 0.0 if pair.leave_one_out is None else abs(pair.leave_one_out - pair.score)


def _tried(c: Connection, settings: Settings, grants: Grants, name: str) -> dict[str, Any]:
    """Return the scores of a trial's job so far, and what could not be scored."""
    report = get_job(c, name, grants)
    rows = ScoreParameters(job=str(report.job.id)).query(c, settings, grants).page(c, limit=_TRIED).items
    rejected = job_items(c, str(report.job.id), ItemState.REJECTED, grants=grants, limit=_TRIED).items
    return {"rows": rows, "rejected": rejected, "report": report, "ended": report.job.state in ENDED_JOB_STATES}


@router.post("/try")
def try_on(  # noqa: PLR0913, PLR0917 - what FastAPI passes to it
    request: Request,
    caller: SubmitterDep,
    requirement: Annotated[RequirementId, Form()],
    engine: EngineDep,
    settings: SettingsDep,
    doorbell: DoorbellDep,
    store: StoreDep,
    backlog: BacklogDep,
    addresses: Text = "",
    folder: Text = "",
    file: Files = [],  # noqa: B006 - never changed
) -> Response:
    """Score some images of one bucket by a requirement, as a job of its own."""

    def work() -> str:
        with reading(engine) as c:
            detail = show_requirement(c, requirement, caller.grants)
        place = f"{folder.strip().rstrip('/')}/tried/" if folder.strip() else ""
        files = [upload for upload in file if upload.filename]
        uploads = check_uploads(files, place, caller.grants, request.app.state.thumbnails)
        named = [parse_s3(line.strip()) for line in addresses.splitlines() if line.strip()]
        images = [*named, *(upload.address for upload in uploads)]
        if not 1 <= len(images) <= _TRIED or len({address.bucket for address in images}) > 1:
            raise InvalidRequest(
                f"a trial names 1 to {_TRIED} images of one bucket", hint="write one s3://bucket/key in a line"
            )
        values = {"kind": "list", "bucket": images[0].bucket, "requirement": detail.id}
        submission = _validated(ListJob, values | {"keys": [address.key for address in images]})
        submission.check(caller.grants)
        store_uploads(store, uploads)
        job = jobs.submit(caller, submission, Response(), settings, engine, doorbell, store, backlog)
        return f"/requirements/{detail.id}?job={job.id}"

    return _answered(request, work)


def _validated(model: type[Body], values: dict[str, Any]) -> Body:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise InvalidRequest(f"{field} {problem_in_words(first, FORMS)}", hint="correct the form") from None


def _answered(request: Request, work: Callable[[], str]) -> Response:
    """Do the work of a form and go on to the page that it returns; an answer to htmx is a message where it fails."""
    try:
        target = request.scope.get("root_path", "") + work()
    except DpiqaError as error:
        if "hx-request" not in request.headers:
            raise
        return render(request, "message.html", message=error_text(error))
    if "hx-request" in request.headers:
        return Response(status_code=204, headers={"HX-Redirect": target})
    return RedirectResponse(target, 303)
