"""S3 and the servers that speak its protocol (Ceph, MinIO, moto), by boto3."""

import contextlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from botocore.config import Config

from dpiqa.addresses import probe_id
from dpiqa.errors import ImageRejected, ObjectChanged, StoreUnavailable
from dpiqa.objects.aws import make_client
from dpiqa.objects.faults import (
    VENDOR_ERRORS,
    Fault,
    account_error,
    bucket_error,
    fault_of,
    no_bucket,
    object_error,
    translated,
    write_error,
)
from dpiqa.objects.store import Fetched
from dpiqa.objects.upload import upload
from dpiqa.retries import OBJECT_REQUEST
from dpiqa.settings import Settings
from dpiqa.types import ImageRef, Reason

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from urllib3 import HTTPResponse

_PAGE = 1000  #: objects; S3's own maximum
_Page = tuple[list[ImageRef], str | None]  #: objects, and the key to start after for the next page; None at the end
_CONNECT_SECONDS, _READ_SECONDS = 5, 10
#: The largest image that is accepted (64 MB) in this time is half a megabyte a second; a slower
#: store counts as hung.
_BODY_SECONDS = 120.0


class S3Store:
    """The `ObjectStore` on S3. `body_seconds`: limit for reading the bytes of one object."""

    def __init__(self, client: "S3Client", body_seconds: float = _BODY_SECONDS) -> None:
        self._client, self._body_seconds = client, body_seconds

    @classmethod
    def from_settings(
        cls, settings: Settings, body_seconds: float = _BODY_SECONDS, read_seconds: float = _READ_SECONDS
    ) -> Self:
        """Return the store of all buckets, with a socket per fetch thread. Raises `ConfigurationError`.

        `read_seconds`: to wait for an answer, and for a connection, of that at most 5.
        """
        config = Config(
            connect_timeout=min(_CONNECT_SECONDS, read_seconds),
            read_timeout=read_seconds,
            # boto3 retries nothing: its retries do not cover reading the body, so `OBJECT_REQUEST` covers both.
            retries={"mode": "standard", "total_max_attempts": 1},
            max_pool_connections=settings.fetch_threads + 4,  # listings beside the fetches
            s3={"addressing_style": "path" if settings.s3_endpoint_url else "auto"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        return cls(make_client("s3", settings, config), body_seconds)

    def list(self, bucket: str, prefix: str, start_after: str | None = None) -> Iterator[list[ImageRef]]:
        """See `ObjectStore.list`."""
        after: str | None = start_after or ""
        while after is not None:
            page, after = OBJECT_REQUEST(self._page, bucket, prefix, after)
            if page:
                yield page

    def get(self, ref: ImageRef, max_bytes: int) -> Fetched:
        """See `ObjectStore.get`. A body that breaks off is read again as a whole."""
        return OBJECT_REQUEST(self._get, ref, max_bytes)

    def head(self, bucket: str, key: str, version_id: str | None = None) -> ImageRef:
        """See `ObjectStore.head`."""
        return OBJECT_REQUEST(self._head, bucket, key, version_id)

    def read_part(self, ref: ImageRef, start: int, n_bytes: int) -> bytes:
        """See `ObjectStore.read_part`."""
        return OBJECT_REQUEST(self._read_part, ref, start, n_bytes)

    def put(self, bucket: str, key: str, chunks: Iterable[bytes], *, media_type: str) -> None:
        """Store the chunks as one object; see `dpiqa.objects.upload.upload`."""
        upload(self._client, bucket, key, chunks, media_type=media_type)

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object; one that does not exist counts as deleted. Raises as `put`."""
        with translated(partial(write_error, bucket=bucket, key=key)):
            self._client.delete_object(Bucket=bucket, Key=key)

    def bucket_names(self) -> Sequence[str] | None:
        """Return the names of all buckets; None where the credentials may not list them.

        Raises `StoreUnavailable`, `ConfigurationError`.
        """
        try:
            response = self._client.list_buckets()
        except VENDOR_ERRORS as error:
            if fault_of(error) is Fault.DENIED:
                return None
            raise account_error(error) from None
        return [bucket["Name"] for bucket in response.get("Buckets", [])]

    def is_missing(self, bucket: str) -> bool:
        """Return whether S3 says, at the first request, that there is no such bucket.

        False also where that cannot be said: it does not answer, or these credentials may not ask.
        """
        try:
            self._client.head_bucket(Bucket=bucket)
        except VENDOR_ERRORS as error:
            return fault_of(error) is Fault.GONE
        return False

    def require_bucket(self, bucket: str) -> None:
        """Raise `ConfigurationError` where `is_missing`: the workers may reach what cannot be asked for here."""
        if self.is_missing(bucket):
            raise no_bucket(bucket)

    def _page(self, bucket: str, prefix: str, after: str) -> _Page:
        with translated(partial(bucket_error, bucket=bucket)):
            response = self._client.list_objects_v2(Bucket=bucket, Prefix=prefix, StartAfter=after, MaxKeys=_PAGE)
        entries: Any = response.get("Contents", [])
        page = [
            ImageRef(
                bucket=bucket,
                key=entry["Key"],
                etag=entry["ETag"].strip('"'),
                size=entry["Size"],
                last_modified=entry.get("LastModified"),
            )
            for entry in entries
            # consoles create empty objects named like folders, and a watch that is being tested its probe
            if (entry["Size"] or not entry["Key"].endswith("/")) and probe_id(entry["Key"]) is None
        ]
        return page, entries[-1]["Key"] if entries and response.get("IsTruncated") else None

    def _head(self, bucket: str, key: str, version_id: str | None) -> ImageRef:
        with translated(partial(object_error, bucket=bucket, key=key)):
            response: Any = self._client.head_object(Bucket=bucket, Key=key, **_version(version_id))
        return _to_ref(bucket, key, response)

    def _get(self, ref: ImageRef, max_bytes: int) -> Fetched:
        with translated(partial(object_error, bucket=ref.bucket, key=ref.key)):
            response: Any = self._client.get_object(Bucket=ref.bucket, Key=ref.key, **_version(ref.version_id))
            with response["Body"] as body:
                current = _to_ref(ref.bucket, ref.key, response)
                _check_header(ref, current, max_bytes)
                data = _read(body, self._body_seconds)
        if len(data) != current.size:
            raise StoreUnavailable(f"S3 sent {len(data)} of {current.size} bytes of s3://{ref.bucket}/{ref.key}")
        return Fetched(data=data, etag=current.etag, version_id=current.version_id, last_modified=current.last_modified)

    def _read_part(self, ref: ImageRef, start: int, n_bytes: int) -> bytes:
        byte_range = f"bytes={start}-{start + n_bytes - 1}"
        with translated(partial(object_error, bucket=ref.bucket, key=ref.key)):
            response: Any = self._client.get_object(
                Bucket=ref.bucket, Key=ref.key, Range=byte_range, **_version(ref.version_id)
            )
            with response["Body"] as body:
                current = _to_ref(ref.bucket, ref.key, response)
                if ref.etag and ref.etag != current.etag:
                    raise ObjectChanged(f"s3://{ref.bucket}/{ref.key} was overwritten", current=current)
                data = _read(body, self._body_seconds)
        if len(data) != current.size:
            raise StoreUnavailable(f"S3 sent {len(data)} of {current.size} bytes of s3://{ref.bucket}/{ref.key}")
        return data


def _read(body: "HTTPResponse", seconds: float) -> bytes:
    """Read a whole body. A slow one never reaches the socket's time-out: it is cut off after `seconds`."""

    def cut_off() -> None:
        with contextlib.suppress(ValueError, RuntimeError):  # the body was read to its end at this very moment
            body.shutdown()

    timer = threading.Timer(seconds, cut_off)
    timer.daemon = True
    timer.start()
    try:
        data: bytes = body.read()
        return data
    finally:
        timer.cancel()


def _check_header(requested: ImageRef, current: ImageRef, max_bytes: int) -> None:
    """Decide before the body is read. Raises `ObjectChanged`, `ImageRejected`."""
    if requested.etag and requested.etag != current.etag:
        raise ObjectChanged(f"s3://{requested.bucket}/{requested.key} was overwritten", current=current)
    if not current.size:
        raise ImageRejected(Reason.EMPTY, "the object has no bytes")
    if current.size > max_bytes:
        raise ImageRejected(Reason.TOO_MANY_BYTES, f"{current.size} bytes, at most {max_bytes}")


def _to_ref(bucket: str, key: str, response: Any) -> ImageRef:
    """Return the ref of an object from the response to HeadObject or GetObject."""
    version_id = response.get("VersionId")
    return ImageRef(
        bucket=bucket,
        key=key,
        etag=response["ETag"].strip('"'),
        version_id=version_id if version_id != "null" else None,
        size=response["ContentLength"],
        last_modified=response.get("LastModified"),
    )


def _version(version_id: str | None) -> dict[str, Any]:
    return {"VersionId": version_id} if version_id else {}
