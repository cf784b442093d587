"""Destinations of exports: a file, stdout, or an object in S3. Nothing half-written stands under the final name."""

import sys
from collections.abc import Iterable
from pathlib import Path

from dpiqa.addresses import is_s3, parse_s3
from dpiqa.errors import InvalidRequest
from dpiqa.exports.formats import Format
from dpiqa.extras import require
from dpiqa.files import expanded, replace_file
from dpiqa.settings import Settings

STDOUT = "-"


def check_output(output: str, format: Format | None = None) -> Format:  # noqa: A002 - its name
    """Return the format of an output: the given one, or the one that its name ends in.

    Raises `InvalidRequest` for what cannot be written, before any work is done for it, and `ConfigurationError` where
    the library for Parquet is missing.
    """
    if output == STDOUT:
        if format is None:
            raise InvalidRequest("stdout has no name that ends in a format", hint="pass --format csv, jsonl or parquet")
    elif is_s3(output):
        format = format or Format.of_name(_checked_key(output))  # noqa: A001
    else:
        path = expanded(output)
        if path.is_dir():
            raise InvalidRequest(f"{output} is a folder", hint="name a file, or pass --partition-by for a dataset")
        format = format or Format.of_name(path.name)  # noqa: A001
        if not path.parent.is_dir():
            raise InvalidRequest(f"the folder {path.parent} does not exist", hint="create it first")
    if format is Format.PARQUET:
        require("pyarrow", "a Parquet file")
    return format


def _checked_key(output: str) -> str:
    key = parse_s3(output).key
    if not key or key.endswith("/"):
        raise InvalidRequest(f"{output} does not name an object", hint="write s3://bucket/folder/scores.parquet")
    return key


def save(chunks: Iterable[bytes], output: str, settings: Settings, media_type: str) -> None:
    """Write all chunks to a file, to stdout (`-`), or to `s3://bucket/key`.

    A file or object appears under its name when it is complete; an older one stays until then. On an error the upload
    is aborted, and the error is raised. Raises `InvalidRequest`, `StoreUnavailable`, `ConfigurationError`.
    """
    if output == STDOUT:
        for chunk in chunks:
            sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
    elif is_s3(output):
        address = parse_s3(output)
        from dpiqa.objects.s3 import S3Store  # noqa: PLC0415 - boto3 takes 0.2 s that other outputs do not need

        S3Store.from_settings(settings).put(address.bucket, address.key, chunks, media_type=media_type)
    else:
        write_file(chunks, expanded(output))


def write_file(chunks: Iterable[bytes], path: Path) -> None:
    """Replace a file by these chunks once they are complete. Raises `InvalidRequest` where it cannot be written."""

    def fill(partial: Path) -> None:
        with partial.open("wb") as file:
            file.writelines(chunks)

    try:
        replace_file(path, fill)
    except OSError as error:
        raise InvalidRequest(f"cannot write {path}: {error.strerror}", hint="choose another --output") from error
