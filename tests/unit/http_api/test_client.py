"""`dpiqa.Client` against the OpenAPI document: each operation is a method that sends what is described there."""

import inspect
import json
import re
from collections.abc import Iterator

import httpx
import pytest
from dpiqa.api.app import create_app
from dpiqa.api.examples import EXAMPLES

import dpiqa
from dpiqa import errors
from dpiqa.http_api.client import ScoreFilters
from dpiqa.http_api.job_requests import ListJob
from dpiqa.settings import Settings


@pytest.fixture(scope="module")
def document():
    settings = Settings(database_url="postgresql://nobody@127.0.0.1/none", broker_url="redis://127.0.0.1:1/0")
    return create_app(settings).openapi()


@pytest.fixture(scope="module")
def operations(document):
    """Operation id -> method, path, operation."""
    return {
        operation["operationId"]: (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


class Service:
    """Answers by the examples of the document, and remembers the requests."""

    def __init__(self, operations):
        self.operations, self.requests = operations, []

    def __call__(self, request):
        self.requests.append(request)
        for method, path, operation in sorted(self.operations.values(), key=lambda one: one[1].count("{")):
            if method == request.method and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", path), request.url.path):
                status = next(code for code in operation["responses"] if code.startswith("2"))
                return httpx.Response(int(status), **self.body(path, operation["responses"][status]))
        raise AssertionError(f"{request.method} {request.url.path} is not described")

    @staticmethod
    def body(path, answer):
        schema = answer.get("content", {}).get("application/json", {}).get("schema")
        if path.endswith("/events") and "job_id" in path:
            data = json.dumps(EXAMPLES["JobStatus"][0])
            return {"text": f"event: progress\ndata: {data}\n\n: waiting\n\nevent: end\ndata: {data}\n\n"}
        if schema is None:
            return {"text": "rows"}
        if schema.get("type") == "array":
            return {"json": EXAMPLES[schema["items"]["$ref"].rpartition("/")[2]]}
        return {"json": EXAMPLES[schema["$ref"].rpartition("/")[2]][0]}


@pytest.fixture
def service(operations):
    return Service(operations)


@pytest.fixture
def client(service):
    with dpiqa.Client("http://dpiqa.test", "secret", transport=httpx.MockTransport(service)) as opened:
        yield opened


#: Arguments of the methods that need any.
ARGUMENTS = {
    "submit_job": ("s3://photos/2024/",),
    "submit_manifest": (b"key\na.jpg\n",),
    "add_watch": ("s3://photos/inbox/",),
    "request_reconciliation": ({"bucket": "photos", "dry_run": True},),
    "submit_requirement": (EXAMPLES["NewRequirement"][0],),
    "send_events": ({"Records": []},),
    "lookup_image": ("photos", "2024/001.jpg"),
    "request_explanation": ("photos", "2024/001.jpg"),
    "get_explanation": ("photos", "2024/001.jpg"),
    "compare_profiles": ("default@1", "student-only@1"),
    "save_labels": (EXAMPLES["NewLabels"][0],),
    "save_profile": (EXAMPLES["NewProfile"][0],),
    "get_scorer": ("brightness:ce486fa1acdc:v2:float32",),
    "get_requirement": ("portraits@1",),
    "get_reconciliation": ("5f0c2a1b",),
}
BY_JOB = {name for name in vars(dpiqa.Client) if re.search(r"_(job|watch)(_items|_report)?$", name)} - {
    "submit_job",
    "add_watch",
}


def call(client, name, tmp_path):
    """Call an operation with the least arguments; exhaust an iterator."""
    arguments = ARGUMENTS.get(name, ("latest",) if name in BY_JOB else ())
    options = {"priority": 2} if name == "change_job" else {}
    if name in ("get_job_report", "export_scores", "export_labels"):
        arguments = (*arguments, tmp_path / "rows.csv")
    answer = getattr(client, name)(*arguments, **options)
    return list(answer) if isinstance(answer, Iterator) else answer


def test_the_methods_are_the_operations(operations):
    methods = {name for name, value in vars(dpiqa.Client).items() if inspect.isfunction(value) and name[0] != "_"}
    assert methods - {"close"} == set(operations)


def test_every_operation_is_sent_as_described_and_its_example_read(client, service, operations, tmp_path):
    for name, (method, path, operation) in operations.items():
        answer = call(client, name, tmp_path)
        request = service.requests[-1]
        assert (request.method, bool(re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", path), request.url.path))) == (
            method,
            True,
        )
        assert request.headers["Authorization"] == "Bearer secret"
        described = {one["name"] for one in operation.get("parameters", ()) if one["in"] == "query"}
        assert set(request.url.params) <= described, name
        if name not in ("delete_job", "get_job_report", "export_scores", "export_labels", "get_metrics"):
            assert answer, name


def test_keyword_parameters_are_those_of_the_document(operations):
    def described(name):
        return {one["name"] for one in operations[name][2]["parameters"] if one["in"] == "query"} - {"limit", "cursor"}

    assert set(ScoreFilters.__annotations__) == described("list_scores")
    for name in ("list_jobs", "list_job_items", "list_reconciliations", "list_audit"):
        keywords = inspect.signature(getattr(dpiqa.Client, name)).parameters
        assert set(keywords) - {"self", "job_id", "limit"} == described(name), name


def test_bodies_are_typed(client, service):
    job = client.submit_job(ListJob(kind="list", bucket="photos", keys=["a.jpg"]))
    assert json.loads(service.requests[-1].content) == {"kind": "list", "bucket": "photos", "keys": ["a.jpg"]}
    assert (job.state, job.created_at.year) == ("listing", 2026)
    status = client.get_job(job.id)
    assert (status.counts["scored"], status.rate_per_second) == (821, 5.5)
    assert [one.done for one in client.follow_job(job.id)] == [829, 829]
    (row,) = client.list_scores(bucket="photos", worst="5%")
    assert (row.key, row.score, row.band) == ("2024/001.jpg", 0.271, "bad")


def test_pages_are_asked_for_when_they_are_needed(operations):
    asked = []

    def answer(request):
        number = int(request.url.params.get("cursor", 0))
        asked.append(dict(request.url.params))
        rows = [{**EXAMPLES["ItemPage"][0]["items"][0], "id": number}] * 2
        return httpx.Response(200, json={"items": rows, "next_cursor": str(number + 1) if number < 2 else None})

    client = dpiqa.Client("http://dpiqa.test", transport=httpx.MockTransport(answer))
    items = client.list_job_items("latest", state="rejected")
    assert asked == []
    assert [next(items).id for _ in range(3)] == [0, 0, 1]
    assert asked == [{"state": "rejected", "limit": "1000"}, {"state": "rejected", "limit": "1000", "cursor": "1"}]
    assert len(list(items)) == 3
    assert len(list(client.list_job_items("latest", limit=4))) == 4
    assert [one["limit"] for one in asked[-2:]] == ["4", "2"]


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (401, "unauthorized", errors.Forbidden),
        (403, "forbidden", errors.Forbidden),
        (404, "not_found", errors.NotFound),
        (409, "conflict", errors.Conflict),
        (413, "too_large", errors.InvalidRequest),
        (422, "invalid_request", errors.InvalidRequest),
        (500, "internal_error", errors.Unavailable),
        (503, "database_unavailable", errors.DatabaseUnavailable),
        (503, "broker_unavailable", errors.BrokerUnavailable),
        (503, "overloaded", errors.Overloaded),
    ],
)
def test_problems_are_the_projects_errors(status, code, expected, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    problem = {"detail": "what is wrong", "hint": "the next step", "code": code}
    client = dpiqa.Client(transport=httpx.MockTransport(lambda request: httpx.Response(status, json=problem)))
    with pytest.raises(expected, match="what is wrong") as raised:
        client.get_job("latest")
    assert type(raised.value) is expected
    assert raised.value.hint == "the next step"


def test_what_may_be_repeated_is_repeated(monkeypatch):
    waits, answers = [], [httpx.Response(503, headers={"Retry-After": "3"}), httpx.ConnectError("refused")]
    keys = []

    def answer(request):
        keys.append(request.headers.get("Idempotency-Key"))
        following = answers.pop(0) if answers else httpx.Response(202, json=EXAMPLES["JobAccepted"][0])
        if isinstance(following, Exception):
            raise following
        return following

    monkeypatch.setattr("time.sleep", waits.append)
    client = dpiqa.Client(transport=httpx.MockTransport(answer))
    assert client.submit_job("s3://photos/").state == "listing"
    assert (len(set(keys)), len(keys), waits) == (1, 3, [3.0, 1.0])
    answers.append(httpx.ConnectError("refused"))
    with pytest.raises(errors.Unavailable, match="does not answer: refused"):
        client.pause_job("latest")  # it may have been done, so it is sent once
    assert len(keys) == 4


def test_a_page_that_is_not_the_apis_is_said(monkeypatch):
    client = dpiqa.Client(
        "http://dpiqa.test", transport=httpx.MockTransport(lambda request: httpx.Response(404, text=""))
    )
    with pytest.raises(errors.NotFound, match=r"http://dpiqa\.test/v1/jobs/latest answers 404"):
        client.get_job("latest")


def test_a_name_is_one_part_of_a_path(client, service):
    with pytest.raises(AssertionError, match=r"/v1/models/a%2Fb%3Fc is not|is not described"):
        client.get_scorer("a/b?c")
    assert service.requests[-1].url.raw_path == b"/v1/models/a%2Fb%3Fc"
