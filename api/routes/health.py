"""Is it alive, is it ready, and what is it doing: for orchestrators and Prometheus."""

from collections.abc import Callable

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from sqlalchemy import text

from dpiqa.doorbell import Queue
from dpiqa.errors import DpiqaError
from dpiqa.storage import schema

from .. import errors
from ..deps import Services, ServicesDep, answer

router = APIRouter(tags=["health"])

_NOT_READY = errors.Kind(503, "not_ready", hint="mend the parts named in `checks`; `dpiqa doctor` says more")


class Alive(BaseModel):
    """This process answers."""

    status: str = "ok"


class Check(BaseModel):
    """One part this service needs."""

    part: str
    ok: bool
    detail: str = ""
    hint: str = ""


class Ready(BaseModel):
    """Every part this service needs answers."""

    status: str = "ready"
    checks: list[Check]


@router.get("/healthz", summary="Whether the process lives")
def healthz() -> Alive:
    """Say that the process lives. Asks nobody."""
    return Alive()


@router.get("/readyz", summary="Whether all it needs answers", response_model=Ready)
def readyz(request: Request, services: ServicesDep) -> Ready | Response:
    """Check database, migrations and broker; each has three seconds. 503 names what is down."""
    questions: dict[str, Callable[[], Check]] = {
        "database": lambda: _database(services),
        "migrations": lambda: _migrations(services),
        "broker": lambda: _broker(services),
    }
    asked = {part: services.ask(question) for part, question in questions.items()}
    checks = [_checked(part, lambda future=future: answer(future)) for part, future in asked.items()]  # type: ignore[misc]
    down = [check for check in checks if not check.ok]
    if not down:
        return Ready(checks=checks)
    detail = "; ".join(f"{check.part}: {check.detail}" for check in down)
    listed = [check.model_dump() for check in checks]
    return errors.response(_NOT_READY, detail=detail, instance=request.url.path, checks=listed)


def _checked(part: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except DpiqaError as error:
        kind = errors.kind_of(error)
        return Check(part=part, ok=False, detail=kind.detail or error.message, hint=kind.hint or error.hint)
    except Exception as error:  # whatever it is, the part is not ready
        return Check(part=part, ok=False, detail=errors.kind_of(error).detail)


def _database(services: Services) -> Check:
    with services.transaction() as connection:
        connection.execute(text("SELECT 1"))
    return Check(part="database", ok=True)


def _migrations(services: Services) -> Check:
    state = schema.state(services.engine)
    if state.is_current:
        return Check(part="migrations", ok=True, detail=f"revision {state.current}")
    return Check(part="migrations", ok=False, detail=str(state), hint=state.hint)


def _broker(services: Services) -> Check:
    services.doorbell.depth(Queue.LIVE)
    return Check(part="broker", ok=True)


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}},
)
def metrics(services: ServicesDep) -> Response:
    """Answer Prometheus: requests of this process; jobs, items and queues of the whole system."""
    return Response(generate_latest(services.metrics.registry), media_type=CONTENT_TYPE_LATEST)
