"""Manifests as people have them: every format, and every way in which a file is not what it should be."""

import gzip
import io
import json
from datetime import UTC, datetime

import pyarrow as pa
import pytest
from pyarrow import orc, parquet

from dpiqa.errors import InvalidRequest
from dpiqa.sources import readers
from dpiqa.sources.base import PassedOver
from dpiqa.sources.manifest import FileSource
from dpiqa.sources.spec import SourceSpec

TIME = datetime(2024, 6, 1, 12, 30, tzinfo=UTC)


class Pipe(io.RawIOBase):
    """Bytes that can be read once, as of a pipe."""

    def __init__(self, data):
        self._data = io.BytesIO(data)

    def readable(self):
        return True

    def readinto(self, buffer):
        return self._data.readinto(buffer)


def pages(data, name="manifest", *, bucket="photos", cursor=None, pipe=False, **spec):
    data = data.encode() if isinstance(data, str) else data
    file = Pipe(data) if pipe else io.BytesIO(data)
    return list(FileSource(file, name, SourceSpec(**spec), bucket).pages(cursor))


def read(data, name="manifest", **options):
    return [ref for page in pages(data, name, **options) for ref in page.refs]


def names(data, name="manifest", **options):
    return [(ref.bucket, ref.key) for ref in read(data, name, **options)]


def malformed(data, name="manifest", **options):
    found = pages(data, name, **options)
    return sum(page.malformed for page in found), [text for page in found for text in page.examples]


def packed(table, write):
    buffer = io.BytesIO()
    write(table, buffer)
    return buffer.getvalue()


TABLE = pa.table(
    {
        "bucket": ["photos", "photos"],
        "key": ["a b.jpg", "ü/1+1%.jpg"],
        "size": pa.array([7, None], pa.int64()),
        "last_modified_date": pa.array([TIME, None], pa.timestamp("ms", tz="UTC")),
        "e_tag": ["e1", None],
        "version_id": ["v1", None],
    }
)


def table_csv(delimiter=","):
    rows = [["bucket", "key", "size", "last_modified", "ETag", "VersionId"]]
    rows += [
        ["photos", "a b.jpg", "7", "2024-06-01T12:30:00Z", '"""e1"""', "v1"],
        ["photos", "ü/1+1%.jpg", "", "", "", ""],
    ]
    return "".join(delimiter.join(row) + "\n" for row in rows)


JSON_LINES = (
    json.dumps({"Key": "a b.jpg", "ETag": '"e1"', "Size": 7, "LastModified": "2024-06-01T12:30:00Z", "VersionId": "v1"})
    + "\n\n"
    + json.dumps({"source-ref": "s3://photos/ü/1+1%.jpg", "label": 3})
)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (table_csv(), "m.csv"),
        (table_csv().replace("\n", "\r\n"), "m.csv"),
        ("\ufeff" + table_csv(), "m.csv"),
        (table_csv("\t"), "m.tsv"),
        (table_csv(";"), "m.csv"),
        (table_csv(), "standard input"),
        (gzip.compress(table_csv().encode(), mtime=0), "m.csv.gz"),
        (
            gzip.compress(table_csv()[:40].encode(), mtime=0) + gzip.compress(table_csv()[40:].encode(), mtime=0),
            "m.csv",
        ),
        (pa.compress(table_csv().encode(), "zstd", asbytes=True), "m.csv.zst"),
        (JSON_LINES, "m.jsonl"),
        (JSON_LINES, "standard input"),
        (gzip.compress(JSON_LINES.encode(), mtime=0), "m.manifest"),
        (packed(TABLE, parquet.write_table), "m.parquet"),
        (packed(TABLE, parquet.write_table), "standard input"),
        (packed(TABLE, orc.write_table), "m.orc"),
    ],
)
def test_every_format_gives_the_same_objects(data, name):
    first, second = read(data, name)
    assert (first.bucket, first.key, first.etag, first.size) == ("photos", "a b.jpg", "e1", 7)
    assert (first.version_id, first.last_modified) == ("v1", TIME)
    assert (second.bucket, second.key, second.etag, second.size) == ("photos", "ü/1+1%.jpg", "", None)
    assert (second.version_id, second.last_modified) == (None, None)


