import ast
import inspect

import botocore.exceptions
import botocore.session
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
from botocore.retries import standard
from urllib3.exceptions import ProtocolError

from dpiqa.errors import ConfigurationError, DpiqaError, ImageRejected, ObjectGone, StoreUnavailable
from dpiqa.objects import faults
from dpiqa.objects.faults import (
    FAULT_OF_CODE,
    VENDOR_ERRORS,
    Fault,
    account_error,
    bucket_error,
    fault_of,
    object_error,
    queue_error,
    translated,
)
from dpiqa.types import Reason

#: Errors of GetObject, HeadObject and ListObjectsV2 from the reference of S3, and of SQS.
EXPECTED = {
    Fault.GONE: ["NoSuchKey", "NoSuchVersion", "NoSuchBucket", "MethodNotAllowed", "404", "KeyTooLongError"],
    Fault.DENIED: ["AccessDenied", "AllAccessDisabled", "403", "KMS.DisabledException", "InvalidRequest"],
    Fault.ARCHIVED: ["InvalidObjectState", "ObjectNotInActiveTierError"],
    Fault.CREDENTIALS: [
        *("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidClientTokenId"),
        *("401", "UserSuspended", "InvalidTokenId", "InvalidSecurityToken"),
    ],
    Fault.EXPIRED: ["ExpiredToken", "RequestTimeTooSkewed", "SecurityTokenExpired"],
    Fault.REGION: ["PermanentRedirect", "AuthorizationHeaderMalformed", "301", "InvalidAddress"],
    Fault.REFUSED: ["405", "InvalidArgument", "NotImplemented", "501"],
    Fault.FAILED: ["InternalError", "500", "400"],
    Fault.UNAVAILABLE: ["ServiceUnavailable", "SlowDown", "RequestTimeout", "502", "503"],
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
        (401, Fault.CREDENTIALS),
        (402, Fault.CREDENTIALS),
        (403, Fault.DENIED),
        (404, Fault.GONE),
        (400, Fault.REFUSED),
        (409, Fault.REFUSED),
        (451, Fault.REFUSED),
        (429, Fault.UNAVAILABLE),
        (504, Fault.UNAVAILABLE),
        (599, Fault.FAILED),
        (200, Fault.FAILED),
    ],
)
def test_unknown_codes_of_s3_go_by_their_status(status, fault):
    assert fault_of(client_error("SomethingNew", status)) is fault


@pytest.mark.parametrize("status", [400, 407, 409, 412, 414, 418, 431, 451, 499, 500, 508, 599])
def test_a_gateway_that_says_no_code_rejects_nothing(status):
    assert fault_of(client_error(str(status), status)) is Fault.FAILED
    assert isinstance(object_error(client_error(str(status), status), "b", "k"), StoreUnavailable)


@pytest.mark.parametrize("code", ["KMS.ThrottlingException", "TooManyRequests", "ServerBusy", "SlowDownWrite"])
def test_an_overload_in_other_words_is_waited_for(code):
    assert fault_of(client_error(code, 400)) is Fault.UNAVAILABLE


@pytest.mark.parametrize(
    ("value", "seconds"), [("7", 7.0), ("99999", 3600.0), ("", None), ("Wed, 21 Oct 2026 07:28:00 GMT", None)]
)
def test_a_server_may_ask_to_wait(value, seconds):
    error = client_error("SlowDown", 503)
    error.response["ResponseMetadata"]["HTTPHeaders"] = {"retry-after": value}
    assert object_error(error, "b", "k").retry_after == seconds


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (EndpointConnectionError(endpoint_url="http://x"), Fault.UNAVAILABLE),
        (ConnectTimeoutError(endpoint_url="http://x"), Fault.UNAVAILABLE),
        (ReadTimeoutError(endpoint_url="http://x"), Fault.FAILED),
        (IncompleteReadError(actual_bytes=1, expected_bytes=2), Fault.FAILED),
        (ProtocolError("broken"), Fault.FAILED),
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
    rejected = {
        Fault.DENIED: Reason.ACCESS_DENIED,
        Fault.REFUSED: Reason.ACCESS_DENIED,
        Fault.ARCHIVED: Reason.ARCHIVED,
    }
    if code == "NoSuchBucket":
        assert isinstance(about_object, ImageRejected)
        assert (about_object.reason, about_object.message) == (Reason.NOT_FOUND, "there is no bucket bucket")
    elif fault in rejected:
        assert isinstance(about_object, ImageRejected)
        assert about_object.reason is rejected[fault]
    else:
        assert type(about_object) is (ObjectGone if fault is Fault.GONE else StoreUnavailable)
    assert getattr(about_object, "may_be_object", False) is (fault is Fault.FAILED)
    about_bucket = bucket_error(client_error(code), "bucket")
    waits = fault in (Fault.UNAVAILABLE, Fault.FAILED)
    assert type(about_bucket) is (StoreUnavailable if waits else ConfigurationError)
    assert about_bucket.hint
    assert "\n" not in str(about_bucket)


