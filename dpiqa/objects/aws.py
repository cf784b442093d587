"""boto3 clients with the credentials of the settings."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, overload

from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from dpiqa.errors import ConfigurationError
from dpiqa.objects.faults import describe
from dpiqa.settings import Settings

if TYPE_CHECKING:
    from boto3.session import Session
    from botocore.awsrequest import AWSRequest
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

_FIRST_YEAR, _LAST_YEAR = 1970, 9000  #: of a time that is not a mistake


def make_session(settings: Settings) -> "Session":
    """Return a session of boto3: region and credentials. Where the settings have no keys, AWS's own chain finds them.

    Raises `ConfigurationError` for a region or profile that boto3 does not accept.
    """
    import boto3  # noqa: PLC0415 - 0.3 s, which the API and most commands save until they need S3
    import botocore.session  # noqa: PLC0415 - likewise

    keys: dict[str, Any] = {}
    if settings.aws_access_key_id and settings.aws_secret_access_key:
        keys = {
            "aws_access_key_id": settings.aws_access_key_id.get_secret_value(),
            "aws_secret_access_key": settings.aws_secret_access_key.get_secret_value(),
        }
    try:
        core = botocore.session.get_session()
        core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=read_time)
        return boto3.session.Session(region_name=settings.aws_region, botocore_session=core, **keys)
    except (BotoCoreError, ValueError) as error:
        raise ConfigurationError(
            f"no AWS session: {describe(error)}", hint="check AWS_REGION, AWS_PROFILE and the files of AWS"
        ) from None


@overload
def make_client(
    service: Literal["s3"], settings: Settings, config: Config, session: "Session | None" = None
) -> "S3Client": ...
@overload
def make_client(
    service: Literal["sqs"], settings: Settings, config: Config, session: "Session | None" = None
) -> "SQSClient": ...
def make_client(
    service: Literal["s3", "sqs"], settings: Settings, config: Config, session: "Session | None" = None
) -> Any:
    """Return a thread-safe client, of a session of its own if none is given.

    Raises `ConfigurationError` for an endpoint, region or profile that boto3 does not accept.
    """
    session = session or make_session(settings)
    if service == "s3" and settings.s3_anonymous:
        config = config.merge(Config(signature_version=UNSIGNED))
    endpoint = settings.s3_endpoint_url if service == "s3" else settings.sqs_endpoint_url
    try:
        client = session.client(service, endpoint_url=endpoint, config=config)
    except (BotoCoreError, ValueError) as error:
        variable = f"DPIQA_{service.upper()}_ENDPOINT_URL"
        raise ConfigurationError(
            f"no {service.upper()} client: {describe(error)}", hint=f"check {variable}, AWS_REGION and AWS_PROFILE"
        ) from None
    if service == "s3":
        client.meta.events.register("before-call.s3.HeadBucket", _do_not_redirect)
    if service == "s3" and settings.s3_requester_pays:
        client.meta.events.register("before-sign.s3", _pay)
    return client


def _do_not_redirect(context: dict[str, Any], **_: Any) -> None:
    """Keep botocore from asking where a bucket is by the request that it is redirecting, without end.

    That happens where a server answers 301 and names no region. What AWS answers is read all the same.
    """
    context.setdefault("s3_redirect", {})["redirected"] = True


def _pay(request: "AWSRequest", **_: Any) -> None:
    """Accept the costs of a request. A header, so that it holds for every request: lists, heads, reads and writes."""
    request.headers["x-amz-request-payer"] = "requester"


def read_time(value: Any) -> datetime | None:
    """Return a time of an answer; None for one that cannot be read, which must not cost the whole answer."""
    from botocore.utils import parse_timestamp  # noqa: PLC0415 - as above

    try:
        time: datetime = parse_timestamp(value)
        if not _FIRST_YEAR <= time.year <= _LAST_YEAR:
            return None
        return time if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, TypeError, OverflowError, RuntimeError):
        return None
