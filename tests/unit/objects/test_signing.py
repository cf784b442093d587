"""Signatures of requests, compared with those of botocore."""

import calendar
import time

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials

from dpiqa.objects.signing import signed

KEYS = ReadOnlyCredentials("AKID", "secret/+", None)
HEADERS = {"User-Agent": "dpiqa", "x-amz-request-payer": "requester"}


@pytest.mark.parametrize(
    "url",
    [
        "https://bucket.s3.eu-central-1.amazonaws.com/2024/001.jpg",
        "https://bucket.s3.eu-central-1.amazonaws.com:443/a//b/../c%20d%3Fe~%C3%BC",
        "http://127.0.0.1:9000/bucket/a%2Bb?versionId=v%2F1%20%2B",
        "http://Objects.Example:80/swift/v1/bucket/k",
        "https://[::1]:9000/bucket/k",
    ],
)
@pytest.mark.parametrize("keys", [KEYS, KEYS._replace(token="a-token")])
@pytest.mark.parametrize("headers", [HEADERS, {**HEADERS, "Range": "bytes=0-9", "X-Odd": "  two   spaces "}, {}])
@pytest.mark.parametrize("scope", [("eu-central-1", "s3"), ("us-east-1", "s3-object-lambda")])
def test_a_signature_is_that_of_botocore(url, keys, headers, scope):
    request = AWSRequest(method="GET", url=url, headers=headers)
    S3SigV4Auth(keys, scope[1], scope[0]).add_auth(request)
    expected = dict(request.headers.items())
    at = calendar.timegm(time.strptime(expected["X-Amz-Date"], "%Y%m%dT%H%M%SZ"))
    assert signed(url, headers, keys, scope, at) == expected
