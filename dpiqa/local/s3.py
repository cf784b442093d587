"""Embedded S3 and SQS: moto as a process on loopback. It checks no credentials.

Objects are kept on disk if it has a folder. Messages of its queues live in its memory and are lost when it ends.
Not for benchmarks: its queue slows down with its depth.
"""

import contextlib
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from dpiqa.errors import ConfigurationError
from dpiqa.local.process import Command, Server, owns_port, python
from dpiqa.local.s3_objects import ObjectFolder

REGION = "us-east-1"
#: moto accepts any credentials; boto3 requires some.
ACCESS_KEY_ID = "dpiqa-local"
SECRET_ACCESS_KEY = "dpiqa-local"  # noqa: S105 - not a secret: loopback only, unchecked


class S3(Server):
    """One moto server. Without a folder, the objects are lost when it ends."""

    name = "s3"

    def __init__(self, log: Path, folder: Path | None = None) -> None:
        super().__init__()
        self.log, self.folder = log, folder
        if importlib.util.find_spec("moto") is None:
            raise ConfigurationError(
                "the embedded S3 is not installed", hint="pip install 'dpiqa[local]', or set AWS_ENDPOINT_URL_S3"
            )

    @property
    def url(self) -> str:
        """Endpoint of S3 and of SQS."""
        return f"http://127.0.0.1:{self.port}"

    def client(self, service: str) -> Any:
        """Return a boto3 client of `s3` or `sqs` at this server."""
        return make_client(service, self.url)

    def command(self) -> Command:
        """Return the command: this module."""
        argv = python("dpiqa.local.s3", str(self.port), *([str(self.folder)] if self.folder else []))
        return Command(name=self.name, argv=argv, log=self.log, stop_seconds=2)

    def is_ready(self) -> bool:
        """Return whether the port is held by the process that we started."""
        return self.process is not None and owns_port(self.process.pid, self.port)


def make_client(service: str, endpoint: str) -> Any:
    """Return a boto3 client of the embedded server, whatever the environment's AWS settings are."""
    connect: Any = boto3.client  # its stub knows literal names only
    return connect(
        service,
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY_ID,
        aws_secret_access_key=SECRET_ACCESS_KEY,
        config=Config(
            s3={"addressing_style": "path"},
            proxies={},
            connect_timeout=5,
            read_timeout=60,
            retries={"mode": "standard", "max_attempts": 5},
            max_pool_connections=32,
        ),
    )


@dataclass(frozen=True)
class WatchedBucket:
    """A bucket whose events go to a queue of its own."""

    bucket: str
    queue_url: str


def provision(endpoint: str, bucket: str) -> WatchedBucket:
    """Create the bucket, its queue `<bucket>-events` and the notification, unless they exist."""
    s3, sqs = make_client("s3", endpoint), make_client("sqs", endpoint)
    try:
        with contextlib.suppress(s3.exceptions.BucketAlreadyOwnedByYou, s3.exceptions.BucketAlreadyExists):
            s3.create_bucket(Bucket=bucket)
        queue_url = sqs.create_queue(QueueName=f"{bucket}-events")["QueueUrl"]
        attributes = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])["Attributes"]
        events = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]
        s3.put_bucket_notification_configuration(
            Bucket=bucket,
            NotificationConfiguration={
                "QueueConfigurations": [{"QueueArn": attributes["QueueArn"], "Events": events}],
            },
        )
    except (BotoCoreError, ClientError) as error:
        message = f"the bucket {bucket} cannot be made at {endpoint}: {error}"
        raise ConfigurationError(message, hint="see the log of s3") from None
    return WatchedBucket(bucket, queue_url)


def queue_is_empty(endpoint: str, queue_url: str) -> bool:
    """Return whether every event is handled: the listener deletes a message when its rows are committed."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    response = make_client("sqs", endpoint).get_queue_attributes(QueueUrl=queue_url, AttributeNames=names)
    return all(int(response["Attributes"][name]) == 0 for name in names)


def serve(port: int, folder: Path | None) -> None:
    """Serve S3 and SQS on that port until killed; objects are read from the folder, and kept there."""
    from moto import server as moto  # noqa: PLC0415 - an optional dependency
    from moto.core.models import DEFAULT_ACCOUNT_ID  # noqa: PLC0415 - as above
    from moto.s3.models import s3_backends  # noqa: PLC0415 - as above
    from werkzeug.serving import WSGIRequestHandler, make_server  # noqa: PLC0415

    class Handler(WSGIRequestHandler):
        """HTTP/1.1, so that clients keep their connections; no line per request."""

        protocol_version = "HTTP/1.1"

        def log_request(self, *_: Any) -> None:
            """Log nothing."""

    app: Any = moto.DomainDispatcherApplication(moto.create_backend_app)  # type: ignore[attr-defined]
    if folder is not None:
        objects = ObjectFolder(folder, s3_backends[DEFAULT_ACCOUNT_ID]["aws"])
        objects.load()
        app = objects.saving(app)
    make_server("127.0.0.1", port, app, threaded=True, request_handler=Handler).serve_forever()


if __name__ == "__main__":
    serve(int(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
