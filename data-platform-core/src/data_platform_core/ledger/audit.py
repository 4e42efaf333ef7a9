"""The audit: every store counted, and whether they agree."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import Connection

from data_platform_core.contracts import ENTITIES
from data_platform_core.derive.canonical import Digest
from data_platform_core.ledger import stores
from data_platform_core.ledger.made import Ledger
from data_platform_core.settings import Settings
from data_platform_core.warehouse import connect


@dataclass(frozen=True)
class EntityAudit:
    """What each store holds of one entity."""

    entity: str
    made: Digest
    """records that were made, with those mended out of quarantine and without those forgotten"""
    kafka: int
    bronze: int
    bronze_different: int
    quarantine: int
    quarantine_different: int
    silver: Digest
    published: Digest
    warehouse: int
    marts: int

    @property
    def disagreements(self) -> tuple[str, ...]:
        """What does not agree, in words; empty where all stores do."""
        found = []
        if self.kafka != self.bronze:
            found.append(f"Kafka has {self.kafka:,} messages, bronze {self.bronze:,}")
        if self.bronze_different - self.quarantine_different != self.silver.count:
            found.append(
                f"bronze has {self.bronze_different:,} different messages of which "
                f"{self.quarantine_different:,} are in quarantine, silver {self.silver.count:,}"
            )
        for name, digest in (("silver", self.silver), ("the published table", self.published)):
            if digest.count != self.made.count:
                found.append(f"{self.made.count:,} records were made, {name} has {digest.count:,}")
            elif digest != self.made:
                found.append(f"{name} has the number of records made, but not the same records")
        for name, count in (("the warehouse", self.warehouse), ("the mart", self.marts)):
            if count != self.made.count:
                found.append(f"{self.made.count:,} records were made, {name} has {count:,}")
        return tuple(found)


def audit(settings: Settings) -> list[EntityAudit]:
    """Count every entity in every store, each in the store itself.

    Raises:
        ComponentFailed: a store is out of reach.
    """
    ledger = Ledger(settings.ledger_file)
    with connect(settings, "crm_dbt") as connection:
        return [_audit(settings, ledger, connection, entity) for entity in ENTITIES]


def _audit(settings: Settings, ledger: Ledger, connection: Connection, entity: str) -> EntityAudit:
    bronze, bronze_different = stores.lake_counts(settings, "bronze", entity)
    quarantine, quarantine_different = stores.lake_counts(settings, "quarantine", entity)
    return EntityAudit(
        entity=entity,
        made=ledger.made(entity)
        + stores.kept_digest(connection, "quarantine_replays", entity)
        - stores.kept_digest(connection, "forgotten_records", entity),
        kafka=stores.kafka_count(settings, entity),
        bronze=bronze,
        bronze_different=bronze_different,
        quarantine=quarantine,
        quarantine_different=quarantine_different,
        silver=stores.silver_digest(settings, entity),
        published=stores.published_digest(connection, entity),
        warehouse=stores.warehouse_count(connection, entity),
        marts=stores.mart_count(connection, entity),
    )
