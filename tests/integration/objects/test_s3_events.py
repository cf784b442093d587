"""The events that a real (embedded) S3 puts into a real queue say what the store then hands out."""

import time

from dpiqa.events import Parsed, parse
from dpiqa.objects.s3 import S3Store
from dpiqa.settings import load_settings

PART = bytes(5 * 1024 * 1024)


def drain(s3, queue_url, until):
    """Parse messages until `until(parsed so far)`, at most 20 s."""
    seen = Parsed()
    deadline = time.monotonic() + 20
    while not until(seen) and time.monotonic() < deadline:
        answer = s3.sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
        for message in answer.get("Messages", []):
            parsed = parse(message["Body"])
            seen.images.extend(parsed.images)
            seen.removals.extend(parsed.removals)
            seen.ignored.extend(parsed.ignored)
            s3.sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])
    return seen


def test_events_name_the_objects_that_can_be_read(s3, sqs_queue):
    keys = ["plain.jpg", "a b+c%2F/ü.jpg", "x//y", "😀"]
    for key in keys:
        s3.client.put_object(Bucket=s3.name, Key=key, Body=key.encode())
    seen = drain(s3, sqs_queue, lambda seen: len(seen.images) >= len(keys))
    store = S3Store.from_settings(load_settings(**s3.settings))
    assert sorted(image.key for image in seen.images) == sorted(keys)
    for image in seen.images:
        assert image.bucket == s3.name
        assert store.get(image, 100).data == image.key.encode()


def test_removals_and_multipart_uploads(s3, sqs_queue):
    upload = s3.client.create_multipart_upload(Bucket=s3.name, Key="big")["UploadId"]
    where = {"Bucket": s3.name, "Key": "big", "UploadId": upload}
    parts = [{"PartNumber": n, "ETag": s3.client.upload_part(**where, PartNumber=n, Body=PART)["ETag"]} for n in (1, 2)]
    s3.client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
    etag = s3.client.head_object(Bucket=s3.name, Key="big")["ETag"].strip('"')
    s3.client.delete_object(Bucket=s3.name, Key="big")
    seen = drain(s3, sqs_queue, lambda seen: seen.removals and seen.images)
    assert {(image.key, image.etag) for image in seen.images} == {("big", etag)}
    assert [removal.key for removal in seen.removals] == ["big"]
