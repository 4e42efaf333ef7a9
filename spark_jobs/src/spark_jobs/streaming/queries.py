"""One query an entity, in one application."""

from __future__ import annotations

from pyspark.sql import SparkSession
from pyspark.sql.streaming import StreamingQuery

from data_platform_core.contracts import CONTRACTS, Record
from data_platform_core.layers import checkpoint
from data_platform_core.settings import Settings
from spark_jobs import io
from spark_jobs.streaming.land import land

_MASTERS = ("products", "profiles")


def start_queries(spark: SparkSession, settings: Settings) -> list[StreamingQuery]:
    """Create what tables are missing and start every entity's query."""
    for contract in CONTRACTS.values():
        io.create_tables(spark, settings, contract)
    return [_start(spark, settings, contract) for contract in CONTRACTS.values()]


def _start(spark: SparkSession, settings: Settings, contract: type[Record]) -> StreamingQuery:
    seconds = (
        settings.stream_masters_trigger_seconds if contract.entity in _MASTERS else settings.stream_trigger_seconds
    )
    location = checkpoint(settings.lake_root, contract.entity)

    return (
        io.kafka_stream(spark, settings, contract.entity)
        .writeStream.queryName(contract.entity)
        .foreachBatch(land(contract, settings))
        .option("checkpointLocation", location)
        .trigger(processingTime=f"{seconds} seconds")
        .start()
    )
