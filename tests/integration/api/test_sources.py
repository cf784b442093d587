"""Jobs from manifests, inventories and folders over HTTP, with filters; and manifests as bodies."""

import gzip
import io

import pyarrow as pa
import pytest
from dpiqa.api.app import create_app
from fastapi.testclient import TestClient
from pyarrow import parquet
from sqlalchemy import text

from dpiqa.errors import DatabaseUnavailable
from dpiqa.storage.engine import make_engine, transaction
from dpiqa.storage.uploads import read_upload_page


@pytest.fixture
def engine(database_url):
    engine = make_engine(database_url, pool_size=1)
    yield engine
    engine.dispose()


def uploaded(engine, job):
    """Return the objects that a job's upload holds."""
    with transaction(engine) as c:
        return [f"{ref.bucket}/{ref.key}" for ref in read_upload_page(c, job["source"]["upload"], 1)]


def rows(engine, query):
    with transaction(engine) as c:
        return c.execute(text(query)).all()


def table(**columns):
    buffer = io.BytesIO()
    parquet.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        ("key\na.jpg\nb.jpg\n", "text/csv"),
        ("a.jpg\nb.jpg\n", "text/plain"),
        ('{"source-ref": "s3://photos/a.jpg"}\n{"key": "b.jpg"}\n', "application/x-ndjson; charset=utf-8"),
        (gzip.compress(b"key\na.jpg\nb.jpg\n", mtime=0), "application/gzip"),
        (table(key=["a.jpg", "b.jpg"]), "application/vnd.apache.parquet"),
        (table(key=["a.jpg", "b.jpg"]), "application/octet-stream"),
    ],
)
def test_a_manifest_is_the_body(client, engine, body, media_type):
    answer = client.post("/v1/jobs/manifest?bucket=photos", content=body, headers={"Content-Type": media_type})
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert answer.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert (job["kind"], job["state"], job["bucket"]) == ("manifest", "listing", "photos")
    assert uploaded(engine, job) == ["photos/a.jpg", "photos/b.jpg"]


def test_a_manifest_has_no_limit_of_a_thousand_keys_and_is_filtered(client, engine):
    keys = "\n".join(f"{n:05}.jpg\n{n:05}.xmp" for n in range(12_000))
    job = client.post("/v1/jobs/manifest?bucket=photos&exclude=*7.jpg&limit=9000&name=keys.txt", content=keys).json()
    assert rows(engine, "SELECT count(*) FROM upload_pages") == [(4,)]
    assert job["source"]["exclude"] == ["*7.jpg"]
    assert job["source"]["address"] == "keys.txt"
    assert job["tally"]["passed_over"] == {"name": 12_000 - 2_000, "excluded": 1_000} or job["tally"]["passed_over"]


def test_a_manifest_and_where_its_report_goes_are_stored_together(client, engine, monkeypatch):
    def fail(*_, **__):
        raise DatabaseUnavailable("the connection broke")

    monkeypatch.setattr("dpiqa.api.routes.jobs.plan_job", fail)
    wanted = "/v1/jobs/manifest?bucket=photos&report=s3://reports/a.csv"
    assert client.post(wanted, content="a.jpg\n").status_code == 503
    assert rows(engine, "SELECT count(*) FROM jobs") == [(0,)]
    monkeypatch.undo()
    assert client.post(wanted, content="a.jpg\n").status_code == 202
    assert rows(engine, "SELECT (SELECT count(*) FROM jobs), (SELECT count(*) FROM reports)") == [(1, 1)]


def test_the_same_manifest_gives_the_same_job_while_it_is_open(client, engine):
    first = client.post("/v1/jobs/manifest?bucket=photos", content="a.jpg\n").json()
    assert client.post("/v1/jobs/manifest?bucket=photos", content="a.jpg\n").json()["id"] == first["id"]
    assert client.post("/v1/jobs/manifest?bucket=photos&limit=1", content="a.jpg\n").json()["id"] != first["id"]
    rows(engine, "UPDATE jobs SET state = 'complete', finished_at = clock_timestamp() RETURNING id")
    assert client.post("/v1/jobs/manifest?bucket=photos", content="a.jpg\n").json()["id"] != first["id"]


