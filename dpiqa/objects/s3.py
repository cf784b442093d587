"""S3 and the servers that speak its protocol (Ceph, MinIO, moto), by boto3, which has objects read by libcurl."""

import contextlib
import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from botocore.config import Config
from botocore.exceptions import ClientError

from dpiqa.errors import ConfigurationError, DpiqaError, ImageRejected, ObjectChanged, StoreUnavailable
from dpiqa.objects.aws import make_client, make_session
from dpiqa.objects.curl import Accept, CurlReader
from dpiqa.objects.encodings import decoded
from dpiqa.objects.faults import (
    VENDOR_ERRORS,
    Fault,
    account_error,
    ask,
    bucket_error,
    error_code,
    fault_of,
    is_no_bucket,
    no_bucket,
    object_error,
    translated,
    write_error,
)
from dpiqa.objects.listing import Paging, list_pages
from dpiqa.objects.store import Fetched
from dpiqa.objects.upload import upload
from dpiqa.retries import OBJECT_REQUEST
from dpiqa.settings import Settings
from dpiqa.text import bare_etag
from dpiqa.types import ImageRef, Reason

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from urllib3 import HTTPResponse

_PAGE = 1000  #: objects; S3's own maximum
_MAX_BUCKETS = 1000  #: of which the last returned object is remembered
_RECENT_SECONDS = 10.0  #: in which a bucket that returned an object still works
_MADE_UP = "modified-"  #: ETag of an object whose server names none, before its time and size
#: The body of an error, where a server or a proxy sends it as the content of an object, without an ETag.
_ERROR_BODY = re.compile(rb"\s*(?:<\?xml[^>]*>\s*)?<Error\b.{0,2000}?<Code>([^<]{1,100})</Code>", re.DOTALL)
_CONNECT_SECONDS, _READ_SECONDS = 5, 10
#: The largest image that is accepted (64 MB) in this time is half a megabyte a second; a slower
#: store counts as hung.
_BODY_SECONDS = 120.0


