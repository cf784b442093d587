"""Uploads of objects whose size is not known before their last byte: one request, or a multipart upload."""

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import structlog

from dpiqa.objects.faults import VENDOR_ERRORS, describe, translated, write_error
from dpiqa.retries import OBJECT_REQUEST

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = structlog.get_logger()

#: All parts but the last one are alike, as some stores demand; 10,000 of them, S3's maximum, make 312 GiB.
PART_BYTES = 32 * 1024 * 1024


def upload(client: "S3Client", bucket: str, key: str, chunks: Iterable[bytes], *, media_type: str) -> None:
    """Store the chunks as one object, which appears when it is complete; an older one stays until then.

    On an error of `chunks` or of S3 the upload is aborted. Memory holds one part. Raises `StoreUnavailable`,
    `ConfigurationError`, and whatever `chunks` raises.
    """
    name = {"Bucket": bucket, "Key": key}
    to_ours = partial(write_error, bucket=bucket, key=key)
    parts = _parts(chunks)
    first, second = next(parts, b""), next(parts, None)
    if second is None:
        _request(to_ours, client.put_object, **name, Body=first, ContentType=media_type)
        return
    upload_id = _request(to_ours, client.create_multipart_upload, **name, ContentType=media_type)["UploadId"]
    try:
        stored = []
        for number, part in enumerate(chain((first, second), parts), start=1):
            answer = _request(to_ours, client.upload_part, **name, UploadId=upload_id, PartNumber=number, Body=part)
            stored.append({"PartNumber": number, "ETag": answer["ETag"]})
        _request(
            to_ours, client.complete_multipart_upload, **name, UploadId=upload_id, MultipartUpload={"Parts": stored}
        )
    except BaseException:
        _abort(client, bucket, key, upload_id)
        raise


def _abort(client: "S3Client", bucket: str, key: str, upload_id: str) -> None:
    """Delete the parts. Where that fails they stay, invisible, until a lifecycle rule of the bucket removes them."""
    try:
        client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)
    except VENDOR_ERRORS as error:
        log.warning("upload_not_aborted", bucket=bucket, key=key, upload_id=upload_id, error=describe(error))


def _request(to_ours: Any, method: Any, **arguments: Any) -> Any:
    def attempt() -> Any:
        with translated(to_ours):
            return method(**arguments)

    return OBJECT_REQUEST(attempt)


def _parts(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Join and cut chunks into parts."""
    buffer = bytearray()
    for chunk in chunks:
        buffer += chunk
        while len(buffer) >= PART_BYTES:
            yield bytes(memoryview(buffer)[:PART_BYTES])
            del buffer[:PART_BYTES]
    if buffer:
        yield bytes(buffer)
