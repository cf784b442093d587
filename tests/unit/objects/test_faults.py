import ast
import inspect

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    IncompleteReadError,
    NoCredentialsError,
    ParamValidationError,
    ReadTimeoutError,
)
from urllib3.exceptions import ProtocolError

from dpiqa.errors import ConfigurationError, ImageRejected, ObjectGone, StoreUnavailable
from dpiqa.objects import faults
from dpiqa.objects.faults import FAULT_OF_CODE, Fault, bucket_error, fault_of, object_error
from dpiqa.types import Reason

#: What S3 may answer to GetObject, HeadObject and ListObjectsV2, from its error reference.
EXPECTED = {
    Fault.GONE: ["NoSuchKey", "NoSuchVersion", "NoSuchBucket", "MethodNotAllowed", "404", "405", "KeyTooLongError"],
    Fault.DENIED: ["AccessDenied", "AllAccessDisabled", "403", "KMS.DisabledException", "InvalidRequest"],
    Fault.ARCHIVED: ["InvalidObjectState"],
    Fault.CREDENTIALS: ["InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "RequestTimeTooSkewed"],
    Fault.REGION: ["PermanentRedirect", "AuthorizationHeaderMalformed", "301"],
    Fault.UNAVAILABLE: ["InternalError", "ServiceUnavailable", "SlowDown", "RequestTimeout", "500", "502", "503"],
}


def client_error(code, status=400):
    answer = {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "GetObject")


@pytest.mark.parametrize(("fault", "code"), [(fault, code) for fault, codes in EXPECTED.items() for code in codes])
def test_every_known_code_is_mapped(fault, code):
    assert FAULT_OF_CODE[code] is fault
    assert fault_of(client_error(code)) is fault


def test_no_code_is_listed_twice():
    (table,) = [
        node.value
        for node in ast.parse(inspect.getsource(faults)).body
        if isinstance(node, ast.AnnAssign) and node.target.id == "FAULT_OF_CODE"
    ]
    codes = [key.value for key in table.keys]
    assert len(codes) == len(set(codes)) == len(FAULT_OF_CODE)


@pytest.mark.parametrize(
    ("status", "fault"),
    [
        (403, Fault.DENIED),
        (404, Fault.GONE),
        (400, Fault.UNAVAILABLE),
        (429, Fault.UNAVAILABLE),
        (599, Fault.UNAVAILABLE),
    ],
)
def test_unknown_codes_go_by_their_status_and_never_reject_for_a_gateways_whim(status, fault):
    assert fault_of(client_error("SomethingNew", status)) is fault


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (EndpointConnectionError(endpoint_url="http://x"), Fault.UNAVAILABLE),
        (ConnectTimeoutError(endpoint_url="http://x"), Fault.UNAVAILABLE),
        (ReadTimeoutError(endpoint_url="http://x"), Fault.UNAVAILABLE),
        (IncompleteReadError(actual_bytes=1, expected_bytes=2), Fault.UNAVAILABLE),
        (ProtocolError("broken"), Fault.UNAVAILABLE),
        (ConnectionResetError(), Fault.UNAVAILABLE),
        (NoCredentialsError(), Fault.CREDENTIALS),
        (ParamValidationError(report="bad bucket"), Fault.GONE),
    ],
)
def test_errors_of_the_connection(error, fault):
    assert fault_of(error) is fault


@pytest.mark.parametrize("code", FAULT_OF_CODE)
def test_each_code_means_something_for_an_object_and_for_a_bucket(code):
    fault = FAULT_OF_CODE[code]
    about_object = object_error(client_error(code), "bucket", "key")
    rejected = {Fault.DENIED: Reason.ACCESS_DENIED, Fault.ARCHIVED: Reason.ARCHIVED}
    if fault in rejected:
        assert isinstance(about_object, ImageRejected)
        assert about_object.reason is rejected[fault]
    else:
        assert type(about_object) is (ObjectGone if fault is Fault.GONE else StoreUnavailable)
    about_bucket = bucket_error(client_error(code), "bucket")
    assert type(about_bucket) is (StoreUnavailable if fault is Fault.UNAVAILABLE else ConfigurationError)
    assert about_bucket.hint
    assert "\n" not in str(about_bucket)


def test_messages_are_one_bounded_line():
    noisy = client_error("AccessDenied")
    noisy.response["Error"]["Message"] = "line\n" * 1000
    assert len(str(object_error(noisy, "b", "k"))) < 400
    assert "\n" not in str(object_error(noisy, "b", "k"))
