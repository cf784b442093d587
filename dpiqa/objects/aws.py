"""boto3 clients with the credentials of the settings."""

from typing import TYPE_CHECKING, Any, Literal, overload

from botocore.config import Config
from botocore.exceptions import BotoCoreError

from dpiqa.errors import ConfigurationError
from dpiqa.objects.faults import describe
from dpiqa.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient


@overload
def make_client(service: Literal["s3"], settings: Settings, config: Config) -> "S3Client": ...
@overload
def make_client(service: Literal["sqs"], settings: Settings, config: Config) -> "SQSClient": ...
def make_client(service: Literal["s3", "sqs"], settings: Settings, config: Config) -> Any:
    """Return a thread-safe client. Where the settings have no keys, AWS's own chain finds them.

    Raises `ConfigurationError` for an endpoint, region or profile that boto3 does not accept.
    """
    import boto3  # noqa: PLC0415 - 0.3 s, which the API and most commands save until they need S3

    keys: dict[str, Any] = {}
    if settings.aws_access_key_id and settings.aws_secret_access_key:
        keys = {
            "aws_access_key_id": settings.aws_access_key_id.get_secret_value(),
            "aws_secret_access_key": settings.aws_secret_access_key.get_secret_value(),
        }
    endpoint = settings.s3_endpoint_url if service == "s3" else settings.sqs_endpoint_url
    try:
        session = boto3.session.Session(region_name=settings.aws_region, **keys)
        return session.client(service, endpoint_url=endpoint, config=config)
    except (BotoCoreError, ValueError) as error:
        variable = f"DPIQA_{service.upper()}_ENDPOINT_URL"
        raise ConfigurationError(
            f"no {service.upper()} client: {describe(error)}", hint=f"check {variable}, AWS_REGION and AWS_PROFILE"
        ) from None
