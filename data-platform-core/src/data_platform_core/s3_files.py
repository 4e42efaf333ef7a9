"""The lake's store as a file system of Arrow's; apart from `s3`, whose client not every environment has."""

from __future__ import annotations

from pyarrow.fs import S3FileSystem

from data_platform_core.settings import Settings


def s3_file_system(settings: Settings) -> S3FileSystem:
    """The store; names in it are `bucket/key`."""
    return S3FileSystem(
        access_key=settings.s3_access_key,
        secret_key=settings.secret("s3_secret_key"),
        endpoint_override=settings.s3_url,
        region="us-east-1",
    )