@pytest.mark.parametrize(
    ("data", "name", "spec", "expected"),
    [
        ("a.jpg\n b,c.jpg \n\n", "keys.txt", {}, [("photos", "a.jpg"), ("photos", " b,c.jpg ")]),
        ("s3://other/x/y.jpg\nz.jpg", "keys", {}, [("other", "x/y.jpg"), ("photos", "z.jpg")]),
        ("key\na.jpg\n", "standard input", {}, [("photos", "a.jpg")]),
        ("S3 URI,label\ns3://other/a.jpg,3\n", "m.csv", {}, [("other", "a.jpg")]),
        ("s3://other/a.jpg,3\ns3://other/b.jpg,4\n", "m.csv", {}, [("other", "a.jpg"), ("other", "b.jpg")]),
        (
            "other,a%2Bb+c.jpg,v\n",
            "m.csv",
            {"columns": ("bucket", "key", "version"), "url_encoded": True},
            [("other", "a+b c.jpg")],
        ),
        ("1,a+b.jpg\n", "standard input", {"columns": ("id", "key")}, [("photos", "a+b.jpg")]),
        ('key\n"new\nline.jpg"\n', "m.csv", {}, [("photos", "new\nline.jpg")]),
        ('{"key": "new\\nline.jpg"}', "m.jsonl", {}, [("photos", "new\nline.jpg")]),
        ("a" * 1024, "keys.txt", {}, [("photos", "a" * 1024)]),
        ("ü" * 512, "keys.txt", {}, [("photos", "ü" * 512)]),
    ],
)
def test_lines_and_columns_as_people_have_them(data, name, spec, expected):
    assert names(data, name, **spec) == expected


def test_text_can_come_through_a_pipe_and_columns_cannot():
    assert names(gzip.compress(b"a.jpg\nb.jpg\n"), "standard input", pipe=True) == [
        ("photos", "a.jpg"),
        ("photos", "b.jpg"),
    ]
    with pytest.raises(InvalidRequest, match="read from their end"):
        read(packed(TABLE, parquet.write_table), "standard input", pipe=True)


@pytest.mark.parametrize(
    ("data", "name", "line"),
    [
        ("key,size\na.jpg,1\n,2\n", "m.csv", "row 3: there is no key"),
        ("key,size\na.jpg,1\nb.jpg,-2\n", "m.csv", "row 3: '-2' is not a size in bytes"),
        ("key,size\na.jpg,1\nb.jpg,1e999\n", "m.csv", "row 3: '1e999' is not a size in bytes"),
        ("size,key\n1,a.jpg\n2\n", "m.csv", "row 3: 1 columns instead of 2"),
        (
            "key,last_modified\na.jpg,\nb.jpg,yesterday\n",
            "m.csv",
            "row 3: the time of the last modification is not ISO 8601",
        ),
        ("a.jpg\n\x00b.jpg\n", "m.txt", r"row 2: the key \x00b.jpg has a NUL character"),
        (b"a.jpg\n\xff\xfe.jpg\n", "m.txt", "row 2: the key is not UTF-8"),
        ("a.jpg\n" + "ü" * 513, "m.txt", f"row 2: the key {'ü' * 39}… has more than 1024 bytes"),
        (
            "a.jpg\nhttps://x.s3.amazonaws.com/b.jpg\n",
            "m.txt",
            "row 2: https://x.s3.amazonaws.com/b.jpg is not an S3 address",
        ),
        ("a.jpg\ns3://bucket\n", "m.txt", "row 2: s3://bucket names a bucket, not an object"),
        ("a.jpg\ns3://-/b.jpg\n", "m.txt", "row 2: '-' is not a bucket"),
        ('{"key": "a.jpg"}\n{"key": \n', "m.jsonl", "row 2: not JSON: Expecting value: line 2 column 1 (char 9)"),
        ('{"key": "a.jpg"}\n["b.jpg"]\n', "m.jsonl", "row 2: not a JSON object"),
        ('{"key": "a.jpg"}\n{"key": 7}\n', "m.jsonl", "row 2: the key is not text: 7"),
        ('{"key": "a.jpg"}\n{"name": "b.jpg"}\n', "m.jsonl", "row 2: there is no key"),
        ('{"key": "a.jpg"}\n{"key": "\\ud800.jpg"}\n', "m.jsonl", "row 2: the key is not UTF-8"),
    ],
)
def test_a_malformed_row_is_counted_with_its_number(data, name, line):
    assert malformed(data, name) == (1, [line])
    assert names(data, name) == [("photos", "a.jpg")]


