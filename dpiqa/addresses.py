"""Addresses of objects as users write them: `s3://bucket/key`. Pure."""

import re
from dataclasses import dataclass

from dpiqa.errors import InvalidRequest

#: Bucket names that S3-compatible servers accept; AWS itself is stricter.
BUCKET_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}"
_SCHEME = "s3://"


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
