"""Forgetting a customer: out of silver and quarantine, blanked in bronze, and then out of the files of old versions."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from delta.tables import DeltaTable
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType

from data_platform_core.contracts import CONTRACTS, MASTERS
from data_platform_core.errors import CrmError
from data_platform_core.layers import lake_table
from data_platform_core.settings import Settings
from spark_jobs import io
from spark_jobs.maintenance.upkeep import vacuum
from spark_jobs.streaming.forgotten import names_one_of, speaks_of
from spark_jobs.streaming.land import record_hash

ENTITIES = tuple(entity for entity, contract in CONTRACTS.items() if contract.owner == "customer_id")
"""The entities that speak of customers."""


def forget_in_tables(
    spark: SparkSession,
    settings: Settings,
    fingerprint: str,
    held: Callable[[str], AbstractContextManager[None]],
    note: Callable[[str, list[str]], None],
) -> dict[str, int]:
    """Take a customer out of the tables as they are now; returns silver's version of each entity after it.

    Args:
        held: holds an entity's tables, so that no batch of it lands meanwhile.
        note: keeps the hashes of an entity's records that are taken out, before they are.
    """
    versions = {}
    for entity in ENTITIES:
        silver, bronze, quarantine = (
            lake_table(settings.lake_root, layer, entity) for layer in ("silver", "bronze", "quarantine")
        )
        is_of_message = speaks_of([fingerprint])
        texts = [field.name for field in io.table(spark, silver).schema if field.dataType == StringType()]
        # by any mention, as messages are: an id can stand in an address or in what a later version adds
        is_of_customer = names_one_of([fingerprint], f"concat_ws(' ', {', '.join(texts)})")
        with held(entity):
            theirs = io.table(spark, silver).where(is_of_customer)
            hashes = theirs.select(F.expr(record_hash(CONTRACTS[entity])))
            note(entity, [row[0] for row in hashes.collect()])
            DeltaTable.forPath(spark, silver).delete(is_of_customer)
            DeltaTable.forPath(spark, quarantine).delete(is_of_message)
            # coordinates stay: that a message was there is no secret, and Kafka's count must be met
            nothing = F.lit(None).cast("binary")
            DeltaTable.forPath(spark, bronze).update(is_of_message, {"key": nothing, "value": nothing})
            versions[entity] = io.version_of(spark, silver)
    return versions


def purge_files(
    spark: SparkSession,
    settings: Settings,
    versions: dict[str, int],
    marks: dict[str, int],
    held: Callable[[str], AbstractContextManager[None]],
) -> None:
    """Remove the files of old versions, which still hold what was taken out.

    Args:
        versions: silver's version in which each entity was freed of the customer.
        marks: silver's version up to which each entity is published.

    Raises:
        CrmError: the publish still needs files that would go.
    """
    # masters first: each of their batches may change silver anew, and the publish was just now
    for entity, version in sorted(versions.items(), key=lambda one: one[0] not in MASTERS):
        silver = lake_table(settings.lake_root, "silver", entity)
        with held(entity):
            mark = marks.get(entity, -1)
            later = DeltaTable.forPath(spark, silver).history().where(F.col("version") > mark)
            others = later.where(F.col("operation") != io.APPEND).count()
            if mark < version or others:
                raise CrmError(f"{entity} must be published before files of old versions go: `crm publish`, then again")
            for layer in ("silver", "bronze", "quarantine"):
                vacuum(spark, lake_table(settings.lake_root, layer, entity), 0)
