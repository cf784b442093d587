"""The page on a bucket of one's own: its `aws` lines, run against an S3 and SQS server, make a bucket that announces.

The lines run as boto3 calls, whose names and arguments botocore checks against AWS's own description of each service.
The awscli itself cannot be installed beside the boto3 of this project.
"""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import boto3
import pytest
from botocore import xform_name
from botocore.validate import ParamValidator
from moto.iam.policy_validation import IAMPolicyDocumentValidator

from dpiqa.events import parse
from dpiqa.local.s3 import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY

DOCS = Path(__file__).resolve().parents[2] / "docs"
ACCOUNT = "123456789012"  #: of the embedded server


def page(name):
    """The text of a page, with the region and the account of the embedded server."""
    return (DOCS / name).read_text("utf-8").replace("eu-central-1", REGION).replace("111122223333", ACCOUNT)


def files(text):
    """The documents that a page tells its reader to save, by name."""
    return dict(re.findall(r'^```json title="([^"]+)"\n(.*?)^```$', text, re.MULTILINE | re.DOTALL))


class Shell:
    """Runs the lines of a page in a folder with its files."""

    def __init__(self, folder, endpoint):
        self.folder, self.endpoint, self.calls = folder, endpoint, []

    def client(self, service):
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=ACCESS_KEY_ID,
            aws_secret_access_key=SECRET_ACCESS_KEY,
        )

    def run(self, line):
        words = shlex.split(line)
        if words[0] == "python3":
            subprocess.run(["bash", "-c", line.replace("python3", sys.executable, 1)], check=True, cwd=self.folder)
            return
        assert words.pop(0) == "aws"
        if words[0] == "--endpoint-url":
            del words[:2]
        client = self.client({"s3api": "s3"}.get(words[0], words[0]))
        operation = client.meta.method_to_api_mapping[words[1].replace("-", "_")]
        model = client.meta.service_model.operation_model(operation)
        names = {f"--{xform_name(name, '-')}": name for name in model.input_shape.members}
        arguments = {
            names[option]: self.value(text, model.input_shape.members[names[option]])
            for option, text in zip(words[2::2], words[3::2], strict=True)
        }
        self.calls.append((client.meta.service_model.service_name, operation, arguments))
        if client.meta.service_model.service_name in {"s3", "sqs"}:
            if "QueueUrl" in arguments:
                arguments["QueueUrl"] = f"{self.endpoint}/{ACCOUNT}/" + arguments["QueueUrl"].rpartition("/")[2]
            getattr(client, xform_name(operation))(**arguments)

    def value(self, text, shape):
        if text.startswith("file://"):
            text = (self.folder / text.removeprefix("file://")).read_text()
            return json.loads(text) if shape.type_name in {"structure", "map"} else text
        if shape.type_name == "map":
            return dict(pair.split("=", 1) for pair in text.split(","))
        return text


@pytest.fixture
def shell(tmp_path, s3_server):
    shell = Shell(tmp_path, s3_server.url)
    s3, sqs = shell.client("s3"), shell.client("sqs")
    s3.create_bucket(Bucket="photos")
    yield shell
    for found in s3.list_objects_v2(Bucket="photos").get("Contents", ()):
        s3.delete_object(Bucket="photos", Key=found["Key"])
    s3.delete_bucket(Bucket="photos")
    for url in sqs.list_queues(QueueNamePrefix="photos-events").get("QueueUrls", ()):
        sqs.delete_queue(QueueUrl=url)


def test_after_the_lines_of_the_page_the_bucket_announces_its_objects(shell):
    text = page("bucket.md")
    for name, content in files(text).items():
        (shell.folder / name).write_text(content)
    for line in re.findall(r"^\$ ((?:aws|python3) .*)$", text, re.MULTILINE):
        shell.run(line)
    assert [operation for _, operation, _ in shell.calls] == [
        "CreatePolicy",
        "AttachRolePolicy",
        "CreateQueue",
        "CreateQueue",
        "SetQueueAttributes",
        "PutBucketNotificationConfiguration",
    ]
    sqs = shell.client("sqs")
    queue = f"{shell.endpoint}/{ACCOUNT}/photos-events"
    attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"]
    assert json.loads(attributes["Policy"])["Statement"][0]["Condition"]["StringEquals"]
    assert json.loads(attributes["RedrivePolicy"])["deadLetterTargetArn"].endswith(":photos-events-dead")
    for key in ("elsewhere/b.jpg", "inbox/a.jpg"):
        shell.client("s3").put_object(Bucket="photos", Key=key, Body=b"x")
    bodies = [
        message["Body"]
        for _ in range(4)
        for message in sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", ())
    ]
    keys = {ref.key for body in bodies for ref in parse(body).images}
    assert keys == {"inbox/a.jpg"}


def test_the_policy_of_the_page_is_one_that_aws_accepts():
    IAMPolicyDocumentValidator(files(page("bucket.md"))["dpiqa-policy.json"]).validate()


def test_the_lines_for_ceph_name_what_exists(shell):
    text = page("store-recipes.md")
    for name, content in files(text).items():
        (shell.folder / name).write_text(content)
    (topic, notification) = re.findall(r"^\$ (aws .*)$", text, re.MULTILINE)
    shell.run(topic)
    assert shell.calls[-1][2] == {"Name": "dpiqa", "Attributes": json.loads(files(text)["topic.json"])}
    client = shell.client("s3")
    model = client.meta.service_model.operation_model("PutBucketNotificationConfiguration")
    value = json.loads(files(text)["ceph-notification.json"])
    report = ParamValidator().validate({"Bucket": "photos", "NotificationConfiguration": value}, model.input_shape)
    assert not report.has_errors(), report.generate_report()
    assert "ceph-notification.json" in notification