def test_a_key_without_a_bucket_is_malformed():
    assert malformed("a.jpg\n", bucket="") == (1, ["row 1: no bucket is named for a.jpg"])


@pytest.mark.parametrize(
    ("data", "name", "spec", "message"),
    [
        (gzip.compress(b"a.jpg\n" * 100_000, mtime=0)[:-20], "m.txt.gz", {}, "ends early"),
        (gzip.compress(b"a.jpg\n" * 100_000, mtime=0)[:20], "m.txt.gz", {}, "ends early"),
        (pa.compress(bytes(range(256)) * 9000, "zstd", asbytes=True)[:-20], "m.txt.zst", {}, "m.txt.zst"),
        (packed(TABLE, parquet.write_table)[:-30], "m.parquet", {}, "m.parquet cannot be read"),
        (packed(TABLE, orc.write_table)[:-30], "m.orc", {}, "m.orc cannot be read"),
        (table_csv(), "m.orc", {"format": "orc"}, "is not orc"),
        (packed(TABLE, parquet.write_table), "m.csv", {"format": "csv"}, "is parquet, not csv"),
        (packed(pa.table({"id": [1]}), parquet.write_table), "m.parquet", {}, "no column with keys: id"),
        ("id,photo\n1,a.jpg\n", "m.csv", {}, "names no key: id,photo"),
        ("a.jpg\n", "m.csv", {"columns": ("id",)}, "names no key: id"),
        ('key\n"a.jpg\n' + "b.jpg\n" * 30_000, "m.csv", {}, "is not CSV"),
        ('key\n"a.jpg', "m.csv", {}, "is not CSV"),
        ('[{"key": "a.jpg"}]', "m.json", {}, "is one JSON array"),
        ("x" * 70_000, "m.txt", {}, "a line of more than"),
        ("key\na.jpg\n".encode("utf-16"), "m.csv", {}, "is UTF-16"),
        (b"PK\x03\x04 a workbook", "m.xlsx", {}, "spreadsheet"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_ends_in_one_line(data, name, spec, message):
    with pytest.raises(InvalidRequest, match=message) as raised:
        read(data, name, **spec)
    assert "\n" not in str(raised.value)


def test_an_empty_file_has_no_objects():
    assert read(b"") == read(gzip.compress(b""), "m.csv.gz") == read("\n\n", "m.jsonl") == read("key\n", "m.csv") == []


def test_old_versions_and_delete_markers_are_passed_over():
    rows = "key,IsLatest,IsDeleteMarker\na.jpg,true,false\na.jpg,false,false\nb.jpg,true,true\nc.jpg,,\n"
    (page,) = pages(rows, "m.csv")
    assert [ref.key for ref in page.refs] == ["a.jpg", "c.jpg"]
    assert page.passed_over == {PassedOver.OLD_VERSION: 1, PassedOver.DELETE_MARKER: 1}


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (table_csv().encode(), "m.csv"),
        (gzip.compress(table_csv().encode(), mtime=0), "m.csv"),
        (pa.compress(table_csv().encode(), "zstd", asbytes=True), "m.csv"),
        (packed(TABLE, parquet.write_table), "m.parquet"),
        (packed(TABLE, orc.write_table), "m.orc"),
    ],
)
def test_a_file_can_be_read_twice(data, name):
    source = FileSource(io.BytesIO(data), name, SourceSpec(), "")
    first, second = ([ref.key for page in source.pages() for ref in page.refs] for _ in range(2))
    assert first == second == ["a b.jpg", "ü/1+1%.jpg"]


@pytest.mark.parametrize(("kind", "write"), [("csv", None), ("parquet", parquet.write_table), ("orc", orc.write_table)])
def test_reading_goes_on_after_any_cursor(kind, write, monkeypatch):
    monkeypatch.setattr(readers, "PAGE_ROWS", 7)
    keys = [f"{n:02}.jpg" for n in range(50)]
    data = "key\n" + "\n".join(keys) if write is None else packed(pa.table({"key": keys}), write)
    whole = pages(data, f"m.{kind}")
    assert [ref.key for page in whole for ref in page.refs] == keys
    for page in whole:
        rest = read(data, f"m.{kind}", cursor=page.cursor)
        assert [ref.key for ref in rest] == keys[int(page.cursor) :]
    assert read(data, f"m.{kind}", cursor="50") == []
