"""Manifests and inventories in S3, folders, and uploads become items: read by a lister, or uploaded by a command."""

import gzip
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import orc, parquet
from support.photos import png

from dpiqa.addresses import folder_bucket
from dpiqa.doorbell import Queue
from dpiqa.objects.folder import FolderStore
from dpiqa.objects.s3 import S3Store
from dpiqa.objects.stores import Stores
from dpiqa.profiles import load_profile
from dpiqa.settings import load_settings
from dpiqa.sources import readers
from dpiqa.sources.spec import SourceSpec
from dpiqa.storage.engine import transaction
from dpiqa.storage.jobs import read_job, submit_job
from dpiqa.types import JobKind


@pytest.fixture
def store(s3, tmp_path):
    return Stores(S3Store.from_settings(load_settings(**s3.settings)), FolderStore([tmp_path / "photos"]))


@pytest.fixture
def submit(archive, store):
    """Give a function that submits a source, lists it and returns the job."""

    def submit(kind, bucket="", prefix="", **spec):
        with transaction(archive.engine) as c:
            job = submit_job(
                c, kind=kind, bucket=bucket, prefix=prefix, profile=load_profile("smoke"), source=SourceSpec(**spec)
            )
        archive.list_job(job.id)
        with transaction(archive.engine) as c:
            return read_job(c, job.id)

    return submit


def images(archive):
    query = "SELECT bucket, key, etag FROM images JOIN items ON image_id = images.id ORDER BY bucket, key"
    return [tuple(row) for row in archive.rows(query)]


def test_a_manifest_in_s3_is_read_by_the_lister(archive, submit, s3):
    rows = "bucket,key,etag\nphotos,a.jpg,e1\nother,b.jpg,e2\n,c.jpg,e3\nphotos,readme.txt,e4\nphotos,,e5\n"
    s3.put("lists/a b.csv.gz", gzip.compress(rows.encode()))
    job = submit(JobKind.MANIFEST, "third", address=f"s3://{s3.name}/lists/a b.csv.gz", max_malformed=0.5)
    assert images(archive) == [("other", "b.jpg", "e2"), ("photos", "a.jpg", "e1"), ("third", "c.jpg", "e3")]
    assert (job.state, job.address) == ("running", f"s3://{s3.name}/lists/a b.csv.gz")
    assert job.tally.passed_over == {"name": 1}
    assert (job.tally.malformed, job.tally.examples) == (1, ("row 6: there is no key",))


@pytest.mark.parametrize(
    ("key", "body", "error"),
    [
        ("gone.csv", None, "does not exist"),
        ("folder/", b"", "is a prefix, not a manifest"),
        ("bad.csv", b"key\n\n" + b",\n" * 20, "20 of 20 rows are malformed: row 3: there is no key"),
        ("short.csv.gz", gzip.compress(b"key\n" + os.urandom(9000))[:-99], "is damaged or ends early"),
    ],
)
def test_a_manifest_that_cannot_be_read_fails_its_job(archive, submit, s3, key, body, error):
    if body is not None:
        s3.put(key, body)
    job = submit(JobKind.MANIFEST, "photos", address=f"s3://{s3.name}/{key}")
    assert job.state == "failed"
    assert error in job.error


def test_a_manifest_that_changes_while_it_is_read_fails_its_job(archive, submit, s3, store, monkeypatch):
    monkeypatch.setattr(readers, "PAGE_ROWS", 10)
    s3.put("m.txt", "\n".join(f"{n}.jpg" for n in range(100)))
    job = submit(JobKind.MANIFEST, "photos", address=f"s3://{s3.name}/m.txt")
    assert (job.state, job.tally.taken, job.cursor.split(":")[1]) == ("running", 100, "100")
    archive.rows(
        "UPDATE jobs SET state = 'listing', cursor = split_part(cursor, chr(58), 1) || chr(58) || '30' RETURNING id"
    )
    s3.put("m.txt", "x.jpg")
    archive.list_job(job.id)
    (row,) = archive.rows("SELECT state, error FROM jobs")
    assert (row.state, "changed while it was read" in row.error) == ("failed", True)


# Inventories

