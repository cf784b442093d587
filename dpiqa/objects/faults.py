"""One table: what each S3 error code means for us. Vendor errors become ours here and nowhere else."""

from enum import Enum, auto
from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    TokenRetrievalError,
)

from dpiqa.errors import ConfigurationError, DpiqaError, ImageRejected, ObjectGone, StoreUnavailable
from dpiqa.types import Reason


class Fault(Enum):
    """Whose fault it is, and so what happens next."""

    GONE = auto()  #: the object, version or bucket does not exist
    DENIED = auto()  #: the store will not hand out this object
    ARCHIVED = auto()  #: it must be restored first
    CREDENTIALS = auto()  #: our keys are wrong: no image's fault, so images wait
    REGION = auto()  #: we ask in the wrong place
    UNAVAILABLE = auto()  #: the store is overloaded or away


FAULT_OF_CODE: dict[str, Fault] = {
    "NoSuchKey": Fault.GONE,
    "NoSuchVersion": Fault.GONE,
    "NoSuchBucket": Fault.GONE,
    "MethodNotAllowed": Fault.GONE,  # the version asked for is a delete marker
    "KeyTooLongError": Fault.GONE,
    "NotFound": Fault.GONE,
    "404": Fault.GONE,  # HEAD answers have no body, so botocore makes the code of the status
    "405": Fault.GONE,
    "AccessDenied": Fault.DENIED,
    "AllAccessDisabled": Fault.DENIED,
    "Forbidden": Fault.DENIED,
    "403": Fault.DENIED,
    "KMS.DisabledException": Fault.DENIED,
    "KMS.NotFoundException": Fault.DENIED,
    "KMS.KMSInvalidStateException": Fault.DENIED,
    "InvalidRequest": Fault.DENIED,  # encrypted with a key of the customer's that we do not have
    "InvalidObjectState": Fault.ARCHIVED,
    "InvalidAccessKeyId": Fault.CREDENTIALS,
    "SignatureDoesNotMatch": Fault.CREDENTIALS,
    "ExpiredToken": Fault.CREDENTIALS,
    "InvalidToken": Fault.CREDENTIALS,
    "TokenRefreshRequired": Fault.CREDENTIALS,
    "RequestTimeTooSkewed": Fault.CREDENTIALS,
    "RequestExpired": Fault.CREDENTIALS,
    "AccountProblem": Fault.CREDENTIALS,
    "NotSignedUp": Fault.CREDENTIALS,
    "InvalidPayer": Fault.CREDENTIALS,
    "PermanentRedirect": Fault.REGION,
    "AuthorizationHeaderMalformed": Fault.REGION,
    "IllegalLocationConstraintException": Fault.REGION,
    "301": Fault.REGION,
    "InternalError": Fault.UNAVAILABLE,
    "ServiceUnavailable": Fault.UNAVAILABLE,
    "SlowDown": Fault.UNAVAILABLE,
    "RequestTimeout": Fault.UNAVAILABLE,
    "Throttling": Fault.UNAVAILABLE,
    "ThrottlingException": Fault.UNAVAILABLE,
    "RequestLimitExceeded": Fault.UNAVAILABLE,
    "BandwidthLimitExceeded": Fault.UNAVAILABLE,
    "OperationAborted": Fault.UNAVAILABLE,
    "500": Fault.UNAVAILABLE,
    "502": Fault.UNAVAILABLE,
    "503": Fault.UNAVAILABLE,
    "504": Fault.UNAVAILABLE,
}
#: For codes that the table does not know. Any other status counts as the store's fault: to wait is always mendable,
#: to reject an archive because of one odd gateway is not.
_FAULT_OF_STATUS = {403: Fault.DENIED, 404: Fault.GONE}
_CREDENTIAL_ERRORS = (NoCredentialsError, PartialCredentialsError, ProfileNotFound, TokenRetrievalError)
_CURES = {
    Fault.CREDENTIALS: "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN and the clock",
    Fault.REGION: "set AWS_REGION to the region of the bucket",
    Fault.UNAVAILABLE: "check DPIQA_S3_ENDPOINT_URL (or AWS_ENDPOINT_URL_S3) and the network",
}


def fault_of(error: Exception) -> Fault:
    """Classify a boto3 error, or any error of the connection."""
    if isinstance(error, ClientError):
        response: Any = error.response
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return FAULT_OF_CODE.get(_code(error)) or _FAULT_OF_STATUS.get(status, Fault.UNAVAILABLE)
    if isinstance(error, ParamValidationError):
        return Fault.GONE  # no bucket has such a name, no object such a key
    return Fault.CREDENTIALS if isinstance(error, _CREDENTIAL_ERRORS) else Fault.UNAVAILABLE


def object_error(error: Exception, bucket: str, key: str) -> DpiqaError:
    """Say what an error met while reading one object means for that object."""
    fault, text = fault_of(error), describe(error)
    if fault is Fault.GONE:
        return ObjectGone(f"s3://{bucket}/{key} is gone: {text}")
    if fault is Fault.DENIED:
        return ImageRejected(Reason.ACCESS_DENIED, f"the store refused to hand it out: {text}")
    if fault is Fault.ARCHIVED:
        return ImageRejected(Reason.ARCHIVED, "in an archive storage class; restore it first")
    return StoreUnavailable(f"S3 does not hand out s3://{bucket}/{key}: {text}", hint=_CURES[fault])


def bucket_error(error: Exception, bucket: str) -> DpiqaError:
    """Say what an error met while listing a bucket means. Only an absent store is worth waiting for."""
    fault, text = fault_of(error), describe(error)
    if fault is Fault.UNAVAILABLE:
        return StoreUnavailable(f"S3 does not list bucket {bucket}: {text}", hint=_CURES[fault])
    if fault is Fault.GONE:
        return ConfigurationError(f"there is no bucket {bucket}", hint="check its name and DPIQA_S3_ENDPOINT_URL")
    hint = _CURES.get(fault, f"grant s3:ListBucket on bucket {bucket}")
    return ConfigurationError(f"bucket {bucket} cannot be listed: {text}", hint=hint)


def describe(error: Exception) -> str:
    """One line, without the request and its secrets."""
    if isinstance(error, ClientError):
        response: Any = error.response
        text = f"{_code(error)} {response.get('Error', {}).get('Message', '')}"
    else:
        text = str(error) if isinstance(error, BotoCoreError) else f"{type(error).__name__} {error}"
    return " ".join(text.split())[:300]


def _code(error: ClientError) -> str:
    response: Any = error.response
    return str(response.get("Error", {}).get("Code", ""))
