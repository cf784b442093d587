"""A fresh bucket of the embedded S3 for one test."""

import contextlib
import json
import uuid
from dataclasses import dataclass
from typing import Any

from dpiqa.local.s3 import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY, provision


@dataclass
class Bucket:
    """One bucket, boto3 clients, and the queue of its events once `watch()` was called."""

    name: str
    endpoint: str
    client: Any  # boto3 S3 client
    sqs: Any  # boto3 SQS client
    queue_url: str | None = None

    @classmethod
    def make(cls, server):
        """Create a bucket of a new name on an embedded server."""
        bucket = cls(f"test-{uuid.uuid4().hex[:20]}", server.url, server.client("s3"), server.client("sqs"))
        bucket.client.create_bucket(Bucket=bucket.name)
        return bucket

    @property
    def settings(self):
        """Arguments for `load_settings` that point at this server."""
        values = {
            "s3_endpoint_url": self.endpoint,
            "sqs_endpoint_url": self.endpoint,
            "aws_region": REGION,
            "aws_access_key_id": ACCESS_KEY_ID,
            "aws_secret_access_key": SECRET_ACCESS_KEY,
        }
        return values | ({"queue_url": self.queue_url} if self.queue_url else {})

    @property
    def env(self):
        """The same as environment variables, for processes."""
        return {f"DPIQA_{name.upper()}": value for name, value in self.settings.items()}

    def put(self, key, body, **arguments):
        """Upload an object; return its ETag without quotes."""
        return self.client.put_object(Bucket=self.name, Key=key, Body=body, **arguments)["ETag"].strip('"')

    def delete(self, key):
        """Delete an object."""
        self.client.delete_object(Bucket=self.name, Key=key)

    def keys(self):
        """Return the keys of the bucket."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def watch(self):
        """Send the bucket's events to a queue of its own; return the queue's URL."""
        self.queue_url = provision(self.endpoint, self.name).queue_url
        return self.queue_url

    def messages(self, limit=10):
        """Take up to `limit` (at most 10) messages from the queue, parsed; they are deleted."""
        answer = self.sqs.receive_message(QueueUrl=self.queue_url, MaxNumberOfMessages=limit, WaitTimeSeconds=0)
        taken = answer.get("Messages", [])
        for message in taken:
            self.sqs.delete_message(QueueUrl=self.queue_url, ReceiptHandle=message["ReceiptHandle"])
        return [json.loads(message["Body"]) for message in taken]

    def remove(self):
        """Delete the bucket with all its objects, and its queue."""
        if self.queue_url:
            self.sqs.delete_queue(QueueUrl=self.queue_url)
        with contextlib.suppress(self.client.exceptions.NoSuchBucket):
            pages = self.client.get_paginator("list_object_versions").paginate(Bucket=self.name)
            versions = [row for page in pages for kind in ("Versions", "DeleteMarkers") for row in page.get(kind, [])]
            keys = [{"Key": row["Key"], "VersionId": row["VersionId"]} for row in versions]
            for start in range(0, len(keys), 1000):
                self.client.delete_objects(Bucket=self.name, Delete={"Objects": keys[start : start + 1000]})
            self.client.delete_bucket(Bucket=self.name)