COLUMNS = ("Bucket", "Key", "VersionId", "IsLatest", "IsDeleteMarker", "Size", "LastModifiedDate", "ETag")
VERSIONS = [
    ("photos", "2024/a b+ü%.jpg", "v2", True, False, 10, "2024-06-01T00:00:00.000Z", "e2"),
    ("photos", "2024/a b+ü%.jpg", "v1", False, False, 9, "2024-05-01T00:00:00.000Z", "e1"),
    ("photos", "2024/gone.jpg", "v3", True, True, None, "2024-05-01T00:00:00.000Z", None),
    ("photos", "2023/b.jpg", None, True, False, 8, "2023-05-01T00:00:00.000Z", "e4"),
    ("photos", "2024/notes.txt", None, True, False, 8, "2023-05-01T00:00:00.000Z", "e5"),
]
URL_ENCODED = {"2024/a b+ü%.jpg": "2024/a+b%2B%C3%BC%25.jpg"}


def data_file(kind):
    if kind == "CSV":
        text = [
            ["" if v is None else str(v).lower() if isinstance(v, bool) else str(v) for v in row] for row in VERSIONS
        ]
        lines = [",".join(f'"{URL_ENCODED.get(value, value)}"' for value in row) for row in text]
        return gzip.compress("\n".join(lines).encode(), mtime=0)
    names = ("bucket", "key", "version_id", "is_latest", "is_delete_marker", "size", "last_modified_date", "e_tag")
    buffer = io.BytesIO()
    table = pa.table(dict(zip(names, map(list, zip(*VERSIONS, strict=True)), strict=True)))
    (parquet if kind == "PARQUET" else orc).write_table(table, buffer)
    return buffer.getvalue()


def manifest(kind, bucket, *files):
    entries = [{"key": key, "size": len(data), "MD5checksum": hashlib.md5(data).hexdigest()} for key, data in files]
    schema = ", ".join(COLUMNS) if kind == "CSV" else "message s3.inventory { required binary bucket (STRING); }"
    return json.dumps(
        {
            "sourceBucket": "photos",
            "destinationBucket": f"arn:aws:s3:::{bucket}",
            "version": "2016-11-30",
            "creationTimestamp": "1514944800000",
            "fileFormat": kind,
            "fileSchema": schema,
            "files": entries,
        }
    )


@pytest.mark.parametrize("kind", ["CSV", "PARQUET", "ORC"])
def test_an_inventory_gives_the_latest_versions(archive, submit, s3, kind):
    data = data_file(kind)
    s3.put("photos/daily/data/1", data)
    s3.put("photos/daily/now/manifest.json", manifest(kind, s3.name, ("photos/daily/data/1", data)))
    job = submit(JobKind.INVENTORY, prefix="2024/", address=f"s3://{s3.name}/photos/daily/now/manifest.json")
    assert job.error is None
    assert images(archive) == [("photos", "2024/a b+ü%.jpg", "e2")]
    assert job.tally.passed_over == {"old_version": 1, "delete_marker": 1, "other_prefix": 1, "name": 1}
    (row,) = archive.rows("SELECT version_id, size, last_modified::text FROM images")
    assert tuple(row)[:2] == ("v2", 10)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{}", "is not a manifest of S3 Inventory: sourceBucket: is required"),
        ("key\na.jpg\n", "is not a manifest of S3 Inventory"),
        (manifest("CSV", "dest", ("gone", b"x")).replace("CSV", "AVRO"), "unknown format 'AVRO'"),
        (manifest("CSV", "{bucket}", ("gone.csv.gz", b"x")), "gone.csv.gz does not exist"),
        (manifest("CSV", "{bucket}", ("data", b"other")), "has the MD5"),
        (manifest("ORC", "{bucket}", ("data", data_file("CSV"))), "data is not orc"),
        (manifest("CSV", "{bucket}", ("data", data_file("CSV"))).replace(", Key", ", Kee"), "has no Key"),
    ],
)
def test_an_inventory_that_cannot_be_read_fails_its_job(archive, submit, s3, text, error):
    s3.put("data", data_file("CSV"))
    s3.put("manifest.json", text.replace("{bucket}", s3.name))
    job = submit(JobKind.INVENTORY, address=f"s3://{s3.name}/manifest.json")
    assert (job.state, images(archive)) == ("failed", [])
    assert error in job.error


# Folders


def test_a_folder_is_scored_in_place_and_nothing_outside_it(archive, submit, tmp_path):
    root = tmp_path / "photos"
    (root / "b").mkdir(parents=True)
    (root / ".git").mkdir()
    for name in ("b/ü 1.png", "a.png", "b.png", ".git/x.png", "readme.txt"):
        (root / name).write_bytes(png(0.9))
    (tmp_path / "secret.png").write_bytes(png(0.9))
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    (root / "up").symlink_to(tmp_path)
    job = submit(JobKind.FOLDER, folder_bucket(root))
    assert [key for _, key, _ in images(archive)] == ["a.png", "b.png", "b/ü 1.png", "link.png"]
    archive.worker().score(archive.doorbell.rung(Queue.BULK))
    rows = archive.rows("SELECT state, reason, count(*) FROM items GROUP BY state, reason ORDER BY state")
    assert rows == [("rejected", "access_denied", 1), ("scored", None, 3)]
    assert (job.address, job.tally.passed_over) == (f"file://{root}", {"name": 1})
    assert submit(JobKind.FOLDER, folder_bucket(tmp_path)).state == "failed"


