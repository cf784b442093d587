"""Uploads of objects of unknown size: whole, or not there."""

import pytest

from dpiqa.errors import ConfigurationError
from dpiqa.objects import upload as uploads
from dpiqa.objects.s3 import S3Store
from dpiqa.settings import load_settings

MIB = 1024 * 1024


@pytest.fixture
def store(s3):
    return S3Store.from_settings(load_settings(**s3.settings))


def body(s3, key):
    return s3.client.get_object(Bucket=s3.name, Key=key)["Body"].read()


def unfinished(s3):
    return s3.client.list_multipart_uploads(Bucket=s3.name).get("Uploads", [])


@pytest.mark.parametrize("sizes", [[], [10], [3 * MIB, 3 * MIB, 5 * MIB, 1], [11 * MIB, 4 * MIB]])
def test_chunks_of_any_size_make_one_object(s3, store, sizes, monkeypatch):
    monkeypatch.setattr(uploads, "PART_BYTES", 5 * MIB)
    chunks = [bytes([n]) * size for n, size in enumerate(sizes)]
    store.put(s3.name, "a", iter(chunks), media_type="text/csv")
    assert body(s3, "a") == b"".join(chunks)
    assert s3.client.head_object(Bucket=s3.name, Key="a")["ContentType"] == "text/csv"
    assert unfinished(s3) == []


@pytest.mark.parametrize("n_before", [0, 3])
def test_an_error_in_the_middle_aborts_and_keeps_the_old_object(s3, store, n_before, monkeypatch):
    monkeypatch.setattr(uploads, "PART_BYTES", 5 * MIB)
    s3.put("a", b"old")

    def chunks():
        for _ in range(n_before):
            yield b"x" * 5 * MIB
        raise ValueError("the database is gone")

    with pytest.raises(ValueError, match="the database is gone"):
        store.put(s3.name, "a", chunks(), media_type="text/csv")
    assert body(s3, "a") == b"old"
    assert unfinished(s3) == []


def test_a_bucket_that_does_not_exist_is_a_configuration(store):
    with pytest.raises(ConfigurationError, match="there is no bucket"):
        store.put("no-such-bucket-at-all", "a", [b"x"], media_type="text/csv")
