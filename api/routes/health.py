"""Health and metrics, for orchestrators and Prometheus."""

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from dpiqa.http_api.common import Alive, Ready

from ..dependencies import MetricsDep, ProbesDep, get_scraper
from ..errors import ProblemType, problem_response

router = APIRouter(tags=["health"])

_NOT_READY = ProblemType(503, "not_ready", hint="fix the parts named in `checks`; `dpiqa doctor` says more")


@router.get("/healthz", operation_id="get_health", summary="Liveness of the process")
def healthz() -> Alive:
    """Liveness check; contacts no dependency."""
    return Alive()


@router.get("/readyz", operation_id="get_readiness", summary="Readiness of the service", response_model=Ready)
def readyz(request: Request, probes: ProbesDep) -> Ready | Response:
    """Check database, migrations and broker; each has three seconds. 503 names the parts that are down."""
    checks = probes.checks()
    down = [check for check in checks if not check.ok]
    if not down:
        return Ready(checks=checks)
    detail = "; ".join(f"{check.part}: {check.detail}" for check in down)
    documents = [check.model_dump() for check in checks]
    return problem_response(_NOT_READY, detail=detail, instance=request.url.path, checks=documents)


@router.get(
    "/metrics",
    operation_id="get_metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}},
    dependencies=[Depends(get_scraper)],
)
def metrics(collected: MetricsDep) -> Response:
    """Answer Prometheus: requests of this process; jobs, items and queues of the whole system."""
    return Response(generate_latest(collected.registry), media_type=CONTENT_TYPE_LATEST)
