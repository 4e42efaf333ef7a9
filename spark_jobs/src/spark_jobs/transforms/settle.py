"""Repeats within a batch become one row."""

from __future__ import annotations

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from data_platform_core.contracts import Record


def first_of_each_key(records: DataFrame, contract: type[Record]) -> DataFrame:
    """One row per key of the contract: the one that Kafka had first."""
    order = Window.partitionBy(*contract.key).orderBy("kafka_partition", "kafka_offset")
    return records.withColumn("_rank", F.row_number().over(order)).where(F.col("_rank") == 1).drop("_rank")