class S3Store:
    """The `ObjectStore` on S3. `body_seconds`: limit for reading the bytes of one object."""

    def __init__(self, client: "S3Client", reader: CurlReader, body_seconds: float) -> None:
        self._client, self._reader, self._body_seconds = client, reader, body_seconds
        self._returned: dict[str, tuple[ImageRef, float]] = {}  # by bucket: the last object, and when

    @classmethod
    def from_settings(
        cls, settings: Settings, body_seconds: float = _BODY_SECONDS, read_seconds: float = _READ_SECONDS
    ) -> Self:
        """Return the store of all buckets, with a socket per fetch thread. Raises `ConfigurationError`.

        `read_seconds`: to wait for an answer, and for a connection, of that at most 5.
        """
        connect_seconds = min(_CONNECT_SECONDS, read_seconds)
        config = Config(
            connect_timeout=connect_seconds,
            read_timeout=read_seconds,
            # boto3 retries nothing: its retries do not cover reading the body, so `OBJECT_REQUEST` covers both.
            retries={"mode": "standard", "total_max_attempts": 1},
            max_pool_connections=settings.fetch_threads + 4,  # listings beside the fetches
            s3={"addressing_style": settings.s3_addressing_style or ("path" if settings.s3_endpoint_url else "auto")},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        session = make_session(settings)
        client = make_client("s3", settings, config, session)
        reader = CurlReader(
            client, session, connect_seconds=connect_seconds, read_seconds=read_seconds, body_seconds=body_seconds
        )
        return cls(client, reader, body_seconds)

    def list(self, bucket: str, prefix: str, start_after: str | None = None) -> Iterator[list[ImageRef]]:
        """See `ObjectStore.list`."""
        return list_pages(partial(OBJECT_REQUEST, self._page, bucket, prefix), bucket, prefix, start_after or "")

    def get(self, ref: ImageRef, max_bytes: int) -> Fetched:
        """See `ObjectStore.get`. A body that breaks off is read again as a whole; a content encoding is undone."""
        try:
            fetched: Fetched = OBJECT_REQUEST(self._get, ref, max_bytes)
        except StoreUnavailable as error:
            error.is_object = error.may_be_object and self._returns_others(ref, may_list=error.answered)
            raise
        if ref.bucket not in self._returned and len(self._returned) >= _MAX_BUCKETS:
            self._returned.clear()
        self._returned[ref.bucket] = ref, time.monotonic()
        return fetched

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
            return is_no_bucket(error)
        return False

    def require_bucket(self, bucket: str) -> None:
        """Raise `ConfigurationError` where `is_missing`: the workers may reach what cannot be asked for here."""
        if self.is_missing(bucket):
            raise no_bucket(bucket)

    def _returns_others(self, failed: ImageRef, *, may_list: bool) -> bool:
        """Return whether the store returns another object of the bucket: the last one that it returned, or any.

        A store that did not even answer is not asked for more than that one.
        """
        last = self._returned.get(failed.bucket)
        if last is not None and time.monotonic() - last[1] < _RECENT_SECONDS:
            return True
        try:
            other = last[0] if last and last[0].key != failed.key else None
            if other is None and may_list:
                other = self._any_other(failed)
            if other is not None:
                self._read_part(replace(other, etag="", version_id=None), 0, 1)
        except DpiqaError:
            return False
        return other is not None

    def _any_other(self, failed: ImageRef) -> ImageRef | None:
        page = next(list_pages(partial(self._page, failed.bucket, ""), failed.bucket, "", ""), [])
        return next((ref for ref in page if ref.key != failed.key and ref.size), None)

    def _page(self, bucket: str, prefix: str, paging: Paging, argument: str) -> Any:
        arguments: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix, "MaxKeys": _PAGE}
        method: Any = self._client.list_objects if paging is Paging.MARKER else self._client.list_objects_v2
        name = {Paging.START_AFTER: "StartAfter", Paging.TOKEN: "ContinuationToken", Paging.MARKER: "Marker"}[paging]
        with translated(partial(bucket_error, bucket=bucket)):
            return ask(method, **arguments, **({name: argument} if argument else {}))

    def _head(self, bucket: str, key: str, version_id: str | None) -> ImageRef:
        name = _name(bucket, key, version_id)
        with translated(partial(object_error, bucket=bucket, key=key)):
            try:
                response = ask(self._client.head_object, **name)
            except ClientError as error:
                if error_code(error) == "404" or not error_code(error).isdigit():
                    raise
                response = ask(self._client.get_object, **name)  # an answer to HEAD has no body that says why
                response["Body"].close()
        return _to_ref(bucket, key, response)

    def _get(self, ref: ImageRef, max_bytes: int) -> Fetched:
        def accept(facts: Mapping[str, Any]) -> int | None:
            current = _to_ref(ref.bucket, ref.key, facts, ref.etag)
            if "ETag" in facts:
                _check_etag(ref, current)
            _check_size(current, max_bytes)
            return max_bytes if current.size is None else None

        with translated(partial(object_error, bucket=ref.bucket, key=ref.key)):
            facts, data = self._download(_name(ref.bucket, ref.key, ref.version_id), accept)
            current = _to_ref(ref.bucket, ref.key, facts, ref.etag)
            _check_body(data, current, facts, max_bytes)
            if "ETag" not in facts:  # else it may be an error
                _check_etag(ref, current)
        data = decoded(data, facts.get("ContentEncoding"), max_bytes)
        return Fetched(data=data, etag=current.etag, version_id=current.version_id, last_modified=current.last_modified)

    def _read_part(self, ref: ImageRef, start: int, n_bytes: int) -> bytes:
        def accept(facts: Mapping[str, Any]) -> int:
            if "ETag" in facts:
                _check_etag(ref, _to_ref(ref.bucket, ref.key, facts, ref.etag))
            if facts.get("ContentRange") is None and start:
                raise ConfigurationError(
                    f"S3 returns no parts of s3://{ref.bucket}/{ref.key}",
                    hint="this server ignores the header Range: download the file and submit it from here",
                )
            return n_bytes - 1

        with translated(partial(object_error, bucket=ref.bucket, key=ref.key)):
            name = {**_name(ref.bucket, ref.key, ref.version_id), "Range": f"bytes={start}-{start + n_bytes - 1}"}
            facts, data = self._download(name, accept)
            data = data[:n_bytes]
            _check_body(data, _to_ref(ref.bucket, ref.key, facts, ref.etag), facts, n_bytes, is_part=True)
        return data

    def _download(self, name: Mapping[str, str], accept: Accept) -> tuple[Mapping[str, Any], bytes]:
        """Read an object or a part of it: by libcurl, or by boto3 where only that knows how."""
        endpoint = self._reader.endpoint(name["Bucket"])
        if endpoint is not None:
            try:
                return self._reader.get(endpoint, name, accept)
            except ClientError as error:
                if fault_of(error) is not Fault.REGION:
                    raise
                self._reader.forget(name["Bucket"])  # boto3 finds out where the bucket is
        response = ask(self._client.get_object, **name)
        with response["Body"] as body:
            most = accept(response)
            return response, _read(body, self._body_seconds, most)


