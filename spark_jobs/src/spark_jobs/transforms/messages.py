"""Rows of the Kafka source → rows of bronze."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F


def as_bronze(source: DataFrame) -> DataFrame:
    """As received: key and value untouched, with coordinates and the broker's time of arrival."""
    return source.select(
        F.col("key"),
        F.col("value"),
        F.col("topic").alias("kafka_topic"),
        F.col("partition").alias("kafka_partition"),
        F.col("offset").alias("kafka_offset"),
        F.col("timestamp").alias("arrived_at"),
    )