def test_files_whose_names_are_not_text_are_counted(archive, submit, tmp_path):
    root = tmp_path / "photos"
    root.mkdir()
    (root / "a.png").write_bytes(png(0.5))
    (root / os.fsdecode(b"\xff.png")).write_bytes(png(0.5))
    job = submit(JobKind.FOLDER, folder_bucket(root), max_malformed=0.5)
    assert (job.state, [key for _, key, _ in images(archive)]) == ("running", ["a.png"])
    assert (job.tally.malformed, job.tally.examples[0].split(":")[0]) == (1, r"file \udcff.png")
    assert submit(JobKind.FOLDER, folder_bucket(root)).state == "failed"


def test_a_large_folder_is_listed_in_the_order_of_s3_with_any_start(tmp_path, monkeypatch):
    monkeypatch.setattr("dpiqa.objects.folder._MAX_NAMES", 3)
    monkeypatch.setattr("dpiqa.objects.folder._PAGE", 4)
    names = [
        "a.png",
        "a/1.png",
        "a/b/c.png",
        "a/b.png",
        "a-.png",
        "b.png",
        "z/ä.png",
        "é.png",
        "Z.png",
        "c.png",
        "d.png",
    ]
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    store, bucket = FolderStore([tmp_path]), folder_bucket(tmp_path)

    def keys(prefix="", after=None):
        return [ref.key for page in store.list(bucket, prefix, after) for ref in page]

    in_order = sorted(names, key=str.encode)
    assert keys() == in_order
    for number, key in enumerate(in_order):
        assert keys(after=key) == in_order[number + 1 :]
    assert keys("a/") == ["a/1.png", "a/b.png", "a/b/c.png"]


# Uploads

SUBMIT = [sys.executable, "-m", "dpiqa.cli", "submit", "--list"]


def test_a_killed_upload_continues_and_adds_nothing_twice(archive, s3, broker_url, database_url, tmp_path):
    path = tmp_path / "keys.csv"
    path.write_text("key,etag\n" + "".join(f"{n:06}.jpg,{n}\n" for n in range(60_000)))
    env = (
        os.environ
        | s3.env
        | {
            "DPIQA_DATABASE_URL": database_url,
            "DPIQA_BROKER_URL": broker_url,
            "DPIQA_PROFILE": "smoke",
            "DPIQA_HOME": str(tmp_path / "home"),
        }
    )
    feed = tmp_path / "feed"
    os.mkfifo(feed)
    command = [*SUBMIT, "-", f"s3://{s3.name}", "--yes"]
    # The command reads a pipe that stops in the middle of the manifest, so that the kill comes in the middle, too.
    reader = os.open(feed, os.O_RDONLY | os.O_NONBLOCK)
    killed = subprocess.Popen(command, env=env, stdin=reader, cwd=tmp_path, stderr=subprocess.PIPE)
    os.set_blocking(reader, True)
    with Path(feed).open("w") as pipe:
        pipe.write(path.read_text()[: 14 * 33_000])
        pipe.flush()
        deadline = time.monotonic() + 60
        while archive.rows("SELECT count(*) FROM upload_pages") < [(3,)] and time.monotonic() < deadline:
            time.sleep(0.05)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    os.close(reader)
    killed.stderr.close()
    before = archive.rows("SELECT xmin::text, position FROM upload_pages ORDER BY position")
    assert len(before) >= 3
    with path.open() as whole:
        done = subprocess.run(command, env=env, stdin=whole, cwd=tmp_path, capture_output=True, text=True, check=True)
    after = archive.rows("SELECT xmin::text, position FROM upload_pages ORDER BY position")
    assert (after[: len(before)], len(after)) == (before, 12)  # no page was written twice
    again = subprocess.run(
        command, env=env, input=path.read_text(), cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert again.stdout == done.stdout  # the same job, while it is open
    archive.list_job(done.stdout.strip())
    assert archive.rows("SELECT count(*), count(DISTINCT image_id) FROM items") == [(60_000, 60_000)]
    assert archive.rows("SELECT count(*) FROM jobs") == [(1,)]
