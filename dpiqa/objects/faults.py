"""One table of the error codes of S3 and SQS: how errors of their requests become ours.

To add a code, add it to `FAULT_OF_CODE`. A `Fault` classifies the cause; `object_error`,
`bucket_error`, `account_error` and `queue_error` make our error of it for an object, a bucket, all buckets, a queue.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    IncompleteReadError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    ReadTimeoutError,
    ResponseStreamingError,
    TokenRetrievalError,
)
from urllib3.exceptions import DecodeError, HTTPError, ProtocolError

from dpiqa.errors import ConfigurationError, DpiqaError, ImageRejected, ObjectGone, StoreUnavailable
from dpiqa.types import Reason

#: Every error that boto3 raises for a request: its own, and those of the connection and of a body that is read.
VENDOR_ERRORS = (ClientError, BotoCoreError, HTTPError, OSError)


class UnreadableAnswer(BotoCoreError):
    """An answer that boto3 cannot read: that of another kind of server, or of a faulty one."""

    fmt = "the answer cannot be read: {reason}"


class Fault(Enum):
    """Cause of an error, independent of what was requested."""

    GONE = auto()  #: the object, version, bucket or queue does not exist
    DENIED = auto()  #: the service denies us access to this object, bucket or queue
    ARCHIVED = auto()  #: the object must be restored first
    CREDENTIALS = auto()  #: our credentials are wrong; not the fault of an image, so images wait
    EXPIRED = auto()  #: our credentials are not valid at this moment; AWS's chain may fetch new ones
    REGION = auto()  #: the request went to the wrong endpoint or region
    REFUSED = auto()  #: the service refuses this request, and would refuse it again
    FAILED = auto()  #: the service failed at this request, in a way that may be about this object only
    UNAVAILABLE = auto()  #: the service is overloaded or unreachable


FAULT_OF_CODE: dict[str, Fault] = {
    "NoSuchKey": Fault.GONE,
    "NoSuchVersion": Fault.GONE,
    "NoSuchBucket": Fault.GONE,
    "MethodNotAllowed": Fault.GONE,  # the version asked for is a delete marker
    "KeyTooLongError": Fault.GONE,
    "NotFound": Fault.GONE,
    "404": Fault.GONE,  # an answer without a body, as those to HEAD: botocore makes the code of the status
    "AccessDenied": Fault.DENIED,
    "AllAccessDisabled": Fault.DENIED,
    "Forbidden": Fault.DENIED,
    "403": Fault.DENIED,
    "KMS.DisabledException": Fault.DENIED,
    "KMS.NotFoundException": Fault.DENIED,
    "KMS.KMSInvalidStateException": Fault.DENIED,
    "InvalidRequest": Fault.DENIED,  # encrypted with a customer's key that we do not have
    "405": Fault.REFUSED,  # of a proxy: S3 says MethodNotAllowed
    "InvalidArgument": Fault.REFUSED,
    "InvalidRange": Fault.REFUSED,
    "InvalidURI": Fault.REFUSED,
    "NotImplemented": Fault.REFUSED,
    "501": Fault.REFUSED,
    "UserKeyMustBeSpecified": Fault.DENIED,
    "InvalidObjectState": Fault.ARCHIVED,
    "ObjectNotInActiveTierError": Fault.ARCHIVED,
    "InvalidAccessKeyId": Fault.CREDENTIALS,
    "SignatureDoesNotMatch": Fault.CREDENTIALS,
    "ExpiredToken": Fault.EXPIRED,
    "InvalidToken": Fault.CREDENTIALS,
    "TokenRefreshRequired": Fault.EXPIRED,
    "RequestTimeTooSkewed": Fault.EXPIRED,
    "RequestExpired": Fault.EXPIRED,
    "AccountProblem": Fault.CREDENTIALS,
    "NotSignedUp": Fault.CREDENTIALS,
    "InvalidPayer": Fault.CREDENTIALS,
    "401": Fault.CREDENTIALS,
    # of Ceph, MinIO, Alibaba and others
    "UserSuspended": Fault.CREDENTIALS,
    "InvalidTokenId": Fault.CREDENTIALS,
    "InvalidSecurityToken": Fault.CREDENTIALS,
    "SecurityTokenExpired": Fault.EXPIRED,
    "PermanentRedirect": Fault.REGION,
    "AuthorizationHeaderMalformed": Fault.REGION,
    "IllegalLocationConstraintException": Fault.REGION,
    "TemporaryRedirect": Fault.REGION,
    "Redirect": Fault.REGION,
    "301": Fault.REGION,
    "302": Fault.REGION,
    "307": Fault.REGION,
    "308": Fault.REGION,
    "InternalError": Fault.FAILED,
    "400": Fault.FAILED,  # of a gateway: S3 says why
    "ServiceUnavailable": Fault.UNAVAILABLE,
    "SlowDown": Fault.UNAVAILABLE,
    "RequestTimeout": Fault.UNAVAILABLE,
    "Throttling": Fault.UNAVAILABLE,
    "ThrottlingException": Fault.UNAVAILABLE,
    "RequestLimitExceeded": Fault.UNAVAILABLE,
    "BandwidthLimitExceeded": Fault.UNAVAILABLE,
    "OperationAborted": Fault.UNAVAILABLE,
    "500": Fault.FAILED,
    "502": Fault.UNAVAILABLE,
    "503": Fault.UNAVAILABLE,
    "504": Fault.UNAVAILABLE,
    # SQS
    "AWS.SimpleQueueService.NonExistentQueue": Fault.GONE,
    "QueueDoesNotExist": Fault.GONE,
    "AccessDeniedException": Fault.DENIED,
    "InvalidSecurity": Fault.DENIED,  # not over HTTPS, or not signed as the queue demands
    "KmsAccessDenied": Fault.DENIED,
    "KmsDisabled": Fault.DENIED,
    "KmsInvalidKeyUsage": Fault.DENIED,
    "KmsInvalidState": Fault.DENIED,
    "KmsNotFound": Fault.DENIED,
    "KmsOptInRequired": Fault.DENIED,
    "InvalidClientTokenId": Fault.CREDENTIALS,
    "InvalidAddress": Fault.REGION,  # the queue's URL is not of this endpoint
    "KmsThrottled": Fault.UNAVAILABLE,
    "OverLimit": Fault.UNAVAILABLE,  # too many messages in flight; they come back
    "RequestThrottled": Fault.UNAVAILABLE,
    "UnsupportedOperation": Fault.UNAVAILABLE,
    # SQS refuses requests that this program never makes
    "BatchEntryIdsNotDistinct": Fault.UNAVAILABLE,
    "EmptyBatchRequest": Fault.UNAVAILABLE,
    "InvalidAttributeName": Fault.UNAVAILABLE,
    "InvalidBatchEntryId": Fault.UNAVAILABLE,
    "TooManyEntriesInBatchRequest": Fault.UNAVAILABLE,
    # overload, in the words of other AWS services: botocore's own list
    "EC2ThrottledException": Fault.UNAVAILABLE,
    "LimitExceededException": Fault.UNAVAILABLE,
    "PriorRequestNotComplete": Fault.UNAVAILABLE,
    "ProvisionedThroughputExceededException": Fault.UNAVAILABLE,
    "RequestThrottledException": Fault.UNAVAILABLE,
    "RequestTimeoutException": Fault.UNAVAILABLE,
    "ThrottledException": Fault.UNAVAILABLE,
    "TooManyRequestsException": Fault.UNAVAILABLE,
    "TransactionInProgressException": Fault.UNAVAILABLE,
}
#: For codes that the table does not know.
_FAULT_OF_STATUS = {
    401: Fault.CREDENTIALS,
    402: Fault.CREDENTIALS,  # an account that is not paid
    403: Fault.DENIED,
    404: Fault.GONE,
    **dict.fromkeys((408, 425, 429, 502, 503, 504), Fault.UNAVAILABLE),
}
_OVERLOAD = ("throttl", "slowdown", "toomany", "busy", "timeout")  #: parts of such codes, in lower case
#: Errors that botocore and urllib3 raise without an answer; all others count as unavailable.
FAULT_OF_CLASS: dict[type[Exception], Fault] = {
    NoCredentialsError: Fault.CREDENTIALS,
    PartialCredentialsError: Fault.CREDENTIALS,
    ProfileNotFound: Fault.CREDENTIALS,
    TokenRetrievalError: Fault.CREDENTIALS,
    ParamValidationError: Fault.GONE,  # a name that no bucket, or a key that no object can have
    UnreadableAnswer: Fault.FAILED,
    # the connection ended or fell silent after it was made: perhaps at this object only
    ConnectionClosedError: Fault.FAILED,
    ReadTimeoutError: Fault.FAILED,
    IncompleteReadError: Fault.FAILED,
    ResponseStreamingError: Fault.FAILED,
    ProtocolError: Fault.FAILED,
}
_CREDENTIALS_HINT = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN and the clock"
_NETWORK_HINT = "check DPIQA_S3_ENDPOINT_URL (or AWS_ENDPOINT_URL_S3), AWS_CA_BUNDLE, proxies and the network"
_HINTS = {
    Fault.CREDENTIALS: _CREDENTIALS_HINT,
    Fault.EXPIRED: _CREDENTIALS_HINT,
    Fault.REGION: "set AWS_REGION to the region of the bucket",
    Fault.REFUSED: "check DPIQA_S3_ENDPOINT_URL and DPIQA_S3_ADDRESSING_STYLE: is it an S3 server?",
    Fault.FAILED: _NETWORK_HINT,
    Fault.UNAVAILABLE: _NETWORK_HINT,
}
_WAITED_FOR = (Fault.UNAVAILABLE, Fault.FAILED)
_NO_BUCKET = frozenset({"NoSuchBucket", "NotFound", "404"})


@contextmanager
def translated(to_ours: Callable[[Exception], DpiqaError]) -> Iterator[None]:
    """Raise `to_ours(error)` for every vendor error of the block. Other errors pass."""
    try:
        yield
    except VENDOR_ERRORS as error:
        raise to_ours(error) from None


def ask(method: Callable[..., Any], **arguments: Any) -> Any:
    """Call a method of a boto3 client. Raises `UnreadableAnswer` where boto3 fails at the answer."""
    from botocore.parsers import ResponseParserError  # noqa: PLC0415 - as in `dpiqa.objects.aws`

    try:
        return method(**arguments)
    except VENDOR_ERRORS:
        raise
    except (ResponseParserError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnreadableAnswer(reason=f"{type(error).__name__} {error}") from None


def fault_of(error: Exception) -> Fault:
    """Classify an error of boto3 or of its connection."""
    if isinstance(error, ClientError):
        response: Any = error.response
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        code = error_code(error)
        known = FAULT_OF_CODE.get(code) or _FAULT_OF_STATUS.get(status)
        if known is not None:
            return known
        if any(word in code.lower() for word in _OVERLOAD):
            return Fault.UNAVAILABLE
        # An S3 server that refuses says why. What gateways answer is waited for: waiting can always be undone.
        return Fault.REFUSED if 400 <= status < 500 and not code.isdigit() else Fault.FAILED
    return next((fault for kind, fault in FAULT_OF_CLASS.items() if isinstance(error, kind)), Fault.UNAVAILABLE)


def object_error(error: Exception, bucket: str, key: str) -> DpiqaError:
    """Return our error for one that was raised while an object was read."""
    fault, text = fault_of(error), describe(error)
    if isinstance(error, ClientError) and error_code(error) == "NoSuchBucket":
        # rather a wrong endpoint or name than an object that was deleted: stored results stay current
        return ImageRejected(Reason.NOT_FOUND, f"there is no bucket {bucket}")
    if isinstance(error, DecodeError):  # urllib3 refuses even to hand the bytes out
        return ImageRejected(Reason.UNSUPPORTED_ENCODING, text)
    if fault is Fault.GONE:
        return ObjectGone(f"s3://{bucket}/{key} is gone: {text}")
    if fault in (Fault.DENIED, Fault.REFUSED):
        verb = "denied access" if fault is Fault.DENIED else "refused the request"
        return ImageRejected(Reason.ACCESS_DENIED, f"the store {verb}: {text}")
    if fault is Fault.ARCHIVED:
        return ImageRejected(Reason.ARCHIVED, "in an archive storage class; restore it first")
    return StoreUnavailable(
        f"S3 does not return s3://{bucket}/{key}: {text}",
        hint=_HINTS[fault],
        retry_after=_retry_after(error),
        may_be_object=fault is Fault.FAILED,
        answered=isinstance(error, ClientError),
    )


def _retry_after(error: Exception) -> float | None:
    """Return the seconds that the server asks to wait, up to an hour; None where it does not say."""
    response: Any = error.response if isinstance(error, ClientError) else {}
    value = response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("retry-after", "")
    return min(float(value), 3600.0) if value.isascii() and value.isdigit() else None


def no_bucket(bucket: str) -> ConfigurationError:
    """Return the error about a bucket that does not exist."""
    return ConfigurationError(f"there is no bucket {bucket}", hint="check its name and DPIQA_S3_ENDPOINT_URL")


def is_no_bucket(error: Exception) -> bool:
    """Return whether an error of a request about a bucket says that there is none."""
    return error_code(error) in _NO_BUCKET or isinstance(error, ParamValidationError)


def bucket_error(error: Exception, bucket: str) -> DpiqaError:
    """Return our error for one that was raised while a bucket was listed. Only an unavailable store is waited for."""
    fault, text = fault_of(error), describe(error)
    if fault in _WAITED_FOR and not isinstance(error, UnreadableAnswer):
        message = f"S3 does not list bucket {bucket}: {text}"
        return StoreUnavailable(message, hint=_HINTS[fault], retry_after=_retry_after(error))
    if fault is Fault.GONE and is_no_bucket(error):
        return no_bucket(bucket)
    hint = _HINTS.get(fault, f"grant s3:ListBucket on bucket {bucket}")
    return ConfigurationError(f"bucket {bucket} cannot be listed: {text}", hint=hint)


def write_error(error: Exception, bucket: str, key: str) -> DpiqaError:
    """Return our error for one that was raised while an object was written."""
    fault, text = fault_of(error), describe(error)
    if fault in _WAITED_FOR:
        return StoreUnavailable(f"S3 does not store s3://{bucket}/{key}: {text}", hint=_HINTS[fault])
    if fault is Fault.GONE:
        return no_bucket(bucket)
    hint = _HINTS.get(fault, f"grant s3:PutObject and s3:AbortMultipartUpload on s3://{bucket}/{key}")
    return ConfigurationError(f"s3://{bucket}/{key} cannot be written: {text}", hint=hint)


def account_error(error: Exception) -> DpiqaError:
    """Return our error for one that was raised while all buckets of an account were listed."""
    fault, text = fault_of(error), describe(error)
    if fault in _WAITED_FOR:
        return StoreUnavailable(f"S3 does not answer: {text}", hint=_HINTS[fault])
    return ConfigurationError(f"S3 refuses our requests: {text}", hint=_HINTS.get(fault, "grant s3:ListAllMyBuckets"))


def queue_error(error: Exception, url: str) -> DpiqaError:
    """Return our error for one that was raised by a request to an SQS queue.

    Only a refusal by SQS itself is a wrong configuration. An error of the connection, of a gateway (an answer without
    a code of its own) or of AWS's credentials chain is waited for.
    """
    by_sqs = isinstance(error, ClientError) and not error_code(error).isdigit()
    fault = FAULT_OF_CODE.get(error_code(error), Fault.UNAVAILABLE) if by_sqs else Fault.UNAVAILABLE
    if fault is Fault.GONE:
        return ConfigurationError(f"there is no queue {url}", hint="check DPIQA_QUEUE_URL")
    if fault in (Fault.DENIED, Fault.CREDENTIALS, Fault.REGION):
        hint = "check DPIQA_QUEUE_URL; grant sqs:ReceiveMessage, sqs:DeleteMessage and sqs:GetQueueAttributes on it"
        return ConfigurationError(f"the queue refuses our requests: {describe(error)}", hint=hint)
    return StoreUnavailable(f"SQS does not answer: {describe(error)}", hint="check DPIQA_SQS_ENDPOINT_URL")


def describe(error: Exception) -> str:
    """Describe an error in one line of at most 300 characters, without the request and its secrets."""
    if isinstance(error, ClientError):
        response: Any = error.response
        text = f"{error_code(error)} {response.get('Error', {}).get('Message', '')}"
    else:
        text = str(error) if isinstance(error, BotoCoreError) else f"{type(error).__name__} {error}"
    return " ".join(text.split())[:300]


def error_code(error: Exception) -> str:
    """Return the code of a `ClientError`, without the namespace that some servers put before it."""
    response: Any = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", "")).rpartition("#")[2]
