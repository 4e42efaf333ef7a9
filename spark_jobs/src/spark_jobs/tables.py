"""The lake's tables: their columns and properties, and how they come to be there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from pyspark.sql import SparkSession
from pyspark.sql.types import StructType

from data_platform_core.contracts import CONTRACTS, Record
from data_platform_core.derive.spark import table_ddl
from data_platform_core.errors import CrmError
from data_platform_core.layers import LAYERS, Layer, lake_table
from data_platform_core.settings import Settings
from spark_jobs import io

_COORDINATES = (
    "kafka_topic string NOT NULL, kafka_partition int NOT NULL, kafka_offset bigint NOT NULL, "
    "arrived_at timestamp NOT NULL"
)
_MESSAGE = f"key binary, value binary, {_COORDINATES}"
_MARKS = "added_fields string, effective_at timestamp NOT NULL, is_future_dated boolean NOT NULL"
_VALIDITY = "valid_from timestamp NOT NULL, valid_to timestamp"
_PROPERTIES = {
    # readers outside Spark know no deletion vectors
    "delta.enableDeletionVectors": "false",
    # a checkpoint of the log holds up the batch that writes it
    "delta.checkpointInterval": "100",
}
_STATISTICS: dict[Layer, str] = {
    # what files are skipped by; no id among them, since a customer may ask to be forgotten
    "bronze": "kafka_partition,kafka_offset,arrived_at",
    "silver": "occurred_at,effective_at,kafka_partition,kafka_offset,arrived_at",
    "quarantine": "kafka_partition,kafka_offset,arrived_at",
}


def columns_of(layer: Layer, contract: type[Record]) -> str:
    """The columns of a table, as Spark's DDL."""
    if layer == "bronze":
        return _MESSAGE
    if layer == "quarantine":
        return f"{_MESSAGE}, reason string NOT NULL"
    validity = f", {_VALIDITY}" if contract.is_master else ""
    return f"{table_ddl(contract)}, {_MARKS}, {_COORDINATES}{validity}"


def create_tables(spark: SparkSession, settings: Settings) -> None:
    """Create what tables are missing.

    Raises:
        CrmError: a table that is there has other columns.
    """
    wanted = [(layer, contract) for contract in CONTRACTS.values() for layer in LAYERS]
    with ThreadPoolExecutor(len(wanted)) as pool:  # each waits for the store most of the time
        list(pool.map(lambda one: _create_table(spark, settings, *one), wanted))


def _create_table(spark: SparkSession, settings: Settings, layer: Layer, contract: type[Record]) -> None:
    address = lake_table(settings.lake_root, layer, contract.entity)
    found = io.columns_in(spark, address)
    if found is None:
        properties = _PROPERTIES | {"delta.dataSkippingStatsColumns": _STATISTICS[layer]}
        if layer == "silver":  # read by version downstream, deletes and corrections included
            properties["delta.enableChangeDataFeed"] = "true"
        told = ", ".join(f"'{name}' = '{value}'" for name, value in properties.items())
        columns = columns_of(layer, contract)
        spark.sql(f"CREATE TABLE IF NOT EXISTS delta.`{address}` ({columns}) USING delta TBLPROPERTIES ({told})")
        return
    expected = StructType.fromDDL(columns_of(layer, contract)).names
    if found != expected:
        differs = sorted(set(found) ^ set(expected)) or ["their order"]
        raise CrmError(
            f"the table {address} was made by another version of this application; it differs in "
            f"{', '.join(differs)}: run that version, or begin anew with `crm reset`"
        )