def test_a_key_makes_a_repeated_upload_the_same_job_for_ever(client, engine):
    key = {"Idempotency-Key": "k1"}
    first = client.post("/v1/jobs/manifest?bucket=photos", content="a.jpg\n", headers=key).json()
    rows(engine, "UPDATE jobs SET state = 'complete', finished_at = clock_timestamp() RETURNING id")
    assert client.post("/v1/jobs/manifest?bucket=photos", content="a.jpg\n", headers=key).json()["id"] == first["id"]
    other = client.post("/v1/jobs/manifest?bucket=photos", content="b.jpg\n", headers=key)
    assert (other.status_code, other.json()["code"]) == (409, "conflict")
    assert rows(engine, "SELECT count(*) FROM uploads") == [(1,)]


@pytest.mark.parametrize(
    ("query", "body", "detail"),
    [
        ("", "", "nothing is to be scored"),
        ("", "a.jpg\n", "1 of 1 rows are malformed: row 1: no bucket is named for a.jpg"),
        ("bucket=photos&format=orc", "a.jpg\n", "manifest is not orc"),
        ("bucket=photos", gzip.compress(b"a.jpg\n" * 9000, mtime=0)[:-9], "manifest is damaged or ends early"),
        ("bucket=photos&name=m.json", "[1]", "m.json is one JSON array"),
        ("bucket=photos", "a.txt\n", "nothing is to be scored: 0 objects; passed over: 1 by name no image"),
    ],
)
def test_a_bad_manifest_submits_nothing(client, engine, query, body, detail):
    answer = client.post(f"/v1/jobs/manifest?{query}", content=body)
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(detail)
    assert rows(engine, "SELECT (SELECT count(*) FROM jobs), (SELECT count(*) FROM uploads)") == [(0, 0)]


def test_a_manifest_has_a_limit_of_bytes(settings, database_url):
    small = settings.model_copy(update={"max_manifest_bytes": 2_000_000})
    with TestClient(create_app(small)) as client:
        assert client.post("/v1/jobs/manifest?bucket=photos", content="a.jpg\n" * 300_000).status_code == 202
        answer = client.post("/v1/jobs/manifest?bucket=photos", content="a.jpg\n" * 400_000)
        assert (answer.status_code, answer.json()["code"]) == (413, "content_too_large")
        assert client.post("/v1/jobs", content="a" * 1_100_000).status_code == 413


def test_filters_and_addresses_are_kept_with_the_job(client):
    filters = {"include": ["*.jpg"], "since": "2024-06-01T00:00:00Z", "sample": 10, "seed": 3}
    for kind, where in (
        ("prefix", {"source": "s3://photos/2024/"}),
        ("manifest", {"source": "s3://lists/a.csv", "bucket": "photos", "format": "csv"}),
        ("inventory", {"source": "s3://lists/x/manifest.json", "bucket": "photos", "prefix": "2024/"}),
    ):
        answer = client.post("/v1/jobs", json={"kind": kind} | where | filters)
        assert answer.status_code == 202, answer.text
        source = client.get(f"/v1/jobs/{answer.json()['id']}").json()["source"]
        assert {name: source[name] for name in filters} == filters
        assert source["address"] == (where["source"] if kind != "prefix" else None)


@pytest.mark.parametrize(
    "request_body",
    [
        {"kind": "manifest", "source": "s3://lists/"},
        {"kind": "manifest", "source": "/etc/passwd"},
        {"kind": "inventory", "source": "s3://lists"},
        {"kind": "prefix", "bucket": "b", "since": "2024-06-01T00:00:00"},
        {"kind": "prefix", "bucket": "b", "limit": 0},
        {"kind": "prefix", "bucket": "b", "include": [""]},
        {"kind": "list", "bucket": "b", "keys": ["a"], "limit": 1},
        {"kind": "watch", "bucket": "b", "include": ["*.jpg"]},
        {"kind": "folder", "path": "photos"},
        {"kind": "folder", "path": "/srv/../etc"},
        {"kind": "folder", "path": "/etc"},
    ],
)
def test_a_request_that_cannot_be_meant_is_refused(client, request_body):
    assert client.post("/v1/jobs", json=request_body).status_code == 422


def test_only_allowed_folders_can_be_submitted(settings, tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "out")
    allowed = settings.model_copy(update={"folders": str(tmp_path / "in")})
    with TestClient(create_app(allowed)) as client:
        job = client.post("/v1/jobs", json={"kind": "folder", "path": f"{tmp_path}/in"}).json()
        assert job["bucket"] == f"file://{tmp_path}/in"
        for path in (tmp_path, tmp_path / "out", tmp_path / "in" / "link"):
            answer = client.post("/v1/jobs", json={"kind": "folder", "path": str(path)})
            assert answer.status_code == 422
            assert "may not be read in place" in answer.json()["detail"]
