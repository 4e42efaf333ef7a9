"""One query an entity, in one application: how each is started, and what is checked before."""

from __future__ import annotations

import json
import logging
import re

from pyspark.sql import SparkSession
from pyspark.sql.streaming import StreamingQuery

from data_platform_core.checkpoints import Checkpoint, CheckpointBroken, read_checkpoint, read_start
from data_platform_core.contracts import MASTERS
from data_platform_core.errors import CrmError
from data_platform_core.layers import TOPICS, checkpoint, lake_table
from data_platform_core.settings import Settings
from spark_jobs import io
from spark_jobs.streaming.land import Landing
from spark_jobs.transforms.messages import as_bronze

_log = logging.getLogger(__name__)
_QUERY_ID = re.compile(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")


class DataLost(CrmError):
    """Kafka has deleted messages that were not read yet."""


def place_to_start(spark: SparkSession, settings: Settings, entity: str) -> str:
    """Where an entity's query may start: its `startingOffsets`, which count for a new checkpoint only.

    Raises:
        CheckpointBroken: the checkpoint is damaged, gone, or does not fit the tables.
        DataLost: Kafka no longer has what comes next; says which offsets of which partition.
    """
    found = read_checkpoint(settings, entity)
    begin = _check_against_tables(spark, settings, entity, found)
    first, last = io.bounds_of(spark, settings, TOPICS[entity])
    position = found.position if found and found.finished >= 0 else begin
    _check_same_topic(entity, last, position)
    _check_kafka_has(settings, entity, first, position)
    if not begin:
        return "earliest"
    # -2: from the first message that Kafka has
    return json.dumps({TOPICS[entity]: {str(partition): begin.get(partition, -2) for partition in first}})


def start_query(spark: SparkSession, settings: Settings, landing: Landing, starting_offsets: str) -> StreamingQuery:
    """Start an entity's query, on its checkpoint or on a new one."""
    entity = landing.contract.entity
    seconds = settings.stream_masters_trigger_seconds if entity in MASTERS else settings.stream_trigger_seconds
    return (
        io.kafka_stream(spark, settings, entity, starting_offsets)
        .transform(as_bronze)
        .transform(landing.parsed)
        .writeStream.queryName(entity)
        .foreachBatch(landing.land_batch)
        .option("checkpointLocation", checkpoint(settings.lake_root, entity))
        .trigger(processingTime=f"{seconds} seconds")
        .start()
    )


def _check_against_tables(
    spark: SparkSession, settings: Settings, entity: str, found: Checkpoint | None
) -> dict[int, int]:
    """Whether checkpoint and tables fit; returns where a new checkpoint begins, by partition (empty: at the start)."""
    bronze = lake_table(settings.lake_root, "bronze", entity)
    if found is None or (found.planned < 0 and not _has_written(spark, bronze, found.query_id)):
        if not any(_QUERY_ID.match(writer) for writer in io.writers_of(spark, bronze)):
            return {}
        start = read_start(settings, entity)
        # upkeep and backfills may have changed bronze since; a stream may not
        if start is None or any(map(_QUERY_ID.match, io.appended_since(spark, bronze, start.bronze_version))):
            raise CheckpointBroken(entity, "is gone, though bronze holds what was read on it")
        return start.offsets
    written = {
        layer: io.last_number(spark, lake_table(settings.lake_root, layer, entity), found.query_id)
        for layer in ("bronze", "silver")
    }
    if max(written.values()) > found.planned:
        raise CheckpointBroken(
            entity, f"ends with batch {found.planned}, and the tables have batch {max(written.values())}"
        )
    if written["bronze"] < found.finished:
        raise CheckpointBroken(
            entity, f"has finished batch {found.finished}, and bronze ends with batch {written['bronze']}"
        )
    return {}


def _has_written(spark: SparkSession, table: str, query_id: str) -> bool:
    return query_id in io.writers_of(spark, table)


def _check_same_topic(entity: str, last: dict[int, int], position: dict[int, int]) -> None:
    """Whether Kafka reaches as far as was read: a topic that was made anew does not, and would be taken for read."""
    ahead = {p: (offset, last.get(p, 0)) for p, offset in position.items() if offset > last.get(p, 0)}
    if ahead:
        told = ", ".join(f"partition {p}: read up to {a}, and Kafka ends at {b}" for p, (a, b) in sorted(ahead.items()))
        raise DataLost(
            f"{TOPICS[entity]} is not the topic that was read before ({told}): bring back Kafka's data, or begin anew "
            "with `crm reset`, or another CRM_LAKE_ROOT"
        )


def _check_kafka_has(settings: Settings, entity: str, first: dict[int, int], position: dict[int, int]) -> None:
    lost = {p: (offset, first[p]) for p, offset in position.items() if p in first and first[p] > offset}
    if not lost:
        return
    told = ", ".join(f"partition {p}: offsets {a} to {b - 1}" for p, (a, b) in sorted(lost.items()))
    words = f"Kafka has deleted messages of {TOPICS[entity]} that were not read yet ({told})"
    if not settings.stream_allow_data_loss:
        raise DataLost(
            f"{words}. Send them again (`crm generate backfill` or a replay), lengthen the topic's retention, and "
            "go on without them by CRM_STREAM_ALLOW_DATA_LOSS=true"
        )
    _log.warning("%s; going on without them, as CRM_STREAM_ALLOW_DATA_LOSS says", words)
