import json

import pytest
from dpiqa.api.errors import MEDIA_TYPE, install, problem_response, problem_type_of
from fastapi import FastAPI
from fastapi.testclient import TestClient

from dpiqa.errors import (
    BrokerUnavailable,
    CheckpointError,
    ConfigurationError,
    Conflict,
    DatabaseUnavailable,
    DpiqaError,
    InvalidRequest,
    NotFound,
    StoreUnavailable,
    Unavailable,
)
from dpiqa.text import shorten

CASES = [
    (NotFound, 404, "not_found"),
    (InvalidRequest, 422, "invalid_request"),
    (Conflict, 409, "conflict"),
    (DatabaseUnavailable, 503, "database_unavailable"),
    (BrokerUnavailable, 503, "broker_unavailable"),
    (StoreUnavailable, 503, "store_unavailable"),
    (Unavailable, 503, "unavailable"),
    (ConfigurationError, 500, "misconfigured"),
    (CheckpointError, 500, "misconfigured"),
    (DpiqaError, 500, "internal_error"),
    (ZeroDivisionError, 500, "internal_error"),
]
MEMBERS = {"type", "title", "status", "detail", "instance", "code", "hint"}


def client_raising(error):
    app = FastAPI()
    install(app)

    @app.get("/x")
    def x(n: int = 0):
        raise error

    return TestClient(app, raise_server_exceptions=False)


@pytest.mark.parametrize(("cls", "status", "code"), CASES)
def test_table(cls, status, code):
    problem_type = problem_type_of(cls("secret host db.internal"))
    assert (problem_type.status, problem_type.code) == (status, code)
    answer = client_raising(cls("secret host db.internal")).get("/x")
    assert answer.status_code == status
    assert answer.headers["content-type"] == MEDIA_TYPE
    problem = answer.json()
    assert set(problem) == MEMBERS
    assert problem["code"] == code
    assert problem["status"] == status
    assert problem["instance"] == "/x"
    assert ("db.internal" in answer.text) == (status < 500)  # causes on our side are not shown
    assert ("retry-after" in answer.headers) == (status == 503)


def test_the_hint_is_shown():
    problem = client_raising(NotFound("no profile `x`", hint="known: default")).get("/x").json()
    assert (problem["detail"], problem["hint"]) == ("no profile `x`", "known: default")
    assert client_raising(Conflict("other request")).get("/x").json()["hint"]


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nowhere", 404), ("POST", "/x", 405), ("GET", "/x?n=many", 422)]
)
def test_the_frameworks_refusals_are_problems(method, path, status):
    answer = client_raising(NotFound("x")).request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == MEDIA_TYPE
    assert set(answer.json()) >= MEMBERS
    if status == 405:
        assert answer.headers["allow"] == "GET, HEAD, OPTIONS"


def test_wrong_fields_are_named_and_their_values_not_repeated():
    problem = client_raising(NotFound("x")).get("/x?n=hunter2").json()
    assert [item["field"] for item in problem["errors"]] == ["query.n"]
    assert "hunter2" not in str(problem)


def test_text_of_callers_is_capped_and_visible():
    assert shorten("abc", 256) == "abc"
    assert shorten("a\x1b[31m\n", 256) == "a\\x1b[31m\\n"
    assert len(shorten("x" * 10_000, 256)) == 256
    assert len(shorten("\x00" * 10_000, 256)) == 256
    assert shorten("é☃", 256) == "é☃"
    response = problem_response(problem_type_of(NotFound("x")), detail="d" * 9999, instance="/" + "i" * 9999)
    assert len(json.loads(response.body)["instance"]) == 256
