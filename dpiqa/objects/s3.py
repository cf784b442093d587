"""S3, and what speaks its language (Ceph, MinIO, moto), by boto3."""

import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import boto3
import tenacity
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import SecretStr
from urllib3.exceptions import HTTPError

from dpiqa.errors import ConfigurationError, ImageRejected, ObjectChanged, StoreUnavailable
from dpiqa.objects.faults import bucket_error, describe, object_error
from dpiqa.objects.store import Fetched
from dpiqa.types import ImageRef, Reason

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from urllib3 import HTTPResponse

_VENDOR_ERRORS = (ClientError, BotoCoreError, HTTPError, OSError)
_PAGE = 1000  #: objects; S3's own maximum
_Page = tuple[list[ImageRef], str | None]  #: objects, and the key to go on after; None at the end
_CONNECT_SECONDS, _READ_SECONDS, _TOTAL_SECONDS = 5, 10, 60
#: The largest image there may be (64 MB) in this time is half a megabyte a second; less counts as a store that hangs.
_BODY_SECONDS = 120.0
_RETRYING = tenacity.Retrying(
    retry=tenacity.retry_if_exception_type(StoreUnavailable),
    stop=tenacity.stop_after_attempt(3) | tenacity.stop_after_delay(_TOTAL_SECONDS),
    wait=tenacity.wait_random_exponential(multiplier=0.2, max=2),
    reraise=True,
)


def make_client(
    *,
    endpoint_url: str | None = None,
    region: str | None = None,
    access_key_id: SecretStr | None = None,
    secret_access_key: SecretStr | None = None,
    connections: int = 16,
) -> "S3Client":
    """Make a thread-safe client. Without keys, AWS's own chain finds them; `connections` bounds open sockets.

    boto3 retries nothing itself: its retries do not cover reading the body, so `S3Store` retries both together.
    Raises `ConfigurationError`.
    """
    config = Config(
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": 1},
        max_pool_connections=connections,
        s3={"addressing_style": "path" if endpoint_url else "auto"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    keys: dict[str, Any] = {}
    if access_key_id and secret_access_key:
        keys = {
            "aws_access_key_id": access_key_id.get_secret_value(),
            "aws_secret_access_key": secret_access_key.get_secret_value(),
        }
    try:
        session = boto3.session.Session(region_name=region, **keys)
        return session.client("s3", endpoint_url=endpoint_url, config=config)
    except (BotoCoreError, ValueError) as error:
        raise ConfigurationError(
            f"no S3 client: {describe(error)}", hint="check DPIQA_S3_ENDPOINT_URL, AWS_REGION and AWS_PROFILE"
        ) from None


class S3Store:
    """The `ObjectStore` on S3. `body_seconds`: how long one object's bytes may take."""

    def __init__(self, client: "S3Client", body_seconds: float = _BODY_SECONDS) -> None:
        self._client, self._body_seconds = client, body_seconds

    def list(self, bucket: str, prefix: str, start_after: str | None = None) -> Iterator[list[ImageRef]]:
        """See `ObjectStore.list`."""
        after: str | None = start_after or ""
        while after is not None:
            page, after = _RETRYING(self._page, bucket, prefix, after)
            if page:
                yield page

    def get(self, ref: ImageRef, max_bytes: int) -> Fetched:
        """See `ObjectStore.get`. Reading a body that breaks off is retried as a whole."""
        return _RETRYING(self._get, ref, max_bytes)

    def head(self, bucket: str, key: str, version_id: str | None = None) -> ImageRef:
        """See `ObjectStore.head`."""
        return _RETRYING(self._head, bucket, key, version_id)

    def _page(self, bucket: str, prefix: str, after: str) -> _Page:
        try:
            answer = self._client.list_objects_v2(Bucket=bucket, Prefix=prefix, StartAfter=after, MaxKeys=_PAGE)
        except _VENDOR_ERRORS as error:
            raise bucket_error(error, bucket) from None
        found = answer.get("Contents", [])
        page = [_listed(bucket, item) for item in found if not _is_folder_marker(item)]
        return page, found[-1]["Key"] if found and answer.get("IsTruncated") else None

    def _head(self, bucket: str, key: str, version_id: str | None) -> ImageRef:
        try:
            answer: Any = self._client.head_object(Bucket=bucket, Key=key, **_version(version_id))
        except _VENDOR_ERRORS as error:
            raise object_error(error, bucket, key) from None
        return _described(bucket, key, answer)

    def _get(self, ref: ImageRef, max_bytes: int) -> Fetched:
        try:
            answer: Any = self._client.get_object(Bucket=ref.bucket, Key=ref.key, **_version(ref.version_id))
            with answer["Body"] as body:
                now = _described(ref.bucket, ref.key, answer)
                _check_header(ref, now, max_bytes)
                data = _read(body, self._body_seconds)
        except _VENDOR_ERRORS as error:
            raise object_error(error, ref.bucket, ref.key) from None
        if len(data) != now.size:
            raise StoreUnavailable(f"S3 sent {len(data)} of {now.size} bytes of s3://{ref.bucket}/{ref.key}")
        return Fetched(data=data, etag=now.etag, version_id=now.version_id, last_modified=now.last_modified)


def _read(body: "HTTPResponse", seconds: float) -> bytes:
    """Read a body whole. One that trickles never meets the socket's time-out: it is cut off after `seconds`."""
    timer = threading.Timer(seconds, _cut_off, (body,))
    timer.daemon = True
    timer.start()
    try:
        data: bytes = body.read()
        return data
    finally:
        timer.cancel()


def _cut_off(body: "HTTPResponse") -> None:
    with contextlib.suppress(ValueError, RuntimeError):  # read to its end in this very moment
        body.shutdown()


def _check_header(asked: ImageRef, now: ImageRef, max_bytes: int) -> None:
    """Decide before the body is read. Raises `ObjectChanged`, `ImageRejected`."""
    if asked.etag and asked.etag != now.etag:
        raise ObjectChanged(f"s3://{asked.bucket}/{asked.key} was overwritten", current=now)
    if not now.size:
        raise ImageRejected(Reason.EMPTY, "the object has no bytes")
    if now.size > max_bytes:
        raise ImageRejected(Reason.TOO_MANY_BYTES, f"{now.size} bytes, at most {max_bytes}")


def _described(bucket: str, key: str, answer: Any) -> ImageRef:
    version_id = answer.get("VersionId")
    return ImageRef(
        bucket=bucket,
        key=key,
        etag=answer["ETag"].strip('"'),
        version_id=version_id if version_id != "null" else None,
        size=answer["ContentLength"],
        last_modified=answer.get("LastModified"),
    )


def _listed(bucket: str, item: Any) -> ImageRef:
    return ImageRef(
        bucket=bucket,
        key=item["Key"],
        etag=item["ETag"].strip('"'),
        size=item["Size"],
        last_modified=item.get("LastModified"),
    )


def _is_folder_marker(item: Any) -> bool:
    """Consoles create empty objects named like folders."""
    return bool(item["Key"].endswith("/") and not item["Size"])


def _version(version_id: str | None) -> dict[str, Any]:
    return {"VersionId": version_id} if version_id else {}