#: The requests that this program makes.
OPERATIONS = {
    "s3": ["GetObject", "HeadObject", "ListObjectsV2", "ListBuckets"],
    "sqs": ["ReceiveMessage", "DeleteMessageBatch", "GetQueueAttributes"],
}


@pytest.mark.parametrize(("service", "operation"), [(name, op) for name, ops in OPERATIONS.items() for op in ops])
def test_every_error_that_aws_documents_for_our_requests_is_in_the_table(service, operation):
    model = botocore.session.get_session().get_service_model(service).operation_model(operation)
    assert {shape.error_code for shape in model.error_shapes} <= set(FAULT_OF_CODE)


def test_every_code_that_botocore_takes_for_an_overload_is_one():
    codes = {
        *standard.TransientRetryableChecker._TRANSIENT_ERROR_CODES,
        *standard.ThrottledRetryableChecker._THROTTLED_ERROR_CODES,
    }
    assert {code: FAULT_OF_CODE.get(code) for code in codes} == dict.fromkeys(codes, Fault.UNAVAILABLE)


#: About botocore's own description of a service, which it ships: faults of botocore, not of a request.
FAULTS_OF_BOTOCORE = {"MissingServiceIdError", "UndefinedModelAttributeError"}


def vendor_classes():
    classes = {error for _, error in inspect.getmembers(botocore.exceptions, inspect.isclass)}
    raised = [error for error in classes if issubclass(error, Exception) and not issubclass(error, Warning)]
    return sorted(
        {error for error in raised if error.__name__ not in FAULTS_OF_BOTOCORE}, key=lambda error: error.__name__
    )


@pytest.mark.parametrize("error_class", vendor_classes())
def test_every_exception_class_of_botocore_becomes_one_of_ours(error_class):
    error = error_class.__new__(error_class)
    error.response = {}
    assert isinstance(fault_of(error), Fault)
    for ours in (
        object_error(error, "bucket", "key"),
        bucket_error(error, "bucket"),
        account_error(error),
        queue_error(error, "http://queue"),
    ):
        assert isinstance(ours, DpiqaError)
    with pytest.raises(DpiqaError), translated(lambda error: bucket_error(error, "bucket")):
        raise error
    assert issubclass(error_class, VENDOR_ERRORS)


@pytest.mark.parametrize("code", FAULT_OF_CODE)
def test_a_queue_is_given_up_only_for_what_sqs_itself_refuses(code):
    ours = queue_error(client_error(code), "http://queue")
    is_final = FAULT_OF_CODE[code] in {Fault.GONE, Fault.DENIED, Fault.CREDENTIALS, Fault.REGION}
    by_gateway = code.isdigit()
    assert type(ours) is (ConfigurationError if is_final and not by_gateway else StoreUnavailable)
    assert ours.hint


@pytest.mark.parametrize("error", [NoCredentialsError(), client_error("SomethingNew", 403), ConnectionResetError()])
def test_a_queue_is_waited_for_while_others_than_sqs_fail(error):
    assert type(queue_error(error, "http://queue")) is StoreUnavailable


def test_a_code_with_a_namespace_is_known():
    ours = queue_error(client_error("com.amazonaws.sqs#QueueDoesNotExist"), "http://queue")
    assert "there is no queue" in str(ours)


def test_messages_are_one_bounded_line():
    noisy = client_error("AccessDenied")
    noisy.response["Error"]["Message"] = "line\n" * 1000
    assert len(str(object_error(noisy, "b", "k"))) < 400
    assert "\n" not in str(object_error(noisy, "b", "k"))
