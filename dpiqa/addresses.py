"""Addresses of objects as users write them: `s3://bucket/key`, and folders as buckets: `file:///srv/photos`. Pure."""

import re
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from dpiqa.errors import InvalidRequest

#: Bucket names that S3-compatible servers accept; AWS itself is stricter.
BUCKET_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}"
_SCHEME = "s3://"
_FOLDER_SCHEME = "file://"
_MAX_FOLDER_BYTES = 1000  #: with the key, it must fit into a row of an index
_PROBE = ".dpiqa-probe-"  #: name of the object that tests a watch, before its id


@dataclass(frozen=True, slots=True)
class S3Address:
    """A bucket and a key or prefix, which may be empty."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"{_SCHEME}{self.bucket}/{self.key}"


def is_s3(text: str) -> bool:
    """Return whether the text names something in S3 rather than a file."""
    return text.lower().startswith(_SCHEME)


def parse_s3(text: str) -> S3Address:
    """Parse `s3://bucket` or `s3://bucket/prefix`; the key is taken literally. Raises `InvalidRequest`."""
    if not is_s3(text):
        raise InvalidRequest(f"{text!r} is not an S3 address", hint="write s3://bucket/prefix")
    address = split_s3(text)
    if not re.fullmatch(BUCKET_PATTERN, address.bucket):
        raise InvalidRequest(f"{address.bucket!r} is not a bucket name", hint="write s3://bucket/prefix")
    return address


def split_s3(text: str) -> S3Address:
    """Split an address that begins with `s3://`, without a check of the bucket's name."""
    bucket, _, key = text[len(_SCHEME) :].partition("/")
    return S3Address(bucket, key)


def probe_key(prefix: str, probe_id: UUID) -> str:
    """Return the key, under a prefix, of the object that tests whether a bucket's events arrive."""
    return f"{prefix}{_PROBE}{probe_id}"


def probe_id(key: str) -> UUID | None:
    """Return the id of the probe whose object has this key; None for every other key."""
    _, is_probe, text = key.rpartition(_PROBE)
    try:
        return UUID(text) if is_probe and len(text) == 36 else None
    except ValueError:
        return None


def prefix_end(prefix: str) -> str | None:
    """Return the least text that is greater than all keys under a prefix, in the order of their bytes in UTF-8.

    None where there is none: the prefix is empty, or ends the order.
    """
    for end in range(len(prefix), 0, -1):
        code = ord(prefix[end - 1]) + 1
        if code <= 0x10FFFF:  # U+D800 to U+DFFF stand for nothing alone
            return prefix[: end - 1] + chr(0xE000 if 0xD800 <= code <= 0xDFFF else code)
    return None


def is_folder(bucket: str) -> bool:
    """Return whether a bucket is a folder of the workers' machine."""
    return bucket.startswith(_FOLDER_SCHEME)


def folder_bucket(path: Path) -> str:
    """Return the bucket that stands for a folder: `file:///srv/photos`. Raises `InvalidRequest`."""
    bucket = f"{_FOLDER_SCHEME}{path.absolute()}"
    folder_path(bucket)
    return bucket


def folder_path(bucket: str) -> Path:
    """Return the absolute path of a folder's bucket. Raises `InvalidRequest` for anything else."""
    path = Path(bucket.removeprefix(_FOLDER_SCHEME))
    is_text = bucket.isprintable() and len(bucket.encode("utf-8", "replace")) <= _MAX_FOLDER_BYTES
    if not is_folder(bucket) or not path.is_absolute() or ".." in path.parts or not is_text:
        raise InvalidRequest(
            f"{bucket!r} is not the address of a folder",
            hint=f"write file:///absolute/path, of printable characters and at most {_MAX_FOLDER_BYTES} bytes",
        )
    return path


def object_address(bucket: str, key: str) -> str:
    """Return the address of an object or prefix: `s3://bucket/key`, or the path of a file as `file:///srv/a.jpg`."""
    if is_folder(bucket):
        return f"{bucket}/{key}" if key else bucket
    return str(S3Address(bucket, key))