def _read(body: "HTTPResponse", seconds: float, max_bytes: int | None) -> bytes:
    """Read a whole body, or one byte more than `max_bytes` of one whose size is not known.

    A slow one never reaches the socket's time-out: it is cut off after `seconds`.
    """

    def cut_off() -> None:
        with contextlib.suppress(ValueError, RuntimeError):  # the body was read to its end at this very moment
            body.shutdown()

    timer = threading.Timer(seconds, cut_off)
    timer.daemon = True
    timer.start()
    try:
        if max_bytes is None:
            data: bytes = body.read()
            return data
        parts: list[bytes] = []
        left = max_bytes + 1
        while left > 0 and (part := body.read(left)):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)
    finally:
        timer.cancel()


def _check_etag(requested: ImageRef, current: ImageRef) -> None:
    if requested.etag and requested.etag != current.etag:
        raise ObjectChanged(f"s3://{requested.bucket}/{requested.key} was overwritten", current=current)


def _check_size(current: ImageRef, max_bytes: int) -> None:
    if current.size == 0:
        raise ImageRejected(Reason.EMPTY, "the object has no bytes")
    if current.size is not None and current.size > max_bytes:
        raise ImageRejected(Reason.TOO_MANY_BYTES, f"{current.size} bytes, at most {max_bytes}")


def _check_body(data: bytes, current: ImageRef, response: Any, max_bytes: int, *, is_part: bool = False) -> None:
    """Check the bytes of an object, or a part of them. Raises `ImageRejected`, `ClientError`, `StoreUnavailable`."""
    name = f"s3://{current.bucket}/{current.key}"
    if current.size is not None and len(data) != (min(current.size, max_bytes) if is_part else current.size):
        raise StoreUnavailable(f"S3 sent {len(data)} of {current.size} bytes of {name}", may_be_object=True)
    if "ETag" not in response and (error := _ERROR_BODY.match(data)):
        code = error[1].decode("ascii", "replace")
        raise ClientError({"Error": {"Code": code, "Message": "in an answer with status 200"}}, "GetObject")
    if not data and not is_part:
        raise ImageRejected(Reason.EMPTY, "the object has no bytes")
    if len(data) > max_bytes:
        raise ImageRejected(Reason.TOO_MANY_BYTES, f"more than {max_bytes} bytes")


def _to_ref(bucket: str, key: str, response: Any, known_etag: str = "") -> ImageRef:
    """Return the ref of an object from the response to HeadObject or GetObject.

    Where it names no ETag, the one that the listing or the event named holds, and otherwise time and size do.
    """
    version_id, size, modified = response.get("VersionId"), response.get("ContentLength"), response.get("LastModified")
    if not known_etag or known_etag.startswith(_MADE_UP):
        known_etag = f"{_MADE_UP}{int(modified.timestamp()) if modified else 0:x}-{size or 0:x}"
    return ImageRef(
        bucket=bucket,
        key=key,
        etag=bare_etag(response.get("ETag")) or known_etag,
        version_id=version_id if version_id != "null" else None,
        size=size,
        last_modified=modified,
    )


def _name(bucket: str, key: str, version_id: str | None) -> dict[str, Any]:
    """Return the arguments that name an object to boto3."""
    return {"Bucket": bucket, "Key": key, **({"VersionId": version_id} if version_id else {})}
