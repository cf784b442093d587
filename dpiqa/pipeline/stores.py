"""The object store that the settings name."""

from dpiqa.objects.s3 import S3Store, make_client
from dpiqa.settings import Settings


def s3_store(settings: Settings) -> S3Store:
    """Return the store of all buckets, with a socket per fetch thread. Raises `ConfigurationError`."""
    client = make_client(
        endpoint_url=settings.s3_endpoint_url,
        region=settings.aws_region,
        access_key_id=settings.aws_access_key_id,
        secret_access_key=settings.aws_secret_access_key,
        connections=settings.fetch_threads + 4,  # listings beside the fetches
    )
    return S3Store(client)
