"""Requests made from the OpenAPI document, good and bad: no 5xx, and every answer as it is described there."""

import uuid

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi import checks

from dpiqa.storage.engine import transaction
from dpiqa.storage.steering import cancel_job

load_all_checks()

CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
    checks.negative_data_rejection,
    checks.unsupported_method,
]
OPERATIONS = [
    "DELETE /v1/jobs/{job_id}",
    "DELETE /v1/watches/{job_id}",
    "GET /healthz",
    "GET /metrics",
    "GET /readyz",
    "GET /v1/audit",
    "GET /v1/comparison",
    "GET /v1/explanations",
    "GET /v1/jobs",
    "GET /v1/jobs/{job_id}",
    "GET /v1/jobs/{job_id}/events",
    "GET /v1/jobs/{job_id}/items",
    "GET /v1/jobs/{job_id}/report",
    "GET /v1/labels",
    "GET /v1/labels/export",
    "GET /v1/models",
    "GET /v1/models/{scorer_id}",
    "GET /v1/profiles",
    "GET /v1/reconciliations",
    "GET /v1/reconciliations/{reconciliation}",
    "GET /v1/requirements",
    "GET /v1/requirements/{requirement}",
    "GET /v1/scores",
    "GET /v1/scores/export",
    "GET /v1/scores/lookup",
    "GET /v1/scores/sample",
    "GET /v1/stats",
    "GET /v1/threshold",
    "GET /v1/watches",
    "GET /v1/watches/{job_id}",
    "GET /v1/workers",
    "PATCH /v1/jobs/{job_id}",
    "POST /v1/events",
    "POST /v1/explanations",
    "POST /v1/jobs",
    "POST /v1/jobs/manifest",
    "POST /v1/jobs/{job_id}/cancel",
    "POST /v1/jobs/{job_id}/pause",
    "POST /v1/jobs/{job_id}/resume",
    "POST /v1/jobs/{job_id}/retry",
    "POST /v1/profiles",
    "POST /v1/reconciliations",
    "POST /v1/requirements",
    "POST /v1/watches",
    "PUT /v1/labels",
]


@pytest.fixture
def operations(client):
    schema = schemathesis.openapi.from_asgi("/openapi.json", client.app)
    return {operation.ok().label: operation.ok() for operation in schema.get_all_operations()}


def test_all_operations_are_tried(operations):
    assert sorted(operations) == OPERATIONS


@pytest.mark.parametrize("label", OPERATIONS)
def test_answers_are_as_described(client, operations, label):
    operation = operations[label]
    job = client.post("/v1/jobs", json={"bucket": f"b-{uuid.uuid4().hex}"}).json()["id"]
    if label.endswith("/events"):
        with transaction(client.app.state.engine) as connection:
            cancel_job(connection, job)  # else the stream would not end

    @settings(max_examples=30, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=st.one_of([operation.as_strategy(generation_mode=mode) for mode in GenerationMode]))
    def attempt(case):
        if "job_id" in (case.path_parameters or {}) and len(str(case.path_parameters["job_id"])) == 36:
            case.path_parameters["job_id"] = job  # else no generated id is ever a job
        case.headers = {**(case.headers or {}), "Host": "testserver"}
        answer = case.call()
        assert answer.status_code < 500, answer.text
        case.validate_response(answer, checks=CHECKS)

    attempt()
