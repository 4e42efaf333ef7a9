"""The audit: every store counted, and whether they agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from data_platform_core.contracts import CONTRACTS, ENTITIES
from data_platform_core.derive.canonical import Digest
from data_platform_core.ledger import stores
from data_platform_core.ledger.made import Ledger
from data_platform_core.settings import Settings
from data_platform_core.warehouse import connect

if TYPE_CHECKING:
    from psycopg import Connection


@dataclass(frozen=True)
class EntityAudit:
    """What each store holds of one entity."""

    entity: str
    made: Digest | None
    """records that were made, with those mended in quarantine and without those forgotten; None where nobody knows"""
    kafka: int
    bronze: int
    bronze_different: int
    quarantine: int
    quarantine_different: int
    silver: Digest
    published: Digest
    warehouse: int | None
    """rows of the model that has one per record; None where the entity has none"""
    marts: int | None
    """records that the mart of daily activity counts; None where it counts none of the entity"""

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
        expected, origin = (self.made, "were made") if self.made is not None else (self.silver, "are in silver")
        for name, digest in (("silver", self.silver), ("the published table", self.published)):
            if digest.count != expected.count:
                found.append(f"{expected.count:,} records {origin}, {name} has {digest.count:,}")
            elif digest != expected:
                found.append(f"{name} has the number of records that {origin}, but not the same records")
        for name, count in (("the warehouse", self.warehouse), ("the mart", self.marts)):
            if count is not None and count != expected.count:
                found.append(f"{expected.count:,} records {origin}, {name} has {count:,}")
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
    made, marts = None, None
    if CONTRACTS[entity].is_generated:
        made = (
            ledger.made(entity)
            + stores.kept_digest(connection, "quarantine_replays", entity)
            - stores.kept_digest(connection, "forgotten_records", entity)
        )
        marts = stores.mart_count(connection, entity)
    return EntityAudit(
        entity=entity,
        made=made,
        kafka=stores.kafka_count(settings, entity),
        bronze=bronze,
        bronze_different=bronze_different,
        quarantine=quarantine,
        quarantine_different=quarantine_different,
        silver=stores.silver_digest(settings, entity),
        published=stores.published_digest(connection, entity),
        warehouse=stores.warehouse_count(connection, entity),
        marts=marts,
    )
