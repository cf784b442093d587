"""Jobs of a limited key, in the worker: nothing beyond the grants is read or becomes an item."""

import json

import pytest
from support.photos import png

from dpiqa.access import Caller, Grants
from dpiqa.doorbell import Queue
from dpiqa.exports.reports import write_report
from dpiqa.objects.folder import FolderStore
from dpiqa.objects.s3 import S3Store
from dpiqa.objects.stores import Stores
from dpiqa.profiles import load_profile
from dpiqa.settings import load_settings
from dpiqa.sources.spec import SourceSpec
from dpiqa.storage.engine import transaction
from dpiqa.storage.jobs import create_job, read_job
from dpiqa.storage.reports import due_reports, request_report
from dpiqa.types import JobKind, KeyScope


@pytest.fixture
def store(s3, tmp_path):
    return Stores(S3Store.from_settings(load_settings(**s3.settings)), FolderStore([tmp_path / "photos"]))


@pytest.fixture
def submit(archive, store, s3):
    """Give a function that submits a source with a key limited to `in/` of the bucket, and lists it."""
    grants = Grants.of([f"s3://{s3.name}/in/"])
    caller = Caller(name="us", key_id="0" * 12, scopes=frozenset({KeyScope.SUBMIT}), grants=grants)

    def submit(kind, bucket="", prefix="", keys=(), **spec):
        with transaction(archive.engine) as c:
            job = create_job(
                c,
                kind=kind,
                bucket=bucket,
                prefix=prefix,
                keys=keys,
                profile=load_profile("smoke"),
                queue=Queue.BULK,
                source=SourceSpec(**spec),
                caller=caller,
            )
        archive.list_job(job.id)
        with transaction(archive.engine) as c:
            return read_job(c, job.id)

    return submit


def keys(archive):
    return [row.key for row in archive.rows("SELECT key FROM images JOIN items ON image_id = images.id ORDER BY key")]


@pytest.fixture
def objects(s3):
    for key in ("in/a.png", "in/b.png", "inside/c.png", "out/d.png"):
        s3.put(key, png(0.5))


def test_rows_of_a_manifest_beyond_the_grants_are_passed_over_and_counted(archive, submit, s3, objects):
    rows = f"bucket,key\n{s3.name},in/a.png\n{s3.name},out/d.png\nother,in/a.png\n,inside/c.png\n,in/b.png\n"
    s3.put("in/list.csv", rows.encode())
    job = submit(JobKind.MANIFEST, s3.name, address=f"s3://{s3.name}/in/list.csv")
    assert (job.state, keys(archive)) == ("running", ["in/a.png", "in/b.png"])
    assert job.tally.passed_over == {"not_granted": 3}


def test_a_manifest_beyond_the_grants_is_not_read(archive, submit, s3, objects):
    s3.put("out/list.csv", b"bucket,key\nsecret,secret.png\n")
    job = submit(JobKind.MANIFEST, s3.name, address=f"s3://{s3.name}/out/list.csv")
    assert (job.state, keys(archive)) == ("failed", [])
    assert "secret.png" not in job.error


def test_an_inventory_inside_cannot_name_data_files_beyond(archive, submit, s3, objects):
    s3.put("out/data.csv", f'"{s3.name}","in/a.png"\n'.encode())
    manifest = {
        "sourceBucket": s3.name,
        "destinationBucket": f"arn:aws:s3:::{s3.name}",
        "fileFormat": "CSV",
        "fileSchema": "Bucket, Key",
        "files": [{"key": "out/data.csv", "size": 1}],
    }
    s3.put("in/manifest.json", json.dumps(manifest).encode())
    job = submit(JobKind.INVENTORY, s3.name, "in/", address=f"s3://{s3.name}/in/manifest.json")
    assert (job.state, keys(archive)) == ("failed", [])
    s3.put("in/data.csv", f'"{s3.name}","in/a.png"\n"{s3.name}","out/d.png"\n'.encode())
    manifest["files"][0]["key"] = "in/data.csv"
    s3.put("in/manifest.json", json.dumps(manifest).encode())
    job = submit(JobKind.INVENTORY, address=f"s3://{s3.name}/in/manifest.json")
    assert (job.state, keys(archive)) == ("running", ["in/a.png"])
    assert job.tally.passed_over == {"not_granted": 1}


def test_keys_and_prefixes_are_checked_again(archive, submit, s3, objects):
    """The API refuses these; a worker that gets them all the same reads nothing beyond."""
    listed = submit(JobKind.LIST, s3.name, keys=["in/a.png", "out/d.png"])
    assert keys(archive) == ["in/a.png"]
    assert listed.tally.passed_over == {"not_granted": 1}
    whole = submit(JobKind.PREFIX, s3.name)
    assert whole.state == "failed"
    assert "not within" in whole.error
    assert keys(archive) == ["in/a.png"]


def test_a_report_beyond_the_grants_is_not_written(archive, submit, s3, objects):
    job = submit(JobKind.LIST, s3.name, keys=["in/a.png"])
    with transaction(archive.engine) as c:
        request_report(c, job.id, f"s3://{s3.name}/out/report.csv")
    archive.rows("UPDATE items SET state = 'cancelled', reason = 'job_cancelled', finished_at = now() RETURNING id")
    archive.rows("UPDATE jobs SET state = 'cancelled', finished_at = now() RETURNING id")
    with transaction(archive.engine) as c:
        (due,) = due_reports(c)
    write_report(archive.engine, load_settings(**s3.settings), due)
    assert set(s3.keys()) == {"in/a.png", "in/b.png", "inside/c.png", "out/d.png"}
    ((state, error),) = archive.rows("SELECT state, error FROM reports")
    assert state == "failed"
    assert "not within" in error
