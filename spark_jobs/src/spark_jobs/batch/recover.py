"""A new checkpoint for an entity whose old one is broken: it goes on from what bronze holds, partition by partition.

Bronze is written last of a batch, so that all it holds is settled. What lies beyond is read again; what of
it silver and quarantine have already is noticed there, by key and by coordinates.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from data_platform_core.errors import CrmError
from data_platform_core.lake_owner import lake_owner
from data_platform_core.layers import TOPICS, checkpoint, recovered_start
from data_platform_core.ledger.stores import open_table
from data_platform_core.s3 import lake_errors, names_below, place_of, s3_client
from data_platform_core.settings import Settings


@dataclass(frozen=True)
class Recovered:
    """Where the new checkpoint begins, by partition, and where the old one lies."""

    offsets: dict[int, int]
    put_aside: str | None


def recover(settings: Settings, entity: str) -> Recovered:
    """Prepare a new checkpoint; safe to break off and repeat.

    Raises:
        CrmError: the streaming application runs, or there is no bronze table.
        ComponentFailed: the store is out of reach.
    """
    with lake_errors(settings):
        _check_nobody_writes(settings)
        offsets, version = _next_offsets(settings, entity)
        client = s3_client(settings)
        bucket, key = place_of(recovered_start(settings.lake_root, entity))
        words = {"offsets": offsets, "bronze_version": version, "made_at": datetime.now(UTC).isoformat()}
        # first where to begin, then the old one away: broken off between, the old one is refused as before
        client.put_object(Bucket=bucket, Key=key, Body=json.dumps(words).encode())
        return Recovered(offsets, _put_aside(settings, entity))


def _check_nobody_writes(settings: Settings) -> None:
    owner = lake_owner(settings)
    if owner:
        raise CrmError(
            f"the streaming application (process {owner.pid} on {owner.host}) owns the lake: "
            "stop it first (`crm down stream`); after a crash, wait for its lease to run out"
        )


def _next_offsets(settings: Settings, entity: str) -> tuple[dict[int, int], int]:
    table = open_table(settings, "bronze", entity)
    if table is None:
        raise CrmError(f"there is no bronze table of {entity}: a stream that starts now begins with the topic")
    columns = ["kafka_topic", "kafka_partition", "kafka_offset"]
    rows = pl.from_arrow(table.to_pyarrow_table(columns=columns))
    assert isinstance(rows, pl.DataFrame)
    last = rows.filter(pl.col("kafka_topic") == TOPICS[entity]).group_by("kafka_partition").agg(pl.max("kafka_offset"))
    return {int(partition): int(offset) + 1 for partition, offset in last.iter_rows()}, table.version()


def _put_aside(settings: Settings, entity: str) -> str | None:
    """Move the old checkpoint; returns where to."""
    client = s3_client(settings)
    old = checkpoint(settings.lake_root, entity)
    names = names_below(client, old)
    if not names:
        return None
    bucket, prefix = place_of(old)
    target = f"{prefix}.broken-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    for name in names:
        copy = target + name.removeprefix(prefix)
        client.copy_object(Bucket=bucket, Key=copy, CopySource={"Bucket": bucket, "Key": name})
    for name in names:
        client.delete_object(Bucket=bucket, Key=name)
    return f"s3a://{bucket}/{target}"
