"""`dpiqa put` uploads to the S3 of the settings, and replaces nothing unless it is told to."""

import json

import pytest


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.jpg", "gr\u00fcn b.png"):
        (folder / name).write_bytes(name.encode())
    return sorted(folder.iterdir())


def body(system, key):
    return system.client.get_object(Bucket=system.name, Key=key)["Body"].read()


def test_files_lie_under_the_prefix_by_their_names(run, system, photos):
    done = run("put", *photos, f"s3://{system.name}/new/", "--json")
    assert done.exit_code == 0, done.stderr
    assert [(one["address"], one["bytes"]) for one in json.loads(done.stdout)] == [
        (f"s3://{system.name}/new/{file.name}", file.stat().st_size) for file in photos
    ]
    assert [body(system, f"new/{file.name}") for file in photos] == [file.read_bytes() for file in photos]


def test_an_object_is_replaced_only_when_that_is_asked_for(run, system, photos):
    first, second = photos
    assert run("put", first, f"s3://{system.name}").exit_code == 0
    first.write_bytes(b"other")
    refused = run("put", second, first, f"s3://{system.name}/")
    assert refused.exit_code == 2
    assert "a.jpg exists" in refused.stderr
    assert "--overwrite" in refused.stderr
    assert "Contents" not in system.client.list_objects_v2(Bucket=system.name, Prefix="gr")
    assert body(system, first.name) == b"a.jpg"
    assert run("put", second, first, f"s3://{system.name}/", "--overwrite").exit_code == 0
    assert body(system, first.name) == b"other"


def test_what_cannot_be_uploaded_is_refused_before_anything_is(run, system, photos, tmp_path):
    twin = tmp_path / photos[0].name
    twin.write_bytes(b"twin")
    bucket = f"s3://{system.name}"
    for words, code, says in [
        ([*photos, f"{bucket}/one.jpg"], 2, f"{bucket}/one.jpg/"),
        ([photos[0], twin, f"{bucket}/"], 2, "two files are named a.jpg"),
        ([photos[0], tmp_path / "gone.jpg", f"{bucket}/"], 4, "gone.jpg"),
        ([photos[0], "s3://no-such-bucket-here/"], 78, "no-such-bucket-here"),
        ([photos[0], "elsewhere/"], 2, "not an S3 address"),
    ]:
        done = run("put", *words)
        assert (done.exit_code, says in " ".join(done.stderr.split())) == (code, True), done.stderr
    assert "Contents" not in system.client.list_objects_v2(Bucket=system.name)
    assert run("put", photos[0], f"{bucket}/first.jpg").exit_code == 0
    assert body(system, "first.jpg") == b"a.jpg"
