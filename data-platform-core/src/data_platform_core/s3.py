"""How programs outside Spark reach the lake's store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from data_platform_core.errors import ComponentFailed
from data_platform_core.settings import Settings


def s3_options(settings: Settings) -> dict[str, str]:
    """The store as delta-rs wants it told."""
    return {
        "AWS_ENDPOINT_URL": settings.s3_url,
        "AWS_ACCESS_KEY_ID": settings.s3_access_key,
        "AWS_SECRET_ACCESS_KEY": settings.secret("s3_secret_key"),
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }


def s3_client(settings: Settings) -> Any:
    """A client of the lake's store."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=settings.s3_url,
        aws_access_key_id=settings.s3_access_key,
        aws_secret_access_key=settings.secret("s3_secret_key"),
        region_name="us-east-1",
        config=Config(retries={"max_attempts": 3}),
    )


@contextmanager
def lake_errors(settings: Settings) -> Iterator[None]:
    """Tell of a store that does not answer, or refuses, in a sentence.

    Raises:
        ComponentFailed: names it.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise ComponentFailed(f"the lake at {settings.s3_url} is out of reach: {str(error)[:300]}") from None


def place_of(address: str) -> tuple[str, str]:
    """Bucket and key of an address of the lake."""
    bucket, _, key = address.removeprefix("s3a://").partition("/")
    return bucket, key


def folder_of(address: str) -> tuple[str, str]:
    """Bucket and prefix of what lies below an address."""
    bucket, key = place_of(address)
    return bucket, f"{key}/" if key else ""


def read_object(client: Any, address: str) -> bytes | None:
    """What stands at an address; None where nothing does."""
    bucket, key = place_of(address)
    try:
        return bytes(client.get_object(Bucket=bucket, Key=key)["Body"].read())
    except client.exceptions.NoSuchKey:
        return None


def names_below(client: Any, address: str) -> list[str]:
    """The keys below a folder, in order."""
    bucket, prefix = folder_of(address)
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return sorted(item["Key"] for page in pages for item in page.get("Contents", ()))


@dataclass(frozen=True)
class Found:
    """An object of the store."""

    key: str
    bytes: int
    etag: str


def objects_below(settings: Settings, address: str) -> list[Found]:
    """The objects below a folder, by name.

    Raises:
        ComponentFailed: the store is out of reach, or refuses.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, prefix = folder_of(address)
    try:
        pages = s3_client(settings).get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        found = [Found(one["Key"], one["Size"], one["ETag"]) for page in pages for one in page.get("Contents", ())]
    except (BotoCoreError, ClientError) as error:
        raise ComponentFailed(f"the store at {settings.s3_url}, {address}: {str(error)[:300]}") from None
    return sorted(found, key=lambda one: one.key)
