"""Reading and writing: the Kafka source, the Delta tables, and the ids that make a repeat harmless."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from delta.tables import DeltaTable
from pyspark.sql import DataFrame, SparkSession

from data_platform_core.contracts import Record
from data_platform_core.derive.spark import table_ddl
from data_platform_core.kafka import java_settings
from data_platform_core.layers import TOPICS, Layer, lake_table
from data_platform_core.settings import Settings

_COORDINATES = (
    "kafka_topic string NOT NULL, kafka_partition int NOT NULL, kafka_offset bigint NOT NULL, "
    "arrived_at timestamp NOT NULL"
)
_MESSAGE = f"key binary, value binary, {_COORDINATES}"
_PROPERTIES = {
    # silver is read by version downstream, deletes and corrections included
    "delta.enableChangeDataFeed": "true",
    # readers outside Spark know no deletion vectors
    "delta.enableDeletionVectors": "false",
    "delta.checkpointInterval": "20",
}


def kafka_stream(spark: SparkSession, settings: Settings, entity: str) -> DataFrame:
    """The messages of an entity's topic as a stream, from the first that Kafka still has."""
    return (
        spark.readStream.format("kafka")
        .options(**{f"kafka.{name}": value for name, value in java_settings(settings).items()})
        .option("subscribe", TOPICS[entity])
        .option("startingOffsets", "earliest")
        .option("failOnDataLoss", "true")
        .option("maxOffsetsPerTrigger", settings.stream_max_offsets_per_trigger)
        .load()
    )


def create_tables(spark: SparkSession, settings: Settings, contract: type[Record]) -> None:
    """Create the entity's bronze, silver and quarantine tables where they are missing."""
    columns: dict[Layer, str] = {
        "bronze": _MESSAGE,
        "silver": f"{table_ddl(contract)}, {_COORDINATES}",
        "quarantine": f"{_MESSAGE}, reason string NOT NULL",
    }
    properties = ", ".join(f"'{name}' = '{value}'" for name, value in _PROPERTIES.items())
    for layer, ddl in columns.items():
        address = lake_table(settings.lake_root, layer, contract.entity)
        spark.sql(f"CREATE TABLE IF NOT EXISTS delta.`{address}` ({ddl}) USING delta TBLPROPERTIES ({properties})")


def append_once(rows: DataFrame, address: str, writer: str, version: int) -> None:
    """Append rows to a table, unless this writer did so under this version before."""
    (rows.write.format("delta").mode("append").option("txnAppId", writer).option("txnVersion", version).save(address))


def insert_new_once(rows: DataFrame, address: str, key: tuple[str, ...], writer: str, version: int) -> None:
    """Insert the rows whose key the table does not hold, unless this writer did so under this version before."""
    condition = " and ".join(f"held.{name} = new.{name}" for name in key)
    with _transaction(rows.sparkSession, writer, version):
        (
            DeltaTable.forPath(rows.sparkSession, address)
            .alias("held")
            .merge(rows.alias("new"), condition)
            .whenNotMatchedInsertAll()
            .execute()
        )


@contextmanager
def _transaction(spark: SparkSession, writer: str, version: int) -> Iterator[None]:
    """MERGE takes Delta's transaction id from the session's settings."""
    names = ("spark.databricks.delta.write.txnAppId", "spark.databricks.delta.write.txnVersion")
    spark.conf.set(names[0], writer)
    spark.conf.set(names[1], str(version))
    try:
        yield
    finally:
        for name in names:
            spark.conf.unset(name)
