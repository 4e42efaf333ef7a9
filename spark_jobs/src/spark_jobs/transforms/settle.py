"""Versions of an owner, each valid until the next by event time."""

from __future__ import annotations

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from data_platform_core.contracts import Record


def first_of_each_key(records: DataFrame, contract: type[Record]) -> DataFrame:
    """One row per key of the contract: the first by `place`."""
    order = Window.partitionBy(*contract.key).orderBy("place")
    return records.withColumn("_rank", F.row_number().over(order)).where(F.col("_rank") == 1).drop("_rank")


def with_validity(versions: DataFrame, owner: str) -> DataFrame:
    """All versions of some owners with `valid_from` and `valid_to` (null: the newest), in whatever order they came.

    Expects `effective_at` and `sequence`; versions of one instant follow each other by sequence.
    """
    order = Window.partitionBy(owner).orderBy("effective_at", "sequence")
    return versions.withColumn("valid_from", F.col("effective_at")).withColumn(
        "valid_to", F.lead("effective_at").over(order)
    )
