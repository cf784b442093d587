"""Documents for a bucket and a queue, shown for people: the change that will be made, or what to apply by hand."""

import json
from typing import Any

import typer

from dpiqa.cli.support import console
from dpiqa.objects.notifications import CREATED, REMOVED
from dpiqa.pipeline.event_path import Examination
from dpiqa.settings import Settings


def show_plan(examination: Examination) -> None:
    """Print the new documents on stderr: what is there already is part of them."""
    for name, document in _documents(examination):
        console.note(f"new {name}:")
        typer.echo(_json(document), err=True)


def show_documents(settings: Settings, examination: Examination) -> None:
    """Print the documents that are missing, with the commands that apply them, and the permissions of dpiqa itself."""
    bucket = examination.address.bucket
    endpoint = f" --endpoint-url {settings.s3_endpoint_url}" if settings.s3_endpoint_url else ""
    for name, document in _documents(examination):
        typer.echo(f"\n# {name}, with what is there already")
        typer.echo(_json(document))
        if document is examination.policy:
            typer.echo('# in attributes.json: {"Policy": "<the document above as one JSON string>"}')
            queue = settings.queue_url
            typer.echo(f"aws sqs set-queue-attributes --queue-url {queue} --attributes file://attributes.json")
        else:
            typer.echo(
                f"aws s3api put-bucket-notification-configuration{endpoint} --bucket {bucket} "
                "--notification-configuration file://notification.json"
            )
    typer.echo("\n# permissions of dpiqa (IAM)")
    typer.echo(_json(iam_policy(examination)))


def iam_policy(examination: Examination) -> dict[str, Any]:
    """Return the IAM policy for the processes of dpiqa on one bucket and its queue."""
    address, target = examination.address, examination.target
    objects, bucket = f"arn:aws:s3:::{address.bucket}/{address.key}*", f"arn:aws:s3:::{address.bucket}"
    probes = f"arn:aws:s3:::{address.bucket}/{address.key}.dpiqa-probe-*"
    statements: list[dict[str, Any]] = [
        {"Sid": "Read", "Effect": "Allow", "Action": ["s3:GetObject", "s3:GetObjectVersion"], "Resource": objects},
        {"Sid": "List", "Effect": "Allow", "Action": "s3:ListBucket", "Resource": bucket},
        {
            "Sid": "Check",
            "Effect": "Allow",
            "Action": ["s3:GetBucketNotification", "s3:PutBucketNotification"],
            "Resource": bucket,
        },
        {
            "Sid": "Probe",
            "Effect": "Allow",
            "Action": ["s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion"],
            "Resource": probes,
        },
    ]
    if target and ":sqs:" in target:
        actions = ["ReceiveMessage", "DeleteMessage", "GetQueueAttributes", "SetQueueAttributes"]
        statements.append(
            {"Sid": "Queue", "Effect": "Allow", "Action": [f"sqs:{name}" for name in actions], "Resource": target}
        )
    return {"Version": "2012-10-17", "Statement": statements}


def _documents(examination: Examination) -> list[tuple[str, dict[str, Any]]]:
    """Return what is to be set, by name."""
    named = [
        (f"notification of bucket {examination.address.bucket} ({CREATED}, {REMOVED})", examination.notification),
        ("policy of the queue", examination.policy),
    ]
    return [(name, document) for name, document in named if document is not None]


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2)  # ASCII: nothing in it acts on the terminal
